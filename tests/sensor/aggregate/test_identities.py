"""Identities one by one and many at once: the same table."""

import numpy as np
import pytest

from common.consumer_order import ConsumerColumn
from sensor.aggregate.dictionary import Identities, IdentityRow, pack_manner
from sensor.core.calls import AuthenticationKind, CallKind, PrincipalKind

ORDER = (ConsumerColumn.PRINCIPAL, ConsumerColumn.CREDENTIAL, ConsumerColumn.CLIENT_ADDRESS)
KINDS = (AuthenticationKind.NONE, AuthenticationKind.BEARER_JWT, AuthenticationKind.BASIC)


def make_identities(count: int) -> tuple[Identities, list[IdentityRow]]:
    source = np.random.default_rng(1)
    table = Identities()
    table.set_consumer_order(ORDER)
    addresses = [table.number_text(f"192.0.2.{number}", 1) for number in range(20)]
    identities = []
    for _ in range(count):
        kind = KINDS[source.integers(0, len(KINDS))]
        credential = 0 if kind is AuthenticationKind.NONE else int(source.integers(1, 1 << 63))
        manner = pack_manner(
            kind, CallKind.HTTP, PrincipalKind.JWT_SUBJECT if credential else PrincipalKind.UNSPECIFIED
        )
        principal = credential // 3 if kind is AuthenticationKind.BEARER_JWT else 0
        identities.append(IdentityRow(principal, credential, addresses[source.integers(0, 20)], 0, 1, manner))
    return table, identities


def test_one_by_one_is_as_all_at_once() -> None:
    single, identities = make_identities(700)
    many, _ = make_identities(0)
    arrays = IdentityRow(*(np.array(column, np.uint64) for column in zip(*identities, strict=True)))
    by_one = np.array([single.number(identity, 2) for identity in identities])
    at_once = many.number_all(arrays, 2)
    assert len(single) == len(many)
    assert len(np.unique(by_one)) == len(np.unique(at_once)) == len(set(identities))
    for name in ("principal", "credential", "client_address", "authentication", "principal_kind", "kind", "consumer"):
        assert (getattr(single.columns, name)[by_one] == getattr(many.columns, name)[at_once]).all(), name
    others, found = single.columns.other[by_one], many.columns.other[at_once]
    assert single.columns.is_other[others].all()
    assert (single.columns.authentication[others] == many.columns.authentication[found]).all()
    # Either way finds what the other put.
    assert (single.number_all(arrays, 3) == by_one).all()
    assert [many.number(identity, 3) for identity in identities] == at_once.tolist()


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (AuthenticationKind.BASIC, AuthenticationKind.OTHER),
        (AuthenticationKind.BASIC | AuthenticationKind.POSSIBLE_CREDENTIAL, AuthenticationKind.OTHER),
        (AuthenticationKind.POSSIBLE_CREDENTIAL, AuthenticationKind.NONE),
    ],
)
def test_where_kinds_are_lost_a_credential_stays_one_and_a_possible_one_is_not(
    kind: AuthenticationKind, least: AuthenticationKind
) -> None:
    table, _ = make_identities(0)
    number = table.number(IdentityRow(0, 0, 0, 0, 1, pack_manner(kind, CallKind.HTTP, PrincipalKind.UNSPECIFIED)), 1)
    other = int(table.columns.other[number])
    assert table.columns.authentication[other] == kind
    assert table.columns.authentication[table.columns.other[other]] == least


def test_another_order_names_the_consumers_of_known_identities_too() -> None:
    before, identities = make_identities(300)
    after, _ = make_identities(0)
    by_address = (ConsumerColumn.CLIENT_ADDRESS, ConsumerColumn.CREDENTIAL)
    after.set_consumer_order(by_address)
    numbers = np.array([before.number(identity, 2) for identity in identities])
    first = before.columns.consumer[numbers].copy()
    before.set_consumer_order(by_address)
    fresh = np.array([after.number(identity, 2) for identity in identities])
    assert (before.columns.consumer[numbers] == after.columns.consumer[fresh]).all()
    assert (before.columns.consumer[numbers] != first).any()


def test_what_a_sweep_gave_back_is_given_again() -> None:
    table, identities = make_identities(60_000)
    arrays = IdentityRow(*(np.array(column, np.uint64) for column in zip(*identities, strict=True)))
    numbers = table.number_all(arrays, 1)
    kept = np.unique(numbers[:100])
    table.mark_used(kept, 5)
    gone = table.sweep(oldest_tick=5)
    assert len(gone) and not np.isin(gone, kept).any()
    fresh = IdentityRow(0, 77, identities[0].client_address, 0, 1, identities[0].manner)
    number = table.number(fresh, 6)
    assert number in gone and table.number(fresh, 6) == number
    assert table.columns.credential[number] == 77 and (table.number_all(arrays, 6)[:100] == numbers[:100]).all()

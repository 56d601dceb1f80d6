"""Interning: the same number for the same thing, bounded, and no number is reused while it is in use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.consumer_order import ConsumerColumn
from sensor.aggregate import dictionary as identities
from sensor.aggregate import dictionary as module
from sensor.aggregate.dictionary import (
    MEDIA_TYPES_LIMIT,
    NO_ROUTE,
    ActorFacts,
    Facts,
    IdentityRow,
    NumberTable,
    get_identities,
    pack_manner,
)
from sensor.core.calls import AuthenticationKind, PrincipalKind, make_calls
from tests.sensor.records import make_route
from tests.sensor.rows import find_actor


def make_actor(principal: int = 7, **changes: object) -> ActorFacts:
    fields: dict[str, object] = {
        "principal": principal,
        "principal_kind": PrincipalKind.TOKEN,
        "credential": 5,
        "is_credential_truncated": False,
        "client_address": "192.0.2.1",
        "client_workload": "shop/web",
        "authentication": AuthenticationKind.BEARER_JWT | AuthenticationKind.MTLS_FORWARDED,
        "protocol_version": "1.1",
        "request_content_type": "application/json",
    }
    return ActorFacts(**{**fields, **changes})  # type: ignore[arg-type]


actors = st.builds(
    make_actor,
    st.integers(0, 2**64 - 1),
    principal_kind=st.sampled_from(PrincipalKind),
    credential=st.integers(0, 2**64 - 1),
    is_credential_truncated=st.booleans(),
    client_address=st.sampled_from(["", "192.0.2.1", "2001:db8::1"]),
    authentication=st.integers(0, 2**18 - 1).map(AuthenticationKind),
    protocol_version=st.sampled_from(["1.0", "1.1"]),
    request_content_type=st.sampled_from(["", "text/html", "application/json"]),
    client_software=st.sampled_from(["", "curl 0a1b2c3d", "0a1b2c3d"]),
    carriers=st.sampled_from(["", "header x-api-key", "cookie {integer}"]),
)


@given(st.lists(actors, max_size=30))
def test_actors_come_back_and_have_one_number_each(stream: list[ActorFacts]) -> None:
    facts = Facts()
    numbers = [facts.actor(actor) for actor in stream]
    assert [find_actor(facts, number) for number in numbers] == stream
    assert [facts.actor(actor) for actor in stream] == numbers
    assert len(set(numbers)) == len(set(stream))


def test_routes_and_media_types_come_back() -> None:
    facts = Facts()
    routes = [make_route(number) for number in range(1, 50)]
    numbers = [facts.route(route) for route in routes]
    assert [facts.find_route(number) for number in numbers] == routes
    assert NO_ROUTE not in numbers
    assert facts.find_media_type(facts.media_type("text/html")) == "text/html"
    assert facts.media_type("") == 0
    with pytest.raises(LookupError, match="route 0"):
        facts.find_route(NO_ROUTE)


def test_content_type_and_truncation_make_no_other_identity() -> None:
    facts = Facts()
    changed = [make_actor(), make_actor(request_content_type=""), make_actor(is_credential_truncated=True)]
    calls = make_calls(3)
    calls["actor"] = [facts.actor(actor) for actor in changed]
    assert len(set(calls["actor"].tolist())) == 3
    assert len(set(get_identities(calls["actor"]).tolist())) == 1


def test_a_full_table_of_routes_gives_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTES_LIMIT", 3)
    facts = Facts()
    assert [facts.route(make_route(number)) for number in (1, 2, 3, 1)] == [1, 2, NO_ROUTE, 1]


def test_a_full_table_of_identities_gives_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "IDENTITIES_LIMIT", 20)
    monkeypatch.setattr(identities, "_OTHERS_LIMIT", 10)
    facts = Facts()
    last = find_actor(facts, [facts.actor(make_actor(number)) for number in range(50)][-1])
    assert (last.principal, last.credential, last.client_address) == (0, 0, "")
    assert (last.authentication, last.protocol_version) == (make_actor().authentication, "1.1")
    assert facts.identities.is_other[facts.actor(make_actor(49)) & 0xFFFF]
    # So many kinds of credentials that even `other` has no room: whether there were any is still told.
    kinds = [find_actor(facts, facts.actor(make_actor(99, authentication=AuthenticationKind(k)))) for k in range(1, 99)]
    assert {actor.authentication for actor in kinds[-10:]} == {AuthenticationKind.OTHER}


def test_what_is_used_survives_a_sweep_and_the_rest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "IDENTITIES_LIMIT", 100)
    monkeypatch.setattr(identities, "_OTHERS_LIMIT", 10)
    facts = Facts()
    facts.begin_tick()
    used, unused = make_actor(1), [make_actor(number, client_address=f"192.0.2.{number}") for number in range(2, 80)]
    calls = make_calls(1)
    calls["actor"] = facts.actor(used)
    gone = {facts.actor(actor) & 0xFFFF for actor in unused}
    tick = facts.begin_tick()
    facts.mark_used(calls["route"], get_identities(calls["actor"]), calls["response_type"])
    assert facts.is_crowded
    freed = facts.sweep(tick)
    assert set(freed.identities.tolist()) == gone
    assert facts.generation == 1
    assert not facts.is_crowded
    assert facts.actor(used) == int(calls["actor"][0])
    again = {facts.actor(actor): actor for actor in unused}
    assert {number: find_actor(facts, number) for number in again} == again


def test_a_sweep_takes_nothing_that_an_open_window_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUTES_LIMIT", 10)
    facts = Facts()
    tick = facts.begin_tick()
    calls = make_calls(9)
    calls["route"] = [facts.route(make_route(number)) for number in range(1, 10)]
    facts.mark_used(calls["route"], get_identities(calls["actor"]))
    assert not len(facts.sweep(tick).routes)
    assert facts.generation == 0
    assert len(facts.sweep(tick + 1).routes) == 9


@given(st.lists(st.integers(1, 30), max_size=200), st.integers(2, 12))
def test_a_table_never_gives_one_number_to_two_keys(keys: list[int], limit: int) -> None:
    table = NumberTable(0, limit)
    for tick, key in enumerate(keys):
        number = table.numbers.get(key)
        if number is None:
            number = table.add(key, tick)
        if number is not None:
            table.used[number] = tick
            assert table.keys[number] == key
        if table.is_crowded:
            table.sweep(tick - 3)
        assert len(set(table.numbers.values())) == len(table.numbers) <= limit
        assert table.numbers[0] == 0
        assert all(table.keys[number] == key for key, number in table.numbers.items())


def test_actors_of_a_batch_have_the_numbers_of_each_by_itself() -> None:
    facts, alone = Facts(), Facts()
    source = np.random.default_rng(1)
    stream = [
        make_actor(
            int(source.integers(0, 40)),
            credential=int(source.integers(0, 3)) << 62,
            client_address=("", "192.0.2.1", "2001:db8::1")[source.integers(3)],
            request_content_type=("", "application/json")[source.integers(2)],
        )
        for _ in range(500)
    ]
    known = [facts.actor(actor) for actor in stream[:100]]
    columns = [
        [getattr(actor, name) for actor in stream]
        for name in ("principal", "credential", "client_address", "client_workload", "protocol_version")
    ]
    row = IdentityRow(
        *(np.array(column, np.uint64) for column in columns[:2]),
        *(np.array([facts.text(text) for text in column], np.int64) for column in columns[2:]),
        np.array([pack_manner(actor.authentication, actor.kind, actor.principal_kind) for actor in stream], np.uint64),
    )
    types = np.array(
        [facts.request_type(actor.request_content_type, actor.client_software, actor.carriers) for actor in stream],
        np.int64,
    )
    numbers = facts.actors(row, types).tolist()
    assert numbers[:100] == known
    assert [find_actor(facts, number) for number in numbers] == stream
    assert [facts.actor(actor) for actor in stream] == numbers
    # Who is one consumer does not depend on the way in which they came.
    consumers = [facts.identities.consumer[number & 0xFFFF] for number in numbers]
    assert consumers == [alone.identities.consumer[alone.actor(actor) & 0xFFFF] for actor in stream]
    said = [[getattr(actor, column.name.lower()) for column in ConsumerColumn] for actor in stream]
    firsts = {next((place, value) for place, value in enumerate(values) if value) for values in said}
    assert len(set(consumers)) == len(firsts)


def test_who_is_known_by_a_credential_alone_is_not_taken_for_another() -> None:
    facts = Facts()
    numbers = {facts.actor(make_actor(hashed, credential=hashed)) for hashed in range(1, 1_000)}
    assert len(numbers) == 999


def test_software_goes_with_the_media_type_of_requests_and_is_no_part_of_who_called() -> None:
    facts = Facts()
    softwares = ("", "curl 0a1b2c3d", "0a1b2c3d")
    numbers = [facts.actor(make_actor(1, client_software=software)) for software in softwares]
    assert len({number & 0xFFFF for number in numbers}) == 1
    found = [find_actor(facts, number) for number in numbers]
    assert tuple(actor.client_software for actor in found) == softwares
    assert {actor.request_content_type for actor in found} == {make_actor(1).request_content_type}


def test_where_there_is_no_room_for_software_the_media_type_stays() -> None:
    facts = Facts()
    types = [facts.request_type("text/plain", f"{number:08x}") for number in range(MEDIA_TYPES_LIMIT + 5)]
    assert {facts.find_media_type(number) for number in types} == {"text/plain"}
    assert facts.find_software(types[0]) == "00000000" and facts.find_software(types[-1]) == ""

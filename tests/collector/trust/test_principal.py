"""Roles contain each other, and a scope admits what its lists name."""

import pytest

from collector.trust.principal import Role, Scope


def test_each_role_may_do_what_those_before_it_may() -> None:
    roles = list(Role)
    assert [[role.covers(needed) for needed in roles] for role in roles] == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]


@pytest.mark.parametrize(
    ("scope", "admitted"),
    [
        (Scope(), {"east/shop", "east/bank", "west/shop", "/"}),
        (Scope(clusters=("east",)), {"east/shop", "east/bank"}),
        (Scope(namespaces=("shop",)), {"east/shop", "west/shop"}),
        (Scope(namespaces=("east/shop",)), {"east/shop"}),
        (Scope(clusters=("west",), namespaces=("shop", "east/bank")), {"west/shop"}),
    ],
)
def test_a_scope_admits_what_both_lists_admit(scope: Scope, admitted: set[str]) -> None:
    places = ("east/shop", "east/bank", "west/shop", "/")
    assert {place for place in places if scope.admits(*place.split("/"))} == admitted
    assert scope.is_all == (len(admitted) == len(places))

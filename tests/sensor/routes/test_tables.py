"""What clients can make the route tables hold: bounds, budgets of the served and the unserved, eviction."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import Route, SegmentKind, Service, WorkloadKind
from sensor.core.keyed import KeyedHash
from sensor.routes.host_names import MAX_HOSTS, OTHER
from sensor.routes.templating import Templater
from sensor.routes.trie import (
    MAX_VERSIONS,
    MAX_WORDS,
    SERVICE_PART,
    UNSERVED_SERVICE_PART,
    ServiceTables,
    TableLimits,
    walk_nodes,
)
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import START_NS, make_origin

LIMITS = TableLimits(services=3, routes=24, unserved_routes=16, nodes=40, unserved_nodes=24)
TEXTS = st.sampled_from(["users", "orders", "v1", "zorblatt", "7", "a.json", "42.json", "", "\x00", "%41"]) | st.text(
    st.characters(codec="latin-1"), max_size=6
)
CALLS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["h", "i", ""]),
        st.lists(TEXTS, max_size=36).map("/".join),
        st.sampled_from([200, 204, 301, 404, 500, 0]),
    ),
    max_size=120,
)


def _templater(limits: TableLimits | None = None) -> Templater:
    return Templater(load_vocabulary(), KeyedHash(1, b"0123456789abcdef"), limits)


def _service(number: int) -> Service:
    return Service(
        cluster="", namespace="", workload="w", workload_kind=WorkloadKind.PROCESS, host_name="n", port=number
    )


def _call(templater: Templater, path: str, status: int, port: int = 80, host: str = "h") -> Route:
    return templater.route(_service(port), host, "GET", path, status, make_origin(), START_NS).route


def _words(count: int) -> list[str]:
    letters = "bcdfghjklmnpqrstvwxz"
    return [f"zor{a}u{b}a{c}i" for a in letters for b in letters for c in letters][:count]


def _held(tables: ServiceTables) -> tuple[int, int, int, int]:
    """(routes, unserved routes, nodes, unserved nodes), counted from the tries."""
    nodes = [node for table in tables.all() for root in table.roots.values() for node in walk_nodes(root)]
    unserved = sum(len(node.unserved or ()) for node in nodes)
    served_nodes = sum(node.is_served for node in nodes)
    return sum(len(node.routes) for node in nodes) - unserved, unserved, served_nodes, len(nodes) - served_nodes


@given(CALLS)
def test_tables_stay_within_their_bounds_and_every_call_gets_a_route(calls):
    templater = _templater(LIMITS)
    told = {}
    others = 0
    for port, host, path, status in calls:
        route = _call(templater, path, status, port, host)
        told[route.route_id] = told.get(route.route_id, 0) + 1
        others += route.host == OTHER
    assert sum(told.values()) == len(calls)
    assert others == templater.other_calls >= templater.unserved_other_calls
    tables = templater._tables
    budget = tables.budget
    allowances = (budget.routes, budget.unserved_routes, budget.nodes, budget.unserved_nodes)
    assert _held(tables) == tuple(allowance.used for allowance in allowances)
    assert all(allowance.used <= allowance.limit for allowance in allowances)
    assert len(tables) <= LIMITS.services


def test_a_scanner_does_not_spend_what_served_routes_need():
    templater = _templater()
    guesses = _words(MAX_WORDS - 1)
    for first, second, third in product(guesses[:9], guesses, guesses):
        _call(templater, f"/{first}/{second}/{third}", 404)
    for word in _words(2 * MAX_WORDS):
        _call(templater, f"/{word}", 404)
    assert templater._tables.budget.unserved_routes.used <= TableLimits().unserved_routes // UNSERVED_SERVICE_PART
    assert templater.unserved_other_calls > 0
    names = _words(8_000)[-MAX_WORDS:]
    routes = {_call(templater, f"/{name}", 200).segments for name in names}
    assert len(routes) == MAX_WORDS
    assert all(segments[0].kind is SegmentKind.WORD for segments in routes)
    assert _call(templater, "/v1/users/42", 200).host == "h"


def test_scanned_numbers_leave_room_for_versions():
    templater = _templater()
    for number in range(60, 90):
        _call(templater, f"/api/{number}/users", 404)
    versions = [_call(templater, f"/api/{number}/users", 200).segments[1] for number in range(1, MAX_VERSIONS + 1)]
    assert [segment.text for segment in versions] == ["1", "2", "3", "4"]


def test_an_unserved_route_is_the_same_once_served():
    templater = _templater()
    before = _call(templater, "/zorblatt/42", 401)
    assert (templater._tables.budget.routes.used, templater._tables.budget.unserved_routes.used) == (0, 1)
    assert _call(templater, "/zorblatt/42", 200) is before
    assert (templater._tables.budget.routes.used, templater._tables.budget.unserved_routes.used) == (1, 0)


def test_one_service_leaves_room_for_the_others():
    templater = _templater(TableLimits(routes=40, nodes=10_000))
    for word in _words(100):
        _call(templater, f"/v1/{word}/users", 200)
        _call(templater, f"/{word}/users", 200)
    assert templater._tables.budget.routes.used == 40 // SERVICE_PART
    assert _call(templater, "/v1/users", 200, port=81).host == "h"


@pytest.mark.parametrize("status", [200, 404])
def test_hosts_are_capped_and_their_tries_with_them(status):
    templater = _templater()
    for number in range(3 * MAX_HOSTS):
        _call(templater, "/v1/users", status, host=f"h{number}.example")
    # The names, and `other`.
    assert templater._tables.budget.routes.used + templater._tables.budget.unserved_routes.used == MAX_HOSTS + 1
    assert templater.folded_calls == 2 * MAX_HOSTS


def test_a_served_host_takes_the_place_of_a_scanned_one():
    templater = _templater()
    for number in range(MAX_HOSTS):
        _call(templater, "/v1/users", 404, host=f"h{number}.example")
    assert _call(templater, "/v1/users", 200, host="real.example").host == "real.example"
    assert (templater._tables.budget.routes.used, templater._tables.budget.unserved_routes.used) == (1, MAX_HOSTS - 1)
    assert _held(templater._tables) == (1, MAX_HOSTS - 1, 3, 3 * (MAX_HOSTS - 1))


def test_the_service_longest_silent_is_evicted_and_keeps_its_route_ids():
    templater = _templater(LIMITS)
    first = _call(templater, "/v1/users/42", 200, port=0)
    for port in range(1, 10):
        _call(templater, "/v1/users/42", 200, port=port)
        kept = _call(templater, "/v1/users/42", 200, port=1)
    assert templater.evicted_services == 7
    assert _call(templater, "/v1/users/42", 200, port=1) is kept
    assert _call(templater, "/v1/users/42", 200, port=0).route_id == first.route_id


def test_a_long_version_is_no_text_to_tell():
    segments = _call(_templater(), "/1.2-john.smith.personal.notes/users", 200).segments
    assert segments[0].text == ""

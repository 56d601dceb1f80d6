"""Which host names of a service are reported, whatever names clients make up."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.bounded import BoundedDict
from sensor.routes.host_names import ESTABLISHED_CALLS, HALF_LIFE_NS, MAX_HOSTS, MAX_WAITING, OTHER, HostNames
from sensor.routes.templating import Templater
from tests.sensor.records import START_NS, make_origin
from tests.sensor.routes.test_tables import _held, _service, _templater

SECOND_NS = 1_000_000_000
FLOOD, FLOOD_PER_SECOND = 20_000, 5_000
OLD = [f"shop{number}.example" for number in range(20)]
FLOODER, GATEWAY = 1_000, 7


class Traffic:
    """Calls of one service, with what was asked and what was reported by host."""

    def __init__(self) -> None:
        self.templater: Templater = _templater()
        self.now_ns = START_NS
        self.asked = Counter[str]()
        self.told = Counter[str]()
        self.route_ids: dict[str, set[int]] = {}

    def call(self, host: str, network: int, status: int = 200) -> str:
        """The host that is reported."""
        target = self.templater.route(
            _service(80), host, "GET", "/v1/orders/42", status, make_origin(network), self.now_ns
        )
        self.asked[host] += 1
        self.told[target.route.host] += 1
        self.route_ids.setdefault(target.route.host, set()).add(target.route.route_id)
        return target.route.host

    def serve(self, hosts: Iterable[str], networks: Iterable[int], times: int = 1) -> None:
        networks = list(networks)
        for _ in range(times):
            for host in hosts:
                for network in networks:
                    self.call(host, network)

    def flood(self, clients: int, prefix: str = "x", count: int = FLOOD, calls: int = 1) -> None:
        """Names that never were, of clients in turn."""
        for number in range(count):
            self.now_ns += SECOND_NS // FLOOD_PER_SECOND
            for _ in range(calls):
                self.call(f"{prefix}{number}.invalid", FLOODER + number % clients)

    def is_exact(self, hosts: Iterable[str]) -> bool:
        return all(self.told[host] == self.asked[host] > 0 for host in hosts)


@pytest.mark.parametrize("clients", [1, 50])
def test_a_flood_of_names_moves_no_real_host(clients: int) -> None:
    traffic = Traffic()
    traffic.serve(OLD, [1, 2, 3], times=2)
    traffic.flood(clients, count=FLOOD // 2)
    during = [f"during{number}.example" for number in range(10)]
    traffic.serve([*OLD, *during], [1, 2], times=3)  # From their first call on.
    traffic.flood(clients, "y", count=FLOOD // 2)
    traffic.serve([*OLD, *during], [1, 2])
    traffic.now_ns += 600 * SECOND_NS
    after = [f"after{number}.example" for number in range(10)]
    traffic.serve([*OLD, *during, *after], [2, 3], times=2)
    assert traffic.is_exact([*OLD, *during, *after])
    # Nothing is lost, and the inventory does not grow with the flood.
    assert traffic.told.total() == traffic.asked.total()
    assert len(traffic.told) <= MAX_HOSTS + len(during) + len(after) + 1
    assert traffic.told[OTHER] == traffic.templater.folded_calls > FLOOD - 2 * MAX_HOSTS
    assert all(len(ids) == 1 for ids in traffic.route_ids.values())


def test_a_real_host_gets_in_where_all_calls_come_from_one_gateway() -> None:
    """The flood, too: a first call looks like one of the flood, so that of a new host is in `other`."""
    traffic = Traffic()
    traffic.serve(OLD, [GATEWAY], times=ESTABLISHED_CALLS)
    for part in range(20):
        for number in range(FLOOD // 20):
            traffic.now_ns += SECOND_NS // FLOOD_PER_SECOND
            traffic.call(f"x{part}.{number}.invalid", GATEWAY)
        traffic.serve([*OLD, "during.example"], [GATEWAY])
    traffic.serve(["after.example"], [GATEWAY], times=20)
    assert traffic.is_exact(OLD)
    assert traffic.told["during.example"] == traffic.asked["during.example"] - 1
    assert traffic.told["after.example"] == traffic.asked["after.example"] - 1
    # A day later one call is enough.
    traffic.now_ns += HALF_LIFE_NS + SECOND_NS
    traffic.serve(["later.example"], [GATEWAY])
    assert traffic.is_exact(["later.example"])


def test_a_low_host_of_yesterday_outlasts_a_flood_of_names_that_are_called_twice() -> None:
    traffic = Traffic()
    traffic.serve(OLD, [1], times=ESTABLISHED_CALLS)
    traffic.now_ns += HALF_LIFE_NS
    traffic.flood(50, count=FLOOD // 2, calls=2)
    traffic.serve(OLD, [1])
    assert traffic.is_exact(OLD)


def test_names_that_are_repeated_change_places_ever_more_rarely() -> None:
    """What a determined client can add to the inventory: each change of all places costs it twice the calls."""
    traffic = Traffic()
    for calls in (1, 3, 7, 15, 31):
        traffic.flood(1, f"c{calls}.", count=2 * MAX_HOSTS, calls=calls)
    assert len(traffic.told) <= 5 * MAX_HOSTS + 1
    assert traffic.asked.total() > 50 * MAX_HOSTS
    traffic.serve(["real.example"], [1, 2, 3], times=10)
    assert traffic.told["real.example"] > 20


def test_a_host_that_loses_its_place_and_gets_it_again_is_the_same_endpoint() -> None:
    traffic = Traffic()
    for day in range(6):
        traffic.serve(["weekly.example"], [1])
        traffic.flood(1, f"day{day}.", count=3 * MAX_HOSTS, calls=4)
        traffic.now_ns += 3 * HALF_LIFE_NS
    assert traffic.told["weekly.example"] == 6
    assert len(traffic.route_ids["weekly.example"]) == 1
    served, unserved, *_ = _held(traffic.templater._tables)
    assert (served, unserved) == (traffic.templater._tables.budget.routes.used, 0)
    assert served <= MAX_HOSTS + 1


def test_names_that_were_never_served_are_evicted_first() -> None:
    traffic = Traffic()
    for number in range(MAX_HOSTS):
        traffic.call(f"x{number}.invalid", FLOODER, status=404)
    assert traffic.call("late.invalid", 1, status=404) == OTHER
    traffic.serve(OLD, [1])
    assert traffic.is_exact(OLD)
    assert traffic.call("x0.invalid", FLOODER, status=404) == OTHER
    assert traffic.call("x99.invalid", FLOODER) == "x99.invalid"


def test_one_client_of_many_names_is_no_flood_while_there_are_places() -> None:
    traffic = Traffic()
    hosts = [f"tenant{number}.example" for number in range(MAX_HOSTS)]
    traffic.serve(hosts, [GATEWAY], times=5)
    assert traffic.is_exact(hosts)
    assert traffic.templater.folded_calls == 0


CALLS = st.lists(
    st.tuples(st.integers(0, 2 * MAX_HOSTS), st.booleans(), st.integers(0, 4), st.integers(0, 3 * HALF_LIFE_NS)),
    max_size=400,
)


@given(CALLS, st.integers(0, 2**63 - 1))
def test_names_are_bounded_and_every_call_has_one(calls: list[tuple[int, bool, int, int]], first_ns: int) -> None:
    """In any order of times, also of a clock that jumps."""
    names = HostNames(BoundedDict(8))
    held: set[str] = set()
    for number, is_served, network, time_ns in calls:
        host = f"h{number}"
        if host in held:
            names.count(host, network, first_ns - time_ns)
        name, evicted = names.admit(host, is_served, network, first_ns - time_ns)
        assert name in (host, OTHER)
        if name == host:
            held.add(host)
        assert evicted is None or evicted in held
        held.discard(evicted or "")
        assert len(held) <= MAX_HOSTS
    assert {host for host in held if names.admit(host, False, 1, first_ns)[0] == host} == held


def test_what_waits_is_bounded() -> None:
    traffic = Traffic()
    traffic.flood(1, count=MAX_WAITING + 5_000)
    assert len(traffic.templater._tables._waiting) == MAX_WAITING

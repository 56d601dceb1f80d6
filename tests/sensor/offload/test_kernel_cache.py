"""Bounds, eviction, and the order in which the kernel is told."""

from collections.abc import Iterable, Mapping

import pytest

from sensor.offload.kernel_cache import RETIRED_MAX, CacheLimits, Issued, MapName
from tests.sensor.offload.conftest import Sensor
from tests.sensor.offload.kernel import Call, Kernel
from tests.sensor.offload.test_matcher import make, teach


class Log(Kernel):
    """Notes what it is told, in order."""

    told: list[tuple[str, MapName]]

    def update(self, name: MapName, elements: Mapping[bytes, bytes]) -> None:
        self.told.append(("update", name))
        super().update(name, elements)

    def delete(self, name: MapName, keys: Iterable[bytes]) -> None:
        self.told.append(("delete", name))
        super().delete(name, keys)


def count_elements(sensor: Sensor) -> dict[MapName, int]:
    return {name: len(elements) for name, elements in sensor.kernel.maps.items()}


def check_agreement(sensor: Sensor) -> None:
    """The kernel holds exactly what the cache says."""
    elements = count_elements(sensor)
    roots = sensor.cache.all_roots()
    assert elements[MapName.ROOTS] == len(roots)
    assert elements[MapName.EDGES] == sensor.cache.edge_count == sum(len(root.edges) for root in roots)
    assert elements[MapName.LEAVES] == len(sensor.cache.routes) == sum(len(root.leaves) for root in roots)
    assert elements[MapName.PROFILES] == len(sensor.cache.profiles)


def count_signs(sensor: Sensor) -> int:
    return sum(int.from_bytes(word, "little").bit_count() for word in sensor.kernel.maps[MapName.EDGE_SIGNS].values())


def test_signs_of_what_was_forgotten_go_with_the_next_eviction() -> None:
    sensor = Sensor(limits=CacheLimits(roots=8, edges=1_000, routes=1_000, profiles=100))
    for port in range(1, 100):
        teach_service(sensor, port)
    edges = [key for root in sensor.cache.all_roots() for key in root.edges if not key.shape]
    # Two edges for each root; those of the roots that came since the last eviction are signed at once.
    assert len(edges) - 2 <= count_signs(sensor) <= 2 * 8
    sensor.matcher.cache.clear()
    sensor.flush()
    assert count_signs(sensor) == 0


def teach_service(sensor: Sensor, port: int) -> Call:
    call = make("/v1/orders/1001", local_port=port)
    teach(sensor, call)
    return call


@pytest.mark.parametrize(
    "limits",
    [
        CacheLimits(roots=8, edges=1_000, routes=1_000, profiles=100),
        CacheLimits(roots=1_000, edges=24, routes=1_000, profiles=100),
        CacheLimits(roots=1_000, edges=1_000, routes=8, profiles=100),
    ],
)
def test_full_tables_forget_the_roots_that_were_longest_unused(limits: CacheLimits) -> None:
    sensor = Sensor(limits=limits)
    calls = [teach_service(sensor, port) for port in range(1, 20)]
    check_agreement(sensor)
    assert sensor.cache.root_count <= 8
    assert sensor.figure("evicted_roots") == 19 - sensor.cache.root_count
    assert sensor.kernel.take(calls[-1]) == "record"
    assert sensor.kernel.take(calls[0]) == "head"


def test_full_profiles_forget_the_oldest() -> None:
    sensor = Sensor(limits=CacheLimits(profiles=16))
    calls = [make("/v1/orders/1001", f"Authorization: Basic dXNlcj{number:02}abcdefgh") for number in range(40)]
    for call in calls:
        teach(sensor, call)
    check_agreement(sensor)
    assert sensor.figure("taught_profiles") == 16
    assert sensor.figure("evicted_profiles") == 24
    assert sensor.kernel.take(calls[-1]) == "record"
    assert sensor.kernel.take(calls[0]) == "head"


def test_a_root_with_too_many_values_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensor.offload.installer.VALUE_EDGES_MAX", 5)
    sensor = Sensor()
    for day in range(10, 20):
        sensor.take(make(f"/v1/reports/2024-01-{day}"))
    check_agreement(sensor)
    assert sensor.cache.edge_count <= 7
    assert sensor.figure("evicted_roots") == 1


def test_ways_are_told_from_their_end_and_forgotten_from_their_start(sensor: Sensor) -> None:
    sensor.kernel = log = Log()
    log.told = []
    call = make()
    for _ in range(2):
        sensor.matcher.install_call(Kernel.make_exchange(call, 21, 22), sensor.describe(call))
    assert sensor.flush()
    names = (MapName.LEAVES, MapName.EDGE_SIGNS, MapName.EDGES, MapName.ROOTS, MapName.PROFILES)
    assert log.told == [("update", name) for name in names]
    log.told.clear()
    sensor.matcher.cache.clear()
    sensor.flush()
    names = (MapName.ROOTS, MapName.PROFILES, MapName.EDGES, MapName.LEAVES)
    assert log.told == [*(("delete", name) for name in names), ("update", MapName.EDGE_SIGNS)]
    log.told.clear()
    assert not sensor.flush()
    assert not log.told


def test_what_is_forgotten_before_it_was_told_is_not_told(sensor: Sensor) -> None:
    call = make()
    for _ in range(2):
        sensor.matcher.install_call(Kernel.make_exchange(call, 21, 22), sensor.describe(call))
    for root in sensor.cache.all_roots():
        sensor.cache.forget_root(root)
    sensor.flush()
    check_agreement(sensor)


def test_numbers_are_never_given_twice() -> None:
    issued: Issued[str] = Issued()
    numbers = [issued.add(str(place)) for place in range(RETIRED_MAX + 2)]
    assert numbers[0] == 1 and len(set(numbers)) == len(numbers)
    for number in numbers:
        issued.retire(number)
        issued.retire(number)
    assert len(issued) == 0
    assert issued.find(numbers[1]) is None and issued.find(numbers[2]) == "2"
    assert issued.find(0) is None
    issued.forget_all()
    assert issued.find(numbers[-1]) is None
    assert issued.add("new") == numbers[-1] + 1

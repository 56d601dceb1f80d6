"""The inventory's mapping changes while the detectors run: endpoints are called otherwise, become one, or are told
apart. That is nobody's fall or rise."""

from collections.abc import Mapping

import numpy as np
import pytest

from collector.alerting.alert import AlertKind
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.log.base import Position
from tests.collector.detection.states import decode_state, encode_state
from tests.collector.detection.stream import START, Row, make_batch

CALLERS = 5
MINUTE = 60


class Traffic:
    """Routes 1 to `routes`, each called by all callers some six times in 10 s, and an engine that judges it."""

    def __init__(self, routes: int, mapping: Mapping[int, str] | None = None, **limits: int) -> None:
        self.routes = routes
        self.mapping = dict(mapping or {})
        self.engine = Engine(endpoint_of_route=self.mapping, **limits)
        self.random = np.random.default_rng(routes)
        self.time = START // 3_600 * 3_600

    def run(self, minutes: int) -> set[tuple[AlertKind, str]]:
        """What was told of whom."""
        signals = []
        for _ in range(6 * minutes):
            rows = [
                Row(route=route, consumer=1 + caller, window=self.time, calls=int(self.random.poisson(6)))
                for route in range(self.routes)
                for caller in range(CALLERS)
            ]
            signals += self.engine.feed(make_batch(rows), self.time + 11)
            self.time += 10
        return {(signal.kind, signal.endpoint_id) for signal in signals}

    def remap(self, mapping: Mapping[int, str]) -> None:
        routes = self.mapping.keys() | mapping.keys()
        self.mapping.clear()
        self.mapping.update(mapping)
        self.engine.remap(routes)

    def list_endpoints(self) -> set[str]:
        names = self.engine.subjects.endpoints.list_names(self.engine.subjects.endpoints.live().tolist())
        return {name.endpoint_id for name in names if name is not None}


def name(route: int) -> str:
    """What an endpoint is called that the inventory does not know."""
    return f"{route:016x}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {1: "a", 2: "b", 3: "c"}),
        ({}, {1: "a", 2: "a"}),
        ({1: "a", 2: "b", 3: "c"}, {1: "b", 2: "b", 3: "c"}),
        ({1: "a", 2: "a", 3: "a"}, {1: "a", 2: "a", 3: "c"}),
        ({1: "a", 2: "a", 3: "a"}, {1: "b", 2: "c", 3: "d"}),
        ({1: "a", 2: "b", 3: "c"}, {1: "b", 2: "c", 3: "a"}),
        ({1: "a", 2: "b", 3: "c"}, {}),
    ],
)
def test_no_endpoint_is_told_for_what_the_inventory_did(before: dict[int, str], after: dict[int, str]) -> None:
    traffic = Traffic(3, before)
    assert traffic.run(90) == set()
    traffic.remap(after)
    assert traffic.run(60) == set()
    assert traffic.list_endpoints() == {after.get(route, name(route)) for route in (1, 2, 3)}
    assert traffic.engine.dropped_calls["late"] == 0


def test_an_endpoint_that_is_called_otherwise_is_the_same_one() -> None:
    renamed, same = Traffic(2), Traffic(2)
    for traffic in (renamed, same):
        traffic.run(30)
    renamed.remap({1: "a", 2: "b"})
    assert renamed.run(30) == same.run(30)
    left, right = ({n: a for n, a in one.engine.dump().items() if ".detector." in n} for one in (renamed, same))
    assert left and all(np.array_equal(left[field], right[field]) for field in left)
    assert renamed.engine.subjects.pairs.find("a", f"principal:{1:016x}") >= 0
    assert renamed.engine.subjects.pairs.evicted_count == 0
    assert len(renamed.engine.subjects.pairs) == 2 * CALLERS


def test_who_calls_an_endpoint_that_became_part_of_another_is_known_there() -> None:
    traffic = Traffic(2)
    traffic.run(30)
    pairs = traffic.engine.subjects.pairs
    caller = f"principal:{1:016x}"
    slot = pairs.find(name(1), caller)
    traffic.remap({1: "whole", 2: "whole"})
    assert pairs.find("whole", caller) == slot
    assert traffic.engine.pairs.windowed[300].levels(np.array([slot]))[0] > 0
    traffic.run(30)
    assert len(pairs) == 2 * CALLERS  # Those of the other half stay behind, and age out.
    assert traffic.list_endpoints() == {"whole"}


def test_what_a_caller_does_at_the_endpoint_is_told_by_its_new_name() -> None:
    traffic = Traffic(2)
    traffic.run(60)
    traffic.remap({1: "whole", 2: "whole"})
    traffic.run(5)
    burst = [Row(route=0, consumer=1, window=traffic.time, calls=3_000, objects=tuple(range(1, 2_000)))]
    signals = traffic.engine.feed(make_batch(burst), traffic.time + 11)
    assert {signal.endpoint_id for signal in signals if signal.kind is AlertKind.VOLUME_PAIR} == {"whole"}


@pytest.mark.parametrize("seed", range(12))
def test_any_changes_of_the_mapping_leave_one_slot_a_name_and_state_that_can_be_kept(seed: int) -> None:
    random = np.random.default_rng(seed)
    traffic = Traffic(8, endpoints_max=10, pairs_max=50)
    for _ in range(12):
        traffic.run(1)
        mapped = random.integers(0, 6, 8)
        traffic.remap({route + 1: f"endpoint {to}" for route, to in enumerate(mapped.tolist()) if to})
        roster = traffic.engine.subjects
        for part in roster.tables:
            live = part.live()
            assert len(live) == len(part) == len(set(part.keys[live].tolist()))
            assert part.find_keys(part.keys[live]).tolist() == live.tolist()
            assert all(known is not None for known in part.list_names(live.tolist()))
        endpoints = roster.pair_endpoint[roster.pairs.live()]
        assert np.isin(endpoints[endpoints >= 0], roster.endpoints.live()).all()
        twin = traffic.engine.make_new()
        position = Checkpoint(position=Position(1, 2), next_signal=3)
        content = encode_state(traffic.engine, position)
        assert decode_state(content, twin).position == position.position
        traffic.engine = twin  # It goes on from there.
    assert traffic.engine.used_calls > 0 == traffic.engine.dropped_calls["late"]

"""Rows to subjects: gives each row of a batch its endpoint, consumer and pair, and counts the objects that are new to
the pair."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.anomaly.actors import hash_text, identify_consumers, name_consumer
from collector.anomaly.detectors.contract import State
from collector.anomaly.distinct import find_distinct
from collector.anomaly.slots import Slots, grow, mix
from collector.anomaly.subjects import SubjectName, Subjects
from collector.anomaly.touched import TouchedObjects
from collector.inventory.naming import template
from collector.rows import ConsumerColumn, Route, RowBatch

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

_PARTS = ("endpoints", "consumers", "pairs")
CROWD_MIN = 10  # So many consumers of an endpoint are many.
_COUNT_SECONDS = 60
_ROUTES_MAX = 64  # Of one endpoint that a signal names.


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Subjects of n rows; -1 where a row has no consumer. Evicted slots are to be cleared before anything is added."""

    endpoint: Slots
    consumer: Slots
    pair: Slots
    novel: F64  # Objects the pair had not touched before.
    evicted_endpoints: Slots
    evicted_consumers: Slots
    evicted_pairs: Slots


class Roster:
    """Endpoints, consumers and pairs, and which pair belongs to which."""

    def __init__(
        self,
        *,
        endpoint_of_route: Mapping[int, str],
        consumer_order: tuple[ConsumerColumn, ...],
        endpoints_max: int,
        consumers_max: int,
        pairs_max: int,
    ) -> None:
        self._consumer_order = consumer_order
        self._endpoint_of_route = endpoint_of_route
        self.endpoints, self.consumers, self.pairs = (
            Subjects(endpoints_max),
            Subjects(consumers_max),
            Subjects(pairs_max),
        )
        self.novelty = TouchedObjects()
        self.pair_endpoint: Slots = np.zeros(0, np.int64)  # By pair slot; -1 once the endpoint was evicted.
        self.pair_consumer: Slots = np.zeros(0, np.int64)
        self._counts: Slots = np.zeros(0, np.int64)  # Consumers by endpoint slot.
        self._counted_at = 0

    @property
    def parts(self) -> tuple[Subjects, Subjects, Subjects]:
        """The three tables."""
        return (self.endpoints, self.consumers, self.pairs)

    def place(self, batch: RowBatch, chosen: Slots, time: int) -> Placed:
        """Subjects of the rows `chosen`; new ones get slots, `time` is when they were touched."""
        names = [self._name_endpoint(route) for route in batch.routes]
        route = batch.route[chosen]
        endpoint_key = np.array([hash_text(name.endpoint_id) for name in names], np.uint64)[route]
        every = np.ones(len(chosen), np.bool_)
        endpoint, evicted_endpoints = _touch(
            self.endpoints, endpoint_key, every, time, lambda row: names[int(route[row])]
        )
        self._join_routes(names, route, endpoint)
        key, kind = identify_consumers(batch, self._consumer_order)
        key, kind = key[chosen], kind[chosen]
        has = key != 0

        def name_actor(row: int) -> SubjectName:
            return SubjectName(consumer=name_consumer(batch, int(chosen[row]), int(kind[row])))

        def name_pair(row: int) -> SubjectName:
            own = names[int(route[row])]
            return msgspec.structs.replace(own, consumer=name_actor(row).consumer)

        consumer, evicted_consumers = _touch(self.consumers, key, has, time, name_actor)
        pair, evicted_pairs = _touch(self.pairs, mix(endpoint_key, key), has, time, name_pair)
        self._link(endpoint, consumer, pair, evicted_endpoints, evicted_consumers)
        self.novelty.grow(self.pairs.table.capacity)
        if len(evicted_pairs):
            self.novelty.forget(evicted_pairs)
        return Placed(
            endpoint=endpoint,
            consumer=consumer,
            pair=pair,
            novel=self._count_novel(batch, chosen, pair),
            evicted_endpoints=evicted_endpoints,
            evicted_consumers=evicted_consumers,
            evicted_pairs=evicted_pairs,
        )

    def count_consumers(self, time: int) -> Slots:
        """Consumers of each endpoint slot, as of a minute ago at the most."""
        capacity = self.endpoints.table.capacity
        if len(self._counts) < capacity or not self._counted_at <= time < self._counted_at + _COUNT_SECONDS:
            endpoints = self.pair_endpoint[self.pairs.table.live()]
            self._counts = np.bincount(endpoints[endpoints >= 0], minlength=capacity)
            self._counted_at = time
        return self._counts

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        parts: dict[str, State] = {}
        for name, part in zip(_PARTS, self.parts, strict=True):
            arrays, names = part.dump()
            parts[name] = {**arrays, "names": np.frombuffer(names, np.uint8)}
        links: State = {"endpoint": self.pair_endpoint, "consumer": self.pair_consumer}
        links |= {"counts": self._counts, "counted_at": np.array([self._counted_at])}
        return {**parts, "links": links, "novelty": self.novelty.dump()}

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`."""
        for name, part in zip(_PARTS, self.parts, strict=True):
            part.load(parts[name], parts[name]["names"].tobytes())
        self.pair_endpoint = parts["links"]["endpoint"].astype(np.int64)
        self.pair_consumer = parts["links"]["consumer"].astype(np.int64)
        self._counts, self._counted_at = parts["links"]["counts"].astype(np.int64), int(parts["links"]["counted_at"][0])
        self.novelty.load(parts["novelty"])

    def _name_endpoint(self, route: Route) -> SubjectName:
        endpoint_id = self._endpoint_of_route.get(route.route_id) or f"{route.route_id:016x}"
        return SubjectName(endpoint_id=endpoint_id, label=label_route(route), route_ids=(route.route_id,))

    def _join_routes(self, names: list[SubjectName], route: NDArray[np.uint32], endpoint: Slots) -> None:
        """An endpoint that covers several routes names them all in its signals."""
        for index, row in zip(*find_distinct(route)[:2], strict=True):
            slot = int(endpoint[row])
            known, own = self.endpoints.name(slot), names[int(index)].route_ids[0]
            if own not in known.route_ids and len(known.route_ids) < _ROUTES_MAX:
                self.endpoints.rename(slot, msgspec.structs.replace(known, route_ids=(*known.route_ids, own)))

    def _link(
        self, endpoint: Slots, consumer: Slots, pair: Slots, endpoints_gone: Slots, consumers_gone: Slots
    ) -> None:
        capacity = self.pairs.table.capacity
        self.pair_endpoint, self.pair_consumer = (
            grow(self.pair_endpoint, capacity, -1),
            grow(self.pair_consumer, capacity, -1),
        )
        if len(endpoints_gone):
            self.pair_endpoint[np.isin(self.pair_endpoint, endpoints_gone)] = -1
        if len(consumers_gone):
            self.pair_consumer[np.isin(self.pair_consumer, consumers_gone)] = -1
        has = pair >= 0
        self.pair_endpoint[pair[has]] = endpoint[has]
        self.pair_consumer[pair[has]] = consumer[has]

    def _count_novel(self, batch: RowBatch, chosen: Slots, pair: Slots) -> F64:
        """New objects a row. Where a row holds only the smallest hashes of a larger set, its share of new ones holds
        for the set."""
        offsets = batch.objects.offsets
        first, length = offsets[chosen], offsets[chosen + 1] - offsets[chosen]
        # Of a path that is not known the objects tell unknown endpoints apart: no objects that a consumer took.
        is_unknown = np.array([route.is_unknown for route in batch.routes], np.bool_)[batch.route[chosen]]
        length = np.where((pair >= 0) & ~is_unknown, length, 0)
        row = np.repeat(np.arange(len(chosen)), length)
        within = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        hashes = batch.objects.values[np.repeat(first, length) + within]
        is_new = self.novelty.count_novel(pair[row], hashes)
        novel = np.bincount(row, is_new, len(chosen)) if len(row) else np.zeros(len(chosen))
        known = np.maximum(length, 1)
        estimated: F64 = novel * np.maximum(batch.objects_count[chosen].astype(np.float64), length) / known
        return estimated


def label_route(route: Route) -> str:
    """`GET /items/{item_id}`: as the inventory names it, less the words revealed since."""
    return f"{route.method} {template(route.segments, route.has_trailing_slash)}"


def _touch(
    subjects: Subjects, keys: U64, has: NDArray[np.bool_], time: int, name: Callable[[int], SubjectName]
) -> tuple[Slots, Slots]:
    """Slot of each row (-1 where `has` is false) and evicted slots; `name(row)` names a new one."""
    slots = np.full(len(keys), -1, np.int64)
    rows = np.flatnonzero(has)
    distinct, first, inverse = find_distinct(keys[rows])
    found, evicted = subjects.touch(distinct, time, lambda index: name(int(rows[first[index]])))
    slots[rows] = found[inverse]
    return slots, evicted

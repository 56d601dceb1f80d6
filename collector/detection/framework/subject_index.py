"""Maps rows to subjects: each row of a batch gets its endpoint, consumer and pair, and a count of objects new to the
pair.

`TouchedObjects` estimates new objects without bias, for few and for many. Every pair has the bitmap of `novelty`: 512
bits. A hash on a bit that another hash set counts as known, so each new one counts 1 / (1 - fill). A pair that fills
its bitmap moves to a wide one of two generations of 32,768 bits. When the younger is half full it becomes the older,
and an empty one takes its place. What is touched again is kept. So a partner with 25,000 customers that calls all of
them again and again still shows the few new ones.

There are `WIDE_MAX` wide bitmaps of 8 KB. Where all are taken, the bitmap of a pair that fills begins again, as it does
when the pair moves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.core.rows import Route
from collector.detection.framework.distinct import Grouper, find_distinct, list_distinct, mix
from collector.detection.framework.novelty import BITS, FULL_BITS, NoveltyBitmap
from collector.detection.framework.rows import Events, TouchedRows, hash_text, identify_consumers, name_consumer
from collector.detection.framework.slots import SubjectName, Subjects, Touched
from collector.detection.framework.state import F64, U64, Bools, DetectorState, Slots, array, column, grow, number
from collector.inventory.naming import template
from common.bounded import BoundedDict
from common.consumer_order import ConsumerColumn

ENDPOINTS_MAX = 20_000
CONSUMERS_MAX = 100_000
PAIRS_MAX = 200_000

WIDE_BITS = 32_768  # A generation.
WIDE_MAX = 2_048  # 16 MB in all.
_GENERATION_FILL = 0.5
_WORDS = WIDE_BITS // 64
_LEAST_SHARE = 0.1  # Of hashes that are told apart, at the least: bounds what one new hash counts.


class _WideBitmaps(DetectorState):
    """By number of a wide bitmap."""

    has_own_size = True
    slot_of = column(np.int64, fill=-1)  # -1: free.
    counts = column(np.int64, 2)  # Bits set in the younger and in the older generation.
    younger = column(np.uint64, _WORDS, is_slot_first=True)
    older = column(np.uint64, _WORDS, is_slot_first=True)


class TouchedObjects(DetectorState):
    """By slot of a pair: which objects it touched."""

    slot_parts = ("_narrow",)
    parts = ("_wide",)
    _wide_of = column(np.int16)  # Wide bitmap of a slot, plus 1; 0: none.

    def __init__(self) -> None:
        super().__init__()
        self._narrow = NoveltyBitmap()
        self._wide = _WideBitmaps()

    def count_novel(self, slots: Slots, hashes: U64) -> F64:
        """For element i, 0 where (slots[i], hashes[i]) was seen before or earlier here, else how many new ones it
        stands for (1 and a little more)."""
        result = np.zeros(len(slots))
        if not self._wide.size:  # Nobody ever filled a bitmap.
            self._count_narrow(slots, hashes, result, None)
            return result
        wide = self._wide_of[slots]
        is_wide = wide > 0
        if not np.count_nonzero(is_wide):
            self._count_narrow(slots, hashes, result, None)
            return result
        rows = (~is_wide).nonzero()[0]
        self._count_narrow(slots[rows], hashes[rows], result, rows)
        rows = is_wide.nonzero()[0]
        result[rows] = self._count_wide(wide[rows].astype(np.int64) - 1, hashes[rows])
        return result

    def forget(self, slots: Slots) -> None:
        wide = self._wide_of[slots]
        self._wide.forget(wide[wide > 0].astype(np.int64) - 1)
        super().forget(slots)

    def _widen(self, slot: int) -> None:
        """Give a slot a wide bitmap while there are some."""
        free = (self._wide.slot_of < 0).nonzero()[0]
        if not len(free):
            old = self._wide.size
            if old >= WIDE_MAX:
                return
            self._wide.grow(min(max(16, 2 * old), WIDE_MAX))
            free = np.array([old])
        self._wide.slot_of[free[0]] = slot
        self._wide_of[slot] = int(free[0]) + 1

    def _count_narrow(self, slots: Slots, hashes: U64, result: F64, rows: Slots | None) -> None:
        """Of the elements `rows` of the result, or all."""
        new, place = self._narrow.find_novel(slots, hashes)
        if not len(new):
            return
        own, added, filled = self._narrow.add_novel(slots[new], place)
        result[new if rows is None else rows[new]] = np.repeat(1 / np.maximum(1 - filled / BITS, _LEAST_SHARE), added)
        for slot in own[filled + added > FULL_BITS].tolist():
            self._narrow.forget(np.array([slot]))
            self._widen(slot)

    def _count_wide(self, wide: Slots, hashes: U64) -> F64:
        result = np.zeros(len(wide))
        younger, counts = self._wide.younger, self._wide.counts
        place = wide * WIDE_BITS + (hashes % np.uint64(WIDE_BITS)).astype(np.int64)
        distinct, first, _ = find_distinct(place)
        word, bit = distinct // 64, np.uint64(1) << (distinct % 64).astype(np.uint64)
        is_in_younger = (younger.reshape(-1)[word] & bit) != 0
        is_new = ~is_in_younger & ((self._wide.older.reshape(-1)[word] & bit) == 0)
        own = wide[first]
        share = np.prod(1 - counts[:, own] / WIDE_BITS, axis=0)
        result[first] = is_new / np.maximum(share, _LEAST_SHARE)
        entered = ~is_in_younger
        np.bitwise_or.at(younger.reshape(-1), word[entered], bit[entered])
        np.add.at(counts[0], own[entered], 1)
        full = list_distinct(own[counts[0, own] >= WIDE_BITS * _GENERATION_FILL])
        self._wide.older[full], counts[1, full] = younger[full], counts[0, full]
        younger[full], counts[0, full] = 0, 0
        return result


CROWD_MIN = 10  # So many consumers of an endpoint are many.
_COUNT_SECONDS = 60
_NAMES_MAX = 40_000  # Routes whose names are not made anew for each batch.
_ROUTES_MAX = 64  # Of one endpoint that a signal names.


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRoute:
    """What is asked of a route at every batch."""

    endpoint_id: str  # As the mapping said; empty where it has none.
    name: SubjectName
    key: int  # Of the endpoint.
    is_unknown: bool  # The path of its calls is not known.


class SubjectIndex(DetectorState):
    """Endpoints, consumers and pairs, and which pair belongs to which."""

    parts = ("endpoints", "consumers", "pairs", "novelty")
    pair_endpoint = array(np.int64)  # By pair slot; -1 once the endpoint was evicted.
    pair_consumer = array(np.int64)
    watermark = number(0)  # Start of the newest row, unix seconds.
    _counts = array(np.int64)  # Consumers by endpoint slot.
    _counted_at = number(0)

    def __init__(
        self,
        *,
        endpoint_of_route: Mapping[int, str],
        consumer_order: tuple[ConsumerColumn, ...],
        endpoints_max: int,
        consumers_max: int,
        pairs_max: int,
    ) -> None:
        super().__init__()
        self._consumer_order = consumer_order
        self._endpoint_of_route = endpoint_of_route
        self.endpoints, self.consumers = Subjects(endpoints_max), Subjects(consumers_max)
        self.pairs = Subjects(pairs_max)
        self.novelty = TouchedObjects()
        self.pairs.follow(self.novelty)
        self._is_loose = False  # Some pair may have lost its endpoint or its consumer.
        self._known_routes: BoundedDict[int, KnownRoute] = BoundedDict(_NAMES_MAX)
        self._by_endpoint, self._by_pair = Grouper(), Grouper()

    @property
    def tables(self) -> tuple[Subjects, Subjects, Subjects]:
        """The three tables."""
        return (self.endpoints, self.consumers, self.pairs)

    def list_endpoints(self, consumer: int) -> list[int]:
        """The endpoints that a consumer called, by slots; none for -1."""
        if consumer < 0:
            return []
        own = self.pair_endpoint[self.pair_consumer == consumer]
        found: list[int] = own[own >= 0].tolist()
        return found

    def place(self, events: Events) -> None:
        """Give the rows of a batch their subjects; new ones get slots."""
        batch, route, time = events.batch, events.route, self.watermark
        known = self._list_routes(batch.routes)
        names = [one.name for one in known]
        keys = np.array([one.key for one in known], np.uint64)
        endpoint_key = keys[route]
        used = _list_used(route, len(known))
        endpoints = self.endpoints.take(keys[used], time, lambda first: [names[one] for one in used[first].tolist()])
        endpoint_of = np.full(len(known), -1, np.int64)
        endpoint_of[used] = endpoints.slots
        endpoint = endpoint_of[route]
        self._join_routes(names, endpoint_of)
        key, kind = identify_consumers(events, self._consumer_order)
        has = key != 0

        def name_consumers(rows: list[int]) -> Iterator[SubjectName]:
            for row, own in zip(events.rows[rows].tolist(), kind[rows].tolist(), strict=True):
                yield SubjectName(consumer=name_consumer(batch, row, own))

        def name_pairs(rows: list[int]) -> Iterator[SubjectName]:
            callers = self.consumers.list_names(consumers.slots[rows].tolist())
            for place, caller in zip(route[rows].tolist(), callers, strict=True):
                own = names[place]
                yield SubjectName(
                    endpoint_id=own.endpoint_id,
                    label=own.label,
                    route_ids=own.route_ids,
                    consumer=caller.consumer if caller is not None else "",
                )

        consumers = _touch(self.consumers, key, has, time, name_consumers)
        pairs = _touch(self.pairs, mix(endpoint_key, key), has, time, name_pairs)
        self._link(endpoint, endpoints.emptied, consumers, pairs)
        events.endpoint, events.consumer, events.pair = endpoint, consumers.slots, pairs.slots
        events.by_endpoint = self._by_endpoint.group(endpoint, self.endpoints.capacity, endpoints.slots)
        events.by_pair = self._by_pair.group(pairs.slots, self.pairs.capacity)
        events.endpoint_of_pair = None
        if len(events.by_pair.rows) == len(events):
            events.endpoint_of_pair = np.empty(len(events.by_pair.slots), np.int64)
            events.endpoint_of_pair[events.by_pair.inverse] = events.by_endpoint.inverse
        events.objects = list_objects(events)
        events.novel = self._count_novel(events, [one.is_unknown for one in known])

    def remap(self, routes: Set[int]) -> tuple[Slots, Slots]:
        """The inventory says otherwise which endpoints these routes are of. An endpoint that is called otherwise stays
        what it is, and so do pairs; gives the slots of endpoints with more or fewer routes than before, and of those
        that are no more."""
        touched: dict[int, dict[str, list[int]]] = {}  # By slot: its routes by the endpoint that they are of now.
        for slot in self.endpoints.live().tolist():
            if not routes.isdisjoint((name := self.endpoints.name(slot)).route_ids):
                targets = touched[slot] = {}
                for route_id in name.route_ids:
                    targets.setdefault(self._identify(route_id), []).append(route_id)
        ids = {slot: self.endpoints.name(slot).endpoint_id for slot in touched}
        leaving = {slot for slot, targets in touched.items() if ids[slot] not in targets}
        renamed: dict[str, int] = {}
        moved: dict[int, int] = {}  # Slot of an endpoint that is no more: of the one that all its routes are of.
        changed: set[int] = set()
        for slot, targets in touched.items():
            others = {one: self._find_endpoint(one, renamed, leaving) for one in targets if one != ids[slot]}
            changed.update(other for other in others.values() if other >= 0)
            if slot in leaving and list(others.values()) == [-1]:
                renamed[next(iter(others))] = slot
            elif slot in leaving and len(others) == 1:
                moved[slot] = next(iter(others.values()))
            elif others and slot not in leaving:
                changed.add(slot)
                left = msgspec.structs.replace(self.endpoints.name(slot), route_ids=tuple(targets[ids[slot]]))
                self.endpoints.rename(slot, left)
        gone = np.array(sorted(leaving.difference(renamed.values())), np.int64)
        if not leaving:
            return np.array(sorted(changed), np.int64), gone
        self.endpoints.release(gone)
        self._is_loose |= bool(len(gone))
        self._rename(renamed)
        self._move_pairs({slot: slot for slot in renamed.values()} | moved)
        self.pair_endpoint[np.isin(self.pair_endpoint, gone)] = -1
        return np.array(sorted(changed), np.int64), gone

    def list_routes(self) -> Set[int]:
        """Of all endpoints."""
        live = self.endpoints.live().tolist()
        return {route_id for slot in live for route_id in self.endpoints.name(slot).route_ids}

    def count_consumers(self, time: int) -> Slots:
        """Consumers of each endpoint slot, as of a minute ago at the most."""
        capacity = self.endpoints.capacity
        if len(self._counts) < capacity or not self._counted_at <= time < self._counted_at + _COUNT_SECONDS:
            endpoints = self.pair_endpoint[self.pairs.live()]
            self._counts = np.bincount(endpoints[endpoints >= 0], minlength=capacity)
            self._counted_at = time
        return self._counts

    def counted_consumers(self) -> Slots:
        """The same as they were counted last, which may be longer ago."""
        return grow(self._counts, self.endpoints.capacity)

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        super().load(saved, path)
        live = self.pairs.live()
        self._is_loose = bool((self.pair_endpoint[live] < 0).any() or (self.pair_consumer[live] < 0).any())

    def _list_routes(self, routes: Sequence[Route]) -> list[KnownRoute]:
        """What is known of each."""
        known, mapping, listed = self._known_routes, self._endpoint_of_route, []
        for route in routes:
            route_id = route.route_id
            one = known.get(route_id)
            if one is None or one.endpoint_id != mapping.get(route_id, ""):
                one = known[route_id] = self._know_route(route)
            listed.append(one)
        return listed

    def _identify(self, route_id: int) -> str:
        """Which endpoint a route is of."""
        return self._endpoint_of_route.get(route_id, "") or f"{route_id:016x}"

    def _find_endpoint(self, endpoint_id: str, renamed: Mapping[str, int], leaving: Set[int]) -> int:
        """The slot of an endpoint when all have their new ids; -1 where it has none."""
        slot = renamed.get(endpoint_id, -1)
        if slot < 0 and (known := self.endpoints.find_key(hash_text(endpoint_id))) not in leaving:
            slot = known
        return slot

    def _rename(self, renamed: Mapping[str, int]) -> None:
        """Endpoints by their new id."""
        for endpoint_id, slot in renamed.items():
            self.endpoints.rename(slot, msgspec.structs.replace(self.endpoints.name(slot), endpoint_id=endpoint_id))
        keys = np.array([hash_text(one) for one in renamed], np.uint64)
        self.endpoints.rekey(np.array(list(renamed.values()), np.int64), keys)

    def _move_pairs(self, moved: Mapping[int, int]) -> None:
        """Pairs of an endpoint's slot to another one (or the same, of another id), where there is no such pair yet."""
        target = np.full(self.endpoints.capacity, -1, np.int64)
        target[list(moved)] = list(moved.values())
        pairs = self.pairs.live()
        pairs = pairs[(self.pair_endpoint[pairs] >= 0) & (self.pair_consumer[pairs] >= 0)]
        pairs = pairs[target[self.pair_endpoint[pairs]] >= 0]
        endpoint = target[self.pair_endpoint[pairs]]
        keys = mix(self.endpoints.keys[endpoint], self.consumers.keys[self.pair_consumer[pairs]])
        _, first = np.unique(keys, return_index=True)
        kept = first[self.pairs.find_keys(keys[first]) < 0]
        pairs, endpoint = pairs[kept], endpoint[kept]
        self.pairs.rekey(pairs, keys[kept])
        self.pair_endpoint[pairs] = endpoint
        for slot, known in zip(pairs.tolist(), self.endpoints.list_names(endpoint.tolist()), strict=True):
            if known is not None:
                name = self.pairs.name(slot)
                self.pairs.rename(slot, msgspec.structs.replace(name, endpoint_id=known.endpoint_id))

    def _know_route(self, route: Route) -> KnownRoute:
        endpoint_id = self._endpoint_of_route.get(route.route_id, "")
        own = endpoint_id or f"{route.route_id:016x}"
        return KnownRoute(
            endpoint_id=endpoint_id,
            name=SubjectName(endpoint_id=own, label=label_route(route), route_ids=(route.route_id,)),
            key=hash_text(own),
            is_unknown=route.is_unknown,
        )

    def _join_routes(self, names: list[SubjectName], endpoint_of: Slots) -> None:
        """An endpoint that covers several routes names them all in its signals."""
        slots = endpoint_of.tolist()
        for own, slot, known in zip(names, slots, self.endpoints.list_names(slots), strict=True):
            if known is own or known is None or slot < 0:
                continue
            route_id, known = own.route_ids[0], self.endpoints.name(slot)  # Anew: another route may have joined it.
            if route_id not in known.route_ids and len(known.route_ids) < _ROUTES_MAX:
                self.endpoints.rename(slot, msgspec.structs.replace(known, route_ids=(*known.route_ids, route_id)))

    def _link(self, endpoint: Slots, endpoints_gone: Slots, consumers: Touched, pairs: Touched) -> None:
        consumers_gone = consumers.emptied
        capacity = self.pairs.capacity
        self.pair_endpoint, self.pair_consumer = (
            grow(self.pair_endpoint, capacity, -1),
            grow(self.pair_consumer, capacity, -1),
        )
        if len(endpoints_gone):
            self.pair_endpoint[np.isin(self.pair_endpoint, endpoints_gone)] = -1
        if len(consumers_gone):
            self.pair_consumer[np.isin(self.pair_consumer, consumers_gone)] = -1
        # A pair keeps its endpoint and consumer, but for those that were evicted and came back in another slot.
        self._is_loose |= bool(len(endpoints_gone) or len(consumers_gone))
        rows = (pairs.slots >= 0).nonzero()[0] if self._is_loose else pairs.first
        self.pair_endpoint[pairs.slots[rows]] = endpoint[rows]
        self.pair_consumer[pairs.slots[rows]] = consumers.slots[rows]

    def _count_novel(self, events: Events, are_unknown: Sequence[bool]) -> F64:
        """New objects a row; `are_unknown`: whether the path of a route is. Where a row holds only the smallest
        hashes of a larger set, its share of new ones holds for the set."""
        objects, pair = events.objects, events.pair
        if not len(objects.row):
            return np.zeros(len(events))
        # Of a path that is not known the objects tell unknown endpoints apart: no objects that a consumer took.
        is_counted = pair >= 0
        if any(are_unknown):
            is_counted &= ~np.array(are_unknown, np.bool_)[events.route]
        row, hashes = objects.row, objects.hashes
        if np.count_nonzero(is_counted) < len(is_counted):
            kept = is_counted[row]
            row, hashes = row[kept], hashes[kept]
        novel = np.bincount(row, self.novelty.count_novel(pair[row], hashes), len(events))
        length = np.where(is_counted, objects.length, 0)
        estimated: F64 = novel * np.maximum(events.read(events.batch.objects_count).astype(np.float64), length)
        estimated /= np.maximum(length, 1)
        return np.minimum(estimated, events.calls)  # A call touches one object.


def list_objects(events: Events) -> TouchedRows:
    """The objects of the rows of a batch."""
    batch, offsets = events.batch, events.batch.objects.offsets
    first, length = events.read(offsets[:-1]), events.read(np.diff(offsets))
    row = np.repeat(np.arange(len(events)), length)
    if len(row) == len(batch.objects.values):  # Rows are ascending: of all of them.
        return TouchedRows(row=row, hashes=batch.objects.values, length=length)
    within = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
    return TouchedRows(row=row, hashes=batch.objects.values[np.repeat(first, length) + within], length=length)


def _list_used(route: NDArray[np.uint32], count: int) -> Slots:
    """Which of `count` routes there are, in the order of their first rows."""
    rows = len(route)
    first = np.full(count, rows, np.int64)
    first[route[::-1]] = np.arange(rows - 1, -1, -1)
    return first.argsort()[: np.count_nonzero(first < rows)]


def label_route(route: Route) -> str:
    """`GET /items/{item_id}`: as the inventory names it, less the words revealed since."""
    return f"{route.method} {template(route.segments, route.has_trailing_slash)}"


def _touch(
    subjects: Subjects,
    keys: U64,
    has: Bools,
    time: int,
    list_names: Callable[[list[int]], Iterable[SubjectName]],
) -> Touched:
    """What each row is (slot -1 where `has` is false); `list_names` names new ones, by rows."""
    if np.count_nonzero(has) == len(has):
        return subjects.take(keys, time, list_names)
    slots = np.full(len(keys), -1, np.int64)
    rows = has.nonzero()[0]
    touched = subjects.take(keys[rows], time, lambda first: list_names(rows[first].tolist()))
    slots[rows] = touched.slots
    return replace(touched, slots=slots, first=rows[touched.first])

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
from collector.detection.framework.columns import Columns
from collector.detection.framework.contract import State
from collector.detection.framework.novelty import BITS, FULL_BITS, NoveltyBitmap
from collector.detection.framework.slots import Grouper, Groups, Slots, Touched, find_distinct, grow, list_distinct, mix
from collector.detection.framework.subjects import SubjectName, Subjects, hash_text, identify_consumers, name_consumer
from collector.inventory.naming import template
from common.bounded import BoundedDict
from common.settings import ConsumerColumn

WIDE_BITS = 32_768  # A generation.
WIDE_MAX = 2_048  # 16 MB in all.
_GENERATION_FILL = 0.5
_WORDS = WIDE_BITS // 64
_LEAST_SHARE = 0.1  # Of hashes that are told apart, at the least: bounds what one new hash counts.

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]


class TouchedObjects:
    """By slot of a pair: which objects it touched."""

    def __init__(self) -> None:
        self._narrow = NoveltyBitmap()
        self._wide_of: NDArray[np.int16] = np.zeros(0, np.int16)  # Wide bitmap of a slot, plus 1; 0: none.
        self._slot_of: NDArray[np.int64] = np.zeros(0, np.int64)  # The inverse; -1: free.
        self._words: U64 = np.zeros((2, 0), np.uint64)  # Younger and older generation; wide * _WORDS + word.
        self._counts: NDArray[np.int64] = np.zeros((2, 0), np.int64)  # Bits set, by wide bitmap.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._narrow.grow(capacity)
        self._wide_of = grow(self._wide_of, capacity)

    def count_novel(self, slots: Slots, hashes: U64) -> F64:
        """For element i, 0 where (slots[i], hashes[i]) was seen before or earlier here, else how many new ones it
        stands for (1 and a little more)."""
        result = np.zeros(len(slots))
        if not len(self._slot_of):  # Nobody ever filled a bitmap.
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
        """Clear evicted slots."""
        self._narrow.forget(slots)
        wide = self._wide_of[slots]
        wide = wide[wide > 0] - 1
        self._words.reshape(2, -1, _WORDS)[:, wide] = 0
        self._counts[:, wide] = 0
        self._slot_of[wide] = -1
        self._wide_of[slots] = 0

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        own: dict[str, NDArray[np.generic]] = {"wide_of": self._wide_of, "slot_of": self._slot_of}
        return {**own, "wide": self._words, "counts": self._counts, **self._narrow.dump()}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        self._narrow.load(state)
        self._wide_of, self._slot_of = state["wide_of"].astype(np.int16), state["slot_of"].astype(np.int64)
        self._words, self._counts = state["wide"].astype(np.uint64), state["counts"].astype(np.int64)

    def _widen(self, slot: int) -> None:
        """Give a slot a wide bitmap while there are some."""
        free = (self._slot_of < 0).nonzero()[0]
        if not len(free):
            old = len(self._slot_of)
            if old >= WIDE_MAX:
                return
            new = min(max(16, 2 * old), WIDE_MAX)
            self._slot_of = grow(self._slot_of, new, -1)
            self._words, self._counts = grow(self._words, new * _WORDS), grow(self._counts, new)
            free = np.arange(old, new)
        self._slot_of[free[0]] = slot
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
        place = wide * WIDE_BITS + (hashes % np.uint64(WIDE_BITS)).astype(np.int64)
        distinct, first, _ = find_distinct(place)
        word, bit = distinct // 64, np.uint64(1) << (distinct % 64).astype(np.uint64)
        is_in_younger = (self._words[0, word] & bit) != 0
        is_new = ~is_in_younger & ((self._words[1, word] & bit) == 0)
        own = wide[first]
        share = np.prod(1 - self._counts[:, own] / WIDE_BITS, axis=0)
        result[first] = is_new / np.maximum(share, _LEAST_SHARE)
        entered = ~is_in_younger
        np.bitwise_or.at(self._words[0], word[entered], bit[entered])
        np.add.at(self._counts[0], own[entered], 1)
        for index in list_distinct(own[self._counts[0, own] >= WIDE_BITS * _GENERATION_FILL]).tolist():
            words = self._words.reshape(2, -1, _WORDS)
            words[1, index], words[0, index] = words[0, index], 0
            self._counts[1, index], self._counts[0, index] = self._counts[0, index], 0
        return result


_PARTS = ("endpoints", "consumers", "pairs")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedRows:
    """The objects of n rows, m in all."""

    row: Slots  # m, ascending: 0 to n - 1.
    hashes: U64  # m.
    length: Slots  # n: how many each row has.


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Subjects of n rows; -1 where a row has no consumer. Evicted slots are to be cleared before anything is added."""

    endpoint: Slots
    consumer: Slots
    pair: Slots
    by_endpoint: Groups
    by_pair: Groups
    endpoint_of_pair: Slots | None  # Index into by_endpoint of each of by_pair, where all rows have a pair.
    objects: TouchedRows
    novel: F64  # Objects the pair had not touched before.
    evicted_endpoints: Slots
    evicted_consumers: Slots
    evicted_pairs: Slots

    @property
    def has_evicted(self) -> bool:
        """Whether anything was."""
        return bool(len(self.evicted_endpoints) or len(self.evicted_consumers) or len(self.evicted_pairs))


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
        self._retired: Slots = np.zeros(0, np.int64)  # Endpoints that are no more, until `place` says so.
        self._is_loose = False  # Some pair may have lost its endpoint or its consumer.
        self._known_routes: BoundedDict[int, KnownRoute] = BoundedDict(_NAMES_MAX)
        self._by_endpoint, self._by_pair = Grouper(), Grouper()
        self._counts: Slots = np.zeros(0, np.int64)  # Consumers by endpoint slot.
        self._counted_at = 0

    @property
    def parts(self) -> tuple[Subjects, Subjects, Subjects]:
        """The three tables."""
        return (self.endpoints, self.consumers, self.pairs)

    def place(self, columns: Columns, time: int) -> Placed:
        """Subjects of the rows of a batch; new ones get slots, `time` is when they were touched."""
        batch, route = columns.batch, columns.route
        retired, self._retired = self._retired, self._retired[:0]
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
        key, kind = identify_consumers(columns, self._consumer_order)
        has = key != 0

        def name_consumers(rows: list[int]) -> Iterator[SubjectName]:
            for row, own in zip(columns.rows[rows].tolist(), kind[rows].tolist(), strict=True):
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
        objects = list_objects(columns)
        self._link(endpoint, endpoints.emptied, consumers, pairs)
        self.novelty.grow(self.pairs.table.capacity)
        if len(pairs.emptied):
            self.novelty.forget(pairs.emptied)
        by_endpoint = self._by_endpoint.group(endpoint, self.endpoints.table.capacity, endpoints.slots)
        by_pair = self._by_pair.group(pairs.slots, self.pairs.table.capacity)
        endpoint_of_pair = None
        if len(by_pair.rows) == len(columns):
            endpoint_of_pair = np.empty(len(by_pair.slots), np.int64)
            endpoint_of_pair[by_pair.inverse] = by_endpoint.inverse
        return Placed(
            endpoint=endpoint,
            consumer=consumers.slots,
            pair=pairs.slots,
            by_endpoint=by_endpoint,
            by_pair=by_pair,
            endpoint_of_pair=endpoint_of_pair,
            objects=objects,
            novel=self._count_novel(columns, pairs.slots, objects, [one.is_unknown for one in known]),
            evicted_endpoints=np.union1d(retired, endpoints.emptied) if len(retired) else endpoints.emptied,
            evicted_consumers=consumers.emptied,
            evicted_pairs=pairs.emptied,
        )

    def remap(self, routes: Set[int]) -> tuple[Slots, Slots]:
        """The inventory says otherwise which endpoints these routes are of. An endpoint that is called otherwise stays
        what it is, and so do pairs; gives the slots of endpoints with more or fewer routes than before, and of those
        that are no more."""
        touched: dict[int, dict[str, list[int]]] = {}  # By slot: its routes by the endpoint that they are of now.
        for slot in self.endpoints.table.live().tolist():
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
        self._retire(gone)
        self._rename(renamed)
        self._move_pairs({slot: slot for slot in renamed.values()} | moved)
        self.pair_endpoint[np.isin(self.pair_endpoint, gone)] = -1
        return np.array(sorted(changed), np.int64), gone

    def list_routes(self) -> Set[int]:
        """Of all endpoints."""
        live = self.endpoints.table.live().tolist()
        return {route_id for slot in live for route_id in self.endpoints.name(slot).route_ids}

    def count_consumers(self, time: int) -> Slots:
        """Consumers of each endpoint slot, as of a minute ago at the most."""
        capacity = self.endpoints.table.capacity
        if len(self._counts) < capacity or not self._counted_at <= time < self._counted_at + _COUNT_SECONDS:
            endpoints = self.pair_endpoint[self.pairs.table.live()]
            self._counts = np.bincount(endpoints[endpoints >= 0], minlength=capacity)
            self._counted_at = time
        return self._counts

    def counted_consumers(self) -> Slots:
        """The same as they were counted last, which may be longer ago."""
        return grow(self._counts, self.endpoints.table.capacity)

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        parts: dict[str, State] = {}
        for name, part in zip(_PARTS, self.parts, strict=True):
            arrays, names = part.dump()
            parts[name] = {**arrays, "names": np.frombuffer(names, np.uint8)}
        links: State = {"endpoint": self.pair_endpoint, "consumer": self.pair_consumer}
        links |= {"counts": self._counts, "counted_at": np.array([self._counted_at]), "retired": self._retired}
        return {**parts, "links": links, "novelty": self.novelty.dump()}

    def load(self, parts: dict[str, State]) -> None:
        """The inverse of `dump`."""
        texts: dict[str, str] = {}
        for name, part in zip(_PARTS, self.parts, strict=True):
            part.load(parts[name], parts[name]["names"].tobytes(), texts)
        self.pair_endpoint = parts["links"]["endpoint"].astype(np.int64)
        self.pair_consumer = parts["links"]["consumer"].astype(np.int64)
        live = self.pairs.table.live()
        self._is_loose = bool((self.pair_endpoint[live] < 0).any() or (self.pair_consumer[live] < 0).any())
        self._counts, self._counted_at = parts["links"]["counts"].astype(np.int64), int(parts["links"]["counted_at"][0])
        self._retired = parts["links"].get("retired", self._retired[:0]).astype(np.int64)
        self.novelty.load(parts["novelty"])

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
        if slot < 0 and (known := self.endpoints.table.find(hash_text(endpoint_id))) not in leaving:
            slot = known
        return slot

    def _retire(self, gone: Slots) -> None:
        """Give up endpoints."""
        self.endpoints.release(gone)
        self._is_loose |= bool(len(gone))
        self._retired = np.union1d(self._retired, gone)

    def _rename(self, renamed: Mapping[str, int]) -> None:
        """Endpoints by their new id."""
        for endpoint_id, slot in renamed.items():
            self.endpoints.rename(slot, msgspec.structs.replace(self.endpoints.name(slot), endpoint_id=endpoint_id))
        keys = np.array([hash_text(one) for one in renamed], np.uint64)
        self.endpoints.table.rekey(np.array(list(renamed.values()), np.int64), keys)

    def _move_pairs(self, moved: Mapping[int, int]) -> None:
        """Pairs of an endpoint's slot to another one (or the same, of another id), where there is no such pair yet."""
        target = np.full(self.endpoints.table.capacity, -1, np.int64)
        target[list(moved)] = list(moved.values())
        pairs = self.pairs.table.live()
        pairs = pairs[(self.pair_endpoint[pairs] >= 0) & (self.pair_consumer[pairs] >= 0)]
        pairs = pairs[target[self.pair_endpoint[pairs]] >= 0]
        endpoint = target[self.pair_endpoint[pairs]]
        keys = mix(self.endpoints.table.keys[endpoint], self.consumers.table.keys[self.pair_consumer[pairs]])
        _, first = np.unique(keys, return_index=True)
        kept = first[self.pairs.table.find_all(keys[first]) < 0]
        pairs, endpoint = pairs[kept], endpoint[kept]
        self.pairs.table.rekey(pairs, keys[kept])
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
        capacity = self.pairs.table.capacity
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

    def _count_novel(self, columns: Columns, pair: Slots, objects: TouchedRows, are_unknown: Sequence[bool]) -> F64:
        """New objects a row; `are_unknown`: whether the path of a route is. Where a row holds only the smallest
        hashes of a larger set, its share of new ones holds for the set."""
        if not len(objects.row):
            return np.zeros(len(columns))
        # Of a path that is not known the objects tell unknown endpoints apart: no objects that a consumer took.
        is_counted = pair >= 0
        if any(are_unknown):
            is_counted &= ~np.array(are_unknown, np.bool_)[columns.route]
        row, hashes = objects.row, objects.hashes
        if np.count_nonzero(is_counted) < len(is_counted):
            kept = is_counted[row]
            row, hashes = row[kept], hashes[kept]
        novel = np.bincount(row, self.novelty.count_novel(pair[row], hashes), len(columns))
        length = np.where(is_counted, objects.length, 0)
        estimated: F64 = novel * np.maximum(columns.read(columns.batch.objects_count).astype(np.float64), length)
        estimated /= np.maximum(length, 1)
        return estimated


def list_objects(columns: Columns) -> TouchedRows:
    """The objects of the rows of a batch."""
    batch, offsets = columns.batch, columns.batch.objects.offsets
    first, length = columns.read(offsets[:-1]), columns.read(np.diff(offsets))
    row = np.repeat(np.arange(len(columns)), length)
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
    has: NDArray[np.bool_],
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

"""One open window of calls: it collects parts of rows, and adds them up within bounds when they grow or it ends.

Past the endpoint's cap, the consumers with the fewest distinct objects are folded into one row per (authentication,
status, ...) without actors. Past the rows of a window, the least informative rows of all endpoints are folded. Past
twice that, calls are dropped and counted. Folding moves figures and never loses them. In an open window it begins at
twice the cap, so that a new consumer has time to show what it does.

`Habits` limits early rows. A row that begins to cross a trigger leaves early for ten seconds, which is what detectors
need (docs/internals/detection.md). After that it leaves early when it has doubled, and otherwise with its window, until
it has been below the trigger for a window's length. So a busy consumer costs one row in ten seconds, and nothing new is
late.

`WaitingCalls` holds the calls whose second has not ended.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.aggregate.dictionary import ROUTES_LIMIT, Facts, Freed
from sensor.aggregate.rows import (
    KEY_BITS,
    Keys,
    RowFlag,
    Rows,
    Sum,
    find_identities,
    find_routes,
    join_rows,
    merge_rows,
    replace_identities,
)
from sensor.core.arrays import Index, find_order, find_runs, measure_runs, rank_runs, sum_runs
from sensor.core.calls import Calls, make_calls

# Rows of `other` an endpoint may have in a window before their authentication is folded to "some" or "none" as well.
OTHER_ROWS_LIMIT: Final = 64
# Parts are added up when they take so much memory; and when what was added up takes so much, all of it leaves.
PARTS_LIMIT_BYTES: Final = 3 * 1024 * 1024
WINDOW_LIMIT_BYTES: Final = 6 * 1024 * 1024
_LEFT_LIMIT: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Rows a window may have."""

    rows_per_endpoint: int
    rows_per_window: int


class Window:
    """Rows of [start, end) in unix nanoseconds; `flags` are those of every row in it, `tick` that of its first call."""

    __slots__ = (
        "_bounds",
        "_early_counts",
        "_facts",
        "_left",
        "_left_count",
        "_parts",
        "_size_bytes",
        "dropped_count",
        "end_ns",
        "flags",
        "start_ns",
        "tick",
    )

    def __init__(self, *, start_ns: int, end_ns: int, facts: Facts, bounds: Bounds, tick: int, flags: int = 0) -> None:
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.flags = flags
        self.tick = tick
        self.dropped_count = 0  # Rows of CALL for which there was no row.
        self._facts = facts
        self._bounds = bounds
        self._parts: list[Rows] = []  # The first one is what was added up so far.
        self._size_bytes = 0  # Of the others.
        self._early_counts: NDArray[np.uint32] | None = None  # New rows that left early, by route.
        self._left: list[tuple[Keys, Index]] = []  # Keys and distinct objects of what left early.
        self._left_count = 0

    def add(self, rows: Rows) -> None:
        """Take in rows of this window, or of one that is merged into it."""
        if not len(rows):
            return
        self._parts.append(rows)
        self._size_bytes += rows.size_bytes
        if self._size_bytes > PARTS_LIMIT_BYTES:
            self._add_up(2 * self._bounds.rows_per_endpoint)

    def leave(self, rows: Rows) -> None:
        """Remember of rows that left early how many objects they had: their consumers' places depend on it."""
        self._left.append((rows.keys, rows.objects_counts))
        self._left_count += len(rows)
        if self._left_count > _LEFT_LIMIT:
            self._left = [self._sum_left()]
            self._left_count = min(len(self._left[0][0]), _LEFT_LIMIT // 2)

    def admit_early(self, is_new: NDArray[np.bool_], routes: Index) -> NDArray[np.bool_]:
        """Which of the new rows may leave early: a flood of new consumers must not double its own rows, so an endpoint
        may send as many as it may keep. `routes` ascends."""
        places = np.flatnonzero(is_new)
        is_admitted = np.zeros(len(is_new), np.bool_)
        if len(places):
            if self._early_counts is None:
                self._early_counts = np.zeros(ROUTES_LIMIT, np.uint32)
            new_routes = routes[places]
            starts = find_runs(new_routes)
            ranks = rank_runs(starts, len(places)) + self._early_counts[new_routes]
            is_admitted[places] = ranks < self._bounds.rows_per_endpoint
            self._early_counts[new_routes[starts]] += measure_runs(starts, len(places)).astype(np.uint32)
        return is_admitted

    def close(self) -> Rows | None:
        """The rows within their bounds; None if nothing is left. The window is empty afterwards."""
        if not self._parts:
            return None
        self._add_up(self._bounds.rows_per_endpoint)
        (rows,) = self._parts
        self._parts = []
        return rows

    @property
    def is_heavy(self) -> bool:
        """Whether it takes too much memory to go on: what is in it should leave."""
        return bool(self._parts) and self._parts[0].size_bytes > WINDOW_LIMIT_BYTES

    def _add_up(self, folding_rows: int) -> None:
        rows = join_rows(self._parts)
        self._parts = []  # Their memory is needed now.
        rows = merge_rows(rows)
        rows = self._fold_endpoints(rows, folding_rows)
        if len(rows) > self._bounds.rows_per_window:
            rows = self._fold_window(rows)
        self._parts = [rows]
        self._size_bytes = 0

    def _fold_endpoints(self, rows: Rows, folding_rows: int) -> Rows:
        """Cut endpoints of more than `folding_rows` rows down to their cap: the consumers with most distinct objects
        stay, then those with most calls."""
        cap = self._bounds.rows_per_endpoint
        if len(rows) + self._left_count <= folding_rows:
            return rows
        keys, places, objects = self._list_entries(rows)
        routes = find_routes(keys)
        counts = np.bincount(routes)
        is_crowded = counts[routes] > folding_rows
        if not is_crowded.any():
            return rows
        keys, places, objects, routes = keys[is_crowded], places[is_crowded], objects[is_crowded], routes[is_crowded]
        own = places >= 0
        calls = np.zeros(len(keys), np.int64)
        calls[own] = rows.sums[Sum.CALLS][places[own]]
        actors = self._number_actors(keys)
        order = np.lexsort((-calls, -np.bincount(actors, calls)[actors], -np.bincount(actors, objects)[actors], routes))
        starts = find_runs(routes[order])
        ranks = rank_runs(starts, len(order))
        folded = places[order[ranks >= cap]]
        is_folded = np.zeros(len(rows), np.bool_)
        is_folded[folded[folded >= 0]] = True
        return self._fold(rows, is_folded)

    def _fold_window(self, rows: Rows) -> Rows:
        """Cut the window down to its rows, and with those of `other` to twice as many."""
        limit = self._bounds.rows_per_window
        is_other = self._facts.identities.is_other[rows.identities]
        order = np.lexsort((-rows.sums[Sum.CALLS].astype(np.int64), -rows.objects_counts, is_other))
        is_folded = np.zeros(len(rows), np.bool_)
        is_folded[order[limit:]] = True
        rows = self._fold(rows, is_folded & ~is_other)
        if len(rows) > 2 * limit:
            is_other = self._facts.identities.is_other[rows.identities]
            order = np.lexsort((-rows.sums[Sum.CALLS].astype(np.int64), is_other))
            is_lost = np.zeros(len(rows), np.bool_)
            is_lost[order[2 * limit :]] = True
            self.dropped_count += int(rows.sums[Sum.RECORDS][is_lost].sum())
            rows = rows.select(~is_lost)
        return rows

    def _fold(self, rows: Rows, is_folded: NDArray[np.bool_]) -> Rows:
        """Put rows into those of `other`."""
        others = self._facts.identities.other
        is_other = self._facts.identities.is_other[rows.identities]
        moving = rows.select(is_folded | is_other)
        identities = moving.identities
        keys = replace_identities(
            moving.keys, np.where(self._facts.identities.is_other[identities], identities, others[identities])
        )
        distinct, inverse = np.unique(keys, return_inverse=True)
        starts = find_runs(find_routes(distinct))
        ranks = rank_runs(starts, len(distinct))
        # Which kinds of credentials is lost past the limit, whether there were any is not.
        reduced = replace_identities(distinct, others[find_identities(distinct)])
        distinct = np.where(ranks < OTHER_ROWS_LIMIT, distinct, reduced)
        return join_rows([rows.select(~(is_folded | is_other)), merge_rows(replace(moving, keys=distinct[inverse]))])

    def _list_entries(self, rows: Rows) -> tuple[Keys, Index, Index]:
        """Keys with an actor, their places in `rows` (-1 where all of one left), and their distinct objects with those
        that left."""
        places = np.flatnonzero(~self._facts.identities.is_other[rows.identities])
        keys, objects = rows.keys[places], rows.objects_counts[places]
        if not self._left:
            return keys, places, objects
        left_keys, left_objects = self._sum_left()
        # `left_keys` ascends, `keys` need not: rows of `other` were put behind.
        found = np.minimum(left_keys.searchsorted(keys), len(left_keys) - 1)
        is_found = left_keys[found] == keys
        objects = objects + left_objects[found] * is_found
        is_gone = np.ones(len(left_keys), np.bool_)
        is_gone[found[is_found]] = False
        is_gone &= ~self._facts.identities.is_other[find_identities(left_keys)]
        return (
            np.concatenate([keys, left_keys[is_gone]]),
            np.concatenate([places, np.full(int(is_gone.sum()), -1)]),
            np.concatenate([objects, left_objects[is_gone]]),
        )

    def _sum_left(self) -> tuple[Keys, Index]:
        keys = np.concatenate([keys for keys, _ in self._left])
        objects = np.concatenate([objects for _, objects in self._left])
        order = find_order(keys, KEY_BITS)
        keys = keys[order]
        starts = find_runs(keys)
        return keys[starts], sum_runs(objects[order], starts)

    def _number_actors(self, keys: Keys) -> Index:
        """Numbers from 0 that tell the actors (the four columns) at each route apart."""
        columns, identities = self._facts.identities, find_identities(keys)
        mixed = find_routes(keys).astype(np.uint64)
        for column in (columns.principal, columns.credential, columns.client_address, columns.client_workload):
            mixed ^= column[identities]
            mixed *= np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
        return np.unique(mixed, return_inverse=True)[1]


def flag_other(rows: Rows, facts: Facts) -> NDArray[np.uint32]:
    """The rows' flags, and that of `other`."""
    return rows.flags | facts.identities.is_other[rows.identities] * np.uint32(RowFlag.OTHER)


# A row is told each second for so long,
TOLD_SECONDS: Final = 10
# and begins anew after so long below the triggers.
PAUSE_SECONDS: Final = 10
_GROWTH: Final = 2
# Rows remembered; the least recent go, and are then told each second again.
HABITS_LIMIT: Final = 65_536

_Seconds = NDArray[np.int64]
_Counts = NDArray[np.int64]


class Habits:
    """Mutable state between seconds: arrays in ascending order of the rows' keys. 32 bytes a row."""

    __slots__ = ("_keys", "_last", "_peaks", "_since")

    def __init__(self) -> None:
        self._keys: Keys = np.empty(0, np.uint64)
        self._since: _Seconds = np.empty(0, np.int64)
        self._last: _Seconds = np.empty(0, np.int64)
        self._peaks: _Counts = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def find_news(self, keys: Keys, calls: _Counts, second: int) -> NDArray[np.bool_]:
        """Of rows that cross a trigger in `second`, with so many calls each: those that are to be told early. `keys`
        are distinct."""
        order = np.argsort(keys)
        keys, calls = keys[order], calls[order]
        places = np.minimum(self._keys.searchsorted(keys), max(len(self._keys) - 1, 0))
        if len(self._keys):
            is_known = (self._keys[places] == keys) & (self._last[places] >= second - PAUSE_SECONDS)
            since = np.where(is_known, self._since[places], second)
            peaks = np.where(is_known, self._peaks[places], 0)
        else:
            since, peaks = np.full(len(keys), second), np.zeros(len(keys), np.int64)
        is_growing = calls >= _GROWTH * np.maximum(peaks, 1)
        is_news = (second - since < TOLD_SECONDS) | is_growing
        # What is told each second sets the peak; later only what has grown does.
        peaks = np.where(is_news, np.maximum(peaks, calls), peaks)
        self._remember(keys, since, peaks, second)
        result = np.empty(len(keys), np.bool_)
        result[order] = is_news
        return result

    def forget(self, freed: Freed) -> None:
        """These numbers will stand for something else."""
        self._keep(
            ~(np.isin(find_routes(self._keys), freed.routes) | np.isin(find_identities(self._keys), freed.identities))
        )

    def _remember(self, keys: Keys, since: _Seconds, peaks: _Counts, second: int) -> None:
        if len(keys):
            # Both ascend: np.isin would sort them once more.
            is_told_anew = keys[np.minimum(keys.searchsorted(self._keys), len(keys) - 1)] == self._keys
            self._keep((self._last >= second - PAUSE_SECONDS) & ~is_told_anew)
        self._keys = np.concatenate([self._keys, keys])
        self._since = np.concatenate([self._since, since])
        self._peaks = np.concatenate([self._peaks, peaks])
        self._last = np.concatenate([self._last, np.full(len(keys), second)])
        if len(self._keys) > HABITS_LIMIT:
            newest = np.argsort(-self._last, kind="stable")[:HABITS_LIMIT]
            is_kept = np.zeros(len(self._keys), np.bool_)
            is_kept[newest] = True
            self._keep(is_kept)
        order = np.argsort(self._keys)
        self._keys, self._since = self._keys[order], self._since[order]
        self._peaks, self._last = self._peaks[order], self._last[order]

    def _keep(self, is_kept: NDArray[np.bool_]) -> None:
        if is_kept.all():
            return
        self._keys, self._since = self._keys[is_kept], self._since[is_kept]
        self._peaks, self._last = self._peaks[is_kept], self._last[is_kept]


_FIRST_CAPACITY: Final = 1_024


class WaitingCalls:
    """At most `limit` calls, in the order in which they came. What is taken is good until something is added."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._array = make_calls(min(_FIRST_CAPACITY, limit))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_full(self) -> bool:
        return self._count >= self._limit

    @property
    def calls(self) -> Calls:
        return self._array[: self._count]

    def append(self, call: tuple[int, ...]) -> None:
        """One more, its columns in the order of `CALL`; there must be room. Raises TypeError on what is no number."""
        self._grow(1)
        self._array[self._count] = call
        self._count += 1

    def extend(self, calls: Calls) -> int:
        """As many of them as there is room for, from the first; gives their number."""
        self._grow(len(calls))
        taken = calls[: len(self._array) - self._count]
        self._array[self._count : self._count + len(taken)] = taken
        self._count += len(taken)
        return len(taken)

    def take(self) -> Calls:
        """All of them; none is left."""
        calls = self.calls
        self._count = 0
        return calls

    def keep_where(self, is_kept: NDArray[np.bool_]) -> None:
        rest = self.calls.take(np.flatnonzero(is_kept))
        self._count = 0
        self.extend(rest)

    def _grow(self, count: int) -> None:
        wanted = min(self._count + count, self._limit)
        if wanted > len(self._array):
            grown = make_calls(min(max(wanted, 2 * len(self._array)), self._limit))
            grown[: self._count] = self.calls
            self._array = grown

"""Detects enumeration, scraping and BOLA (OWASP API1:2023): consumers that take many different objects of one endpoint.

It counts objects that the pair of consumer and endpoint had not touched before, so rereading costs nothing. Most calls
of an enumeration touch new objects. A pair that mostly returns to known objects is left to the volume detectors. Peers
are the endpoint's other consumers.

Many consumers who each take a little are seen at the endpoint. There, objects count that are new to consumers who have
called it for some time. So newcomers of a campaign or a launch do not count.

`Walks` counts steps: of a pair's calls to numbered objects, how many went to the number right after or before the last
one. The sensors count these steps, and the numbers stay there. A count begins with a pair's first step and fades over
an hour. Steps are evidence for an alert that something else raised, because people read lists in order too.

`Adopters` finds cohorts that one new software makes: many known consumers of an endpoint adopted the same client
software within the hour, and call mostly new objects with it. A release or another telephone moves people too, but not
to others' objects. So only what they take beyond their own past counts. Counts are by (endpoint, software), bounded.

`Adoption` keeps the last four software names of a consumer as 16-bit hashes, and when it adopted the newest. The first
known one does not count as adopted, because sensors may just have begun to send it.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import FadingSums, join, split
from collector.detection.abuse.contract import Bools, Events, Finding, find, sum_by_slot
from collector.detection.abuse.rarity import HORIZONS, PairCalls, Rarity
from collector.detection.framework.columns import Columns
from collector.detection.framework.contract import F64, State
from collector.detection.framework.slots import Slots, SlotTable, find_distinct, grow, grow_rows
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import hash_text

FRESH_SECONDS = 3_600  # After it was taken up a software is new to its consumer.
CODE_BITS = 16
_LANE = np.uint64(2**CODE_BITS - 1)
_SHIFT = np.uint64(CODE_BITS)
_ONES, _HIGHS = np.uint64(0x0001_0001_0001_0001), np.uint64(0x8000_8000_8000_8000)

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Fresh:
    """Rows of a batch whose software is new to their consumer, n of them."""

    rows: Slots  # Of those that count.
    codes: Slots  # Of their software.


_NOTHING = Fresh(rows=np.zeros(0, np.int64), codes=np.zeros(0, np.int64))


class Adoption:
    """By consumer slot, 12 bytes each from the first row with software on. `take` takes some .03 us a row."""

    def __init__(self) -> None:
        self._known: U64 = np.zeros(0, np.uint64)  # Four codes, the newest lowest; 0: none.
        self._adopted: U32 = np.zeros(0, np.uint32)  # When the newest was taken up, unix seconds; 0: it was not.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> Fresh:
        """Learn the software of a batch; gives the rows of those who took theirs up lately."""
        if len(placed.evicted_consumers):
            gone = placed.evicted_consumers[placed.evicted_consumers < len(self._known)]
            self._known[gone], self._adopted[gone] = 0, 0
        software = events.columns.read(events.batch.client_software)
        if not np.count_nonzero(software):
            return _NOTHING
        capacity = roster.consumers.table.capacity
        self._known, self._adopted = grow(self._known, capacity), grow(self._adopted, capacity)
        codes, consumer = _encode(events.batch.strings, software), events.consumer
        known = self._known.take(consumer)
        # A lane that is 0 borrows: one of the four is the row's.
        lanes = known ^ codes * _ONES
        is_known = ((lanes - _ONES) & ~lanes & _HIGHS) != 0
        if np.count_nonzero(is_known) < len(is_known):
            new = (~is_known & (codes > 0) & (consumer >= 0)).nonzero()[0]
            self._adopt(consumer[new], codes[new], time)
            known = self._known.take(consumer)
        is_fresh = self._adopted.take(consumer) > max(time - FRESH_SECONDS, 0)
        if not np.count_nonzero(is_fresh):
            return _NOTHING
        rows = (is_fresh & ((known & _LANE) == codes) & (consumer >= 0)).nonzero()[0]
        return Fresh(rows=rows, codes=codes[rows].astype(np.int64))

    def _adopt(self, consumers: Slots, codes: U64, time: int) -> None:
        """Of a consumer who comes twice the last counts."""
        known = self._known.take(consumers)
        self._adopted[consumers] = np.where(known > 0, time, 0)
        self._known[consumers] = known << _SHIFT | codes

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"known": self._known, "adopted": self._adopted}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._known, self._adopted = state["known"].astype(np.uint64), state["adopted"].astype(np.uint32)


def _encode(strings: tuple[str, ...], software: U32) -> U64:
    """The code of each row's software; 0: it is not known."""
    codes = np.zeros(len(strings), np.uint64)
    for index in np.bincount(software).nonzero()[0].tolist():
        codes[index] = _hash(strings[index])
    return codes.take(software)


@lru_cache(maxsize=4_096)
def _hash(name: str) -> int:
    return max(hash_text(name) & int(_LANE), 1) if name else 0


HORIZON_SECONDS: Final = 3_600
NUMBERS_MIN: Final = 20  # Calls, before anything is called a walk.
SHARE_MIN: Final = 0.8  # Of them that are steps. Ids that rows were deleted from have gaps.


class Walks:
    """By pair slot, 12 bytes each. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._sums: NDArray[np.float32] = np.zeros((2, 0), np.float32)  # Numbers, steps.
        self._at: NDArray[np.uint32] = np.zeros(0, np.uint32)  # When they were brought up to date, unix seconds.

    def take(self, columns: Columns, placed: Placed, roster: Roster, time: int) -> None:
        """Count the rows of a batch."""
        self._sums, self._at = (
            grow(self._sums, roster.pairs.table.capacity),
            grow(self._at, roster.pairs.table.capacity),
        )
        if len(placed.evicted_pairs):
            self._sums[:, placed.evicted_pairs] = 0
        batch = columns.batch
        numeric = columns.read(batch.object_numeric_calls)
        if not np.count_nonzero(numeric):
            return
        slots = placed.by_pair.slots
        numbers = placed.by_pair.sum(numeric.astype(np.float64))
        steps = placed.by_pair.sum(columns.read(batch.object_monotonic_steps).astype(np.float64))
        is_counted = (steps > 0) | ((numbers > 0) & (self._sums[1].take(slots) > 0))
        if np.count_nonzero(is_counted):
            slots = slots[is_counted]
            self._sums[:, slots] = self._read(slots, time) + np.stack([numbers[is_counted], steps[is_counted]])
            self._at[slots] = np.maximum(self._at.take(slots), np.uint32(time))

    def describe(self, pair: int, time: int) -> str:
        """What the pair in this slot walked lately, a clause; empty where it does not walk."""
        if pair >= len(self._at) or not self._sums[1, pair]:  # Not so long in state of before walks were counted.
            return ""
        numbers, steps = self._read(np.array([pair]), time)[:, 0].tolist()
        if numbers < NUMBERS_MIN or steps < SHARE_MIN * numbers:
            return ""
        return f"{steps:,.0f} of {numbers:,.0f} calls went to the number right after or before the last one"

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"sums": self._sums, "at": self._at}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._sums, self._at = state["sums"].astype(np.float32), state["at"].astype(np.uint32)

    def _read(self, slots: Slots, time: int) -> F64:
        """Both sums at `time`; what came late is as fresh as the newest."""
        age = np.maximum(time - self._at.take(slots).astype(np.int64), 0)
        faded: F64 = self._sums.take(slots, axis=1).astype(np.float64) * np.exp(-age / HORIZON_SECONDS)
        return faded


ADOPTERS_PLAN = (
    Horizon(seconds=600, prior=150, floor=150),
    Horizon(seconds=3_600, prior=300, floor=300),
)
CELLS_MAX = 1_024
ADOPTERS_MIN = 30  # Fewer are no crowd.
NOVEL_SHARE = 0.5  # Of their calls with the software,
PAST_FACTOR = 3.0  # and so many times what their own pasts say.
_FIRST_CELLS = 16
_ADOPTER_BITS = 128  # Consumers of a cell fall on as many; those of one hour are counted.
_COUNTED_SECONDS = 3_600
_ADOPTERS_HORIZONS = tuple(horizon.seconds for horizon in ADOPTERS_PLAN)


class Adopters:
    """See the module."""

    def __init__(self) -> None:
        self._cells = SlotTable(CELLS_MAX, _FIRST_CELLS)  # By endpoint slot and code of the software.
        self._ceiling = Ceiling(ADOPTERS_PLAN)
        self._calls, self._expected = FadingSums(_ADOPTERS_HORIZONS), FadingSums(_ADOPTERS_HORIZONS)
        self._who: NDArray[np.bool_] = np.zeros((0, _ADOPTER_BITS), np.bool_)
        self._hour = 0

    def take(self, events: Events, fresh: Fresh, expected: F64, roster: Roster, time: int) -> list[Finding]:
        """Count and judge the rows of `fresh`, of which `expected` new objects were to be expected each."""
        if not len(fresh.rows):
            return []
        keys = (events.endpoint[fresh.rows] << CODE_BITS | fresh.codes).astype(np.uint64)
        distinct, first, inverse = find_distinct(keys)
        if len(distinct) > CELLS_MAX // 2:  # Who calls with another software each time is none of a crowd.
            kept = np.sort(np.bincount(inverse).argsort(kind="stable")[-CELLS_MAX // 2 :])
            is_kept = np.zeros(len(distinct), np.bool_)
            is_kept[kept] = True
            rows = is_kept[inverse].nonzero()[0]
            fresh, expected = Fresh(rows=fresh.rows[rows], codes=fresh.codes[rows]), expected[rows]
            distinct, first, inverse = find_distinct(keys[rows])
        cells = self._touch(distinct, time)
        order = cells.argsort()
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        cells, inverse = cells[order], rank[inverse]
        novel, made, foreseen = (
            np.bincount(inverse, amounts, len(cells))
            for amounts in (events.novel[fresh.rows], events.calls[fresh.rows], expected)
        )
        self._count_adopters(cells[inverse], events.consumer[fresh.rows], time)
        calls, expectation = self._calls.add(cells, made, time), self._expected.add(cells, foreseen, time)
        excess = self._ceiling.add(
            cells,
            novel,
            np.full(len(cells), -1, np.int64),
            time,
            lambda which: self._is_crowd(cells[which], calls[:, which], expectation[:, which], time),
        )
        if not len(excess.slots):
            return []
        slots = np.full(len(events.rows), -1, np.int64)
        slots[fresh.rows] = cells[inverse]
        software = events.columns.read(events.batch.client_software)
        names = {
            cell: events.batch.strings[software[fresh.rows[first[place]]]]
            for cell, place in zip(cells.tolist(), order.tolist(), strict=True)
        }
        return find(
            lambda _: AlertKind.ENUMERATION,
            self._ceiling,
            excess,
            lambda cell: roster.endpoints.name(int(self._cells.keys[cell]) >> CODE_BITS),
            slots,
            events.calls,
            events.is_internal,
            describe=lambda cell: self._describe(cell, names[cell]),
        )

    def forget_endpoints(self, endpoints: Slots) -> None:
        """Clear the cells of evicted slots."""
        if len(endpoints):
            live = self._cells.live()
            of = (self._cells.keys[live] >> np.uint64(CODE_BITS)).astype(np.int64)
            self._forget(live[np.isin(of, endpoints)])

    def expect(self, endpoint: int) -> bool:
        """A person says that what is told of the endpoint in this slot is ordinary; False where nothing is counted."""
        live = self._cells.live()
        own = live[(self._cells.keys[live] >> np.uint64(CODE_BITS)).astype(np.int64) == endpoint]
        for cell in own.tolist():
            self._ceiling.expect(cell)
        return len(own) > 0

    def dump(self) -> State:
        """State for a checkpoint."""
        who: State = {"bits": self._who, "hour": np.array([self._hour])}
        parts = {"cells": self._cells.dump(), "own": self._ceiling.dump(), "calls": self._calls.dump()}
        return join({**parts, "expected": self._expected.dump(), "who": who})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self._cells.load(parts["cells"])
        self._ceiling.load(parts["own"])
        self._calls.load(parts["calls"])
        self._expected.load(parts["expected"])
        self._who, self._hour = parts["who"]["bits"].astype(np.bool_), int(parts["who"]["hour"][0])

    def _touch(self, keys: NDArray[np.uint64], time: int) -> Slots:
        touched = self._cells.touch(keys, time)
        capacity = self._cells.capacity
        self._ceiling.grow(capacity, 0)
        self._calls.grow(capacity)
        self._expected.grow(capacity)
        self._who = grow_rows(self._who, capacity)
        self._forget(touched.emptied)
        return touched.slots

    def _forget(self, cells: Slots) -> None:
        self._ceiling.forget(cells)
        self._calls.forget(cells)
        self._expected.forget(cells)
        self._who[cells] = False

    def _count_adopters(self, cells: Slots, consumers: Slots, time: int) -> None:
        if time // _COUNTED_SECONDS > self._hour:
            self._hour = time // _COUNTED_SECONDS
            self._who[:] = False
        self._who[cells, consumers % _ADOPTER_BITS] = True

    def _is_crowd(self, cells: Slots, calls: F64, expected: F64, time: int) -> Bools:
        """Of some cells by horizon."""
        novel = self._ceiling.sums(cells, time)
        is_mostly_new = (novel >= NOVEL_SHARE * calls) & (novel >= PAST_FACTOR * expected)
        are_many = np.count_nonzero(self._who[cells], axis=1) >= ADOPTERS_MIN
        is_crowd: Bools = is_mostly_new & are_many
        return is_crowd

    def _describe(self, cell: int, name: str) -> str:
        count = int(np.count_nonzero(self._who[cell]))
        return f"in calls by the client software {name}, which {count} or more known consumers took up within the hour"


PLAN = (
    Horizon(seconds=60, prior=120, floor=56, factor=1.35),  # A page may load 50 objects at once.
    Horizon(seconds=600, prior=300, floor=45, burst=20),  # Nor does a page make a walk.
    Horizon(seconds=3_600, prior=600, floor=100),
    Horizon(seconds=86_400, prior=1_000, floor=240),
    Horizon(seconds=604_800, prior=2_000, floor=800),
)

_HOUR, _WEEK = 2, 4  # Of the plan.
_HORIZONS = np.array([HORIZONS.index(horizon.seconds) for horizon in PLAN])  # Where those of pairs' calls are.
ENDPOINT_PLAN = (
    Horizon(seconds=60, prior=2_000, floor=300),
    Horizon(seconds=600, prior=10_000, floor=1_500),
    Horizon(seconds=3_600, prior=40_000, floor=6_000),
)
NOVEL_SHARE = 0.5  # Of a walker's calls;
HIDDEN_SHARE, HIDDEN_EXCESS = 0.2, 3.0  # or so much of them, at so many times the ceiling: within a busy caller's own.
CROWD_MEMBER_MAX = 100.0  # New objects within the hour: who takes more is judged by itself, and no part of a crowd.
KNOWN_SECONDS = 3_600  # After its first call a pair is no newcomer.
_SOME = 1e-6  # Calls, which fade: fewer are none.


class ObjectDetector:
    """See the module."""

    name = "objects"

    def __init__(self, rarity: Rarity, calls: PairCalls, walks: Walks) -> None:
        self._rarity = rarity
        self._walks = walks
        self._ceiling = Ceiling(PLAN, is_trade=True)
        self._calls = calls
        self._endpoint_ceiling = Ceiling(ENDPOINT_PLAN)
        self._adoption, self._adopters = Adoption(), Adopters()
        self._first: NDArray[np.uint32] = np.zeros(0, np.uint32)  # By pair: when it was first seen; 0: never.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        pairs = roster.pairs.table
        self._ceiling.grow(pairs.capacity, roster.endpoints.table.capacity)
        self._ceiling.forget(placed.evicted_pairs)
        self._first = grow(self._first, pairs.capacity)
        if len(placed.evicted_pairs):
            self._first[placed.evicted_pairs] = 0
        self._ceiling.refresh(lambda: self._rarity.list_peers(roster), roster.pair_endpoint, time)
        slots, amounts = placed.by_pair.slots, placed.by_pair.sum(events.novel)
        is_first = self._first.take(slots) == 0
        if np.count_nonzero(is_first):
            self._first[slots[is_first]] = time
        pairs_touched, taken = slots, amounts
        walked = (amounts > 0).nonzero()[0]
        slots, amounts = slots[walked], amounts[walked]
        excess = self._ceiling.add(
            slots,
            amounts,
            roster.pair_endpoint[slots],
            time,
            # New objects are estimated, and a call has one at most.
            find_most=lambda some: self._calls.touched[np.ix_(_HORIZONS, walked[some])],
        )
        made = self._calls.read(excess.slots, time)[_HORIZONS[excess.horizon], np.arange(len(excess.slots))]
        is_hidden = (excess.sums >= HIDDEN_SHARE * made) & (excess.sums >= HIDDEN_EXCESS * excess.ceilings)
        excess = excess.choose((excess.sums >= NOVEL_SHARE * made) | is_hidden)
        found = find(
            lambda _: AlertKind.ENUMERATION,
            self._ceiling,
            excess,
            roster.pairs.name,
            events.pair,
            events.calls,
            events.is_internal,
            describe_walk=lambda slot: self._walks.describe(slot, time),
        )
        found += self._judge_adopters(events, placed, roster, time)
        return found + self._judge_endpoints(events, placed, roster, pairs_touched, taken, time)

    def _judge_endpoints(
        self, events: Events, placed: Placed, roster: Roster, pairs: Slots, amounts: F64, time: int
    ) -> list[Finding]:
        """What pairs that are no newcomers took together; who is told by itself is no part of a crowd."""
        self._endpoint_ceiling.grow(roster.endpoints.table.capacity, 0)
        self._endpoint_ceiling.forget(placed.evicted_endpoints)
        counted = (amounts > 0).nonzero()[0]
        counted = counted[self._is_of_crowd(pairs[counted], time)]
        taken = np.zeros(len(pairs))
        taken[counted] = amounts[counted]
        if placed.endpoint_of_pair is None:
            slots, sums = sum_by_slot(roster.pair_endpoint[pairs], taken)
        else:
            slots = placed.by_endpoint.slots
            sums = np.bincount(placed.endpoint_of_pair, taken, len(slots))
        excess = self._endpoint_ceiling.add(slots, sums, np.full(len(slots), -1, np.int64), time)
        return find(
            lambda _: AlertKind.ENUMERATION,
            self._endpoint_ceiling,
            excess,
            roster.endpoints.name,
            events.endpoint,
            events.calls,
            events.is_internal,
        )

    def _judge_adopters(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """The same of those whose software is new to them, against what each took before."""
        self._adopters.forget_endpoints(placed.evicted_endpoints)
        fresh = self._adoption.take(events, placed, roster, time)
        if not len(fresh.rows):
            return []
        kept = self._is_of_crowd(events.pair[fresh.rows], time).nonzero()[0]
        fresh = Fresh(rows=fresh.rows[kept], codes=fresh.codes[kept])
        pairs, calls = events.pair[fresh.rows], events.calls[fresh.rows]
        made = self._calls.read_one(_HORIZONS[_WEEK], pairs, time) - calls
        taken = self._ceiling.sums_over(_WEEK, pairs, time) - events.novel[fresh.rows]
        # Of whom nothing is known before the row all may be new.
        share = np.where(made > _SOME, np.clip(taken / np.maximum(made, _SOME), 0, 1), 1)
        return self._adopters.take(events, fresh, share * calls, roster, time)

    def _is_of_crowd(self, pairs: Slots, time: int) -> Bools:
        """Whether `pairs` are no newcomers, take little and were not told themselves."""
        is_of: Bools = self._first.take(pairs) <= time - KNOWN_SECONDS
        known = is_of.nonzero()[0]
        is_little = self._ceiling.sums_over(_HOUR, pairs[known], time) <= CROWD_MEMBER_MAX
        is_of[known] = is_little & ~self._ceiling.is_told(pairs[known])
        return is_of

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        if kind is not AlertKind.ENUMERATION:
            return False
        if consumer:
            return self._ceiling.expect(roster.pairs.find(endpoint_id, consumer))
        endpoint = roster.endpoints.find(endpoint_id, consumer)
        is_known = self._adopters.expect(endpoint)
        return self._endpoint_ceiling.expect(endpoint) or is_known

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says."""
        self._ceiling.project(roster.pairs.table.live(), time)

    def dump(self) -> State:
        """State for a checkpoint."""
        first: State = {"first": self._first}
        parts = {"own": self._ceiling.dump(), "endpoints": self._endpoint_ceiling.dump(), "pairs": first}
        parts |= {"adoption": self._adoption.dump(), "adopters": self._adopters.dump()}
        return join(parts)

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self._ceiling.load(parts["own"])
        self._endpoint_ceiling.load(parts["endpoints"])
        self._first = parts["pairs"]["first"].astype(np.uint32)
        if "adopters" in parts:  # Older states have none.
            self._adoption.load(parts["adoption"])
            self._adopters.load(parts["adopters"])

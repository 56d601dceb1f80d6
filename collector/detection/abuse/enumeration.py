"""Detects enumeration, scraping and BOLA (OWASP API1:2023): consumers that take many different objects of one endpoint.

It counts objects that the pair of consumer and endpoint had not touched before, so rereading costs nothing. Most calls
of an enumeration touch new objects. A pair that mostly returns to known objects is left to the volume detectors. Peers
are the endpoint's other consumers.

Many consumers who each take a little are seen at the endpoint. There, objects count that are new to consumers who have
called it for some time. So newcomers of a campaign or a launch do not count.

`Adopters` finds cohorts that one new software makes: many known consumers of an endpoint adopted the same client
software within the hour, and call mostly new objects with it. A release or another telephone moves people too, but not
to others' objects. So only what they take beyond their own past counts. Counts are by (endpoint, software), bounded.

`Adoption` keeps the last four software names of a consumer as 16-bit hashes, and when it adopted the newest. The first
known one does not count as adopted, because sensors may just have begun to send it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.pair_history import HORIZONS, PairCalls, Walks
from collector.detection.abuse.sums import FadingSums, sum_by_slot
from collector.detection.framework.distinct import find_distinct
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events, hash_text
from collector.detection.framework.slots import SlotTable
from collector.detection.framework.state import F64, U64, Bools, DetectorState, Slots, column, number
from collector.detection.framework.subject_index import SubjectIndex

FRESH_SECONDS = 3_600  # After it was taken up a software is new to its consumer.
CODE_BITS = 16
_LANE = np.uint64(2**CODE_BITS - 1)
_SHIFT = np.uint64(CODE_BITS)
_ONES, _HIGHS = np.uint64(0x0001_0001_0001_0001), np.uint64(0x8000_8000_8000_8000)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Rows of a batch whose software is new to their consumer, n of them."""

    rows: Slots  # Of those that count.
    codes: Slots  # Of their software.


_NOTHING = Fresh(rows=np.zeros(0, np.int64), codes=np.zeros(0, np.int64))


class Adoption(DetectorState):
    """By consumer slot, 12 bytes each. `take` takes some .03 us a row."""

    _known = column(np.uint64)  # Four codes, the newest lowest; 0: none.
    _adopted = column(np.uint32)  # When the newest was taken up, unix seconds; 0: it was not.

    def take(self, events: Events) -> Fresh:
        """Learn the software of a batch; gives the rows of those who took theirs up lately."""
        software, consumer, time = events.read(events.batch.client_software), events.consumer, events.time
        if not np.count_nonzero(software):
            return _NOTHING
        codes = _encode(events.batch.strings, software)
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


def _encode(strings: tuple[str, ...], software: NDArray[np.uint32]) -> U64:
    """The code of each row's software; 0: it is not known."""
    codes = np.zeros(len(strings), np.uint64)
    for index in np.bincount(software).nonzero()[0].tolist():
        codes[index] = _hash(strings[index])
    return codes.take(software)


@lru_cache(maxsize=4_096)
def _hash(name: str) -> int:
    return max(hash_text(name) & int(_LANE), 1) if name else 0


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


class _Crowds(DetectorState):
    """By cell."""

    who = column(np.bool_, _ADOPTER_BITS, is_slot_first=True)


class Adopters(DetectorState):
    """Cells of endpoint and software."""

    parts = ("_cells", "_crowds", "_ceiling", "_calls", "_expected")
    _hour = number(0)

    def __init__(self) -> None:
        super().__init__()
        self._cells = SlotTable(CELLS_MAX, _FIRST_CELLS)  # By endpoint slot and code of the software.
        self._crowds = _Crowds()
        self._ceiling = Ceiling(ADOPTERS_PLAN, self._cells, has_peers=False)
        self._calls, self._expected = FadingSums(*_ADOPTERS_HORIZONS), FadingSums(*_ADOPTERS_HORIZONS)
        self._cells.follow(self._crowds, self._calls, self._expected)

    def find(self, events: Events, fresh: Fresh, expected: F64, subjects: SubjectIndex) -> list[Finding]:
        """Count and judge the rows of `fresh`, of which `expected` new objects were to be expected each."""
        time = events.time
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
        cells = self._cells.touch(distinct, time).slots
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
            time,
            may_report=lambda which: self._is_crowd(cells[which], calls[:, which], expectation[:, which], time),
        )
        if not len(excess.slots):
            return []
        software = events.read(events.batch.client_software)
        names = {
            cell: events.batch.strings[software[fresh.rows[first[place]]]]
            for cell, place in zip(cells.tolist(), order.tolist(), strict=True)
        }
        return make_findings(
            AlertKind.ENUMERATION,
            excess,
            lambda cell: subjects.endpoints.name(int(self._cells.keys[cell]) >> CODE_BITS),
            events,
            cells[inverse],
            fresh.rows,
            describe=lambda cell: self._describe(cell, names[cell]),
        )

    def grow(self, size: int) -> None:
        """Cells are few, whatever endpoints there are."""

    def forget(self, slots: Slots) -> None:
        """Clear the cells of evicted endpoints."""
        live = self._cells.live()
        cells = live[np.isin((self._cells.keys[live] >> np.uint64(CODE_BITS)).astype(np.int64), slots)]
        for part in (self._ceiling, self._calls, self._expected, self._crowds):
            part.forget(cells)

    def expect(self, endpoint: int) -> bool:
        """A person says that what was reported of the endpoint in this slot is normal; False where nothing is
        counted."""
        live = self._cells.live()
        own = live[(self._cells.keys[live] >> np.uint64(CODE_BITS)).astype(np.int64) == endpoint]
        for cell in own.tolist():
            self._ceiling.expect(cell)
        return len(own) > 0

    def _count_adopters(self, cells: Slots, consumers: Slots, time: int) -> None:
        if time // _COUNTED_SECONDS > self._hour:
            self._hour = time // _COUNTED_SECONDS
            self._crowds.who[:] = False
        self._crowds.who[cells, consumers % _ADOPTER_BITS] = True

    def _is_crowd(self, cells: Slots, calls: F64, expected: F64, time: int) -> Bools:
        """Of some cells by horizon."""
        novel = self._ceiling.sums(cells, time)
        is_mostly_new = (novel >= NOVEL_SHARE * calls) & (novel >= PAST_FACTOR * expected)
        are_many = np.count_nonzero(self._crowds.who[cells], axis=1) >= ADOPTERS_MIN
        is_crowd: Bools = is_mostly_new & are_many
        return is_crowd

    def _describe(self, cell: int, name: str) -> str:
        count = int(np.count_nonzero(self._crowds.who[cell]))
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


class _Pairs(DetectorState):
    """By pair."""

    first = column(np.uint32)  # When it was first seen; 0: never.


class EnumerationDetector(AbuseDetector):
    """New objects by pair, by endpoint, and by endpoint and software, each against a ceiling."""

    name = "abuse.enumeration"
    kinds = frozenset({AlertKind.ENUMERATION})
    parts = ("_ceiling", "_endpoint_ceiling", "_pairs", "_adoption", "_adopters")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity, calls: PairCalls, walks: Walks) -> None:
        super().__init__(subjects, losses, rarity)
        self._calls, self._walks = calls, walks
        self._ceiling = Ceiling(PLAN, subjects.pairs, groups=subjects.endpoints, is_trade=True, is_projected=True)
        self._endpoint_ceiling = Ceiling(ENDPOINT_PLAN, subjects.endpoints, has_peers=False)
        self._pairs, self._adoption, self._adopters = _Pairs(), Adoption(), Adopters()
        subjects.pairs.follow(self._pairs)
        subjects.consumers.follow(self._adoption)
        subjects.endpoints.follow(self._adopters)

    def find(self, events: Events) -> list[Finding]:
        time, endpoints, first = events.time, self._subjects.pair_endpoint, self._pairs.first
        self._ceiling.refresh(time, self._rarity.list_peers, endpoints)
        pairs, taken = events.by_pair.slots, events.by_pair.sum(events.novel)
        is_first = first.take(pairs) == 0
        if np.count_nonzero(is_first):
            first[pairs[is_first]] = time
        walked = (taken > 0).nonzero()[0]
        slots = pairs[walked]
        excess = self._ceiling.add(
            slots,
            taken[walked],
            time,
            endpoints[slots],
            # New objects are estimated, and a call has one at most.
            find_most=lambda some: self._calls.touched[np.ix_(_HORIZONS, walked[some])],
        )
        made = self._calls.sums.read(excess.slots, time)[_HORIZONS[excess.horizon], np.arange(len(excess.slots))]
        is_hidden = (excess.sums >= HIDDEN_SHARE * made) & (excess.sums >= HIDDEN_EXCESS * excess.ceilings)
        excess = excess.choose((excess.sums >= NOVEL_SHARE * made) | is_hidden)
        return [
            *make_findings(
                AlertKind.ENUMERATION,
                excess,
                self._subjects.pairs.name,
                events,
                events.pair,
                describe_walk=lambda slot: self._walks.describe(slot, time),
            ),
            *self._find_adopters(events),
            *self._find_endpoints(events, pairs, taken),
        ]

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """Of an endpoint its cohorts too."""
        endpoint = self._subjects.endpoints.find(endpoint_id, "") if not consumer else -1
        is_known = endpoint >= 0 and self._adopters.expect(endpoint)
        return super().expect(kind, endpoint_id, consumer, calls_per_second) or is_known

    def _find_endpoints(self, events: Events, pairs: Slots, amounts: F64) -> list[Finding]:
        """What pairs that are no newcomers took together; who is reported by itself is not part of a cohort."""
        counted = (amounts > 0).nonzero()[0]
        counted = counted[self._is_of_crowd(pairs[counted], events.time)]
        taken = np.zeros(len(pairs))
        taken[counted] = amounts[counted]
        if events.endpoint_of_pair is None:
            slots, sums = sum_by_slot(self._subjects.pair_endpoint[pairs], taken)
        else:
            slots = events.by_endpoint.slots
            sums = np.bincount(events.endpoint_of_pair, taken, len(slots))
        excess = self._endpoint_ceiling.add(slots, sums, events.time)
        return make_findings(AlertKind.ENUMERATION, excess, self._subjects.endpoints.name, events, events.endpoint)

    def _find_adopters(self, events: Events) -> list[Finding]:
        """The same of those whose software is new to them, against what each took before."""
        fresh, time = self._adoption.take(events), events.time
        if not len(fresh.rows):
            return []
        kept = self._is_of_crowd(events.pair[fresh.rows], time).nonzero()[0]
        fresh = Fresh(rows=fresh.rows[kept], codes=fresh.codes[kept])
        pairs, calls = events.pair[fresh.rows], events.calls[fresh.rows]
        made = self._calls.sums.read_one(_HORIZONS[_WEEK], pairs, time) - calls
        taken = self._ceiling.sums_over(_WEEK, pairs, time) - events.novel[fresh.rows]
        # Of whom nothing is known before the row all may be new.
        share = np.where(made > _SOME, np.clip(taken / np.maximum(made, _SOME), 0, 1), 1)
        return self._adopters.find(events, fresh, share * calls, self._subjects)

    def _is_of_crowd(self, pairs: Slots, time: int) -> Bools:
        """Whether `pairs` are no newcomers, take little and were not reported themselves."""
        is_of: Bools = self._pairs.first.take(pairs) <= time - KNOWN_SECONDS
        known = is_of.nonzero()[0]
        is_little = self._ceiling.sums_over(_HOUR, pairs[known], time) <= CROWD_MEMBER_MAX
        is_of[known] = is_little & ~self._ceiling.is_reported(pairs[known])
        return is_of

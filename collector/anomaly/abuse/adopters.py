"""Crowds that one new software makes: many known consumers of an endpoint who took up the same client software within
the hour, and whose calls with it go mostly to objects that are new to them.

An app's release or another telephone moves people too, but not to others' objects: what counts is what they take more
than by their own past, in which an agent who always reads what is new stays ordinary. Counted is by (endpoint,
software), bounded; the cells least recently seen are forgotten.
"""

import numpy as np
from numpy.typing import NDArray

from collector.alerts.alert import AlertKind
from collector.anomaly.abuse.adoption import CODE_BITS, Fresh
from collector.anomaly.abuse.ceiling import Ceiling, Horizon
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import Bools, Events
from collector.anomaly.abuse.fading import FadingSums
from collector.anomaly.abuse.state import join, split
from collector.anomaly.abuse.sums import find
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.distinct import find_distinct
from collector.anomaly.roster import Roster
from collector.anomaly.slots import Slots, SlotTable, grow_rows

PLAN = (
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
_HORIZONS = tuple(horizon.seconds for horizon in PLAN)


class Adopters:
    """See the module."""

    def __init__(self) -> None:
        self._cells = SlotTable(CELLS_MAX, _FIRST_CELLS)  # By endpoint slot and code of the software.
        self._ceiling = Ceiling(PLAN)
        self._calls, self._expected = FadingSums(_HORIZONS), FadingSums(_HORIZONS)
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

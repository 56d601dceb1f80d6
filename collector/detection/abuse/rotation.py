"""Detects rotation of credentials or sessions (OWASP API2:2023): an address drops each before it reaches a limit.

A *stay* is a credential's time at an address: from the first window in which it is let in to the last before it is
silent for a minute. It is a *turn* where it is short, begins soon after the end of those before it, and overlaps none.

People behind one address come independently of each other. For stays of length d at any rate r with an allowed gap g,
the share of turns has a bound: max over r of exp(-rd) (1 - exp(-r (g + 10 s))). That is .53 for 10 s, .39 for 20 s, and
.3 or less for longer stays, however many they are. Each stay that is not a turn takes `OTHER_COST` turns away. A
program that waits for nobody makes hardly anything but turns. Isolated stays count neither way: a probe each minute, a
phone at home.

Rows have windows of 10 s, so stays within one window (`single`) may overlap unseen. They count where few addresses have
mostly such stays. They do not count from inside, where services call for others, where each answer sets another
session, or where phones sync in sessions of their own.

Stays are kept where credentials come often (`OFTEN` in some ten minutes), and for a sample of other addresses. An
address with hardly any turns is not watched for half an hour, so carrier networks cost little.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.columns import dump_subjects, join, load_subjects, split
from collector.detection.abuse.contract import U64, Bools, Events, Finding, sum_by_slot
from collector.detection.framework.contract import F64, State
from collector.detection.framework.slots import Slots, SlotTable, find_distinct, grow, sort_small
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.framework.subjects import SubjectName, Subjects

PLAN = (
    Horizon(seconds=600, prior=18, floor=15),
    Horizon(seconds=3_600, prior=32, floor=26),
    Horizon(seconds=86_400, prior=100, floor=80),
)
OTHER_COST: Final = 3.0  # Turns that a stay which is none takes away.
QUIET_SECONDS: Final = 60  # After which a stay is over.
SHORT_SECONDS: Final = 240  # A turn is not longer: tokens are renewed after five minutes at the earliest.
GAP_SECONDS: Final = 30  # From the end of what was before to a turn; as long as the turn itself,
GAP_SECONDS_MAX: Final = 90  # but not longer.
OFTEN: Final = 4  # Credentials new or back, counts halving each ten minutes.
ALL_SOURCES_MAX: Final = 500  # So many addresses are watched whatever comes there; of others one in SAMPLED.
SAMPLED: Final = 16  # A power of two.
REST_SECONDS: Final = 1_800
REST_STAYS: Final = 12  # Judged of an address, less than half of them turns: it rests.
SOURCES_MAX: Final = 10_000  # Addresses; who came least recently are forgotten.
SEATS_MAX: Final = 65_536  # Credentials at addresses; those least recently seen are forgotten.
SINGLE_SHARE: Final = 0.8  # Of an address's stays: it has mostly stays of one window.
STAYS_MIN: Final = 3  # Of an address, before that is said of it.
SINGLE_SOURCES_MAX: Final = 0.05  # Of addresses with new credentials may be such, else stays of one window say nothing.
KNOWN_SOURCES_MIN: Final = 20  # With fewer they say nothing either.
_SWEEP_SECONDS = 30
_KEPT_SECONDS = 420  # How long a stay is held against others: longer than it can wait to be judged.
_WINDOW_SECONDS = 10  # Longer rows do not say when.
_REFUSALS = (401, 403)  # Refused credentials are guesses (guesses.py).
# Negotiate has another token each time, and of what could not be read nothing is known. Bits of AuthenticationKind.
_UNTOLD = np.uint32(1 << 15 | 1 << 18)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SAMPLE = np.uint64((SAMPLED - 1) << 32)  # Bits that are 0 in the hash of one address of SAMPLED.
_FADED = 0.25  # Stays fade by half a day: an address had none for two days.
_CELLS = 1 << 16  # Counts of addresses by their hash. Where two share one, both are watched, or both rest.
_HALVED_SECONDS = 600
_TIME_BITS = 32  # Unix seconds as the wire has them. Sources have 14, and places among seats 17: 63 in all.
_PENDING, _TURN, _JUDGED = 0, 1, 2
_DAY_SECONDS = 86_400

Int64s = NDArray[np.int64]


class RotationDetector:
    """See the module."""

    name = "rotation"

    def __init__(self) -> None:
        self._sources = Subjects(SOURCES_MAX)  # Addresses.
        self._is_internal: Bools = np.zeros(0, np.bool_)  # By source, as are the next.
        self._stays: F64 = np.zeros((2, 0))  # Of today and less of days before: all, and those of one window.
        self._has_turns: Bools = np.zeros(0, np.bool_)
        self._awake: F64 = np.zeros((2, 0))  # Since its last rest: all, and turns.
        self._ceiling = Ceiling(PLAN)
        # Of credentials that came, by cell of the address.
        self._counts: NDArray[np.int32] = np.zeros(_CELLS, np.int32)
        self._rests_until: NDArray[np.uint32] = np.zeros(_CELLS, np.uint32)
        self._halved_at = 0
        self._seats = SlotTable(SEATS_MAX)  # Credential and address.
        self._seat_source: Slots = np.zeros(0, np.int64)  # By seat, as are the next; -1: its source was forgotten.
        self._first: Int64s = np.zeros(0, np.int64)  # Window in which its stay began, unix seconds.
        self._last: Int64s = np.zeros(0, np.int64)
        self._state: NDArray[np.int8] = np.zeros(0, np.int8)
        self._calls: NDArray[np.float32] = np.zeros(0, np.float32)
        self._is_moved: Bools = np.zeros(0, np.bool_)  # Its consumer came from another address before.
        self._recent: Slots = np.zeros(0, np.int64)  # Seats whose stays began within `_KEPT_SECONDS`.
        self._key: U64 = np.zeros(0, np.uint64)  # By consumer: of its last seat.
        self._seat: Slots = np.zeros(0, np.int64)
        self._swept_at = 0
        self._day = 0

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        capacity = roster.consumers.table.capacity
        if len(self._key) < capacity:
            self._key, self._seat = grow(self._key, capacity), grow(self._seat, capacity, -1)
        if len(placed.evicted_consumers):
            self._key[placed.evicted_consumers], self._seat[placed.evicted_consumers] = 0, -1
        rows = self._choose(events)
        if len(rows):
            self._note(events, rows, time)
        if time < self._swept_at + _SWEEP_SECONDS:
            return []
        self._swept_at = time
        return self._judge(time) if len(self._recent) else []

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.CREDENTIAL_ROTATION and self._ceiling.expect(self._sources.find("", consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says: programs that log in for every item were there before us."""
        self._ceiling.grow(self._sources.table.capacity, 1)
        self._ceiling.project(self._sources.table.live(), time)

    def dump(self) -> State:
        """State for a checkpoint."""
        of_source: State = {"internal": self._is_internal, "has_turns": self._has_turns}
        of_source |= {"stays": self._stays, "awake": self._awake}
        cells: State = {"counts": self._counts, "rests_until": self._rests_until}
        clock = np.array([self._swept_at, self._day, self._halved_at])
        seats: State = {"source": self._seat_source, "first": self._first, "last": self._last}
        seats |= {"state": self._state, "calls": self._calls, "moved": self._is_moved, "recent": self._recent}
        consumers: State = {"key": self._key, "seat": self._seat, "clock": clock}
        return join(
            {
                "sources": dump_subjects(self._sources),
                "of_source": of_source,
                "cells": cells,
                "own": self._ceiling.dump(),
                "table": self._seats.dump(),
                "seats": seats,
                "consumers": consumers,
            }
        )

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        load_subjects(self._sources, parts["sources"])
        self._is_internal = parts["of_source"]["internal"].astype(np.bool_)
        self._stays = parts["of_source"]["stays"].astype(np.float64)
        self._has_turns = parts["of_source"]["has_turns"].astype(np.bool_)
        self._awake = parts["of_source"]["awake"].astype(np.float64)
        self._counts = parts["cells"]["counts"].astype(np.int32)
        self._rests_until = parts["cells"]["rests_until"].astype(np.uint32)
        self._rests_until = parts["cells"]["rests_until"].astype(np.uint32)
        self._ceiling.load(parts["own"])
        self._seats.load(parts["table"])
        seats, consumers = parts["seats"], parts["consumers"]
        self._seat_source, self._recent = seats["source"].astype(np.int64), seats["recent"].astype(np.int64)
        self._first, self._last = seats["first"].astype(np.int64), seats["last"].astype(np.int64)
        self._state, self._is_moved = seats["state"].astype(np.int8), seats["moved"].astype(np.bool_)
        self._calls = seats["calls"].astype(np.float32)
        self._key, self._seat = consumers["key"].astype(np.uint64), consumers["seat"].astype(np.int64)
        self._swept_at, self._day, self._halved_at = (int(value) for value in consumers["clock"])

    def _choose(self, events: Events) -> Slots:
        """Rows of a credential that was let in, from an address, whose time is known."""
        is_used = (events.consumer >= 0) & (events.address != 0) & ~events.is_anonymous
        if not is_used.any():
            return np.zeros(0, np.int64)
        is_used[events.list_answered(_REFUSALS)] = False
        is_used &= events.columns.read(events.batch.window_length) <= _WINDOW_SECONDS
        rows: Slots = is_used.nonzero()[0]
        return rows

    def _note(self, events: Events, rows: Slots, time: int) -> None:
        """Whose stays go on or begin."""
        batch, batch_rows = events.batch, events.rows[rows]
        who = events.consumer[rows]
        # Who signs a token for each call, or has a new one each minute, is one where the tokens say who it is: what all
        # of them do is counted together by the other detectors.
        named = batch.principal[batch_rows]
        key = np.where(named != 0, named, batch.credential[batch_rows]) ^ events.address[rows] * _SPREAD
        window = batch.window_start[batch_rows].astype(np.int64)
        seat, before = self._seat.take(who), self._key.take(who)
        is_other = key != before
        if is_other.any():
            self._seats.seen_at[seat[~is_other]] = time  # These make no room for others.
            other = is_other.nonzero()[0]
            other = other[batch.authentication[batch_rows[other]] & _UNTOLD == 0]
            is_moved = before != 0
            self._key[who[other]], self._seat[who[other]] = key[other], -1
            watched = self._find_watched(events.address[rows[other]], time)
            seat[is_other] = -1
            if len(watched):
                other = other[watched]
                seat[other] = self._take_seats(
                    events, rows[other], who[other], key[other], window[other], is_moved[other], time
                )
        known = (seat >= 0).nonzero()[0]
        if not len(known):
            return
        rows, seat, window = rows[known], seat[known], window[known]
        np.add.at(self._calls, seat, events.calls[rows].astype(np.float32))
        gap = window - self._last[seat]
        later = (gap > 0).nonzero()[0]
        if not len(later):
            return
        seat, gap = seat[later], gap[later]
        np.maximum.at(self._last, seat, window[later])
        self._seats.seen_at[seat] = time
        back = seat[(gap > QUIET_SECONDS) & (self._state[seat] == _TURN)]
        if len(back):
            self._take_back(find_distinct(back)[0], time)

    def _find_watched(self, addresses: U64, time: int) -> Slots:
        """Which of the credentials that came to `addresses` have their stays kept."""
        if time >= self._halved_at + _HALVED_SECONDS:
            self._halved_at = time
            self._counts //= 2
        cells = (addresses & np.uint64(_CELLS - 1)).astype(np.int64)
        np.add.at(self._counts, cells, np.int32(1))  # Of another type it takes ten times as long.
        if len(self._sources.table) < ALL_SOURCES_MAX:
            is_watched = self._rests_until[cells] <= time
        else:
            is_sampled = addresses & _SAMPLE == 0
            is_watched = ((self._counts[cells] >= OFTEN) | is_sampled) & (self._rests_until[cells] <= time)
        watched: Slots = is_watched.nonzero()[0]
        return watched

    def _take_back(self, seats: Slots, time: int) -> None:
        """Who comes back was not dropped; it is judged again while it is held against others."""
        self._state[seats] = _PENDING
        slots, amounts = sum_by_slot(self._seat_source[seats], -np.ones(len(seats)))
        self._ceiling.add(slots, amounts, np.zeros(len(slots), np.int64), time)

    def _take_seats(
        self, events: Events, rows: Slots, who: Slots, key: U64, window: Int64s, is_moved: Bools, time: int
    ) -> Slots:
        """The seat of each row; new ones begin a stay."""
        touched = self._seats.touch(key, time)
        capacity = self._seats.capacity
        if len(self._first) < capacity:
            self._first, self._last = grow(self._first, capacity), grow(self._last, capacity)
            self._state, self._is_moved = grow(self._state, capacity), grow(self._is_moved, capacity)
            self._seat_source, self._calls = grow(self._seat_source, capacity, -1), grow(self._calls, capacity)
        if len(touched.emptied):
            is_emptied = np.zeros(capacity + 1, np.bool_)  # The last is that of no seat.
            is_emptied[touched.emptied] = True
            self._recent = self._recent[~is_emptied[self._recent]]
            gone = is_emptied[self._seat].nonzero()[0]
            self._key[gone], self._seat[gone] = 0, -1
        new, first = touched.new, touched.first
        if len(new):
            source = self._take_sources(events, rows[first], time)
            self._is_moved[new] = is_moved[first]
            self._seat_source[new], self._state[new], self._calls[new] = source, _PENDING, 0
            self._first[new] = self._last[new] = window[first]
            np.minimum.at(self._first, touched.slots, window)
            self._recent = np.concatenate([self._recent, new])
        self._key[who], self._seat[who] = key, touched.slots  # Anew: others may have been emptied.
        return touched.slots

    def _take_sources(self, events: Events, rows: Slots, time: int) -> Slots:
        """Slots of the addresses of `rows`."""

        def name(index: int) -> SubjectName:
            address = events.batch.strings[events.batch.client_address[events.rows[rows[index]]]]
            return SubjectName(consumer=f"address:{address}")

        sources, evicted = self._sources.touch(events.address[rows], time, name)
        capacity = self._sources.table.capacity
        self._ceiling.grow(capacity, 1)
        self._is_internal, self._stays = grow(self._is_internal, capacity), grow(self._stays, capacity)
        self._awake, self._has_turns = grow(self._awake, capacity), grow(self._has_turns, capacity)
        if len(evicted):
            self._ceiling.forget(evicted)
            self._stays[:, evicted] = self._awake[:, evicted] = 0
            self._has_turns[evicted] = False
            self._seat_source[np.isin(self._seat_source, evicted)] = -1
            self._recent = self._recent[self._seat_source[self._recent] >= 0]
        self._is_internal[sources] = events.is_internal[rows]
        return sources

    def _judge(self, time: int) -> list[Finding]:
        """Stays that are over, or too long for a turn."""
        self._turn_day(time)
        seats = self._recent
        source, first, last = (part.take(seats) for part in (self._seat_source, self._first, self._last))
        order = sort_stays(source, first, last)
        seats, source, first, last = seats[order], source[order], first[order], last[order]
        is_long = last - first > SHORT_SECONDS
        is_ready = (self._state.take(seats) == _PENDING) & (is_long | (last <= time - QUIET_SECONDS))
        follows, overlaps = _compare(source, first, last)
        is_single = last == first
        is_turn = is_ready & follows & ~overlaps & ~is_long
        single, weight = (is_turn & is_single).nonzero()[0], np.ones(len(seats))
        weight[single] = self._weigh_single(source[single])
        is_turn &= weight > 0
        amounts = np.where(is_turn, weight, np.where(is_ready & (overlaps | is_long), -OTHER_COST, 0.0))
        self._state[seats[is_ready]] = _JUDGED
        self._state[seats[is_turn]] = _TURN
        self._rest(source[is_ready & (follows | overlaps | is_long)], source[is_turn], time)
        np.add.at(self._stays[0], source[is_ready], 1.0)
        np.add.at(self._stays[1], source[is_ready & is_single], 1.0)
        self._recent = seats[first > time - _KEPT_SECONDS]
        counted = amounts.nonzero()[0]
        self._ceiling.refresh(self._sources.table.live, None, time)
        slots, sums = sum_by_slot(source[counted], amounts[counted])
        self._has_turns[slots[sums > 0]] = True
        slots, sums = slots[self._has_turns[slots]], sums[self._has_turns[slots]]  # Of nothing nothing is taken.
        excess = self._ceiling.add(slots, sums, np.zeros(len(slots), np.int64), time)
        findings = []
        for index, slot in enumerate(excess.slots.tolist()):
            turns = seats[(source == slot) & (self._state[seats] == _TURN)]
            findings.append(
                Finding(
                    kind=AlertKind.CREDENTIAL_ROTATION,
                    subject=self._sources.name(slot),
                    count=float(excess.sums[index]),
                    ceiling=float(excess.ceilings[index]),
                    seconds=PLAN[int(excess.horizon[index])].seconds,
                    basis=excess.basis[index],
                    calls=float(self._calls[turns].sum()),
                    is_internal=bool(self._is_internal[slot]),
                    is_notice=False,
                    detail=_describe(self._last[turns] - self._first[turns], self._calls[turns], self._is_moved[turns]),
                )
            )
        return findings

    def _rest(self, judged: Slots, turns: Slots, time: int) -> None:
        """Sources of stays that had others before them, and of those that are turns: who rests from now on."""
        np.add.at(self._awake[0], judged, 1.0)
        np.add.at(self._awake[1], turns, 1.0)
        done = (self._awake[0] >= REST_STAYS).nonzero()[0]
        resting = done[self._awake[1, done] < self._awake[0, done] / 2]
        cells = (self._sources.table.keys[resting] & np.uint64(_CELLS - 1)).astype(np.int64)
        self._rests_until[cells] = time + REST_SECONDS
        self._awake[:, done] = 0

    def _weigh_single(self, source: Slots) -> F64:
        """What a turn within one window counts at each source."""
        stays, single = self._stays
        known = np.count_nonzero(stays >= _FADED)
        mostly = np.count_nonzero((stays >= STAYS_MIN) & (single >= SINGLE_SHARE * stays))
        is_telling = known >= KNOWN_SOURCES_MIN and mostly <= SINGLE_SOURCES_MAX * known
        return (is_telling & ~self._is_internal[source]).astype(np.float64)

    def _turn_day(self, time: int) -> None:
        day = time // _DAY_SECONDS
        if day > self._day:
            self._day = day
            self._stays /= 2


def sort_stays(source: Slots, first: Int64s, last: Int64s) -> Slots:
    """As np.lexsort by source, begin and end, in a third of its time."""
    by_end = sort_small(last)[1]
    sorted_: Slots = by_end[sort_small(((source << _TIME_BITS) | first)[by_end])[1]]
    return sorted_


def _compare(source: Slots, first: Int64s, last: Int64s) -> tuple[Bools, Bools]:
    """Of n stays by source, begin and end: which begin soon after the end of all before, and which share two
    windows with another, or lie within one."""
    count = len(source)
    same = np.zeros(count + 1, np.bool_)  # Whether i - 1 and i are of one source.
    same[1:-1] = source[1:] == source[:-1]
    # Sources one after the other in one column, each above all before.
    lift = np.cumsum(~same[:-1]) * (int(np.max(last) - np.min(first)) + 1)
    highest = np.maximum.accumulate(last + lift)
    ended = np.empty(count, np.int64)
    ended[0], ended[1:] = first[0], highest[:-1] - lift[1:]
    follows = same[:-1] & (first - ended <= np.clip(last - first, GAP_SECONDS, GAP_SECONDS_MAX))
    overlaps = same[:-1] & (ended - first >= _WINDOW_SECONDS)
    overlaps[:-1] |= same[1:-1] & (first[1:] <= last[:-1] - _WINDOW_SECONDS)
    return follows, overlaps


def _describe(seconds: Int64s, calls: NDArray[np.float32], is_moved: Bools) -> str:
    """How long and for how many calls most of some turns were used, and how many elsewhere before."""
    span = f"most of them for {int(np.median(seconds)) + _WINDOW_SECONDS} s and {np.median(calls):.0f} calls or less"
    moved = int(is_moved.sum())
    return f"{span}, {moved} of the last {len(seconds)} used elsewhere before" if moved else span

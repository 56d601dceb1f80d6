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
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.abuse.sums import sum_by_slot
from collector.detection.framework.distinct import find_distinct, sort_small
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.slots import SlotTable, SubjectName, Subjects
from collector.detection.framework.state import F64, U64, Bools, DetectorState, Slots, array, column, number
from collector.detection.framework.subject_index import SubjectIndex

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
_REFUSALS = (401, 403)  # Refused credentials are guesses (credential_stuffing.py).
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


class _Sources(DetectorState):
    """By address."""

    is_internal = column(np.bool_)
    has_turns = column(np.bool_)
    stays = column(np.float64, 2)  # Of this day and less of earlier days: all, and those of one window.
    awake = column(np.float64, 2)  # Since its last rest: all, and turns.


class _Seats(DetectorState):
    """By credential and address."""

    source = column(np.int64, fill=-1)  # -1: it was forgotten.
    first = column(np.int64)  # Window in which its stay began, unix seconds.
    last = column(np.int64)
    state = column(np.int8)
    calls = column(np.float32)
    is_moved = column(np.bool_)  # Its consumer came from another address before.


class _Consumers(DetectorState):
    """By consumer: its last seat."""

    key = column(np.uint64)
    seat = column(np.int64, fill=-1)


class CredentialRotationDetector(AbuseDetector):
    """Turns by address, less OTHER_COST for each stay that is not one, against a ceiling."""

    name = "abuse.credential_rotation"
    kinds = frozenset({AlertKind.CREDENTIAL_ROTATION})
    parts = ("_sources", "_of_source", "_ceiling", "_seats", "_of_seat", "_of_consumer")
    # Of credentials that came, by cell of the address.
    _counts = array(np.int32)
    _rests_until = array(np.uint32)
    _recent = array(np.int64)  # Seats whose stays began within `_KEPT_SECONDS`.
    _halved_at = number(0)
    _swept_at = number(0)
    _day = number(0)

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._counts, self._rests_until = np.zeros(_CELLS, np.int32), np.zeros(_CELLS, np.uint32)
        self._sources, self._of_source = Subjects(SOURCES_MAX), _Sources()
        self._seats, self._of_seat = SlotTable(SEATS_MAX), _Seats()
        self._of_consumer = _Consumers()
        # Programs that log in for every item were there before.
        self._ceiling = Ceiling(
            PLAN, self._sources, is_projected=True
        )  # Programs that log in for every item were there before.
        self._sources.follow(self._of_source)
        self._sources.on_forget(self._forget_sources)
        self._seats.follow_size(self._of_seat.grow)
        self._seats.on_forget(self._forget_seats)
        subjects.consumers.follow(self._of_consumer)

    def find(self, events: Events) -> list[Finding]:
        time, rows = events.time, self._choose(events)
        if len(rows):
            self._note(events, rows, time)
        if time < self._swept_at + _SWEEP_SECONDS:
            return []
        self._swept_at = time
        return self._judge(time) if len(self._recent) else []

    def _choose(self, events: Events) -> Slots:
        """Rows of a credential that was let in, from an address, whose time is known."""
        is_used = (events.consumer >= 0) & (events.address != 0) & ~events.is_anonymous
        if not is_used.any():
            return np.zeros(0, np.int64)
        is_used[events.list_answered(_REFUSALS)] = False
        is_used &= events.read(events.batch.window_length) <= _WINDOW_SECONDS
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
        consumers, seats = self._of_consumer, self._of_seat
        seat, before = consumers.seat.take(who), consumers.key.take(who)
        is_other = key != before
        if is_other.any():
            self._seats.seen_at[seat[~is_other]] = time  # These make no room for others.
            other = is_other.nonzero()[0]
            other = other[batch.authentication[batch_rows[other]] & _UNTOLD == 0]
            is_moved = before != 0
            consumers.key[who[other]], consumers.seat[who[other]] = key[other], -1
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
        np.add.at(seats.calls, seat, events.calls[rows].astype(np.float32))
        gap = window - seats.last[seat]
        later = (gap > 0).nonzero()[0]
        if not len(later):
            return
        seat, gap = seat[later], gap[later]
        np.maximum.at(seats.last, seat, window[later])
        self._seats.seen_at[seat] = time
        back = seat[(gap > QUIET_SECONDS) & (seats.state[seat] == _TURN)]
        if len(back):
            self._take_back(find_distinct(back)[0], time)

    def _find_watched(self, addresses: U64, time: int) -> Slots:
        """Which of the credentials that came to `addresses` have their stays kept."""
        if time >= self._halved_at + _HALVED_SECONDS:
            self._halved_at = time
            self._counts //= 2
        cells = (addresses & np.uint64(_CELLS - 1)).astype(np.int64)
        np.add.at(self._counts, cells, np.int32(1))  # Of another type it takes ten times as long.
        if len(self._sources) < ALL_SOURCES_MAX:
            is_watched = self._rests_until[cells] <= time
        else:
            is_sampled = addresses & _SAMPLE == 0
            is_watched = ((self._counts[cells] >= OFTEN) | is_sampled) & (self._rests_until[cells] <= time)
        watched: Slots = is_watched.nonzero()[0]
        return watched

    def _take_back(self, seats: Slots, time: int) -> None:
        """Who comes back was not dropped; it is judged again while it is held against others."""
        self._of_seat.state[seats] = _PENDING
        self._ceiling.add(*sum_by_slot(self._of_seat.source[seats], -np.ones(len(seats))), time)

    def _take_seats(
        self, events: Events, rows: Slots, who: Slots, key: U64, window: Slots, is_moved: Bools, time: int
    ) -> Slots:
        """The seat of each row; new ones begin a stay."""
        touched = self._seats.touch(key, time)
        new, first, seats = touched.new, touched.first, self._of_seat
        if len(new):
            source = self._take_sources(events, rows[first], time)
            seats.is_moved[new] = is_moved[first]
            seats.source[new], seats.state[new], seats.calls[new] = source, _PENDING, 0
            seats.first[new] = seats.last[new] = window[first]
            np.minimum.at(seats.first, touched.slots, window)
            self._recent = np.concatenate([self._recent, new])
        # Anew: others may have been emptied.
        self._of_consumer.key[who], self._of_consumer.seat[who] = key, touched.slots
        return touched.slots

    def _forget_seats(self, seats: Slots) -> None:
        is_emptied = np.zeros(self._seats.capacity + 1, np.bool_)  # The last is that of no seat.
        is_emptied[seats] = True
        self._recent = self._recent[~is_emptied[self._recent]]
        gone = is_emptied[self._of_consumer.seat].nonzero()[0]
        self._of_consumer.key[gone], self._of_consumer.seat[gone] = 0, -1

    def _take_sources(self, events: Events, rows: Slots, time: int) -> Slots:
        """Slots of the addresses of `rows`."""

        sources = self._sources.touch_named(
            events.address[rows], time, lambda index: SubjectName(consumer=events.name_address(int(rows[index])))
        )
        self._of_source.is_internal[sources] = events.is_internal[rows]
        return sources

    def _forget_sources(self, sources: Slots) -> None:
        seats = self._of_seat
        seats.source[np.isin(seats.source, sources)] = -1
        self._recent = self._recent[seats.source[self._recent] >= 0]

    def _judge(self, time: int) -> list[Finding]:
        """Stays that are over, or too long for a turn."""
        self._turn_day(time)
        seats, known = self._recent, self._of_seat
        source, first, last = (part.take(seats) for part in (known.source, known.first, known.last))
        order = sort_stays(source, first, last)
        seats, source, first, last = seats[order], source[order], first[order], last[order]
        is_long = last - first > SHORT_SECONDS
        is_ready = (known.state.take(seats) == _PENDING) & (is_long | (last <= time - QUIET_SECONDS))
        follows, overlaps = _compare(source, first, last)
        is_single = last == first
        is_turn = is_ready & follows & ~overlaps & ~is_long
        single, weight = (is_turn & is_single).nonzero()[0], np.ones(len(seats))
        weight[single] = self._weigh_single(source[single])
        is_turn &= weight > 0
        amounts = np.where(is_turn, weight, np.where(is_ready & (overlaps | is_long), -OTHER_COST, 0.0))
        known.state[seats[is_ready]] = _JUDGED
        known.state[seats[is_turn]] = _TURN
        self._rest(source[is_ready & (follows | overlaps | is_long)], source[is_turn], time)
        np.add.at(self._of_source.stays[0], source[is_ready], 1.0)
        np.add.at(self._of_source.stays[1], source[is_ready & is_single], 1.0)
        self._recent = seats[first > time - _KEPT_SECONDS]
        counted = amounts.nonzero()[0]
        self._ceiling.refresh(time)
        slots, sums = sum_by_slot(source[counted], amounts[counted])
        has_turns = self._of_source.has_turns
        has_turns[slots[sums > 0]] = True
        slots, sums = slots[has_turns[slots]], sums[has_turns[slots]]  # Of nothing nothing is taken.
        excess = self._ceiling.add(slots, sums, time)
        findings = []
        for index, slot in enumerate(excess.slots.tolist()):
            turns = seats[(source == slot) & (known.state[seats] == _TURN)]
            findings.append(
                Finding(
                    kind=AlertKind.CREDENTIAL_ROTATION,
                    subject=self._sources.name(slot),
                    count=float(excess.sums[index]),
                    ceiling=float(excess.ceilings[index]),
                    seconds=PLAN[int(excess.horizon[index])].seconds,
                    basis=excess.basis[index],
                    calls=float(known.calls[turns].sum()),
                    is_internal=bool(self._of_source.is_internal[slot]),
                    is_notice=False,
                    detail=_describe(known.last[turns] - known.first[turns], known.calls[turns], known.is_moved[turns]),
                )
            )
        return findings

    def _rest(self, judged: Slots, turns: Slots, time: int) -> None:
        """Sources of stays that had others before them, and of those that are turns: who rests from now on."""
        awake = self._of_source.awake
        np.add.at(awake[0], judged, 1.0)
        np.add.at(awake[1], turns, 1.0)
        done = (awake[0] >= REST_STAYS).nonzero()[0]
        resting = done[awake[1, done] < awake[0, done] / 2]
        cells = (self._sources.keys[resting] & np.uint64(_CELLS - 1)).astype(np.int64)
        self._rests_until[cells] = time + REST_SECONDS
        awake[:, done] = 0

    def _weigh_single(self, source: Slots) -> F64:
        """What a turn within one window counts at each source."""
        stays, single = self._of_source.stays
        known = np.count_nonzero(stays >= _FADED)
        mostly = np.count_nonzero((stays >= STAYS_MIN) & (single >= SINGLE_SHARE * stays))
        is_telling = known >= KNOWN_SOURCES_MIN and mostly <= SINGLE_SOURCES_MAX * known
        return (is_telling & ~self._of_source.is_internal[source]).astype(np.float64)

    def _turn_day(self, time: int) -> None:
        day = time // _DAY_SECONDS
        if day > self._day:
            self._day = day
            self._of_source.stays /= 2


def sort_stays(source: Slots, first: Slots, last: Slots) -> Slots:
    """As np.lexsort by source, begin and end, in a third of its time."""
    by_end = sort_small(last)[1]
    sorted_: Slots = by_end[sort_small(((source << _TIME_BITS) | first)[by_end])[1]]
    return sorted_


def _compare(source: Slots, first: Slots, last: Slots) -> tuple[Bools, Bools]:
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


def _describe(seconds: Slots, calls: NDArray[np.float32], is_moved: Bools) -> str:
    """How long and for how many calls most of some turns were used, and how many elsewhere before."""
    span = f"most of them for {int(np.median(seconds)) + _WINDOW_SECONDS} s and {np.median(calls):.0f} calls or less"
    moved = int(is_moved.sum())
    return f"{span}, {moved} of the last {len(seconds)} used elsewhere before" if moved else span

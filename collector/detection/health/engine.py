"""Errors and latency of all endpoints, on the subjects and windows of the volume engine: rows of a batch in, signals
out.

Windows are those of the endpoints' calls, which say how many calls there were. What a shorter window reported, a longer
one does not repeat. Endpoints of one service are reported together (collector/detection/health/services.py).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind, HealthMeasure, HealthSignal
from collector.core.kinds import LEVELS, NOT_READ, RANKS
from collector.detection.framework.columns import Columns, is_any_of
from collector.detection.framework.contract import F64, State
from collector.detection.framework.loss import SubjectLoss
from collector.detection.framework.slots import Groups, Slots, grow
from collector.detection.framework.subject_index import Placed, Roster
from collector.detection.health.services import EPISODE_SECONDS, Services
from collector.detection.health.window import MEASURES, HealthWindow, Judged, Measure, observe
from collector.detection.volume.windowed import Watch

# Client errors that abuse and missing paths make: the detectors of abuse count those by who made them.
_ABUSE_STATUS = (401, 403, 404, 405, 410, 429)
# google.rpc.Code + 1 of what a server is at fault for, as OpenTelemetry's conventions for spans of servers have it:
# UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
_RPC_SERVER_ERRORS = (3, 5, 13, 14, 15, 16)
_GAP_WINDOWS = 2  # A told episode goes on across so many calm ones.
_ROUTES_MAX = 64  # That a signal names.
_MEASURES_OF = {
    AlertKind.ERRORS: (HealthMeasure.SERVER_ERRORS, HealthMeasure.CLIENT_ERRORS),
    AlertKind.LATENCY: (HealthMeasure.LATENCY,),
}


class HealthEngine:
    """See the module."""

    def __init__(self, roster: Roster, lengths: Sequence[int]) -> None:
        """`lengths`: seconds of the endpoints' windows, shortest first."""
        self._roster = roster
        self.services = Services()
        self._windows = {length: HealthWindow(length) for length in lengths}
        self._told_at: NDArray[np.int64] = np.zeros((len(MEASURES), 0), np.int64)  # End of the window, unix seconds.
        self._told_level: NDArray[np.int8] = np.zeros((len(MEASURES), 0), np.int8)
        self._told_value: F64 = np.zeros((len(MEASURES), 0))  # What was observed then.

    @property
    def held_back_count(self) -> int:
        """Crossings under the installation's bar."""
        return sum(bar.held_back_count for window in self._windows.values() for bar in window.bars.values())

    def grow(self, capacity: int) -> None:
        """Make room for endpoint slots below `capacity`."""
        self.services.grow(capacity)
        for window in self._windows.values():
            window.grow(capacity)
        self._told_at, self._told_level = grow(self._told_at, capacity), grow(self._told_level, capacity)
        self._told_value = grow(self._told_value, capacity)

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self.services.forget(slots)
        for window in self._windows.values():
            window.forget(slots)
        self._told_at[:, slots] = self._told_level[:, slots] = self._told_value[:, slots] = 0

    def take(self, columns: Columns, placed: Placed, watches: Sequence[Watch]) -> None:
        """Add the rows of a batch to the windows of `watches` that are open."""
        self.services.take(columns, placed)
        rows = _Health(columns)
        for watch in watches:
            window = self._windows[watch.windows.window_seconds]
            self._add_errors(rows, placed, watch, window)
            if window.has_latency:
                self._add_latency(rows, placed, watch, window)

    def close(self, watch: Watch, window: int, slots: Slots, losses: SubjectLoss) -> list[HealthSignal]:
        """Judge and learn a window of the endpoints' calls that is about to close. `losses`: of endpoints."""
        calls = watch.windows.read(window, slots)[0]
        called = calls.nonzero()[0]
        length, slots = watch.windows.window_seconds, slots[called]
        if not len(slots):
            return []
        callers = self._roster.counted_consumers()[slots]
        signals: list[HealthSignal] = []
        for judged in self._windows[length].close(window, slots, calls[called], callers):
            odd = self._find_told(judged, window, length)
            signals += [
                self._tell(judged, own, window, length, losses.share(judged.slots[own]))
                for own in self._split_services(judged, odd)
            ]
        return signals

    def leave(self) -> None:
        """Give up the windows that are open."""
        for window in self._windows.values():
            window.sums.leave()

    def expect(self, kind: AlertKind, endpoint_id: str) -> bool:
        """A person says that what an alert told is ordinary, at all endpoints it was about; False where none is
        known."""
        slot = self._roster.endpoints.find(endpoint_id, "")
        if kind not in _MEASURES_OF or slot < 0:
            return False
        members = self.services.list_members(slot)
        for measure in _MEASURES_OF[kind]:
            row = MEASURES.index(measure)
            at = self._told_at[row, members]
            own = members[(at > 0) & (at >= at.max() - EPISODE_SECONDS)]
            for length, window in self._windows.items():
                window.expect(measure, own, int(at.max()) // length, self._told_value[row, own])
        return True

    def dump(self) -> dict[str, State]:
        """State for a checkpoint, by part."""
        told: State = {"at": self._told_at, "level": self._told_level, "value": self._told_value}
        windows = {f"health.window{length}": window.dump() for length, window in self._windows.items()}
        return {"health.told": told, "health.services": self.services.dump(), **windows}

    def load(self, parts: dict[str, State], capacity: int) -> None:
        """The inverse of `dump`; a state of before errors and latency were judged leaves them to be learnt."""
        if "health.told" not in parts:
            self.grow(capacity)
            return
        told = parts["health.told"]
        self._told_at, self._told_level = told["at"].astype(np.int64), told["level"].astype(np.int8)
        self._told_value = told["value"].astype(np.float64)
        self.services.load(parts["health.services"])
        for length, window in self._windows.items():
            window.load(parts[f"health.window{length}"])

    def _add_errors(self, rows: "_Health", placed: Placed, watch: Watch, window: HealthWindow) -> None:
        for measure, failed in ((Measure.SERVER_ERRORS, rows.server), (Measure.CLIENT_ERRORS, rows.client)):
            for number, own in rows.times.split(failed, window.sums.window_seconds):
                if watch.windows.accepts(number):
                    window.sums.add_errors(measure, number, placed.endpoint[own], rows.calls[own], placed.consumer[own])
        for number, own in rows.times.split(rows.unread, window.sums.window_seconds):
            if watch.windows.accepts(number):
                window.sums.add(Measure.UNREAD_CALLS, number, placed.endpoint[own], rows.calls[own])

    def _add_latency(self, rows: "_Health", placed: Placed, watch: Watch, window: HealthWindow) -> None:
        for number, own in rows.times.split(rows.timed, window.sums.window_seconds):
            if watch.windows.accepts(number):
                calls, log_time = rows.sum_timed(own, placed.by_endpoint)
                window.sums.add(Measure.TIMED_CALLS, number, placed.by_endpoint.slots, calls)
                window.sums.add(Measure.LOG_TIME, number, placed.by_endpoint.slots, log_time)

    def _find_told(self, judged: Judged, window: int, length: int) -> Slots:
        """Indexes of endpoints that are to be told; remembers them."""
        row, begin = MEASURES.index(judged.measure), window * length
        told = []
        for i in judged.judgement.score.nonzero()[0].tolist():
            slot = int(judged.slots[i])
            at = int(self._told_at[row, slot])
            if at > begin:  # A shorter window told it.
                continue
            bar = self._windows[length].bars[judged.measure]
            level = bar.admit(
                self.services.key(slot), float(judged.judgement.score[i]), begin, len(self._roster.endpoints.table)
            )
            if at and at >= begin - _GAP_WINDOWS * length:
                known = LEVELS[int(self._told_level[row, slot])]
                level = known if level is None else min(level, known, key=RANKS.__getitem__)
            if level is None:
                continue
            self._told_at[row, slot], self._told_level[row, slot] = begin + length, RANKS[level]
            told.append(i)
        which = np.array(told, np.int64)
        self._told_value[row, judged.slots[which]] = observe(judged, which)
        return which

    def _split_services(self, judged: Judged, odd: Slots) -> list[Slots]:
        """`odd` by service."""
        groups: dict[int, list[int]] = {}
        for i in odd.tolist():
            groups.setdefault(self.services.key(int(judged.slots[i])), []).append(i)
        return [np.array(group, np.int64) for group in groups.values()]

    def _tell(self, judged: Judged, own: Slots, window: int, length: int, loss_ratio: float) -> HealthSignal:
        """What goes on at the endpoints `own` of one service."""
        row, begin = MEASURES.index(judged.measure), window * length
        worst = int(judged.slots[own[np.argmax(judged.judgement.score[own])]])
        leader = self.services.lead(worst, begin + length)
        members = self.services.list_members(worst)
        endpoints = int((self._told_at[row, members] >= begin + length - EPISODE_SECONDS).sum())
        names = [self._roster.endpoints.name(slot) for slot in dict.fromkeys((leader, *judged.slots[own].tolist()))]
        level = min(int(self._told_level[row, slot]) for slot in judged.slots[own].tolist())
        calls = judged.calls[own]
        return HealthSignal(
            kind=AlertKind.LATENCY if judged.measure is HealthMeasure.LATENCY else AlertKind.ERRORS,
            measure=judged.measure,
            endpoint_id=names[0].endpoint_id,
            endpoint_label=self._roster.endpoints.name(worst).label,
            route_ids=tuple(dict.fromkeys(route for name in names for route in name.route_ids))[:_ROUTES_MAX],
            service=self.services.name(worst),
            endpoints=endpoints,
            window_start=begin,
            window_seconds=length,
            calls=round(float(calls.sum())),
            observed=_average(judged.measure, observe(judged, own), calls),
            expected=_average(judged.measure, judged.judgement.expected[own], calls),
            threshold=_average(judged.measure, judged.judgement.threshold[own], calls),
            score=1 - 0.5 ** float(np.max(judged.judgement.score[own])),
            loss_ratio=loss_ratio,
            quietest=LEVELS[level],
        )


def _average(measure: HealthMeasure, values: F64, calls: F64) -> float:
    """Over calls; of durations the geometric mean."""
    if measure is HealthMeasure.LATENCY:
        return float(np.exp(np.average(np.log(values), weights=calls)))
    return float(np.average(values, weights=calls))


class _Health:
    """Of n rows what errors and latency are made of."""

    def __init__(self, columns: Columns) -> None:
        self.times = columns.times
        self.calls = columns.calls
        failed, status = columns.failed, columns.status[columns.failed]
        is_server, rpc = status >= 500, columns.read(columns.batch.rpc_status)
        self.server = failed[is_server]
        if np.count_nonzero(rpc):
            by_rpc = np.isin(rpc, _RPC_SERVER_ERRORS)
            is_server |= by_rpc[failed]
            by_rpc[self.server] = True
            self.server = by_rpc.nonzero()[0]
        self.unread = ((columns.status == NOT_READ) & (rpc == 0)).nonzero()[0]
        self.client = failed[~is_server & ~is_any_of(status, _ABUSE_STATUS)]
        microseconds = columns.microseconds
        is_timed = (microseconds > 0) & (self.calls > 0)
        is_timed[failed] = is_timed[self.server] = False
        self.timed = is_timed.nonzero()[0]
        self.log_time: F64 = np.zeros(len(columns))
        calls = self.calls[self.timed]
        self.log_time[self.timed] = calls * np.log(np.maximum(microseconds[self.timed] / calls, 1.0))
        self._summed: tuple[Slots, tuple[F64, F64]] | None = None  # Rows that `sum_timed` was asked of last.

    def sum_timed(self, own: Slots, by_endpoint: Groups) -> tuple[F64, F64]:
        """Calls and logarithms of the rows `own` by endpoint. Windows of all lengths mostly ask of the same rows."""
        if self._summed is None or self._summed[0] is not own:
            place, count = by_endpoint.inverse[own], len(by_endpoint.slots)
            calls, log_time = (np.bincount(place, part[own], count) for part in (self.calls, self.log_time))
            self._summed = own, (calls, log_time)
        return self._summed[1]

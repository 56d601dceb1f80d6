"""Errors and latency of all endpoints, on the subjects and windows of the volume engine: rows of a batch in, signals
out.

Windows are those of the endpoints' calls, which say how many calls there were. What a shorter window reported, a longer
one does not repeat. Endpoints of one service are reported together (collector/detection/health/services.py).
"""

from collections.abc import Sequence

import numpy as np

from collector.alerting.alert import AlertKind, HealthMeasure, HealthSignal
from collector.core.kinds import LEVELS, NOT_READ, RANKS
from collector.detection.framework.detector import ClosedWindow, Detector
from collector.detection.framework.distinct import Groups, is_any_of
from collector.detection.framework.loss import SubjectLoss
from collector.detection.framework.rows import Events
from collector.detection.framework.state import F64, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.detection.framework.windows import OpenWindows
from collector.detection.health.services import EPISODE_SECONDS, Services
from collector.detection.health.window import MEASURES, HealthWindow, Judged, Measure, observe

# Client errors that abuse and missing paths make: the detectors of abuse count those by who made them.
_ABUSE_STATUS = (401, 403, 404, 405, 410, 429)
# google.rpc.Code + 1 of what a server is at fault for, as OpenTelemetry's conventions for spans of servers have it:
# UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
_RPC_SERVER_ERRORS = (3, 5, 13, 14, 15, 16)
_GAP_WINDOWS = 2  # A reported episode goes on across so many calm ones.
_ROUTES_MAX = 64  # That a signal names.
_MEASURES_OF = {
    AlertKind.ERRORS: (HealthMeasure.SERVER_ERRORS, HealthMeasure.CLIENT_ERRORS),
    AlertKind.LATENCY: (HealthMeasure.LATENCY,),
}


class _Reported(DetectorState):
    """What was reported last, by measure and slot of an endpoint."""

    at = column(np.int64, len(MEASURES))  # End of the window, unix seconds.
    level = column(np.int8, len(MEASURES))
    value = column(np.float64, len(MEASURES))  # What was observed then.


class HealthDetector(Detector):
    """Errors and latency of all endpoints (collector/detection/health/window.py has the formulas)."""

    name = "health"
    kinds = frozenset(_MEASURES_OF)
    parts = ("services", "_reported", "_windows")

    def __init__(self, subjects: SubjectIndex, losses: SubjectLoss, calls: Sequence[OpenWindows]) -> None:
        """`losses` of endpoints; `calls`: their windows, shortest first."""
        super().__init__()
        self._subjects, self._losses, self._calls = subjects, losses, calls
        self.services = Services()
        self._reported = _Reported()
        self._windows = {one.window_seconds: HealthWindow(one.window_seconds) for one in calls}
        subjects.endpoints.follow(self.services, self._reported, *self._windows.values())

    @property
    def held_back_count(self) -> int:
        return sum(bar.held_back_count for window in self._windows.values() for bar in window.bars.values())

    def feed(self, events: Events) -> Sequence[HealthSignal]:
        """Adds the rows to the windows that are open."""
        self.services.take(events)
        rows = _Health(events)
        for calls in self._calls:
            window = self._windows[calls.window_seconds]
            self._add_errors(rows, events, calls, window)
            if window.has_latency:
                self._add_latency(rows, events, calls, window)
        return ()

    def close(self, closed: ClosedWindow) -> Sequence[HealthSignal]:
        """Evaluates and learns the same window of errors and latency."""
        if closed.kind is not AlertKind.VOLUME_ENDPOINT:
            return ()
        called = closed.calls.nonzero()[0]
        length, slots = closed.seconds, closed.slots[called]
        if not len(slots):
            return ()
        callers = self._subjects.counted_consumers()[slots]
        signals: list[HealthSignal] = []
        for judged in self._windows[length].close(closed.window, slots, closed.calls[called], callers):
            odd = self._find_reported(judged, closed.start, length)
            signals += [self._report(judged, own, closed.start, length) for own in self._split_services(judged, odd)]
        return signals

    def change_routes(self, endpoints: Slots) -> None:
        """Errors and latency are learned anew."""
        for part in (self.services, self._reported, *self._windows.values()):
            part.forget(endpoints)

    def resume(self, time: int) -> None:
        for window in self._windows.values():
            window.sums.leave()

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """At all endpoints that the alert was about."""
        slot = self._subjects.endpoints.find(endpoint_id, "")
        if slot < 0:
            return False
        members = self.services.list_members(slot)
        for measure in _MEASURES_OF[kind]:
            row = MEASURES.index(measure)
            at = self._reported.at[row, members]
            own = members[(at > 0) & (at >= at.max() - EPISODE_SECONDS)]
            for length, window in self._windows.items():
                window.expect(measure, own, int(at.max()) // length, self._reported.value[row, own])
        return True

    def _add_errors(self, rows: "_Health", events: Events, open_: OpenWindows, window: HealthWindow) -> None:
        for measure, failed in ((Measure.SERVER_ERRORS, rows.server), (Measure.CLIENT_ERRORS, rows.client)):
            for number, own in rows.times.split(failed, window.sums.window_seconds):
                if open_.accepts(number):
                    window.sums.add_errors(measure, number, events.endpoint[own], rows.calls[own], events.consumer[own])
        for number, own in rows.times.split(rows.unread, window.sums.window_seconds):
            if open_.accepts(number):
                window.sums.add(Measure.UNREAD_CALLS, number, events.endpoint[own], rows.calls[own])

    def _add_latency(self, rows: "_Health", events: Events, open_: OpenWindows, window: HealthWindow) -> None:
        for number, own in rows.times.split(rows.timed, window.sums.window_seconds):
            if open_.accepts(number):
                calls, log_time = rows.sum_timed(own, events.by_endpoint)
                window.sums.add(Measure.TIMED_CALLS, number, events.by_endpoint.slots, calls)
                window.sums.add(Measure.LOG_TIME, number, events.by_endpoint.slots, log_time)

    def _find_reported(self, judged: Judged, begin: int, length: int) -> Slots:
        """Indexes of endpoints that are to be reported; remembers them."""
        row = MEASURES.index(judged.measure)
        reported = []
        for i in judged.judgement.score.nonzero()[0].tolist():
            slot = int(judged.slots[i])
            at = int(self._reported.at[row, slot])
            if at > begin:  # A shorter window reported it.
                continue
            bar = self._windows[length].bars[judged.measure]
            level = bar.admit(
                self.services.key(slot), float(judged.judgement.score[i]), begin, len(self._subjects.endpoints)
            )
            if at and at >= begin - _GAP_WINDOWS * length:
                known = LEVELS[int(self._reported.level[row, slot])]
                level = known if level is None else min(level, known, key=RANKS.__getitem__)
            if level is None:
                continue
            self._reported.at[row, slot], self._reported.level[row, slot] = begin + length, RANKS[level]
            reported.append(i)
        which = np.array(reported, np.int64)
        self._reported.value[row, judged.slots[which]] = observe(judged, which)
        return which

    def _split_services(self, judged: Judged, odd: Slots) -> list[Slots]:
        """`odd` by service."""
        groups: dict[int, list[int]] = {}
        for i in odd.tolist():
            groups.setdefault(self.services.key(int(judged.slots[i])), []).append(i)
        return [np.array(group, np.int64) for group in groups.values()]

    def _report(self, judged: Judged, own: Slots, begin: int, length: int) -> HealthSignal:
        """What goes on at the endpoints `own` of one service."""
        row = MEASURES.index(judged.measure)
        worst = int(judged.slots[own[np.argmax(judged.judgement.score[own])]])
        leader = self.services.lead(worst, begin + length)
        members = self.services.list_members(worst)
        endpoints = int((self._reported.at[row, members] >= begin + length - EPISODE_SECONDS).sum())
        names = [self._subjects.endpoints.name(slot) for slot in dict.fromkeys((leader, *judged.slots[own].tolist()))]
        level = min(int(self._reported.level[row, slot]) for slot in judged.slots[own].tolist())
        calls = judged.calls[own]
        return HealthSignal(
            kind=AlertKind.LATENCY if judged.measure is HealthMeasure.LATENCY else AlertKind.ERRORS,
            measure=judged.measure,
            endpoint_id=names[0].endpoint_id,
            endpoint_label=self._subjects.endpoints.name(worst).label,
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
            loss_ratio=self._losses.share(judged.slots[own]),
            quietest=LEVELS[level],
        )


def _average(measure: HealthMeasure, values: F64, calls: F64) -> float:
    """Over calls; of durations the geometric mean."""
    if measure is HealthMeasure.LATENCY:
        return float(np.exp(np.average(np.log(values), weights=calls)))
    return float(np.average(values, weights=calls))


class _Health:
    """Of n rows what errors and latency are made of."""

    def __init__(self, events: Events) -> None:
        self.times = events.times
        self.calls = events.calls
        failed, status = events.failed, events.status[events.failed]
        is_server, rpc = status >= 500, events.read(events.batch.rpc_status)
        self.server = failed[is_server]
        if np.count_nonzero(rpc):
            by_rpc = np.isin(rpc, _RPC_SERVER_ERRORS)
            is_server |= by_rpc[failed]
            by_rpc[self.server] = True
            self.server = by_rpc.nonzero()[0]
        self.unread = ((events.status == NOT_READ) & (rpc == 0)).nonzero()[0]
        self.client = failed[~is_server & ~is_any_of(status, _ABUSE_STATUS)]
        microseconds = events.microseconds
        is_timed = (microseconds > 0) & (self.calls > 0)
        is_timed[failed] = is_timed[self.server] = False
        self.timed = is_timed.nonzero()[0]
        self.log_time: F64 = np.zeros(len(events))
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

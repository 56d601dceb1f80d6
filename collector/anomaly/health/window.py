"""Errors and latency of endpoints in windows of one length: sums, what is usual, and the installation's bar of each."""

from dataclasses import dataclass

import numpy as np

from collector.alerts.signal import HealthMeasure
from collector.anomaly.abuse.state import join, split
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.health.errors import ErrorShares, Judgement
from collector.anomaly.health.latency import LatencyLevels
from collector.anomaly.health.sums import CALLER_BOUND, HealthSums, Measure
from collector.anomaly.installation import InstallationBar
from collector.anomaly.slots import Slots

MEASURES = tuple(HealthMeasure)
_CALLERS_FEW = 2  # An endpoint of fewer consumers fails to all where it fails to one.
LATENCY_SECONDS_MIN = 300  # Of a window: a slow minute is a collection of garbage, or a backup.


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One measure of n endpoints in one window. Shares of calls, or microseconds."""

    measure: HealthMeasure
    slots: Slots
    calls: F64
    amounts: F64  # Errors, or the sum over calls of the logarithm of microseconds.
    judgement: Judgement


class HealthWindow:
    """See the module."""

    def __init__(self, window_seconds: int) -> None:
        self.sums = HealthSums(window_seconds)
        self._shares = {
            HealthMeasure.SERVER_ERRORS: ErrorShares(window_seconds),
            HealthMeasure.CLIENT_ERRORS: ErrorShares(window_seconds),
        }
        self._latency = LatencyLevels(window_seconds) if window_seconds >= LATENCY_SECONDS_MIN else None
        self.bars = {measure: InstallationBar() for measure in MEASURES}

    @property
    def has_latency(self) -> bool:
        """Whether these windows are long enough."""
        return self._latency is not None

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self.sums.grow(capacity)
        for part in self._parts().values():
            part.grow(capacity)

    def close(self, window: int, slots: Slots, calls: F64, callers: Slots) -> list[Judged]:
        """Judge, learn and clear the oldest open window; `calls` of `slots`, none of them 0, and how many consumers
        they have."""
        for bar in self.bars.values():
            bar.start(window * self.sums.window_seconds)
        sums = self.sums.read(window, slots)
        judged = self._judge_errors(window, slots, calls, callers, sums)
        if self._latency is not None:
            timed, log_time = sums[Measure.TIMED_CALLS], sums[Measure.LOG_TIME]
            judgement = self._latency.judge(slots, timed, log_time)
            self._latency.learn(slots, timed, log_time)
            judged.append(
                Judged(measure=HealthMeasure.LATENCY, slots=slots, calls=timed, amounts=log_time, judgement=judgement)
            )
        self.sums.close(window, slots)
        return judged

    def _judge_errors(self, window: int, slots: Slots, calls: F64, callers: Slots, sums: F64) -> list[Judged]:
        """Judge and learn errors of the calls that were read."""
        calls = calls - sums[Measure.UNREAD_CALLS]
        was_read = calls > 0
        slots, calls, callers, sums = slots[was_read], calls[was_read], callers[was_read], sums[:, was_read]
        judged = []
        for measure, shares in self._shares.items():
            which = Measure.SERVER_ERRORS if measure is HealthMeasure.SERVER_ERRORS else Measure.CLIENT_ERRORS
            errors, largest, highest, lowest = sums[[which, which + 2, which + 4, which + 6]]
            judgement = shares.judge(slots, window, calls, errors, largest)
            is_shared = highest + lowest > CALLER_BOUND + 1
            if measure is HealthMeasure.SERVER_ERRORS:
                is_shared |= callers < _CALLERS_FEW
            judgement.score[~is_shared] = 0  # One caller's are that caller's doing.
            shares.learn(slots, window, calls, errors)
            judged.append(Judged(measure=measure, slots=slots, calls=calls, amounts=errors, judgement=judgement))
        return judged

    def expect(self, measure: HealthMeasure, slots: Slots, window: int, observed: F64) -> None:
        """Make what was observed usual."""
        if measure is not HealthMeasure.LATENCY:
            self._shares[measure].expect(slots, window, observed)
        elif self._latency is not None:
            self._latency.expect(slots, observed)

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self.sums.forget(slots)
        for part in self._parts().values():
            part.forget(slots)

    def dump(self) -> State:
        """State for a checkpoint."""
        parts = {name: part.dump() for name, part in self._parts().items()}
        bars = {f"bar_{measure}": bar.dump() for measure, bar in self.bars.items()}
        return join({**parts, **bars, "sums": self.sums.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self.sums.load(parts["sums"])
        for name, part in self._parts().items():
            part.load(parts[name])
        for measure, bar in self.bars.items():
            bar.load(parts[f"bar_{measure}"])

    def _parts(self) -> dict[str, ErrorShares | LatencyLevels]:
        parts: dict[str, ErrorShares | LatencyLevels] = {str(measure): part for measure, part in self._shares.items()}
        return parts if self._latency is None else {**parts, "latency": self._latency}


def observe(judged: Judged, which: Slots) -> F64:
    """What endpoints showed in the unit of their expectation; `which` are indexes into the n."""
    mean = judged.amounts[which] / np.maximum(judged.calls[which], 1)
    observed: F64 = np.exp(mean) if judged.measure is HealthMeasure.LATENCY else mean
    return observed

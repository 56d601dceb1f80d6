"""The share of calls that the sensors lost lately: what widens the bands and is printed in an alert."""

import numpy as np

from collector.anomaly.detectors.contract import State

_HALF_LIFE_SECONDS = 30


class LossMeter:
    """Fading sums over about a minute of seen calls and those of them that were lost, all sensors together."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._lost = 0.0
        self._time = 0

    def add(self, time: int, seen_calls: int, lost_calls: int) -> None:
        """Account of one batch; `time` in unix seconds."""
        fade = 0.5 ** (max(0, time - self._time) / _HALF_LIFE_SECONDS)
        self._seen, self._lost = self._seen * fade + seen_calls, self._lost * fade + lost_calls
        self._time = max(self._time, time)

    def ratio(self, time: int) -> float:
        """Lost of all seen, 0..1; an account older than ten minutes says nothing."""
        if self._seen <= 0 or time - self._time > 600:
            return 0.0
        return min(1.0, self._lost / self._seen)

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"sums": np.array([self._seen, self._lost]), "time": np.array([self._time])}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._seen, self._lost = (float(value) for value in state["sums"])
        self._time = int(state["time"][0])

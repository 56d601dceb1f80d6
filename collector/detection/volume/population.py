"""What the consumers of an endpoint have in common: the burst level of peers, and a shift that all of them share.

Both are floors of the expectation of one pair. A newcomer is compared with the endpoint's other consumers. When a
deployment doubles the calls of every consumer of an endpoint, no single pair is unusual. The endpoint is, once.
"""

import numpy as np

from collector.detection.framework.state import F64, DetectorState, Slots, column

PEERS_MIN = 3  # Fewer say nothing.
SHIFT_PEERS_MIN = 5
_SPREAD = 1.5  # Standard deviations of log level over the mean: about the upper tenth of the peers.
_GAIN = 0.2  # Of one window.
_SHIFT_FADE = 0.9  # A shared shift is remembered for about 10 windows.


class Population(DetectorState):
    """Figures by endpoint slot, learnt when a window closes. `offset` is that of the burst detector."""

    peers = column(np.float64)
    _mean = column(np.float64)
    _square = column(np.float64)
    _usual = column(np.float64, 2)  # Mean and square of levels over the season's factor.
    _shift = column(np.float64)

    def __init__(self, offset: float) -> None:
        super().__init__()
        self._offset = offset

    def floor(self, endpoints: Slots, levels: F64, season: F64 | None = None) -> F64:
        """The level that peers make ordinary for pairs of `endpoints` whose own level is `levels`, at a time with these
        factors."""
        common = self._find_common(self._mean.take(endpoints), self._square.take(endpoints))
        if season is not None:
            usual = self._find_common(*self._usual.take(endpoints, axis=1))
            common = np.fmin(common, usual * season)
        common = np.where(self.peers.take(endpoints) >= PEERS_MIN, common, 0.0)
        shifted = (levels + self._offset) * np.exp2(self._shift.take(endpoints)) - self._offset
        floor: F64 = np.maximum(np.maximum(common, shifted), 0.0)
        return floor

    def learn(self, endpoints: Slots, levels: F64, values: F64, expected: F64, usual: F64 | None) -> None:
        """Take the pairs of a closed window, before they are learnt: `levels` (0 = newcomer) and `values`; what was
        `expected` of them at its time, and `usual`, their levels over the season's factor."""
        self.fade()
        is_known = (levels > 0) & (endpoints >= 0)
        if not is_known.any():
            return
        where, height = endpoints[is_known], np.log2(levels[is_known] + self._offset)
        length = len(self.peers)
        count = np.bincount(where, minlength=length)
        touched = count.nonzero()[0]
        mean = np.bincount(where, height, length)[touched] / count[touched]
        square = np.bincount(where, height**2, length)[touched] / count[touched]
        gain = np.where(self.peers[touched] == 0, 1.0, _GAIN)
        if usual is not None:
            common = np.log2(usual[is_known] + self._offset)
            for row, heights in enumerate((common, common**2)):
                here = np.bincount(where, heights, length)[touched] / count[touched]
                self._usual[row, touched] += gain * (here - self._usual[row, touched])
        self._mean[touched] += gain * (mean - self._mean[touched])
        self._square[touched] += gain * (square - self._square[touched])
        self.peers[touched] += gain * (count[touched] - self.peers[touched])
        known = height if expected is levels else np.log2(expected[is_known] + self._offset)
        rise = np.clip(np.log2(values[is_known] + self._offset) - known, -2, 3)
        shift = np.bincount(where, rise, length)[touched] / count[touched]
        shift = np.where(count[touched] >= SHIFT_PEERS_MIN, shift, 0.0)
        self._shift[touched] = np.maximum(self._shift[touched], shift)

    def fade(self) -> None:
        """A window passed: what was shared is a little longer ago."""
        self._shift *= _SHIFT_FADE

    def _find_common(self, mean: F64, square: F64) -> F64:
        common: F64 = np.exp2(mean + _SPREAD * np.sqrt(np.maximum(square - mean**2, 0))) - self._offset
        return common

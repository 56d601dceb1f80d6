"""What each hour of the week differs in from the same hour of all days and of its part of the week: the mean of its
last weeks, as far as the weeks of that day foretold the next one. A day that is like the others, or another each week,
is left to what they have in common: what is learnt of one day a week is noise first."""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow

HOURS = 24
WEEK_DAYS = 7
WEEK_HOURS = WEEK_DAYS * HOURS
_MEMORY_WEEKS = 5
_FORETOLD_KEEP = 0.5 ** (1 / (4 * HOURS))  # Of an hour of a day: four weeks' worth are half.
# Part of a day's hours that its last week foretells of the next where there is nothing but noise.
_CHANCE = 0.25


class WeekProfile:
    """Departures by slot, in the unit of what is learnt. Hours are of the week, from Sunday's first on."""

    def __init__(self) -> None:
        # Half precision: departures are some tens at the most and a thousandth of one says nothing; it is the bulk.
        self._mean: NDArray[np.float16] = np.zeros((WEEK_HOURS, 0), np.float16)
        self._weeks: NDArray[np.float32] = np.zeros((WEEK_DAYS, 0), np.float32)  # How many of each day were seen.
        # Of each day, fading sums over its hours: what was foretold times what came, and what was foretold squared.
        self._foretold: NDArray[np.float32] = np.zeros((2 * WEEK_DAYS, 0), np.float32)
        # The hour that is being summed, so that none foretells itself.
        self._hour: NDArray[np.int16] = np.zeros(0, np.int16)
        self._open: NDArray[np.float32] = np.zeros((2, 0), np.float32)  # Sum and number of its windows.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._mean, self._weeks = grow(self._mean, capacity), grow(self._weeks, capacity)
        self._foretold, self._open = grow(self._foretold, capacity), grow(self._open, capacity)
        self._hour = grow(self._hour, capacity)

    def read(self, slots: Slots, hour: int) -> F64:
        """What is to be added in this hour."""
        day = hour // HOURS
        agreed, squared = self._foretold[day, slots], self._foretold[WEEK_DAYS + day, slots]
        trust = np.clip((agreed / np.maximum(squared, 1e-9) - _CHANCE) / (1 - _CHANCE), 0.0, 1.0)
        departure: F64 = trust * self._mean[hour, slots].astype(np.float64)
        return departure

    def learn(self, slots: Slots, hour: int, departures: F64) -> None:
        """Take one window of `slots`, which are distinct."""
        is_over = self._hour[slots] != hour
        if is_over.any():
            self._close(slots[is_over])
            self._hour[slots] = hour
        self._open[0, slots] += departures
        self._open[1, slots] += 1

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        for part in (self._mean, self._weeks, self._foretold, self._open, self._hour):
            part[..., slots] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {
            "week": self._mean,
            "weeks": self._weeks,
            "week_foretold": self._foretold,
            "week_open": self._open,
            "week_hour": self._hour,
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._mean, self._weeks = state["week"].astype(np.float16), state["weeks"].astype(np.float32)
        self._foretold, self._open = state["week_foretold"].astype(np.float32), state["week_open"].astype(np.float32)
        self._hour = state["week_hour"].astype(np.int16)

    def turn(self, hours: int) -> None:
        """The clocks show so many hours more than when this was learnt."""
        self._mean = np.roll(self._mean, hours, axis=0)
        self._hour = (self._hour + hours) % WEEK_HOURS

    def _close(self, slots: Slots) -> None:
        """The hours that were summed are over."""
        slots = slots[self._open[1, slots] > 0]
        hours = self._hour[slots]
        days = hours // HOURS
        came = self._open[0, slots] / self._open[1, slots]
        before = self._mean[hours, slots].astype(np.float32)
        for rows, value in ((days, came), (WEEK_DAYS + days, before)):
            self._foretold[rows, slots] = self._foretold[rows, slots] * _FORETOLD_KEEP + value * before
        seen = np.minimum(np.floor(self._weeks[days, slots] + 0.01), _MEMORY_WEEKS)  # Sums of hours fall short of days.
        self._mean[hours, slots] = before + (came - before) / (seen + 1)
        self._weeks[days, slots] += 1 / HOURS
        self._open[:, slots] = 0

"""Jumps of time: what the detectors knew before one is kept, and taken up again where the clocks were wrong.

No row counts that begins later than some seconds after the collector received it, so what was judged last lies in the
future only where the collector's own clock did, which stamps each batch of the log. Once batches show for a while a
time behind what was judged, a jump was no time that passed where that time lies within it (after its start, before
where it landed), or where the clock went back by as much. All of the detectors' state hangs on times, so nothing of it
is turned back: the state of before is taken up, as after a pause without calls, and what was learnt since is given up.

Pure: who asks keeps the states, by the names of their jumps (collector/anomaly/process.py).
"""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from collector.anomaly.detectors.contract import State

JUMP_SECONDS = 600  # Shorter ones are waited for: so long nothing is judged at most.
BEHIND_SECONDS = 300  # Batches that are further behind what was judged show another time.
SETTLED_SECONDS = 120  # So long, for a clock may be wrong for a moment.
KEPT_SECONDS = 7 * 86_400  # After a jump, in time that was judged.
FIRST_KEPT_SECONDS = 86_400  # The same of the first rows: whoever starts with another time would learn anew.
WORTH = 10  # Times the time that nothing would be judged may be given up of what was learnt.
KEPT_MAX = 3  # A pause in the calls is a jump too; the shortest goes first.


class Lost(Enum):
    """The time is behind what was judged and within no jump that is kept."""

    LOST = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """Unix seconds: the newest row before it and the first one after it."""

    left: int  # 0: there was none.
    landed: int

    @property
    def name(self) -> str:
        """Of the state of before."""
        return f"before-{self.left}-{self.landed}"

    def explains(self, time: int, newest: int, back: int) -> bool:
        """Whether undoing it explains the `time` it is now, `back` seconds behind the `newest` that was judged."""
        since, span = newest - self.landed, self.landed - self.left
        if self.left > time or since > (KEPT_SECONDS if self.left else FIRST_KEPT_SECONDS):
            return False
        return time < self.landed or (abs(back - span) <= BEHIND_SECONDS and since <= WORTH * span)


class Jumps:
    """Those that are kept, in the order of time."""

    def __init__(self) -> None:
        self.kept: tuple[Jump, ...] = ()
        self._behind_since = 0  # When the first batch was received that is behind; 0: the last one was not.
        self._is_settled = False

    def note(self, jump: Jump) -> None:
        """Time is about to jump, by JUMP_SECONDS or more."""
        kept = [one for one in self.kept if jump.left - one.landed <= KEPT_SECONDS]
        if len(kept) == KEPT_MAX:
            kept.remove(min(kept, key=lambda one: one.landed - one.left))
        self.kept = (*kept, jump)

    def look(self, received_at: int, newest: int) -> Jump | Lost | None:
        """At the next batches: the jump that is to be undone, LOST once where there is none, and None where nothing is
        to be done. `newest`: what was judged last."""
        if newest - received_at <= BEHIND_SECONDS:
            self._behind_since, self._is_settled = 0, False
            return None
        if not 0 < self._behind_since <= received_at:
            self._behind_since, self._is_settled = received_at, False
        if self._is_settled or received_at - self._behind_since < SETTLED_SECONDS:
            return None
        self._is_settled = True
        back = newest - self._behind_since
        return next((jump for jump in reversed(self.kept) if jump.explains(received_at, newest, back)), Lost.LOST)

    def undo(self, jump: Jump) -> None:
        """The state of before it was taken up."""
        self.kept = self.kept[: self.kept.index(jump)]
        self._behind_since, self._is_settled = 0, False

    def dump(self) -> State:
        """State for a checkpoint."""
        kept = [(jump.left, jump.landed) for jump in self.kept]
        return {
            "kept": np.array(kept, np.int64).reshape(-1, 2),
            "behind": np.array([self._behind_since, self._is_settled], np.int64),
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self.kept = tuple(Jump(left=left, landed=landed) for left, landed in state["kept"].tolist())
        behind_since, is_settled = state["behind"].tolist()
        self._behind_since, self._is_settled = behind_since, bool(is_settled)

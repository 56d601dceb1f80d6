"""The contract of all detectors: what the engine asks of each, in the order of its list.

A detector is one class. Its docstring has the formula, its body names what it learned (`column`, `number`), and its
`feed` or `close` computes the formula and returns signals. What it keeps by slot follows the table of its subjects.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

from collector.alerting.alert import AlertKind, Signal
from collector.detection.framework.rows import Events
from collector.detection.framework.state import F64, DetectorState, Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedWindow:
    """Calls of one kind of subject in a window that has closed."""

    kind: AlertKind  # Of the detector of volume that kept it.
    seconds: int
    window: int  # Start // seconds.
    is_first: bool  # Of the installation: it is only a part of one.
    slots: Slots
    calls: F64
    expected: F64  # Calls; empty where none were expected of all.
    signals: Sequence[Signal]  # About its volume.

    @property
    def start(self) -> int:
        """Unix seconds."""
        return self.window * self.seconds


class Detector(DetectorState):
    """One detector. What it does not override does nothing."""

    name: ClassVar[str]  # Of its state in a checkpoint.
    kinds: ClassVar[Set[AlertKind]] = frozenset()  # That it reports.

    def feed(self, events: Events) -> Sequence[Signal]:
        """Take the rows of one batch."""
        return ()

    def close(self, closed: ClosedWindow) -> Sequence[Signal]:
        """Take a window of calls that has closed."""
        return ()

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, calls_per_second: float) -> bool:
        """A person says that what an alert of one of `kinds` reported is normal. False where its subject is unknown."""
        return False

    def change_routes(self, endpoints: Slots) -> None:
        """These endpoints have more or fewer routes than before."""

    def resume(self, time: int) -> None:
        """Go on at `time` (unix seconds) after one of which nothing is known."""

    def turn_clock(self, hours: int) -> None:
        """The clocks show so many hours more than when this was learned: another time zone was set."""

    @property
    def held_back_count(self) -> int:
        """Values past a threshold that the normal level of sensitivity does not report."""
        return 0

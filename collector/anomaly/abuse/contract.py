"""What every abuse detector is: rows in, findings out, one kind of evidence each.

`take` counts the rows of one batch and gives what is to be told because of them; it is deterministic, and its cost is
arrays' except for what it tells. All state is arrays by slot of tables that are bounded.
"""

from dataclasses import dataclass
from typing import Protocol

from collector.alerts.alert import AlertKind
from collector.alerts.signal import Basis
from collector.anomaly.abuse.events import Events
from collector.anomaly.detectors.contract import State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.subjects import SubjectName
from collector.sensitivity import Sensitivity


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One subject that did too much of something."""

    kind: AlertKind
    subject: SubjectName
    count: float  # Of what the kind counts (docs/detection.md), within the horizon, older ones weighing less.
    ceiling: float
    seconds: int  # The horizon.
    basis: Basis
    calls: float  # Of the rows at hand.
    is_internal: bool
    is_notice: bool  # Nothing to accuse anybody of.
    sources: tuple[str, ...] = ()  # Addresses that took part, where they are many.
    detail: str = ""  # What was counted, by class.
    confirmation: str = ""  # How a response says that it worked, a clause.
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is told.
    walk: str = ""  # That its objects came in order, a clause.


class AbuseDetector(Protocol):
    """One of them."""

    name: str  # Of its state in a checkpoint.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """Count and judge; `time` is the newest row's, unix seconds."""
        ...

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """A person says that this is ordinary; False where it is not this detector's or not known."""
        ...

    def project(self, roster: Roster, time: int) -> None:
        """The installation's first hour is over: what went on in it steadily is ordinary."""
        ...

    def dump(self) -> State:
        """State for a checkpoint."""
        ...

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        ...

"""How much an installation wants to be told: quiet, normal or paranoid, each with a budget for all detectors together.

A report has the quietest level at which it is told (`Report.quietest`). The detectors mark what they find with all
three levels in mind, so that a change of the level needs no learning anew, and what another level would have told is
known.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Sensitivity(StrEnum):
    """Quietest first."""

    QUIET = "quiet"
    NORMAL = "normal"
    PARANOID = "paranoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a level tells."""

    alerts_a_day: float  # Below high severity, of all detectors together: at most so many are opened.
    episodes_a_day: float  # Of one volume detector that may pass the installation's bar.


PLANS: Final = {
    Sensitivity.QUIET: Plan(alerts_a_day=0.3, episodes_a_day=0.015),
    Sensitivity.NORMAL: Plan(alerts_a_day=2.0, episodes_a_day=0.1),
    Sensitivity.PARANOID: Plan(alerts_a_day=30.0, episodes_a_day=1.5),
}
LEVELS: Final = tuple(Sensitivity)
RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)}


def is_told(quietest: Sensitivity, level: Sensitivity) -> bool:
    """Whether something that is told from `quietest` on is told at `level`."""
    return RANKS[quietest] <= RANKS[level]


def louder(left: Sensitivity, right: Sensitivity) -> Sensitivity:
    """The louder of two levels."""
    return max(left, right, key=RANKS.__getitem__)

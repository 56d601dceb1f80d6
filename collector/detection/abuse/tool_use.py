"""Detects agents that are stuck or led astray, by what they do with the tools of MCP servers.

- **Loops** (OWASP LLM10:2025): calls in a row that repeat the last ones, tool and arguments, less those at a steady
  pace, as a program polls a status.
- **Fan-out** (LLM06:2025): tools that a caller uses for the first time within 5 minutes.

Sensors count both (sensor/describe/schemas/agents.py) and report numbers. A number is compared with a floor, with what
several callers of the server were reported for (collector/detection/abuse/numbers.py), and with OWN_TIMES the caller's
largest of a day before: what a caller does each day is its work. A day counts at most twice its limit. No history is
needed: an agent that is stuck is so on its first day.
"""

from typing import Final

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.detector import Rarity
from collector.detection.abuse.numbers import NumberDetector, NumberLimit
from collector.detection.framework.loss import Losses
from collector.detection.framework.state import DetectorState, column
from collector.detection.framework.subject_index import SubjectIndex
from collector.inventory.endpoints.bodies import NEW_TOOLS, TOOL_REPEATS

OWN_TIMES: Final = 1.5
_DAY_SECONDS: Final = 86_400


class _Own(DetectorState):
    """By caller and endpoint: the largest numbers of a day, which one it is, and those of days before."""

    largest = column(np.int64, "limits")
    day = column(np.int64, "limits")
    before = column(np.int64, "limits")


class ToolUseDetector(NumberDetector):
    """Repeats, and new tools."""

    name = "abuse.tool_use"
    kinds = frozenset({AlertKind.TOOL_LOOP, AlertKind.TOOL_FAN_OUT})
    parts = (*NumberDetector.parts, "_own")
    needs_history = False
    is_growing = True
    # Frameworks for agents stop a run after 3 to 30 repeats. An agent at work uses some ten tools of a server.
    limits = (
        NumberLimit(
            kind=AlertKind.TOOL_LOOP, place=TOOL_REPEATS, words="same tool, same arguments", floor=20, known_floor=20
        ),
        NumberLimit(
            kind=AlertKind.TOOL_FAN_OUT, place=NEW_TOOLS, words="within 5 minutes", floor=15, known_floor=15
        ),
    )  # fmt: skip

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._own = _Own(limits=len(self.limits))
        subjects.pairs.follow(self._own)

    def find_own(self, which: int, pair: int, time: int) -> int:
        self._turn_day(which, pair, time)
        return round(OWN_TIMES * int(self._own.before[which, pair]))

    def learn_own(self, which: int, number: int, pair: int, time: int) -> None:
        self._turn_day(which, pair, time)
        self._own.largest[which, pair] = max(int(self._own.largest[which, pair]), number)

    def _turn_day(self, which: int, pair: int, time: int) -> None:
        own, day = self._own, time // _DAY_SECONDS
        if own.day[which, pair] < day:
            own.before[which, pair] = max(int(own.before[which, pair]), int(own.largest[which, pair]))
            own.largest[which, pair], own.day[which, pair] = 0, day

"""Whether a block leaves enough of the node's traffic alone, also while a sensor that has just begun has seen little.

A block that was in force before the start was measured then. Others wait for calls to be measured by, `SETTLE_SECONDS`
at most; on a node so idle that there are none by then they begin unmeasured, and are measured as calls come: what is
stopped counts as calls that would have been made.
"""

from collections.abc import Callable, Iterable
from typing import Final

from sensor.clock import Clock
from sensor.enforce.block import Block
from sensor.enforce.history import CALLS_LEAST
from sensor.enforce.known import KnownBlocks
from sensor.enforce.limits import EnforceLimits, find_reason
from sensor.enforce.parts import ShareMeter
from sensor.enforce.tables import Held

SETTLE_SECONDS: Final = 5.0


class ShareJudge:
    """Of one sensor. `count_stopped` gives the connections that a block has stopped."""

    def __init__(
        self,
        *,
        limits: EnforceLimits,
        clock: Clock,
        history: ShareMeter,
        known: KnownBlocks,
        count_stopped: Callable[[Held], int],
    ) -> None:
        self._limits, self._clock, self._history, self._known = limits, clock, history, known
        self._count_stopped = count_stopped
        self._began_ns = clock.monotonic_ns()

    def begin(self) -> None:
        """Calls are seen from now on."""
        self._began_ns = self._clock.monotonic_ns()

    def admit(self, block: Block, others: Iterable[Block]) -> tuple[str, bool]:
        """Why a block does not begin (empty where it does), and whether it was measured."""
        is_known = self._known.is_known(block)
        if is_known or self._history.calls < CALLS_LEAST:
            reason = find_reason(block, self._limits, share=0.0)
            waited_ns = self._clock.monotonic_ns() - self._began_ns
            if reason or is_known or waited_ns >= SETTLE_SECONDS * 1e9:
                return reason, is_known
            return f"this sensor has seen {self._history.calls} calls since its start, too few to know its share", False
        return find_reason(block, self._limits, share=self._history.measure_share([block, *others])), True

    def check(self, held: Held) -> str:
        """Why a block that began unmeasured ends; empty where it goes on, measured once enough is known."""
        if held.is_measured:
            return ""
        stopped, calls = self._count_stopped(held), self._history.calls
        if stopped + calls < CALLS_LEAST:
            return ""
        held.is_measured = True
        share = stopped / (stopped + calls)
        if share <= self._limits.share_max:
            return ""
        return (
            f"it was blocked while this node was idle, and made {share:.0%} of what came since; this sensor's limit "
            f"is {self._limits.share_max:.0%}"
        )

"""What sensors tell of the blocks they hold: who enforces, who does not and why, and what was stopped so far.

A sensor counts from when it took a block up: after its restart, or a turn of its switch, from 0 again. What it counted
before stays. One that is not heard any more enforces nothing, or soon will not (docs/response.md). Not thread-safe.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from collector.ingest.blocks import BlockStatus, EnforcementReport

NODES_MAX: Final = 20_000  # The one not heard for longest goes.
# A sensor reports every 5 s.
SILENT_SECONDS: Final = 60.0
GONE_SECONDS: Final = 3_600.0  # Of a node that is not listed any more.
SILENT_REASON: Final = "its sensor has not been heard for over a minute"
NOT_HELD_REASON: Final = "its sensor does not hold it"
_NOTHING: Final = EnforcementReport(epoch=0, is_enabled=False, reason="", blocks=())
_COUNTS: Final = ("stopped_connections", "stopped_bytes", "failed_resets", "spared_requests")


@dataclass(slots=True, kw_only=True)
class _Counted:
    """One block at one node: what its last report says, and the sum of what was counted before it began anew."""

    last: BlockStatus
    before: tuple[int, ...] = (0,) * len(_COUNTS)
    first_stop_at: float = 0.0
    is_told: bool = True  # In the node's last report.

    def take(self, status: BlockStatus) -> None:
        counts = [getattr(self.last, name) for name in _COUNTS]
        if any(getattr(status, name) < count for name, count in zip(_COUNTS, counts, strict=True)):
            self.before = tuple(map(sum, zip(self.before, counts, strict=True)))
        self.last, self.is_told = status, True
        self.first_stop_at = self.first_stop_at or status.first_stop_at

    @property
    def status(self) -> BlockStatus:
        """All of it."""
        counts = {name: before + getattr(self.last, name) for name, before in zip(_COUNTS, self.before, strict=True)}
        return replace(self.last, **counts, first_stop_at=self.first_stop_at)


class Reports:
    """The last ones of all nodes. `monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._nodes: dict[str, tuple[EnforcementReport, float]] = {}  # And when it came; the longest silent first.
        self._blocks: dict[str, dict[str, _Counted]] = {}  # By block, then node.

    def take(self, node: str, report: EnforcementReport, is_live: Callable[[str], bool]) -> list[BlockStatus]:
        """A report; of blocks that are not live nothing is kept. Gives what the node declines since this report."""
        before, _ = self._nodes.pop(node, (_NOTHING, 0.0))
        if len(self._nodes) >= NODES_MAX:
            del self._nodes[next(iter(self._nodes))]
        self._nodes[node] = (report, self._monotonic())
        for status in before.blocks:
            if counted := self._blocks.get(status.id, {}).get(node):
                counted.is_told = False
        for status in report.blocks:
            if is_live(status.id):
                nodes = self._blocks.setdefault(status.id, {})
                nodes.setdefault(node, _Counted(last=status)).take(status)
        declined = {status.id for status in before.blocks if not status.is_enforced}
        return [status for status in report.blocks if not status.is_enforced and status.id not in declined]

    def forget(self, block_id: str) -> None:
        """The block is over."""
        self._blocks.pop(block_id, None)

    def list_statuses(self, block_id: str) -> list[tuple[str, BlockStatus]]:
        """What each node that was told of a block makes of it."""
        found = []
        for node, counted in self._blocks.get(block_id, {}).items():
            status = counted.status
            if self._is_silent(node):
                status = replace(status, is_enforced=False, reason=SILENT_REASON)
            elif not counted.is_told:
                status = replace(status, is_enforced=False, reason=NOT_HELD_REASON)
            found.append((node, status))
        return found

    def list_nodes(self) -> list[tuple[str, EnforcementReport]]:
        """What each node enforces at all."""
        now = self._monotonic()
        return sorted(
            (node, replace(report, is_enabled=False, reason=SILENT_REASON) if self._is_silent(node) else report)
            for node, (report, heard) in self._nodes.items()
            if now - heard < GONE_SECONDS
        )

    def _is_silent(self, node: str) -> bool:
        return node not in self._nodes or self._monotonic() - self._nodes[node][1] >= SILENT_SECONDS

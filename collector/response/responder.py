"""The responder: the one place where blocks are proposed, begun, lifted and sent to sensors. Thread-safe.

People come by the API, alerts by `take_alert`, sensors' reports by `take_report`, and time by `tick`. Each change is in
the store of blocks and in the audit log before sensors get it (`on_change`, which must not block).

`Reports` has what sensors report of the blocks they hold: who enforces, who does not and why, and what was stopped. A
sensor counts from when it took a block, and from 0 again after a restart or a change of its switch. Earlier counts are
kept. A sensor that is not heard any more enforces nothing, or soon will not (docs/use/response.md). Not thread-safe.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence
from collector.core.budget import StoppedError
from collector.core.errors import ConflictError, UnknownError
from collector.receiver.policy import BlockOrder, BlockStatus, EnforcementReport
from collector.response.block import Block, BlockError, BlockState, BlockTarget, UnknownClientError, parse_target
from collector.response.block_factory import AUTOMATIC, BlockFactory, BlockRequest
from collector.response.block_store import AuditEntry, AuditLog, BlockStore
from collector.response.ladder import ANY_ENDPOINT, YOUNG_SECONDS, Ladder, LadderStep, Rung
from collector.response.preview import BlockPreview, Previewer
from common.bounded import BoundedDict
from common.networks import NetworkLimits

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
    is_reported: bool = True  # In the node's last report.

    def take(self, status: BlockStatus) -> None:
        counts = [getattr(self.last, name) for name in _COUNTS]
        if any(getattr(status, name) < count for name, count in zip(_COUNTS, counts, strict=True)):
            self.before = tuple(map(sum, zip(self.before, counts, strict=True)))
        self.last, self.is_reported = status, True
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
        # And when it came; the longest silent first.
        self._nodes: BoundedDict[str, tuple[EnforcementReport, float]] = BoundedDict(NODES_MAX)
        self._blocks: dict[str, dict[str, _Counted]] = {}  # By block, then node.

    def take(self, node: str, report: EnforcementReport, is_live: Callable[[str], bool]) -> list[BlockStatus]:
        """A report; of blocks that are not live nothing is kept. Gives what the node declines since this report."""
        before, _ = self._nodes.get(node, (_NOTHING, 0.0))
        self._nodes.renew(node, (report, self._monotonic()))
        for status in before.blocks:
            if counted := self._blocks.get(status.id, {}).get(node):
                counted.is_reported = False
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
        """What each node that got a block makes of it."""
        found = []
        for node, counted in self._blocks.get(block_id, {}).items():
            status = counted.status
            if self._is_silent(node):
                status = replace(status, is_enforced=False, reason=SILENT_REASON)
            elif not counted.is_reported:
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


logger = logging.getLogger(__name__)


STEP_SECONDS: Final = 1.0  # By which a clock is moved, not slewed.


def read_seconds() -> float:
    """That pass while the host sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasing:
    """Who wants a consumer erased, and why."""

    by: str
    reason: str = ""
    lifts_blocks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was erased of blocks and their audit."""

    blocks: int
    audit_lines: int


class Responder:
    """Decides on blocks and keeps them. `requires_second_approval`: no block begins without a second person."""

    def __init__(
        self,
        *,
        store: BlockStore,
        audit: AuditLog,
        ladder: Ladder,
        previewer: Previewer,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = read_seconds,
        limits: NetworkLimits,
        requires_second_approval: bool = False,
    ) -> None:
        self._store = store
        self._audit = audit
        self.ladder = ladder
        self._previewer = previewer
        self._factory = BlockFactory(
            previewer=previewer,
            clock=clock,
            limits=limits,
            requires_second_approval=requires_second_approval,
        )
        self._clock = clock
        self.requires_second_approval = requires_second_approval
        self._lock = threading.RLock()
        self._reports = Reports(monotonic)
        self._monotonic = monotonic
        self._offset = clock() - monotonic()
        self._listeners: list[Callable[[], None]] = []
        self._followers: list[Callable[[str, Block], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called after each change of what is live, in the thread of the change."""
        self._listeners.append(listener)

    def on_decision(self, follower: Callable[[str, Block], None]) -> None:
        """Called with each decision of a block (the action of its audit entry); it must not block."""
        self._followers.append(follower)

    # What is

    def list_blocks(self) -> list[Block]:
        """All blocks, the newest first."""
        with self._lock:
            return self._store.list_blocks()

    def find(self, block_id: str) -> Block | None:
        """One block."""
        with self._lock:
            return self._store.find(block_id)

    def orders(self) -> tuple[BlockOrder, ...]:
        """What sensors are to stop now."""
        with self._lock:
            return tuple(block.order for block in self._store.list_live())

    def find_reason(self, consumer: str, alert_id: str) -> str:
        """Why somebody is proposed to be blocked, by the alert or by who it is; empty where that is not so."""
        for block in self.list_blocks():
            is_meant = block.alert_id == alert_id if alert_id else block.target.consumer == consumer
            if block.state is BlockState.PROPOSED and is_meant:
                return block.reason
        return ""

    def list_statuses(self, block_id: str) -> list[tuple[str, BlockStatus]]:
        """What each node makes of a live block."""
        with self._lock:
            return self._reports.list_statuses(block_id)

    def list_nodes(self) -> list[tuple[str, EnforcementReport]]:
        """What each node enforces at all."""
        with self._lock:
            return self._reports.list_nodes()

    def list_audit(self, limit: int) -> list[AuditEntry]:
        """The newest entries first."""
        return self._audit.list_recent(limit)

    # What people do

    def preview(self, consumer: str, clusters: tuple[str, ...] = ()) -> BlockPreview:
        """Whom a block would have hit, in these clusters; none: in all. Raises BlockError, StoreError."""
        return self._previewer.preview(parse_target(consumer), clusters, self._clock())

    def find_home(self, consumer: str) -> tuple[str, ...]:
        """The clusters to think of first where somebody is to be blocked; none: all. Raises BlockError, StoreError."""
        try:
            return self._factory.find_home(parse_target(consumer))
        except UnknownClientError:
            return ()

    def list_clusters(self) -> tuple[str, ...]:
        """Those that a block can name. Raises StoreError."""
        return self._previewer.list_clusters(self._clock())

    def block(self, request: BlockRequest) -> Block:
        """Begins a block, or proposes it where a second person is needed. Raises BlockError with what is wrong, or
        what is to be confirmed first; ConflictError where there is such a block; StoreError, OSError."""
        with self._lock:
            open_blocks = self._store.list_open()
        block = self._factory.make(request, open_blocks)  # Without the lock: it asks the store.
        with self._lock:
            if self.requires_second_approval:
                return self._propose(block)
            begun = self._begin(block, request.by, "")
            proposed = [one for one in self._store.list_open() if one.state is BlockState.PROPOSED]
            self._end([one for one in proposed if one.target == block.target], BlockState.REJECTED, request.by)
        return begun

    def approve(self, block_id: str, *, by: str, is_second_person: bool) -> Block:
        """Begins what was proposed. Raises BlockError, ConflictError, UnknownError, StoreError, OSError."""
        with self._lock:
            block = self._take(block_id, BlockState.PROPOSED)
        if self.requires_second_approval and not is_second_person:
            raise BlockError("Two people are needed: send the approval token as the header Apidae-Approval.")
        if block.proposed_by == AUTOMATIC:
            block = self._factory.complete(block)  # Without the lock: it asks the store.
        with self._lock:
            self._take(block_id, BlockState.PROPOSED)
            return self._begin(block, by, "approved", is_new=False)

    def reject(self, block_id: str, *, by: str) -> Block:
        """Ends what was proposed. Raises ConflictError, UnknownError, OSError."""
        with self._lock:
            return self._end([self._take(block_id, BlockState.PROPOSED)], BlockState.REJECTED, by)[0]

    def lift(self, block_id: str, *, by: str) -> Block:
        """Ends what is live. Raises ConflictError, UnknownError, OSError."""
        with self._lock:
            return self._end([self._take(block_id, BlockState.LIVE)], BlockState.LIFTED, by)[0]

    def lift_all(self, *, by: str) -> int:
        """Ends everything that is live, in one change; how many there were. Raises OSError."""
        with self._lock:
            live = self._store.list_live()
            self._end(live, BlockState.LIFTED, by, lambda block: "all were lifted")
            return len(live)

    def erase(self, consumer: str, pattern: re.Pattern[str], credentials: Collection[int], request: Erasing) -> Erasure:
        """Forgets a consumer: its blocks go, and its name from the audit log, which says that somebody was erased.
        Raises ConflictError where it is blocked now and `request` does not lift that; OSError."""
        with self._lock:
            own = [block for block in self._store.list_open() if pattern.fullmatch(block.target.consumer)]
            live = [block for block in own if block.state is BlockState.LIVE]
            if live and not request.lifts_blocks:
                raise ConflictError(f"{consumer} is blocked now; lift the block first, or have the erasure lift it.")
            self._end(live, BlockState.LIFTED, request.by)
            self._end([block for block in own if block not in live], BlockState.REJECTED, request.by)
            blocks = self._store.erase(pattern, credentials)
            self._report_change()
            lines = self._audit.erase(pattern)
            kind = consumer.partition(":")[0]
            self._log(request.by, "erased", f"{kind}:erased", pattern.sub("erased", request.reason))
        return Erasure(blocks=blocks, audit_lines=lines)

    def put_rung(self, rung: Rung) -> None:
        """A person's decision on how far a kind of alert may go. Raises OSError."""
        with self._lock:
            self.ladder.put(rung)
            self._log(rung.set_by, "ladder", rung.kind.value, f"{rung.step} for {rung.seconds} s")

    def move_rung(self, kind: AlertKind, *, step: LadderStep, seconds: int | None, by: str) -> None:
        """The same of a step alone: what else was decided of this kind stays. Raises OSError."""
        with self._lock:
            before = self.ladder.find(kind)
            kept = before.seconds if seconds is None else seconds
            self.put_rung(replace(before, step=step, seconds=kept, set_by=by))

    # What happens by itself

    def take_alert(self, alert: Alert) -> bool:
        """An alert was raised or changed: proposes or begins what its rung says. False where it is to be taken again: a
        block was to begin and its client's calls are not stored yet, or its rung was moved meanwhile. Never raises."""
        rung = self.ladder.find(alert.kind)
        if (
            rung.step not in (LadderStep.PROPOSE, LadderStep.ENFORCE)
            or alert.state is not AlertState.OPEN
            or not alert.consumer
        ):
            return True
        if alert.observed_rate < alert.expected_rate:
            return True  # Who fell silent is not to be stopped.
        try:
            return self._answer(alert, rung)
        except UnknownClientError:
            return False
        except StoppedError:
            return True  # The process ends.
        except (BlockError, ConflictError) as error:
            logger.info("Nothing is proposed for alert %s: %s", alert.id, error)
        except Exception:
            # A loop boundary: notifiers get the alert in any case.
            logger.exception("proposing a block for alert %s failed", alert.id)
        return True

    def _answer(self, alert: Alert, rung: Rung) -> bool:
        """False where the rung was moved while the store was asked."""
        request = BlockRequest(
            consumer=alert.consumer, seconds=rung.seconds, reason=alert.why, alert_id=alert.id, by=AUTOMATIC
        )
        with self._lock:
            if self._has_block(alert):
                return True
            proposal = self._factory.propose(request, self._store.list_open())
        block: Block | None = None
        is_enforced = rung.step is LadderStep.ENFORCE and not self.requires_second_approval
        if is_enforced and not self._leaves_to_person(proposal.target, alert, rung):
            block = self._factory.complete(proposal)
        with self._lock:
            if self.ladder.find(alert.kind) != rung:
                return False
            if self._has_block(alert):
                return True
            if block is None or block.is_confirmed:  # Where others would be hit, a person looks at the preview.
                self._propose(proposal)
            else:
                self._begin(block, AUTOMATIC, f"the ladder stands at enforce for {alert.kind}, by {rung.set_by}")
        return True

    def _has_block(self, alert: Alert) -> bool:
        with self._lock:
            return any(block.alert_id == alert.id for block in self._store.list_blocks())

    def _leaves_to_person(self, target: BlockTarget, alert: Alert, rung: Rung) -> bool:
        if alert.confidence is Confidence.LOW:
            return True  # A notice accuses nobody.
        if ANY_ENDPOINT in rung.endpoints or (alert.endpoint_id and alert.endpoint_id in rung.endpoints):
            return False
        first = self._previewer.find_first_seen(target)
        return not first or self._clock() - first < YOUNG_SECONDS

    def tick(self) -> None:
        """Once a second: what is over ends. Raises OSError."""
        with self._lock:
            now = self._clock()
            self._follow_clock(now)
            over = [block for block in self._store.list_live() if block.expires_at <= now]
            self._end(over, BlockState.EXPIRED, AUTOMATIC, lambda block: f"after {block.seconds} s")

    def _follow_clock(self, now: float) -> None:
        """A block lasts as long as it was to, also where the clock is moved meanwhile: its times move along. One that
        began by a clock that was ahead, and put back while nobody looked, begins anew."""
        offset = now - self._monotonic()
        step = offset - self._offset
        live = self._store.list_live()
        moved = [block.move(step) for block in live] if abs(step) >= STEP_SECONDS else []
        moved += [block.move(now - block.began_at) for block in moved or live if block.began_at > now + STEP_SECONDS]
        if moved:
            self._store.put(*moved)
            self._report_change()
        self._offset = offset

    def take_report(self, node: str, report: EnforcementReport) -> None:
        """What a sensor makes of its blocks; what it declines is in the audit log once."""
        with self._lock:
            for status in self._reports.take(node, report, self._is_live):
                block = self._store.find(status.id)
                if block is not None and report.is_enabled:
                    self._note(f"sensor {node}", "declined", block, status.reason)

    def _is_live(self, block_id: str) -> bool:
        block = self._store.find(block_id)
        return block is not None and block.state is BlockState.LIVE

    # Steps

    def _take(self, block_id: str, state: BlockState) -> Block:
        block = self._store.find(block_id)
        if block is None:
            raise UnknownError(f"There is no block {block_id[:80]!r}; look it up in /api/v1/blocks.")
        if block.state is not state:
            raise ConflictError(f"Block {block_id} is {block.state}, not {state}.")
        return block

    def _propose(self, block: Block) -> Block:
        with self._lock:
            self._factory.check_open(block, self._store.list_open())
            self._save([(block, block.reason)], block.proposed_by, "proposed")
        return block

    def _begin(self, block: Block, by: str, why: str, *, is_new: bool = True) -> Block:
        """`is_new`: it is not stored yet."""
        with self._lock:
            if is_new:
                self._factory.check_open(block, self._store.list_open())
            now = self._clock()
            self._follow_clock(now)  # Those before are moved, not this one.
            begun = block.begin(by, now)
            self._save([(begun, why or block.reason)], by, "began")
        return begun

    def _end(
        self, blocks: Sequence[Block], state: BlockState, by: str, write_why: Callable[[Block], str] = lambda block: ""
    ) -> list[Block]:
        """In one change. What they stopped stays with them; sensors report no more of it."""
        ended: list[tuple[Block, str]] = []
        now = self._clock()
        for block in blocks:
            over, why = block.end(state, by, now), ""
            if block.state is BlockState.LIVE:
                statuses = [status for _, status in self._reports.list_statuses(block.id)]
                over = replace(
                    over,
                    stopped_connections=sum(status.stopped_connections for status in statuses),
                    stopped_bytes=sum(status.stopped_bytes for status in statuses),
                )
                stopped = f"{over.stopped_connections} connections were stopped on {len(statuses)} nodes"
                why = "; ".join(filter(None, (write_why(block), stopped)))
            ended.append((over, why))
        if ended:
            self._save(ended, by, state.value)
        for block, _ in ended:
            self._reports.forget(block.id)
        return [block for block, _ in ended]

    def _save(self, changed: Sequence[tuple[Block, str]], by: str, action: str) -> None:
        """Blocks and why they changed: stored first, then sent to sensors where they begin or end, then logged."""
        self._store.put(*(block for block, _ in changed))
        if any(block.began_at for block, _ in changed):
            self._report_change()
        for block, why in changed:
            self._note(by, action, block, why)

    def _report_change(self) -> None:
        for listener in self._listeners:
            listener()

    def _log(self, by: str, action: str, target: str, why: str, block_id: str = "") -> None:
        time = self._clock()
        self._audit.add(AuditEntry(time=time, by=by, action=action, block_id=block_id, target=target, why=why))

    def _note(self, by: str, action: str, block: Block, why: str) -> None:
        self._log(by, action, block.target.consumer, why, block.id)
        for follower in self._followers:
            follower(action, block)

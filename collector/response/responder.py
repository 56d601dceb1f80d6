"""The responder: the one place where blocks are proposed, begun, lifted and sent to sensors. Thread-safe.

People come by the API, alerts by `take_alert`, sensors' reports by `take_report`, and time by `tick`. Each change is in
the store of blocks and in the audit log before sensors get it (`on_change`, which must not block). Once a second blocks
follow who holds which address (collector/response/holders.py).

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
from ipaddress import ip_network
from typing import Final

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence
from collector.core.budget import StoppedError
from collector.core.errors import ConflictError, UnknownError
from collector.core.feature import Feature, Job, Role
from collector.receiver.policy import BlockKind, BlockOrder, BlockStatus, EnforcementReport
from collector.response.block import (
    PART_MARK,
    Block,
    BlockError,
    BlockState,
    BlockTarget,
    UnknownClientError,
    parse_target,
)
from collector.response.block_factory import AUTOMATIC, BlockFactory, BlockRequest
from collector.response.block_store import AuditEntry, AuditLog, BlockStore
from collector.response.holders import Holders
from collector.response.ladder import ANY_ENDPOINT, YOUNG_SECONDS, Ladder, LadderStep, Rung
from collector.response.preview import BlockPreview, Previewer
from common.bounded import BoundedDict
from common.networks import NetworkLimits, explain_limit, find_within

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
        # By block, then node, then the id that sensors got: one for each address of a workload.
        self._blocks: dict[str, dict[str, dict[str, _Counted]]] = {}

    def take(self, node: str, report: EnforcementReport, is_live: Callable[[str], bool]) -> list[BlockStatus]:
        """A report; of blocks that are not live nothing is kept. Gives what the node declines since this report."""
        before, _ = self._nodes.get(node, (_NOTHING, 0.0))
        self._nodes.renew(node, (report, self._monotonic()))
        for status in before.blocks:
            if counted := self._blocks.get(find_block_id(status.id), {}).get(node, {}).get(status.id):
                counted.is_reported = False
        for status in report.blocks:
            if is_live(block_id := find_block_id(status.id)):
                parts = self._blocks.setdefault(block_id, {}).setdefault(node, {})
                parts.setdefault(status.id, _Counted(last=status)).take(status)
        declined = {status.id for status in before.blocks if not status.is_enforced}
        return [status for status in report.blocks if not status.is_enforced and status.id not in declined]

    def forget(self, block_id: str) -> None:
        """The block is over."""
        self._blocks.pop(block_id, None)

    def list_statuses(self, block_id: str) -> list[tuple[str, BlockStatus]]:
        """What each node that got a block makes of it."""
        found = []
        for node, parts in self._blocks.get(block_id, {}).items():
            status = _join_parts(block_id, list(parts.values()))
            if self._is_silent(node):
                status = replace(status, is_enforced=False, reason=SILENT_REASON)
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


def find_block_id(sent: str) -> str:
    """The block of an id that sensors got."""
    return sent.partition(PART_MARK)[0]


def _join_parts(block_id: str, parts: Sequence[_Counted]) -> BlockStatus:
    """One block at one node: enforced where all that the node holds of it is."""
    held = [part.status for part in parts if part.is_reported]
    everything = [part.status for part in parts]
    reason = next((status.reason for status in held if not status.is_enforced), "" if held else NOT_HELD_REASON)
    return BlockStatus(
        id=block_id,
        is_enforced=not reason and all(status.is_enforced for status in held),
        reason=reason,
        first_stop_at=min((status.first_stop_at for status in everything if status.first_stop_at), default=0.0),
        **{name: sum(getattr(status, name) for status in everything) for name in _COUNTS},
    )


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
        holders: Holders,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = read_seconds,
        limits: NetworkLimits,
        requires_second_approval: bool = False,
        find_clusters: Callable[[Sequence[str]], tuple[str, ...]] = lambda nodes: (),
    ) -> None:
        """`find_clusters` gives the clusters of nodes, as blocks name them."""
        self._store = store
        self._audit = audit
        self.ladder = ladder
        self._previewer = previewer
        self._factory = BlockFactory(
            previewer=previewer,
            holders=holders,
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
        self._holders = holders
        self._find_clusters = find_clusters
        self._limits = limits
        self._followed: tuple[object, ...] = ()  # Who held what when blocks were last made to follow it,
        self._bound: tuple[BlockOrder, ...] = ()  # and what was sent of those blocks.

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
            return tuple(order for block in self._store.list_live() for order in self._make_orders(block))

    def _make_orders(self, block: Block) -> tuple[BlockOrder, ...]:
        """None where the settings forbid it, or while nobody knows who holds its address."""
        if block.target.kind is BlockKind.WORKLOAD:
            return tuple(
                block.make_order(address, place)
                for place in block.clusters
                for address in self._holders.list_addresses(block.target.workload, place)
                if self._may_block(address)
            )
        if block.holder is not None and not self._holders.is_held(block.target.value, block.holder):
            return ()
        is_allowed = block.target.kind is not BlockKind.ADDRESS or self._may_block(block.target.value)
        return (block.make_order(),) if is_allowed else ()

    def _may_block(self, address: str) -> bool:
        """The settings may have changed since it began."""
        network, limits = ip_network(address), self._limits
        is_spared = find_within(network, limits.never_block_cidrs) is not None
        return not is_spared and not explain_limit(network, limits, whose="the collector's")

    def find_proposal(self, consumer: str, alert_id: str) -> Block | None:
        """The proposed block of an alert, or of a client where no alert is named."""
        for block in self.list_blocks():
            is_meant = block.alert_id == alert_id if alert_id else block.target.consumer == consumer
            if block.state is BlockState.PROPOSED and is_meant:
                return block
        return None

    def list_statuses(self, block_id: str) -> list[tuple[str, BlockStatus]]:
        """What each node makes of a live block."""
        with self._lock:
            return self._reports.list_statuses(block_id)

    def describe_holders(self, blocks: Sequence[Block]) -> dict[str, str]:
        """Who holds the addresses of open blocks, and who did in the 24 hours before, by block. Raises StoreError."""
        asked = [block for block in blocks if block.target.is_address and not block.ended_at]
        texts = self._holders.describe([(block.target.value, block.clusters) for block in asked], self._clock())
        return {block.id: text for block, text in zip(asked, texts, strict=True)}

    def list_addresses(self, block: Block) -> tuple[str, ...]:
        """What the Pods of a blocked workload hold now."""
        if block.target.kind is not BlockKind.WORKLOAD:
            return ()
        name = block.target.workload
        return tuple(one for place in block.clusters for one in self._holders.list_addresses(name, place))

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
            consumer=alert.consumer,
            seconds=rung.seconds,
            reason=alert.why,
            alert_id=alert.id,
            by=AUTOMATIC,
            accused=(alert.window_start, alert.window_end),
            nodes=alert.nodes,
            seen_in=self._find_clusters(alert.nodes),
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
        if len(alert.nodes) == 1 and alert.other_nodes:
            return True  # One node's word about a service that others serve too: it may be invented.
        if ANY_ENDPOINT in rung.endpoints or (alert.endpoint_id and alert.endpoint_id in rung.endpoints):
            return False
        first = self._previewer.find_first_seen(target)
        return not first or self._clock() - first < YOUNG_SECONDS

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(name="blocks", role=Role.JOBS, jobs=(Job(works=(self.tick,)),))

    def tick(self) -> None:
        """Once a second: what is over ends. Raises OSError."""
        with self._lock:
            now = self._clock()
            self._follow_clock(now)
            over = [block for block in self._store.list_live() if block.expires_at <= now]
            self._end(over, BlockState.EXPIRED, AUTOMATIC, lambda block: f"after {block.seconds} s")
            self._follow_holders()

    def _follow_holders(self) -> None:
        """Blocks of a Pod's address end with the Pod; those of workloads get the addresses that their Pods hold."""
        bound = [block for block in self._store.list_open() if block.follows_holder]
        version = (self._holders.version, tuple(block.id for block in bound))
        if version == self._followed:
            return
        self._followed = version
        gone = [
            block
            for block in bound
            if block.holder is not None and self._holders.is_held(block.target.value, block.holder) is False
        ]
        for state, ended in ((BlockState.LIVE, BlockState.EXPIRED), (BlockState.PROPOSED, BlockState.REJECTED)):
            self._end(
                [block for block in gone if block.state is state],
                ended,
                AUTOMATIC,
                lambda block: f"{block.holder} no longer holds {block.target.value}",
            )
        if self._list_bound() != self._bound:
            self._report_change()

    def _list_bound(self) -> tuple[BlockOrder, ...]:
        """What sensors are to stop now of blocks that follow holders."""
        bound = (block for block in self._store.list_live() if block.follows_holder)
        return tuple(order for block in bound for order in self._make_orders(block))

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
                block = self._store.find(find_block_id(status.id))
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
            over, why = block.end(state, by, now), write_why(block)
            if block.state is BlockState.LIVE:
                statuses = [status for _, status in self._reports.list_statuses(block.id)]
                over = replace(
                    over,
                    stopped_connections=sum(status.stopped_connections for status in statuses),
                    stopped_bytes=sum(status.stopped_bytes for status in statuses),
                )
                stopped = f"{over.stopped_connections} connections were stopped on {len(statuses)} nodes"
                why = "; ".join(filter(None, (why, stopped)))
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
        self._bound = self._list_bound()
        for listener in self._listeners:
            listener()

    def _log(self, by: str, action: str, target: str, why: str, block_id: str = "") -> None:
        time = self._clock()
        self._audit.add(AuditEntry(time=time, by=by, action=action, block_id=block_id, target=target, why=why))

    def _note(self, by: str, action: str, block: Block, why: str) -> None:
        self._log(by, action, block.target.consumer, why, block.id)
        for follower in self._followers:
            follower(action, block)

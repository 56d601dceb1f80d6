"""The responder: the one place where blocks are proposed, begun, lifted and sent to sensors. Thread-safe.

People come by the API, alerts by `take_alerts`, sensors' reports by `take_report`, and time by `tick`. Each decision is
one transaction of the state (collector/response/block_store.py): blocks, the audit log, and the policy of sensors.
Another collector may decide at any time, so each decision looks again at what it rests on. After a change of the policy
`on_change` is called, which must not block. Once a second blocks follow who holds which address
(collector/response/holders.py). Whoever sees a part of the installation sees, makes and ends blocks within it alone
(collector/response/block_scope.py).
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence
from collector.core.budget import StoppedError
from collector.core.errors import ConflictError, UnknownError
from collector.core.feature import Feature, Job, Role
from collector.core.scope import EVERYTHING, Scope, find_scope, use_scope
from collector.receiver.policy import BlockKind, BlockOrder, BlockStatus, EnforcementReport
from collector.response.block import (
    Block,
    BlockError,
    BlockState,
    BlockTarget,
    UnknownClientError,
    parse_target,
)
from collector.response.block_factory import AUTOMATIC, BlockFactory, BlockRequest
from collector.response.block_scope import is_within, limit_places
from collector.response.block_store import BlockChange, BlockStore
from collector.response.holders import Holders
from collector.response.ladder import ANY_ENDPOINT, YOUNG_SECONDS, Ladder, LadderStep, Rung, read_rungs, save_rung
from collector.response.policy_table import PolicyTable
from collector.response.preview import BlockCheck, BlockPreview, Previewer
from collector.response.reports import BlockReports, blank_reasons, take_counts
from collector.storage.base import StoreError
from collector.trust.audit import ERASURE, AuditEntry, AuditLog, erase_mentions, make_entry
from common.networks import NetworkLimits, explain_limit, find_within

logger = logging.getLogger(__name__)


STEP_SECONDS: Final = 1.0  # By which a clock is moved, not slewed.
# Who looked at the clock longer ago did not follow blocks meanwhile, and another collector did.
LOOK_SECONDS: Final = 60.0


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an alert leads to: a proposal, and the block that begins by itself."""

    alert: Alert
    rung: Rung
    proposal: Block
    block: Block | None = None


def _may_enforce(plan: _Plan) -> bool:
    alert = plan.alert
    if plan.rung.step is not LadderStep.ENFORCE or alert.confidence is Confidence.LOW:
        return False  # A notice accuses nobody.
    # One node's word about a service that others serve too: it may be invented.
    return not (len(alert.nodes) == 1 and alert.other_nodes)


@contextmanager
def _logging_refusal(alert: Alert) -> Iterator[None]:
    """A block that cannot be is no error, and other alerts are answered."""
    try:
        yield
    except (BlockError, ConflictError) as error:
        logger.info("Nothing is proposed for alert %s: %s", alert.id, error)


class Responder:
    """Decides on blocks and keeps them. `requires_second_approval`: no block begins without a second person."""

    def __init__(
        self,
        *,
        store: BlockStore,
        policy: PolicyTable,
        audit: AuditLog,
        reports: BlockReports,
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
        self._policy = policy
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
        self._reports = reports
        self._monotonic = monotonic
        self._offset, self._looked_at = clock() - monotonic(), monotonic()
        self._listeners: list[Callable[[], None]] = []
        self._followers: list[Callable[[str, Block], None]] = []
        self._holders = holders
        self._find_clusters = find_clusters
        self._limits = limits
        self._followed: tuple[object, ...] = ()  # Who held what, blocks and epoch, when they were last looked at.

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called after each change of what is live, in the thread of the change."""
        self._listeners.append(listener)

    def on_decision(self, follower: Callable[[str, Block], None]) -> None:
        """Called with each decision of a block (the action of its audit entry); it must not block."""
        self._followers.append(follower)

    # What is

    def list_blocks(self) -> list[Block]:
        """All blocks that the caller may see, the newest first. Raises StoreError."""
        with use_scope(EVERYTHING):
            blocks = self._store.list_blocks()
        return [block for block in blocks if _is_seen(block)]

    def find(self, block_id: str) -> Block | None:
        """One block that the caller may see. Raises StoreError."""
        with use_scope(EVERYTHING):
            block = self._store.find(block_id)
        return block if block is not None and _is_seen(block) else None

    def orders(self) -> tuple[BlockOrder, ...]:
        """What sensors are to stop now, as it was published. Raises StoreError."""
        return self._policy.read().blocks

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
        """The proposed block of an alert, or of a client where no alert is named. Raises StoreError."""
        for block in reversed(self._store.list_open()):
            is_meant = block.alert_id == alert_id if alert_id else block.target.consumer == consumer
            if block.state is BlockState.PROPOSED and is_meant and _is_seen(block):
                return block
        return None

    def list_statuses(self, blocks: Sequence[Block]) -> dict[str, list[tuple[str, BlockStatus]]]:
        """What each node makes of blocks, by their ids; of those that are not live nothing. Raises StoreError."""
        self._reports.flush()
        nothing: dict[str, list[tuple[str, BlockStatus]]] = {block.id: [] for block in blocks}
        live = [block.id for block in blocks if block.state is BlockState.LIVE]
        with use_scope(EVERYTHING):  # Of blocks that the caller sees.
            return nothing | (self._reports.list_statuses(live) if live else {})

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
        """What each node enforces at all. Raises StoreError."""
        self._reports.flush()
        return self._reports.list_nodes()

    def list_audit(self, limit: int) -> list[AuditEntry]:
        """The newest entries first."""
        return self._audit.list_recent(limit)

    # What people do

    def preview(self, consumer: str, clusters: tuple[str, ...] = ()) -> BlockPreview:
        """Whom a block would have hit, in these clusters; none: in all. Raises BlockError, StoreError."""
        target = parse_target(consumer)
        self._check_known(target)
        return self._previewer.preview(target, clusters, self._clock())

    def _check_known(self, target: BlockTarget) -> None:
        """Whoever sees a part of the installation learns of no address and workload that did not call it; of those from
        outside there is nothing to learn. Raises BlockError, StoreError."""
        scope = find_scope()
        is_address = target.kind is BlockKind.ADDRESS and not target.is_local
        # Pods and nodes may have public addresses, as with IPv6.
        is_public = is_address and not self._holders.is_known(target.value)
        if not scope.is_all and not is_public and not self._previewer.find_clusters(target, self._clock()):
            raise BlockError(
                f"{target.consumer} made no call in the last 24 hours to what you see ({scope.word()}); copy it from "
                "the consumers."
            )

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
        what is to be confirmed first; ConflictError where there is such a block; StoreError."""
        scope = find_scope()
        services, clusters = limit_places(request.services, request.clusters, scope)
        self._check_known(parse_target(request.consumer))
        request = replace(request, services=services, clusters=clusters)
        block = self._factory.make(request, self._store.list_open())  # Without the lock: it asks the tables.
        with self._decide() as change:
            self._check_open(change, block)
            if self.requires_second_approval:
                return self._propose(change, block)
            begun = self._begin(change, block, request.by, "")
            proposed = [one for one in change.open_blocks.values() if one.state is BlockState.PROPOSED]
            same = [one for one in proposed if one.target == block.target and _is_seen(one, scope)]
            self._end(change, same, BlockState.REJECTED, request.by)
            return begun

    def approve(self, block_id: str, *, by: str, is_second_person: bool) -> Block:
        """Begins what was proposed. Raises BlockError, ConflictError, UnknownError, StoreError."""
        block = _check_state(block_id, self.find(block_id), BlockState.PROPOSED)
        if self.requires_second_approval and not is_second_person:
            raise BlockError("Two people are needed: send the approval token as the header Apidae-Approval.")
        if block.proposed_by == AUTOMATIC:
            block = self._factory.complete(block)  # Without the lock: it asks the tables.
        with self._decide() as change:
            _check_state(block_id, change.find(block_id), BlockState.PROPOSED)
            return self._begin(change, block, by, "approved")

    def reject(self, block_id: str, *, by: str) -> Block:
        """Ends what was proposed. Raises ConflictError, UnknownError, StoreError."""
        _check_state(block_id, self.find(block_id), BlockState.PROPOSED)
        with self._decide() as change:
            block = _check_state(block_id, change.find(block_id), BlockState.PROPOSED)
            return self._end(change, [block], BlockState.REJECTED, by)[0]

    def lift(self, block_id: str, *, by: str) -> Block:
        """Ends what is live. Raises ConflictError, UnknownError, StoreError."""
        _check_state(block_id, self.find(block_id), BlockState.LIVE)
        self._reports.flush()
        with self._decide() as change:
            block = _check_state(block_id, change.find(block_id), BlockState.LIVE)
            return self._end(change, [block], BlockState.LIFTED, by)[0]

    def lift_all(self, *, by: str) -> int:
        """Ends everything that is live, in one change; how many there were. Raises StoreError."""
        self._reports.flush()
        with self._decide() as change:
            return len(self._end(change, change.list_live(), BlockState.LIFTED, by, lambda block: "all were lifted"))

    def erase(self, consumer: str, pattern: re.Pattern[str], credentials: Collection[int], request: Erasing) -> Erasure:
        """Forgets a consumer: its blocks go, and its name from the audit log, which says that somebody was erased.
        Raises ConflictError where it is blocked now and `request` does not lift that; StoreError."""
        self._reports.flush()
        with self._decide() as change:
            own = [block for block in change.open_blocks.values() if pattern.fullmatch(block.target.consumer)]
            live = [block for block in own if block.state is BlockState.LIVE]
            if live and not request.lifts_blocks:
                raise ConflictError(f"{consumer} is blocked now; lift the block first, or have the erasure lift it.")
            self._end(change, live, BlockState.LIFTED, request.by)
            self._end(change, [block for block in own if block not in live], BlockState.REJECTED, request.by)
            blocks = change.erase(pattern, credentials)
            change.is_live_changed = True  # Of others, too, which had its credentials.
            blank_reasons(change.connection, pattern)
            kind = consumer.partition(":")[0]
            why = pattern.sub("erased", request.reason)
            erasure = self._make_entry(request.by, ERASURE, f"{kind}:erased", why)
            lines = erase_mentions(change.connection, pattern, erasure)
        return Erasure(blocks=blocks, audit_lines=lines)

    def put_rung(self, rung: Rung) -> None:
        """A person's decision on how far a kind of alert may go. Raises StoreError."""
        with self._decide() as change:
            self._put_rung(change, rung)

    def move_rung(self, kind: AlertKind, *, step: LadderStep, seconds: int | None, by: str) -> None:
        """The same of a step alone: what else was decided of this kind stays. Raises StoreError."""
        with self._decide() as change:
            before = read_rungs(change.connection)[kind]
            kept = before.seconds if seconds is None else seconds
            self._put_rung(change, replace(before, step=step, seconds=kept, set_by=by))

    def _put_rung(self, change: BlockChange, rung: Rung) -> None:
        before = _show_rung(read_rungs(change.connection)[rung.kind])
        save_rung(change.connection, rung)
        why = f"{rung.step} for {rung.seconds} s"
        change.record(
            [self._make_entry(rung.set_by, "ladder", rung.kind.value, why, before=before, after=_show_rung(rung))]
        )

    # What happens by itself

    def take_alerts(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Alerts were raised or changed: proposes or begins what their rungs say, in one transaction and by one
        question to the tables. Gives those to be taken again: a block was to begin and its client's calls are not
        stored yet, a rung was moved meanwhile, or the state or the tables are away. Never raises."""
        try:
            return self._answer(alerts)
        except StoppedError:
            return []  # The process ends.
        except StoreError as error:
            logger.warning("Proposing blocks for %d alerts failed (%s); they are taken again.", len(alerts), error)
            return list(alerts)
        except Exception:
            # A loop boundary: notifiers get the alerts in any case.
            if len(alerts) > 1:
                return [again for alert in alerts for again in self.take_alerts([alert])]
            logger.exception("proposing a block for alert %s failed", alerts[0].id)
            return []

    def _answer(self, alerts: Sequence[Alert]) -> list[Alert]:
        again: list[Alert] = []
        plans = self._complete(self._plan(alerts), again)
        if not plans:
            return again
        with self._decide() as change:
            rungs = read_rungs(change.connection)
            answered = change.find_answered([plan.alert.id for plan in plans])
            for plan in plans:
                if rungs[plan.alert.kind] != plan.rung:
                    again.append(plan.alert)
                elif plan.alert.id not in answered:
                    with _logging_refusal(plan.alert):
                        self._check_open(change, plan.proposal)
                        self._follow_plan(change, plan)
        return again

    def _plan(self, alerts: Sequence[Alert]) -> list[_Plan]:
        """Proposals for alerts that have no block yet."""
        rungs = {rung.kind: rung for rung in self.ladder.list_rungs()}
        due = {
            alert.id: alert
            for alert in alerts
            if rungs[alert.kind].step in (LadderStep.PROPOSE, LadderStep.ENFORCE)
            and alert.state is AlertState.OPEN
            and alert.consumer
            and alert.observed_rate >= alert.expected_rate  # Who fell silent is not to be stopped.
        }
        if not due:
            return []
        answered, open_blocks = self._store.find_answered(due), self._store.list_open()
        plans = []
        for alert in due.values():
            rung = rungs[alert.kind]
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
            if alert.id not in answered:
                with _logging_refusal(alert):
                    plans.append(_Plan(alert, rung, self._factory.propose(request, open_blocks)))
        return plans

    def _complete(self, plans: Sequence[_Plan], again: list[Alert]) -> list[_Plan]:
        """With the blocks that are to begin by themselves, as far as they can."""
        enforced = [plan for plan in plans if not self.requires_second_approval and _may_enforce(plan)]
        checks = (
            self._previewer.check_all({plan.proposal.target for plan in enforced}, self._clock()) if enforced else {}
        )
        completed = []
        for plan in plans:
            with _logging_refusal(plan.alert):
                try:
                    check = checks.get(plan.proposal.target)
                    is_for_person = plan not in enforced or self._is_too_young(plan, check)
                    block = None if is_for_person else self._factory.complete(plan.proposal, check)
                    completed.append(_Plan(plan.alert, plan.rung, plan.proposal, block))
                except UnknownClientError:
                    again.append(plan.alert)
        return completed

    def _is_too_young(self, plan: _Plan, check: BlockCheck | None) -> bool:
        """Whether its client was first seen within a day, and nobody listed the endpoint."""
        listed = plan.rung.endpoints
        if ANY_ENDPOINT in listed or (plan.alert.endpoint_id and plan.alert.endpoint_id in listed):
            return False
        first = self._previewer.find_first_seen(plan.proposal.target) if check is None else check.first_seen
        return not first or self._clock() - first < YOUNG_SECONDS

    def _follow_plan(self, change: BlockChange, plan: _Plan) -> None:
        if plan.block is None or plan.block.is_confirmed:  # Where others would be hit, a person looks at the preview.
            self._propose(change, plan.proposal)
            return
        why = f"the ladder stands at enforce for {plan.alert.kind}, by {plan.rung.set_by}"
        self._begin(change, plan.block, AUTOMATIC, why)

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(name="blocks", role=Role.JOBS, jobs=(Job(works=(self.tick,)),))

    def tick(self) -> None:
        """Once a second: what is over ends, and what sensors stop follows the clock, the settings and who holds which
        address. Raises StoreError."""
        self._reports.flush()
        with self._lock:
            now = self._clock()
            blocks = self._store.list_open()
            version = self._holders.version, self._store.version, self._policy.read().epoch
            live = [block for block in blocks if block.state is BlockState.LIVE]
            is_due = any(block.expires_at <= now or block.began_at > now + STEP_SECONDS for block in live)
            if not is_due and version == self._followed and abs(self._measure_step(now)) < STEP_SECONDS:
                self._note_clock(now)
                return
            with self._decide() as change:
                self._follow_clock(change, now)
                over = [block for block in change.list_live() if block.expires_at <= now]
                self._end(change, over, BlockState.EXPIRED, AUTOMATIC, lambda block: f"after {block.seconds} s")
                self._end_unheld(change)
                change.is_live_changed = True
            self._followed = version[0], self._store.version, self._policy.read().epoch

    def _end_unheld(self, change: BlockChange) -> None:
        """Blocks of a Pod's address end with the Pod."""
        gone = [
            block
            for block in change.open_blocks.values()
            if block.holder is not None and self._holders.is_held(block.target.value, block.holder) is False
        ]
        for state, ended in ((BlockState.LIVE, BlockState.EXPIRED), (BlockState.PROPOSED, BlockState.REJECTED)):
            self._end(
                change,
                [block for block in gone if block.state is state],
                ended,
                AUTOMATIC,
                lambda block: f"{block.holder} no longer holds {block.target.value}",
            )

    def _measure_step(self, now: float) -> float:
        """By how much the clock was moved since the last look; 0 where that is too long ago."""
        monotonic = self._monotonic()
        return now - monotonic - self._offset if monotonic - self._looked_at <= LOOK_SECONDS else 0.0

    def _note_clock(self, now: float) -> None:
        self._looked_at = self._monotonic()
        self._offset = now - self._looked_at

    def _follow_clock(self, change: BlockChange, now: float) -> None:
        """A block lasts as long as it was to, also where the clock is moved meanwhile: its times move along. One that
        began by a clock that was ahead, and put back while nobody looked, begins anew."""
        step, live = self._measure_step(now), change.list_live()
        moved = {block.id: block.move(step) for block in live} if abs(step) >= STEP_SECONDS else {}
        for block in (moved.get(block.id, block) for block in live):
            if block.began_at > now + STEP_SECONDS:
                moved[block.id] = block.move(now - block.began_at)
        change.put(*moved.values())
        self._note_clock(now)

    def take_report(self, node: str, report: EnforcementReport) -> None:
        """What a sensor makes of its blocks, kept within a second. Does not block."""
        self._reports.take(node, report)

    # Steps

    @contextmanager
    def _decide(self) -> Iterator[BlockChange]:
        """One decision; what sensors are to stop is published with it, whatever the one who decides sees of it."""
        with self._lock, use_scope(EVERYTHING):
            is_published = False
            with self._store.change() as change:
                yield change
                if change.is_live_changed:
                    is_published = self._policy.publish(change.connection, self._make_all_orders(change))
            for listener in self._listeners if is_published else ():
                listener()
            for action, block in change.decisions:
                for follower in self._followers:
                    follower(action, block)

    def _make_all_orders(self, change: BlockChange) -> tuple[BlockOrder, ...]:
        return tuple(order for block in change.list_live() for order in self._make_orders(block))

    def _check_open(self, change: BlockChange, block: Block) -> None:
        self._factory.check_open(block, list(change.open_blocks.values()))

    def _propose(self, change: BlockChange, block: Block) -> Block:
        self._save(change, [(block, block.reason)], block.proposed_by, "proposed")
        return block

    def _begin(self, change: BlockChange, block: Block, by: str, why: str) -> Block:
        now = self._clock()
        self._follow_clock(change, now)  # Those before are moved, not this one.
        begun = block.begin(by, now)
        self._save(change, [(begun, why or block.reason)], by, "began")
        return begun

    def _end(
        self,
        change: BlockChange,
        blocks: Sequence[Block],
        state: BlockState,
        by: str,
        write_why: Callable[[Block], str] = lambda block: "",
    ) -> list[Block]:
        """What they stopped stays with them; sensors report no more of it."""
        now = self._clock()
        ended: list[tuple[Block, str]] = []
        for block in blocks:
            over, why = block.end(state, by, now), write_why(block)
            if block.state is BlockState.LIVE:
                connections, stopped_bytes, nodes = take_counts(change.connection, block.id)
                over = replace(over, stopped_connections=connections, stopped_bytes=stopped_bytes)
                why = "; ".join(filter(None, (why, f"{connections} connections were stopped on {nodes} nodes")))
            ended.append((over, why))
        self._save(change, ended, by, state.value)
        return [block for block, _ in ended]

    def _save(self, change: BlockChange, changed: Sequence[tuple[Block, str]], by: str, action: str) -> None:
        """Blocks and why they changed."""
        blocks = [block for block, _ in changed]
        entries = []
        for block, why in changed:
            old = change.open_blocks.get(block.id)
            before = None if old is None else {"state": old.state}
            entry = self._make_entry(by, action, block.target.consumer, why, before=before, after=_show_block(block))
            entries.append(replace(entry, block_id=block.id))
        change.put(*blocks)
        change.record(entries, blocks)

    def _make_entry(
        self,
        by: str,
        action: str,
        target: str,
        why: str,
        *,
        before: Mapping[str, object] | None = None,
        after: Mapping[str, object] | None = None,
    ) -> AuditEntry:
        return make_entry(self._clock(), by, action, target, why=why, before=before, after=after)


def _show_block(block: Block) -> dict[str, object]:
    """After a decision: its state, and where it holds and how long, unless it is over."""
    if block.ended_at:
        return {"state": block.state}
    names = ("state", "services", "clusters", "seconds", "is_confirmed", "alert_id")
    return {name: getattr(block, name) for name in names}


def _show_rung(rung: Rung) -> dict[str, object]:
    return {"step": rung.step, "seconds": rung.seconds, "endpoints": rung.endpoints}


def _is_seen(block: Block, scope: Scope | None = None) -> bool:
    """By whoever asks, or in a scope."""
    return is_within(block.services, block.clusters, find_scope() if scope is None else scope)


def _check_state(block_id: str, block: Block | None, state: BlockState) -> Block:
    if block is None:
        raise UnknownError(f"There is no block {block_id[:80]!r}; look it up in /api/v1/blocks.")
    if block.state is not state:
        raise ConflictError(f"Block {block_id} is {block.state}, not {state}.")
    return block

"""Makes blocks: checks a request against the limits, the existing blocks and the store."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from collector.core.errors import ConflictError
from collector.kubernetes.rows import PeerKind, PodHolder
from collector.receiver.policy import BlockKind
from collector.response.block import (
    CLUSTERS_MAX,
    SCOPES_MAX,
    SECONDS_MAX,
    SECONDS_MIN,
    Block,
    BlockError,
    BlockState,
    BlockTarget,
    UnknownClientError,
    parse_service,
    parse_target,
)
from collector.response.block_store import OPEN_MAX
from collector.response.holders import Holders, make_holder
from collector.response.preview import BlockCheck, Previewer
from common.networks import NetworkLimits, explain_limit, find_within

AUTOMATIC: Final = "apidae"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRequest:
    """What somebody asks to have stopped; `consumer` is `kind:value`, an address or a network. Of an alert: `accused`,
    when the calls were made (unix seconds), and `nodes` that saw them, in the clusters `seen_in`."""

    consumer: str
    services: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    seconds: int = 3_600
    reason: str = ""
    alert_id: str = ""
    by: str = "api"
    is_confirmed: bool = False
    accused: tuple[float, float] | None = None
    nodes: tuple[str, ...] = ()
    seen_in: tuple[str, ...] = ()


class BlockFactory:
    """Makes proposals; they begin elsewhere. Of what an alert proposes the store is asked when somebody approves it: a
    storm of alerts would be two queries each, most of them for nobody.
    """

    def __init__(
        self,
        *,
        previewer: Previewer,
        holders: Holders,
        clock: Callable[[], float],
        limits: NetworkLimits,
        requires_second_approval: bool,
    ) -> None:
        self._previewer = previewer
        self._holders = holders
        self._limits = limits
        self._clock = clock
        self._requires_second_approval = requires_second_approval

    def propose(self, request: BlockRequest, open_blocks: Sequence[Block]) -> Block:
        """A proposal that `complete` makes one that can begin. Asks the store only where clusters are named, or where
        a Pod's address changed hands. Raises BlockError, ConflictError, StoreError."""
        target = parse_target(request.consumer)
        block = Block(
            id=uuid.uuid4().hex,
            target=target,
            key_id=0,
            credentials=(),
            services=request.services,
            clusters=request.clusters,
            seconds=request.seconds,
            state=BlockState.PROPOSED,
            reason=request.reason,
            alert_id=request.alert_id,
            proposed_by=request.by,
            proposed_at=self._clock(),
            is_confirmed=request.is_confirmed,
            nodes=request.nodes,
        )
        self._check_limits(block)
        block = self._follow_holder(block, request)
        self.check_open(block, open_blocks)
        return block

    def _follow_holder(self, block: Block, request: BlockRequest) -> Block:
        """The same block, bound to who holds the address; of an alert's, of the workload that held it then."""
        target = block.target
        if target.kind is BlockKind.WORKLOAD:
            return self._find_workload(block)
        clusters = block.clusters or request.seen_in
        if not target.is_address or self._holders.find_node(target.value, clusters):
            return block
        holders = self._holders.find_pods(target.value, clusters)
        if request.accused is not None:
            holders = self._find_accused(target.value, clusters, holders, request.accused)
        if len(holders) != 1:
            return block  # Nobody's, or one of several: a person looks.
        (holder,) = holders
        if request.accused is None or not holder.has_workload:
            if not self._holders.is_held(target.value, holder):
                raise BlockError(f"{target.value} was held by {holder}, which is gone.")
            return replace(block, holder=holder)
        workload = BlockTarget(kind=BlockKind.WORKLOAD, value=str(holder.workload_name))
        why = f"{target.consumer} was held by {holder}; addresses of Pods are reused, so the block is of the workload."
        return replace(
            block,
            target=workload,
            clusters=(holder.cluster,),
            accused=target.consumer,
            reason=f"{block.reason} {why}".strip(),
        )

    def _find_accused(
        self, address: str, clusters: tuple[str, ...], now: list[PodHolder], accused: tuple[float, float]
    ) -> list[PodHolder]:
        """The Pods that held an address while the calls were made, one of each workload."""
        start, end = accused
        if not self._holders.has_watches or (len(now) == 1 and now[0].since <= start):
            return now
        past = self._holders.list_past(address, start, end, clusters)
        if any(holder.kind is not PeerKind.POD for holder in past):
            return []
        found = [make_holder(holder) for holder in past] or now
        return list({(one.cluster, one.workload_name): one for one in reversed(found)}.values())

    def _find_workload(self, block: Block) -> Block:
        """With its cluster and kind. Raises BlockError where they are not clear."""
        name = block.target.workload
        found = self._holders.find_kinds(name, block.clusters)
        kinds = set[str]().union(*found.values())
        if not kinds:
            raise BlockError(f"No Pod of {name} runs in a watched cluster; copy the name from a preview or an alert.")
        if len(kinds) > 1 or (len(found) > 1 and not block.clusters):
            names = ", ".join(f"{name.namespace}/{kind}/{name.name}" for kind in sorted(kinds))
            raise BlockError(f"{name} may be {names} in {', '.join(sorted(found))}; name its kind and its cluster.")
        full = replace(name, kind=kinds.pop())
        target = BlockTarget(kind=BlockKind.WORKLOAD, value=str(full))
        return replace(block, target=target, clusters=tuple(sorted(found)))

    def make(self, request: BlockRequest, open_blocks: Sequence[Block]) -> Block:
        """A proposal that can begin. Asks the store, which takes a while: whoever keeps it calls `check_open` again,
        where the blocks cannot change. Raises BlockError, ConflictError, StoreError."""
        block = self.propose(request, open_blocks)
        check = self._previewer.check(block.target, block.clusters, block.proposed_at)
        if check.needs_confirmation and not request.is_confirmed:
            raise BlockError(f"{check.needs_confirmation}; look at the preview and confirm it.")
        return self._complete(block, check)

    def complete(self, block: Block, check: BlockCheck | None = None) -> Block:
        """What an alert proposed, as it can begin now; whoever approves it confirms it. `check`: of the client wherever
        it called, where that is known already. Raises BlockError, and UnknownClientError where its calls are not stored
        yet; StoreError."""
        clusters = block.clusters
        if check is None or clusters:
            clusters = clusters or self.find_home(block.target)
            check = self._previewer.check(block.target, clusters, self._clock())
        is_confirmed = bool(check.needs_confirmation)
        return self._complete(replace(block, clusters=clusters, is_confirmed=is_confirmed), check)

    def _complete(self, block: Block, check: BlockCheck) -> Block:
        target = block.target
        if not target.is_by_address and not check.key_id:
            where = f" in {', '.join(block.clusters)}" if block.clusters else ""
            raise UnknownClientError(
                f"{target.consumer} made no call{where} in the last 24 hours; copy it from the consumers."
            )
        return replace(block, key_id=check.key_id, credentials=check.credentials, share=check.share)

    def find_home(self, target: BlockTarget) -> tuple[str, ...]:
        """Where a block holds of itself: in the clusters where an address called that may be somebody else's in others;
        none: in all. Raises UnknownClientError where those are not known yet, StoreError."""
        now = self._clock()
        if not target.is_local or len(self._previewer.list_clusters(now)) < 2:
            return ()
        found = self._previewer.find_clusters(target, now)
        if not found:
            raise UnknownClientError(f"{target.consumer} made no call in the last 24 hours.")
        return found

    def check_open(self, block: Block, open_blocks: Sequence[Block]) -> None:
        """That a proposal is still the only block of its kind beside those that are open. Raises ConflictError."""
        # A person who blocks whom something has proposed decides on the proposal too.
        is_bound = block.proposed_by == AUTOMATIC or self._requires_second_approval
        is_anywhere = block.proposed_by == AUTOMATIC and not block.clusters  # It names none before it is approved.
        for other in open_blocks:
            is_live = other.state is BlockState.LIVE
            is_same = (other.target, other.services) == (block.target, block.services)
            is_same = is_same and (is_anywhere or other.clusters == block.clusters)
            if is_same and (is_live or is_bound):
                what, way = ("blocked", "lift") if is_live else ("proposed to be blocked", "reject")
                raise ConflictError(
                    f"{block.target.consumer} is {what} already, by block {other.id}; {way} that one first."
                )
        if len(open_blocks) >= OPEN_MAX:
            raise ConflictError(f"There are {OPEN_MAX} blocks already; lift some.")

    def _check_limits(self, block: Block) -> None:
        if not SECONDS_MIN <= block.seconds <= SECONDS_MAX:
            raise BlockError(f"A block lasts {SECONDS_MIN} to {SECONDS_MAX} s, not {block.seconds}.")
        if len(block.services) > SCOPES_MAX or len(block.clusters) > CLUSTERS_MAX:
            raise BlockError(f"A block names at most {SCOPES_MAX} services and {CLUSTERS_MAX} clusters.")
        # Here, for proxies have no limits of their own.
        network = ip_network(block.target.value) if block.target.kind is BlockKind.ADDRESS else None
        if network is not None and (reason := explain_limit(network, self._limits, whose="the collector's")):
            raise BlockError(f"{reason} (blocks.* in its settings).")
        # Sensors spare what is in it, proxies cannot.
        if network is not None and (spared := find_within(network, self._limits.never_block_cidrs)):
            raise BlockError(f"{network} holds {spared}, which is never blocked (blocks.never_block_cidrs).")
        for service in block.services:
            parse_service(service)
        if block.clusters:
            known = self._previewer.list_clusters(self._clock())
            for cluster in block.clusters:
                if cluster not in known:
                    names = ", ".join(known) or "none"
                    raise BlockError(
                        f"No sensor of {cluster[:80]!r} was heard in the last 24 hours; there are: {names}."
                    )

"""The maker of blocks: what somebody wishes, checked against the limits, the blocks that are there and the store."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from collector.errors import ConflictError
from collector.ingest.blocks import BlockKind
from collector.respond.block import (
    CLUSTERS_MAX,
    SCOPES_MAX,
    SECONDS_MAX,
    SECONDS_MIN,
    Block,
    BlockError,
    BlockState,
    Target,
    UnknownClientError,
    parse_service,
    parse_target,
)
from collector.respond.book import OPEN_MAX
from collector.respond.preview import Previewer

AUTOMATIC: Final = "apidae"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants stopped; `consumer` is `kind:value`, an address or a network."""

    consumer: str
    services: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    seconds: int = 3_600
    reason: str = ""
    alert_id: str = ""
    by: str = "api"
    is_confirmed: bool = False


class BlockMaker:
    """Makes proposals; they begin elsewhere."""

    def __init__(self, *, previewer: Previewer, clock: Callable[[], float], is_four_eyes: bool) -> None:
        self._previewer = previewer
        self._clock = clock
        self._is_four_eyes = is_four_eyes

    def make(self, wish: Wish, open_blocks: Sequence[Block]) -> Block:
        """A proposal. Asks the store, which takes a while: whoever keeps it calls `check_open` again, where the blocks
        cannot change. Raises BlockError, ConflictError, StoreError."""
        target = parse_target(wish.consumer)
        self._check(wish)
        self._check_place(target, wish.services, wish.clusters, wish.by, open_blocks)
        now = self._clock()
        judged = self._previewer.judge(target, wish.clusters, now)
        if judged.needs_confirmation and not wish.is_confirmed:
            raise BlockError(f"{judged.needs_confirmation}; look at the preview and confirm it.")
        if target.kind is not BlockKind.ADDRESS and not judged.key_id:
            where = f" in {', '.join(wish.clusters)}" if wish.clusters else ""
            raise UnknownClientError(
                f"{target.consumer} made no call{where} in the last 24 hours; copy it from the consumers."
            )
        is_principal = target.kind is BlockKind.PRINCIPAL
        return Block(
            id=uuid.uuid4().hex,
            target=target,
            key_id=judged.key_id,
            credentials=self._previewer.list_credentials(target.value, now) if is_principal else (),
            services=wish.services,
            clusters=wish.clusters,
            seconds=wish.seconds,
            state=BlockState.PROPOSED,
            reason=wish.reason,
            alert_id=wish.alert_id,
            proposed_by=wish.by,
            proposed_at=now,
            is_confirmed=wish.is_confirmed,
        )

    def find_home(self, target: Target) -> tuple[str, ...]:
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
        self._check_place(block.target, block.services, block.clusters, block.proposed_by, open_blocks)

    def _check_place(
        self,
        target: Target,
        services: tuple[str, ...],
        clusters: tuple[str, ...],
        by: str,
        open_blocks: Sequence[Block],
    ) -> None:
        # A person who blocks whom something has proposed decides on the proposal too.
        is_bound = by == AUTOMATIC or self._is_four_eyes
        for other in open_blocks:
            is_live = other.state is BlockState.LIVE
            is_same = (other.target, other.services, other.clusters) == (target, services, clusters)
            if is_same and (is_live or is_bound):
                what, way = ("blocked", "lift") if is_live else ("proposed to be blocked", "reject")
                raise ConflictError(f"{target.consumer} is {what} already, by block {other.id}; {way} that one first.")
        if len(open_blocks) >= OPEN_MAX:
            raise ConflictError(f"There are {OPEN_MAX} blocks already; lift some.")

    def _check(self, wish: Wish) -> None:
        if not SECONDS_MIN <= wish.seconds <= SECONDS_MAX:
            raise BlockError(f"A block lasts {SECONDS_MIN} to {SECONDS_MAX} s, not {wish.seconds}.")
        if len(wish.services) > SCOPES_MAX or len(wish.clusters) > CLUSTERS_MAX:
            raise BlockError(f"A block names at most {SCOPES_MAX} services and {CLUSTERS_MAX} clusters.")
        for service in wish.services:
            parse_service(service)
        if wish.clusters:
            known = self._previewer.list_clusters(self._clock())
            for cluster in wish.clusters:
                if cluster not in known:
                    names = ", ".join(known) or "none"
                    raise BlockError(
                        f"No sensor of {cluster[:80]!r} was heard in the last 24 hours; there are: {names}."
                    )

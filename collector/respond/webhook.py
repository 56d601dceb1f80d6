"""The webhook for blocks: each decision as a signed JSON POST, retried, once each, and in the audit log. EDGE: HTTP.

For what has no API of its own here: a WAF, a CDN, a chat. Headers: `X-Apidae-Timestamp` (unix seconds) and
`X-Apidae-Signature` as of alerts (collector.alerts.webhook), and `X-Apidae-Delivery`, the same for each attempt: who
has seen it has seen this decision. Decisions of a block leave in their order.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import httpx
import msgspec

from collector.alerts.delivery import ATTEMPTS_MAX, BACKOFF_SECONDS, STOP_SECONDS, Outcome
from collector.alerts.web import check_address, make_client, post, show_target
from collector.alerts.webhook import sign
from collector.respond.audit import AuditEntry
from collector.respond.block import Block, BlockState
from common.figures import total

logger = logging.getLogger(__name__)

QUEUE_MAX: Final = 10_000
TOLD: Final = "told"
UNTOLD: Final = "untold"
# Decisions that change whom somebody else is to stop. A decline is one sensor's.
_TELLING: Final = frozenset(("proposed", "began", "rejected", "lifted", "expired"))


@dataclass(slots=True)
class WebhookCounts:
    """seen = delivered + failed + dropped + repeated + those that wait."""

    seen: int = total("Decisions on blocks that were given to the webhook.")
    delivered: int = total("Decisions on blocks that the webhook's receiver took.")
    failed: int = total(
        "Decisions on blocks that the webhook's receiver refused, or did not answer at the last attempt."
    )
    dropped: int = total("Decisions on blocks that found the webhook's queue full; they are sent after the next start.")
    repeated: int = total("Decisions on blocks that were sent before, and not again.")


class BlockWebhook:
    """A queue and the thread that empties it. seen = delivered + failed + dropped + repeated + waiting."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        note: Callable[[AuditEntry], None],
        clock: Callable[[], float],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`note` keeps an entry of the audit log, `clock` gives unix seconds, `transport` replaces the network in
        tests. Raises ValueError for an address that is neither https nor on loopback."""
        self._url = check_address(url, "block webhook")
        self._target = show_target(url)
        self._secret = secret
        self._note = note
        self._clock = clock
        self._client = make_client(transport)
        self._queue: queue.Queue[tuple[str, Block]] = queue.Queue(QUEUE_MAX)
        self._told: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="block-webhook", daemon=True)
        self.counts = WebhookCounts()

    def resume(self, blocks: Iterable[Block], entries: Iterable[AuditEntry]) -> None:
        """At the start: what is live and was not told before the last stop, is; and what is over, where whoever is told
        knows the block and not its end. In the order of the decisions: another block may name the same client."""
        told = {(entry.block_id, entry.why) for entry in entries if entry.action == TOLD}
        known = {block_id for block_id, _ in told}
        for block in sorted(blocks, key=lambda one: one.ended_at or one.began_at or one.proposed_at):
            action = "began" if block.state is BlockState.LIVE else block.state.value
            is_due = block.state is BlockState.LIVE or block.id in known
            if is_due and (block.id, action) not in told:
                self.take(action, block)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def take(self, action: str, block: Block) -> None:
        """Queue a decision; never blocks."""
        if action not in _TELLING:
            return
        self.counts.seen += 1
        key = f"{block.id}.{action}"
        if key in self._told:
            self.counts.repeated += 1
            return
        try:
            self._queue.put_nowait((action, block))
        except queue.Full:
            self.counts.dropped += 1
            return
        if len(self._told) >= 2 * QUEUE_MAX:
            self._told.clear()
        self._told.add(key)

    def stop(self) -> None:
        """End after the attempt under way; `resume` tells the rest after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._client.close()

    def deliver(self, action: str, block: Block) -> bool:
        """One decision with retries; whether it arrived. Either is in the audit log."""
        body = msgspec.json.encode(describe(action, block))
        outcome = Outcome.UNANSWERED
        for attempt in range(ATTEMPTS_MAX):
            if attempt and self._stopping.wait(BACKOFF_SECONDS[attempt - 1]):
                return False
            outcome = post(self._client, self._url, body, self._sign(action, block, body))
            if outcome is not Outcome.UNANSWERED:
                break
        is_there = outcome is Outcome.DELIVERED
        self.counts.delivered += is_there
        self.counts.failed += not is_there
        self._note(
            AuditEntry(
                time=self._clock(),
                by=f"webhook {self._target}",
                action=TOLD if is_there else UNTOLD,
                block_id=block.id,
                target=block.target.consumer,
                why=action if is_there else f"{action}: {outcome.value} after {ATTEMPTS_MAX} attempts at most",
            )
        )
        return is_there

    def _sign(self, action: str, block: Block, body: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock()))
        return {
            "content-type": "application/json",
            "x-apidae-delivery": f"{block.id}.{action}",
            "x-apidae-timestamp": timestamp,
            "x-apidae-signature": sign(self._secret, timestamp, body),
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                action, block = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            try:
                self.deliver(action, block)
            except Exception:
                # A loop boundary: the next decision is told all the same.
                logger.exception("telling of block %s failed", block.id)


def describe(action: str, block: Block) -> dict[str, object]:
    """The body: what was decided of which block. Credentials are hashes, as everywhere."""
    return {
        "event": action,
        "id": block.id,
        "consumer": block.target.consumer,
        "kind": block.target.kind.value,
        "value": block.target.value,
        "services": list(block.services),
        "clusters": list(block.clusters),
        "state": block.state.value,
        "seconds": block.seconds,
        "began_at": block.began_at,
        "expires_at": block.expires_at,
        "reason": block.reason,
        "alert_id": block.alert_id,
        "by": block.ended_by or block.approved_by or block.proposed_by,
    }

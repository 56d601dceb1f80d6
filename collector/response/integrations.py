"""Sends blocks to other systems: live ones to proxies and files, and each decision to a webhook.

`Elsewhere` writes the live blocks to HAProxy's runtime API and to files for Traefik and others (EDGE: files, a thread).
It does so after each change and every `AGAIN_SECONDS`, so that a restarted proxy gets them too. A block that ends at
the sensors ends there with the next write. While the collector is away, no block ends there.

`BlockWebhook` posts each decision as signed JSON, with retries, once each, and records it in the audit log (EDGE:
HTTP). It serves systems without an integration here, such as a WAF, a CDN or a chat. Headers: `X-Apidae-Timestamp`
(unix seconds), `X-Apidae-Signature` as for alerts (collector.alerting.notifiers.webhook), and `X-Apidae-Delivery`. The
last is the same for each attempt, so a receiver can recognise a repetition. Decisions of a block are sent in their
order.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx
import msgspec

from collector.alerting.notifiers.delivery import ATTEMPTS_MAX, STOP_SECONDS, Outcome, make_backoff
from collector.alerting.notifiers.http import check_address, make_client, post, show_target
from collector.alerting.notifiers.webhook import sign
from collector.core.config import ResponseSettings
from collector.receiver.policy import BlockOrder
from collector.response.block import Block, BlockState, collect_denied
from collector.response.block_store import AuditEntry, AuditLog
from collector.response.deny_lists import ExportFormat, ExportSettings, HaproxyError, HaproxyList, export_blocks
from collector.response.responder import Responder
from common.bounded import BoundedDict
from common.durable import write_durably
from common.figures import Figure, list_figures, make_totals, total

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0
_SUFFIXES: Final = {ExportFormat.HAPROXY: "acl"}


class Place(Protocol):
    """Takes all live blocks."""

    name: str

    def tell(self, orders: Sequence[BlockOrder]) -> None:
        """Raises OSError, HaproxyError."""
        ...


class Haproxy:
    """A place."""

    def __init__(self, address: str, list_name: str, cluster: str = "") -> None:
        """`cluster`: in which it stands. Raises ValueError."""
        self._cluster = cluster
        self._list = HaproxyList(address, list_name)
        self.name = self._list.name

    def tell(self, orders: Sequence[BlockOrder]) -> None:
        """Networks that are blocked everywhere."""
        self._list.put(list(collect_denied(orders, self._cluster).everywhere))


class ExportDirectory:
    """A place: `DIRECTORY/FORMAT/blocks.yaml` (`haproxy/blocks.acl`), each replaced whole where it changed."""

    def __init__(self, directory: Path, settings: ExportSettings) -> None:
        self.name = f"files in {directory}"
        self._directory, self._settings = directory, settings
        self._written: dict[Path, str] = {}

    def tell(self, orders: Sequence[BlockOrder]) -> None:
        """Every format."""
        for kind in ExportFormat:
            path = self._directory / kind.value / f"blocks.{_SUFFIXES.get(kind, 'yaml')}"
            text = export_blocks(orders, kind, self._settings)
            if self._written.get(path) == text and path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, text.encode(), mode=0o644)  # Addresses only, for programs of other users.
            self._written[path] = text


class Elsewhere:
    """Tells all places, in a thread of its own."""

    def __init__(self, places: Sequence[Place], list_orders: Callable[[], Sequence[BlockOrder]]) -> None:
        self._places = places
        self._list_orders = list_orders
        self._is_due = threading.Event()
        self._is_ending = False
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="elsewhere", daemon=True)
        self.failed_count = 0

    def start(self) -> None:
        """Begin; nothing where there are no places."""
        if self._places:
            self._thread.start()

    def wake(self) -> None:
        """Blocks changed. Does not block."""
        self._is_due.set()

    def stop(self) -> None:
        """End after the telling under way."""
        self._is_ending = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join()

    def tell(self) -> None:
        """Tell all of them now."""
        orders = self._list_orders()
        for place in self._places:
            try:
                place.tell(orders)
            except (OSError, HaproxyError) as error:
                self.failed_count += 1
                if place.name not in self._failing:
                    logger.error("Blocks are not told to %s: %s; it is tried again", place.name, error)
                self._failing.add(place.name)
            else:
                if place.name in self._failing:
                    self._failing.discard(place.name)
                    logger.info("Blocks are told to %s again.", place.name)

    def _run(self) -> None:
        while not self._is_ending:
            self._is_due.clear()
            self.tell()
            self._is_due.wait(AGAIN_SECONDS)


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
        self._told: BoundedDict[str, None] = BoundedDict(2 * QUEUE_MAX)
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
        self._told[key] = None

    def stop(self) -> None:
        """End after the attempt under way; `resume` tells the rest after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._client.close()

    def deliver(self, action: str, block: Block) -> bool:
        """One decision with retries; whether it arrived. Either is in the audit log."""
        body = msgspec.json.encode(describe(action, block))
        outcome, backoff = Outcome.UNANSWERED, make_backoff()
        for attempt in range(ATTEMPTS_MAX):
            if attempt and self._stopping.wait(backoff.next_seconds()):
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


_RESUMED_ENTRIES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """All of them."""

    elsewhere: Elsewhere
    webhook: BlockWebhook | None

    def start(self) -> None:
        """Begin to tell."""
        self.elsewhere.start()
        if self.webhook is not None:
            self.webhook.start()

    def stop(self) -> None:
        """End."""
        self.elsewhere.stop()
        if self.webhook is not None:
            self.webhook.stop()

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = "Attempts to write the blocks to a file or proxy that failed; each is repeated."
        failed = make_totals([("blocks_elsewhere_failed", text, self.elsewhere.failed_count)])
        return (*failed, *(list_figures(self.webhook.counts, "block_webhook_") if self.webhook is not None else ()))


def make_exports(settings: ResponseSettings, cluster: str) -> ExportSettings:
    """What deny lists are made by; `cluster`: the collector's own."""
    return ExportSettings(cluster=cluster, traefik_entry_points=settings.traefik_entry_points)


def compose_outside(
    settings: ResponseSettings,
    responder: Responder,
    audit: AuditLog,
    *,
    cluster: str,
    load_secret: Callable[[], str],
    clock: Callable[[], float],
) -> Outside:
    """Follows the responder from now on. Raises ValueError with one sentence that names the setting."""
    places: list[Place] = []
    if settings.block_export_dir is not None:
        places.append(ExportDirectory(settings.block_export_dir, make_exports(settings, cluster)))
    if settings.haproxy_socket is not None:
        try:
            places.append(Haproxy(settings.haproxy_socket, settings.haproxy_acl, cluster))
        except ValueError as error:
            raise ValueError(f"haproxy_socket: {error}") from None
    elsewhere = Elsewhere(places, responder.orders)
    responder.on_change(elsewhere.wake)
    webhook = None
    if settings.block_webhook_url is not None:
        try:
            webhook = BlockWebhook(
                settings.block_webhook_url.get_secret_value(), load_secret(), note=audit.add, clock=clock
            )
        except ValueError as error:
            raise ValueError(f"block_webhook_url: {error}") from None
        webhook.resume(responder.list_blocks(), audit.list_recent(_RESUMED_ENTRIES))
        responder.on_decision(webhook.take)
    return Outside(elsewhere=elsewhere, webhook=webhook)

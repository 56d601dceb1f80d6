"""Sends blocks to other systems: live ones to proxies and files, and each decision to a webhook.

`BlockExporter` writes the live blocks to HAProxy's runtime API and to files for Traefik and others (EDGE: files, a
thread). It does so after each change and every `AGAIN_SECONDS`, so that a restarted proxy gets them too. A block that
ends at the sensors ends there with the next write. While the collector is away, no block ends there.

`BlockWebhook` posts each decision as signed JSON, with retries, once each, and records it in the audit log (EDGE:
HTTP). It serves systems without an integration here, such as a WAF, a CDN or a chat. Headers: `X-Apidae-Timestamp`
(unix seconds), `X-Apidae-Signature` as for alerts (collector/alerting/notifiers/http.py), and `X-Apidae-Delivery`. The
last is the same for each attempt, so a receiver can recognise a repetition. Decisions of a block are sent in their
order.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from collector.alerting.notifiers.delivery import ATTEMPTS_MAX, DeliveryOutcome, DeliveryQueue
from collector.alerting.notifiers.http import check_address, make_client, post, show_target, sign_headers
from collector.core.destinations import (
    AnyIntegration,
    FilesIntegration,
    HaproxyIntegration,
    TraefikIntegration,
    WebhookIntegration,
)
from collector.core.feature import Feature, Role
from collector.receiver.policy import BlockOrder
from collector.response.block import Block, BlockState
from collector.response.deny_lists import ExportFormat, ExportSettings, HaproxyError, HaproxyList, export_blocks
from collector.response.responder import Responder
from collector.storage.base import StoreError
from collector.trust.audit import AuditEntry, AuditLog
from common.bounded import BoundedDict
from common.durable import write_durably
from common.figures import Figure, list_figures, make_totals, total

if TYPE_CHECKING:  # With what it imports it takes 3 MB, which who sends nothing does without.
    import httpx

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 10.0


class ExportDirectory:
    """`DIRECTORY/FORMAT/blocks.yaml` (`haproxy/blocks.acl`), each replaced whole where it changed."""

    def __init__(self, directory: Path, settings: ExportSettings) -> None:
        self.name = f"files in {directory}"
        self._directory, self._settings = directory, settings
        self._written: dict[Path, str] = {}

    def write(self, orders: Sequence[BlockOrder]) -> None:
        """Every format. Raises OSError."""
        for kind in ExportFormat:
            path = self._directory / kind.value / f"blocks.{kind.suffix}"
            text = export_blocks(orders, kind, self._settings)
            if self._written.get(path) == text and path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, text.encode(), mode=0o644)  # Addresses only, for programs of other users.
            self._written[path] = text


class BlockExporter:
    """Writes the live blocks to files and proxies, in a thread of its own."""

    def __init__(
        self, targets: Sequence[ExportDirectory | HaproxyList], list_orders: Callable[[], Sequence[BlockOrder]]
    ) -> None:
        self._targets = targets
        self._list_orders = list_orders
        self._is_due = threading.Event()
        self._is_ending = False
        self._failing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="block-exporter", daemon=True)
        self.failed_count = 0

    def start(self) -> None:
        """Begin; nothing where there are no targets."""
        if self._targets:
            self._thread.start()

    def wake(self) -> None:
        """Blocks changed. Does not block."""
        self._is_due.set()

    def stop(self) -> None:
        """End after the write under way."""
        self._is_ending = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join()

    def write(self) -> None:
        """Write to all of them now; where the state does not say what is blocked, to none."""
        try:
            orders = self._list_orders()
        except StoreError as error:
            self.failed_count += 1
            logger.error("Blocks are written to nothing: %s; it is tried again", error)
            return
        for target in self._targets:
            try:
                target.write(orders)
            except (OSError, HaproxyError) as error:
                self.failed_count += 1
                if target.name not in self._failing:
                    logger.error("Blocks are not written to %s: %s; it is tried again", target.name, error)
                self._failing.add(target.name)
            else:
                if target.name in self._failing:
                    self._failing.discard(target.name)
                    logger.info("Blocks are written to %s again.", target.name)

    def _run(self) -> None:
        while not self._is_ending:
            self._is_due.clear()
            self.write()
            self._is_due.wait(AGAIN_SECONDS)


QUEUE_MAX: Final = 10_000
# Actions of the audit log.
SENT: Final = "told"
NOT_SENT: Final = "untold"
# Decisions that change whom somebody else is to stop. A decline is one sensor's.
_SENT_ACTIONS: Final = frozenset(("proposed", "began", "rejected", "lifted", "expired"))


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
    """Sends decisions, each once."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        note: Callable[[AuditEntry], None],
        clock: Callable[[], float],
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """`note` keeps an entry of the audit log, `clock` gives unix seconds, `transport` replaces the network in
        tests. Raises ValueError for an address that is neither https nor on loopback."""
        self._url = check_address(url, "block webhook")
        self._secret, self._note, self._clock = secret, note, clock
        self._client = make_client(transport)
        self._queue = DeliveryQueue[tuple[str, Block]]("block-webhook", QUEUE_MAX, lambda item: self.deliver(*item))
        self._queued: BoundedDict[str, None] = BoundedDict(2 * QUEUE_MAX)
        self.counts = WebhookCounts()

    @property
    def waiting(self) -> int:
        """Decisions in the queue."""
        return self._queue.waiting

    def resume(self, blocks: Iterable[Block], sent: Collection[tuple[str, str]]) -> None:
        """At the start: what is live and was not `sent` before the last stop, is; and what is over, where the receiver
        knows the block and not its end. In the order of the decisions: another block may name the same client."""
        known = {block_id for block_id, _ in sent}
        for block in sorted(blocks, key=lambda one: one.ended_at or one.began_at or one.proposed_at):
            action = "began" if block.state is BlockState.LIVE else block.state.value
            is_due = block.state is BlockState.LIVE or block.id in known
            if is_due and (block.id, action) not in sent:
                self.take(action, block)

    def start(self) -> None:
        """Begin to deliver."""
        self._queue.start()

    def take(self, action: str, block: Block) -> None:
        """Queue a decision; never blocks."""
        if action not in _SENT_ACTIONS:
            return
        self.counts.seen += 1
        key = f"{block.id}.{action}"
        if key in self._queued:
            self.counts.repeated += 1
        elif self._queue.put((action, block)):
            self._queued[key] = None
        else:
            self.counts.dropped += 1

    def stop(self) -> None:
        """End after the attempt under way; `resume` sends the rest after the next start."""
        self._queue.stop()
        self._client.close()

    def deliver(self, action: str, block: Block) -> bool:
        """One decision with retries; whether it arrived. Either is in the audit log."""
        outcome, _ = self._queue.attempt(lambda: self._post(action, block))
        if outcome is None:
            return False
        is_delivered = outcome is DeliveryOutcome.DELIVERED
        self.counts.delivered += is_delivered
        self.counts.failed += not is_delivered
        self._note(
            AuditEntry(
                time=self._clock(),
                by=f"webhook {show_target(self._url)}",
                action=SENT if is_delivered else NOT_SENT,
                block_id=block.id,
                target=block.target.consumer,
                why=action if is_delivered else f"{action}: {outcome.value} after {ATTEMPTS_MAX} attempts at most",
            )
        )
        return is_delivered

    def _post(self, action: str, block: Block) -> DeliveryOutcome:
        body = msgspec.json.encode(describe(action, block))
        headers = sign_headers(self._secret, self._clock(), body)
        return post(self._client, self._url, body, {"x-apidae-delivery": f"{block.id}.{action}", **headers})


_SENT_FIELDS: Final = ["id", "services", "clusters", "state", "seconds", "began_at", "expires_at", "reason", "alert_id"]


def describe(action: str, block: Block) -> dict[str, object]:
    """The body: what was decided of which block. Credentials are hashes, as everywhere."""
    return {
        "event": action,
        "consumer": block.target.consumer,
        "kind": block.target.kind,
        "value": block.target.value,
        **{name: getattr(block, name) for name in _SENT_FIELDS},
        "ends_with": str(block.holder or ""),
        "accused": block.accused,
        "witnesses": block.nodes,
        "by": block.ended_by or block.approved_by or block.proposed_by,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrations:
    """All of them."""

    responder: Responder
    audit: AuditLog
    exporter: BlockExporter
    webhook: BlockWebhook | None

    def start(self) -> None:
        """Begin, with what another collector or an earlier start left. Raises StoreError."""
        self.exporter.start()
        if self.webhook is not None:
            self.webhook.resume(self.responder.list_blocks(), self.audit.list_actions(SENT))
            self.webhook.start()

    def stop(self) -> None:
        """End."""
        self.exporter.stop()
        if self.webhook is not None:
            self.webhook.stop()

    @property
    def feature(self) -> Feature:
        """What the collector starts and shows."""
        return Feature(name="integrations", role=Role.JOBS, start=self.start, stop=self.stop, figures=self.figures)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = "Attempts to write the blocks to a file or proxy that failed; each is repeated."
        failed = make_totals([("blocks_elsewhere_failed", text, self.exporter.failed_count)])
        return (*failed, *(list_figures(self.webhook.counts, "block_webhook_") if self.webhook is not None else ()))


def make_exports(integrations: Sequence[AnyIntegration], cluster: str) -> ExportSettings:
    """What deny lists are made by; `cluster`: the collector's own."""
    found = [one for one in integrations if isinstance(one, TraefikIntegration)]
    traefik = found[0] if found else TraefikIntegration(kind="traefik")
    return ExportSettings(cluster=cluster, traefik_entry_points=traefik.entry_points)


def compose_integrations(
    settings: Sequence[AnyIntegration],
    responder: Responder,
    audit: AuditLog,
    *,
    cluster: str,
    load_secret: Callable[[], str],
    clock: Callable[[], float],
) -> Integrations:
    """Whoever changes the policy wakes the exporter. Raises ValueError with one sentence that names the setting."""
    targets: list[ExportDirectory | HaproxyList] = []
    webhook = None
    for number, one in enumerate(settings):
        try:
            match one:
                case FilesIntegration():
                    targets.append(ExportDirectory(one.directory, make_exports(settings, cluster)))
                case HaproxyIntegration():
                    targets.append(HaproxyList(one.socket, one.acl, cluster))
                case WebhookIntegration():
                    webhook = BlockWebhook(one.url.get_secret_value(), load_secret(), note=audit.add, clock=clock)
        except ValueError as error:
            raise ValueError(f"integrations[{number}], {one.kind}: {error}") from None
    exporter = BlockExporter(targets, responder.orders)
    if webhook is not None:
        responder.on_decision(webhook.take)
    return Integrations(responder=responder, audit=audit, exporter=exporter, webhook=webhook)

"""Who else is told of blocks, put together: the webhook of decisions, and the places that hold the live ones."""

from collections.abc import Callable
from dataclasses import dataclass

from collector.respond.audit import AuditLog
from collector.respond.elsewhere import Elsewhere, ExportDirectory, Haproxy, Place
from collector.respond.export import ExportSettings
from collector.respond.responder import Responder
from collector.respond.webhook import BlockWebhook
from collector.response_settings import ResponseSettings
from common.figures import Figure, list_figures, make_totals

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

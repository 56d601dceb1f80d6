"""The notifiers that the settings name: each carrier with its queue; an alert goes to all of them."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.alerts.alert import Alert
from collector.alerts.alertmanager import Alertmanager, AlertmanagerSettings
from collector.alerts.delivery import Carrier, Notifier
from collector.alerts.syslog import Syslog, SyslogSettings
from collector.alerts.webhook import Webhook, WebhookSettings
from collector.config import CollectorSettings


@dataclass(frozen=True, slots=True)
class Notifiers:
    """All of them."""

    members: tuple[Notifier, ...]

    def notify(self, alert: Alert) -> None:
        """Queue one alert everywhere; never blocks."""
        for notifier in self.members:
            notifier.notify(alert)

    def start(self) -> None:
        """Begin to deliver."""
        for notifier in self.members:
            notifier.start()

    def stop(self) -> None:
        """End; what waits is not sent."""
        for notifier in self.members:
            notifier.stop()

    def count(self) -> dict[str, int]:
        """Counters for metrics, by `notifier_NAME_WHAT`."""
        return {
            f"notifier_{notifier.name}_{what}": getattr(notifier.counts, what)
            for notifier in self.members
            for what in ("seen", "delivered", "failed", "dropped", "limited", "repeated", "retried")
        }


def compose_notifiers(
    settings: CollectorSettings, *, load_secret: Callable[[], str], version: str, clock: Callable[[], float]
) -> Notifiers:
    """Raises ValueError with one sentence that names the setting. `load_secret` gives the webhook's, asked where one is
    set."""
    makers: Sequence[tuple[str, object, Callable[[], Carrier]]] = (
        (
            "webhook_url",
            settings.webhook_url,
            lambda: Webhook(
                WebhookSettings(
                    url=settings.webhook_url.get_secret_value() if settings.webhook_url else "", secret=load_secret()
                ),
                clock=clock,
            ),
        ),
        (
            "syslog_url",
            settings.syslog_url,
            lambda: Syslog(
                SyslogSettings(
                    url=settings.syslog_url or "",
                    format=settings.syslog_format,
                    host_name=socket.gethostname(),
                    version=version,
                )
            ),
        ),
        (
            "alertmanager_url",
            settings.alertmanager_url,
            lambda: Alertmanager(AlertmanagerSettings(settings.alertmanager_url or "")),
        ),
    )
    made = []
    for name, value, make in makers:
        if value is None:
            continue
        try:
            made.append(Notifier(make(), clock=clock))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Notifiers(tuple(made))

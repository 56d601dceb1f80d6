"""Builds the notifiers that the settings name, each with its queue. Every alert goes to all of them."""

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from collector.alerting.alert import Alert
from collector.alerting.notifiers.alertmanager import Alertmanager, AlertmanagerSettings
from collector.alerting.notifiers.chat import check_routing_key, write_pagerduty, write_slack, write_teams
from collector.alerting.notifiers.delivery import Carrier, Notifier
from collector.alerting.notifiers.http import Form, Posting, check_address
from collector.alerting.notifiers.mail import Mail, MailSettings
from collector.alerting.notifiers.ocsf import OcsfFile, write_ocsf
from collector.alerting.notifiers.otlp import check_endpoint, is_taken, read_headers, write_otlp
from collector.alerting.notifiers.syslog import Syslog, SyslogSettings
from collector.alerting.notifiers.templates import load_template
from collector.alerting.notifiers.webhook import Webhook, WebhookSettings
from collector.core.config import CollectorSettings
from common.figures import Figure, list_figures


@dataclass(frozen=True, slots=True)
class Notifiers:
    """All of them."""

    members: tuple[Notifier, ...]

    def notify(self, alert: Alert) -> None:
        """Queue one alert everywhere; never blocks."""
        for notifier in self.members:
            notifier.notify(alert)

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Take back what waits and names a consumer by this pattern, and blank it in files of ours; how many that
        were. Raises OSError."""
        return sum(notifier.erase(pattern) for notifier in self.members)

    def start(self) -> None:
        """Begin to deliver."""
        for notifier in self.members:
            notifier.start()

    def stop(self) -> None:
        """End; what waits is not sent."""
        for notifier in self.members:
            notifier.stop()

    def figures(self) -> tuple[Figure, ...]:
        """For metrics, by notifier."""
        return tuple(
            figure for one in self.members for figure in list_figures(one.counts, "notifier_", notifier=one.name)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What carriers say of this collector, and what they need of it. `load_secret` gives the webhook's, asked where one
    is set; `clock` gives unix seconds."""

    load_secret: Callable[[], str]
    version: str
    clock: Callable[[], float]


def compose_notifiers(
    settings: CollectorSettings, *, load_secret: Callable[[], str], version: str, clock: Callable[[], float]
) -> Notifiers:
    """Raises ValueError with one sentence that names the setting."""
    around = Surroundings(load_secret=load_secret, version=version, clock=clock)
    made = []
    for name, make in _MAKERS.items():
        if getattr(settings, name) is None:
            continue
        try:
            made.append(Notifier(make(settings, around), clock=clock))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Notifiers(tuple(made))


def _make_webhook(settings: CollectorSettings, around: Surroundings) -> Carrier:
    form = WebhookSettings(url=_reveal(settings.webhook_url), secret=around.load_secret())
    return Webhook(form, clock=around.clock)


def _make_syslog(settings: CollectorSettings, around: Surroundings) -> Carrier:
    form = SyslogSettings(
        url=settings.syslog_url or "",
        format=settings.syslog_format,
        host_name=socket.gethostname(),
        version=around.version,
    )
    return Syslog(form)


def _make_alertmanager(settings: CollectorSettings, _: Surroundings) -> Carrier:
    return Alertmanager(AlertmanagerSettings(settings.alertmanager_url or ""))


def _make_slack(settings: CollectorSettings, _: Surroundings) -> Carrier:
    return Posting(Form(name="slack", url=check_address(_reveal(settings.slack_url), "Slack"), write=write_slack))


def _make_teams(settings: CollectorSettings, _: Surroundings) -> Carrier:
    return Posting(Form(name="teams", url=check_address(_reveal(settings.teams_url), "Teams"), write=write_teams))


def _make_pagerduty(settings: CollectorSettings, _: Surroundings) -> Carrier:
    key = check_routing_key(_reveal(settings.pagerduty_routing_key))
    url = check_address(settings.pagerduty_url, "PagerDuty")
    return Posting(Form(name="pagerduty", url=url, write=partial(write_pagerduty, routing_key=key)))


def _make_mail(settings: CollectorSettings, _: Surroundings) -> Carrier:
    form = MailSettings(url=_reveal(settings.smtp_url), sender=settings.email_from, recipients=settings.email_to)
    return Mail(form)


def _make_otlp(settings: CollectorSettings, around: Surroundings) -> Carrier:
    headers = read_headers(_reveal(settings.otlp_headers))
    form = Form(
        name="otlp",
        url=check_endpoint(settings.otlp_url or "", is_with_headers=bool(headers)),
        write=partial(write_otlp, version=around.version, cluster=settings.cluster),
        headers=headers,
        is_taken=is_taken,
    )
    return Posting(form)


def _make_ocsf(settings: CollectorSettings, around: Surroundings) -> Carrier:
    write = partial(write_ocsf, version=around.version, cluster=settings.cluster)
    return Posting(Form(name="ocsf", url=check_address(_reveal(settings.ocsf_url), "OCSF"), write=write))


def _make_ocsf_file(settings: CollectorSettings, around: Surroundings) -> Carrier:
    assert settings.ocsf_file is not None
    return OcsfFile(settings.ocsf_file, version=around.version, cluster=settings.cluster)


def _make_template(settings: CollectorSettings, _: Surroundings) -> Carrier:
    assert settings.template_file is not None
    content_type = settings.template_content_type
    form = Form(
        name="template",
        url=check_address(_reveal(settings.template_url), "template"),
        write=load_template(settings.template_file, content_type),
        content_type=content_type,
    )
    return Posting(form)


def _reveal(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


# By the setting that asks for it.
_MAKERS: Mapping[str, Callable[[CollectorSettings, Surroundings], Carrier]] = {
    "webhook_url": _make_webhook,
    "syslog_url": _make_syslog,
    "alertmanager_url": _make_alertmanager,
    "slack_url": _make_slack,
    "teams_url": _make_teams,
    "pagerduty_routing_key": _make_pagerduty,
    "smtp_url": _make_mail,
    "otlp_url": _make_otlp,
    "ocsf_url": _make_ocsf,
    "ocsf_file": _make_ocsf_file,
    "template_url": _make_template,
}

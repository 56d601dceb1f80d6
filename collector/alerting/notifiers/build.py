"""The table of notifiers: one row a receiver, with its settings and what makes its sender.

Every alert goes to all of those whose setting is there. To add one, see docs/internals/development.md.
"""

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from pydantic import SecretStr

from collector.alerting.alert import Alert, list_fields
from collector.alerting.notifiers.delivery import Notifier, Sender
from collector.alerting.notifiers.file import FileSender
from collector.alerting.notifiers.http import (
    HttpSender,
    check_address,
    check_otlp,
    check_plain_address,
    is_accepted_by_otlp,
    read_headers,
    sign_headers,
)
from collector.alerting.notifiers.mail import MailSender, MailSettings
from collector.alerting.notifiers.syslog import SyslogSender, SyslogSettings
from collector.alerting.notifiers.templates import load_template, write_json
from collector.core.config import CollectorSettings
from common.figures import Figure, list_figures

_ROUTING_KEY_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What senders say of this collector, and what they need of it. `load_secret` gives the webhook's, asked where one
    is set; `clock` gives unix seconds."""

    load_secret: Callable[[], str]
    version: str
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class NotifierRow:
    """One receiver of alerts."""

    name: str
    setting: str  # That asks for it.
    others: tuple[str, ...]  # Further settings of it.
    build: Callable[[str, CollectorSettings, Surroundings], Sender]  # Raises ValueError with one sentence.


def _build_webhook(name: str, settings: CollectorSettings, around: Surroundings) -> Sender:
    secret = around.load_secret()
    return HttpSender(
        name,
        check_address(_reveal(settings.webhook_url), "webhook"),
        write_alert,
        make_headers=lambda body: sign_headers(secret, around.clock(), body),
        takes_updates=True,
    )


def write_alert(alert: Alert) -> bytes:
    """Its fields as JSON."""
    return msgspec.json.encode(list_fields(alert))


def _build_syslog(name: str, settings: CollectorSettings, around: Surroundings) -> Sender:
    form = SyslogSettings(
        url=settings.syslog_url or "",
        format=settings.syslog_format,
        host_name=socket.gethostname(),
        version=around.version,
    )
    return SyslogSender(form)


def _build_alertmanager(name: str, settings: CollectorSettings, _: Surroundings) -> Sender:
    use = "http://HOST:9093 or https://HOST; a credential would be shown, let a proxy add it"
    url = check_plain_address(settings.alertmanager_url or "", "address of an Alertmanager", use)
    return HttpSender(name, url + "/api/v2/alerts", write_json(name), takes_updates=True)


def _build_json(name: str, settings: CollectorSettings, around: Surroundings, *, what: str) -> Sender:
    """Of a receiver that is known by its secret address alone."""
    url = check_address(_reveal(getattr(settings, f"{name}_url")), what)
    return HttpSender(name, url, _write_known(name, settings, around))


def _write_known(name: str, settings: CollectorSettings, around: Surroundings) -> Callable[[Alert], bytes]:
    return write_json(name, version=around.version, cluster=settings.cluster)


def _build_pagerduty(name: str, settings: CollectorSettings, _: Surroundings) -> Sender:
    key = _reveal(settings.pagerduty_routing_key)
    if len(key) != _ROUTING_KEY_CHARACTERS or not key.isascii() or not key.isalnum():
        raise ValueError(
            f"it is no integration key of PagerDuty, which has {_ROUTING_KEY_CHARACTERS} letters and digits; copy that "
            "of an Events API v2 integration"
        )
    url = check_address(settings.pagerduty_url, "PagerDuty")
    return HttpSender(name, url, write_json(name, routing_key=key))


def _build_mail(name: str, settings: CollectorSettings, _: Surroundings) -> Sender:
    return MailSender(
        MailSettings(url=_reveal(settings.smtp_url), sender=settings.email_from, recipients=settings.email_to)
    )


def _build_otlp(name: str, settings: CollectorSettings, around: Surroundings) -> Sender:
    headers = read_headers(_reveal(settings.otlp_headers))
    return HttpSender(
        name,
        check_otlp(settings.otlp_url or "", is_with_headers=bool(headers)),
        _write_known(name, settings, around),
        make_headers=lambda body: headers,
        is_accepted=is_accepted_by_otlp,
    )


def _build_ocsf_file(name: str, settings: CollectorSettings, around: Surroundings) -> Sender:
    assert settings.ocsf_file is not None
    return FileSender(name, settings.ocsf_file, _write_known("ocsf", settings, around))


def _build_template(name: str, settings: CollectorSettings, _: Surroundings) -> Sender:
    assert settings.template_file is not None
    content_type = settings.template_content_type
    return HttpSender(
        name,
        check_address(_reveal(settings.template_url), "template"),
        load_template(settings.template_file, content_type),
        make_headers=lambda body: {"content-type": content_type},
    )


def _reveal(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret is not None else ""


NOTIFIERS: Final = (
    NotifierRow("webhook", "webhook_url", (), _build_webhook),
    NotifierRow("syslog", "syslog_url", ("syslog_format",), _build_syslog),
    NotifierRow("alertmanager", "alertmanager_url", (), _build_alertmanager),
    NotifierRow("slack", "slack_url", (), partial(_build_json, what="Slack")),
    NotifierRow("teams", "teams_url", (), partial(_build_json, what="Teams")),
    NotifierRow("pagerduty", "pagerduty_routing_key", ("pagerduty_url",), _build_pagerduty),
    NotifierRow("mail", "smtp_url", ("email_from", "email_to"), _build_mail),
    NotifierRow("otlp", "otlp_url", ("otlp_headers",), _build_otlp),
    NotifierRow("ocsf", "ocsf_url", (), partial(_build_json, what="OCSF")),
    NotifierRow("ocsf_file", "ocsf_file", (), _build_ocsf_file),
    NotifierRow("template", "template_url", ("template_file", "template_content_type"), _build_template),
)


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


def compose_notifiers(
    settings: CollectorSettings, *, load_secret: Callable[[], str], version: str, clock: Callable[[], float]
) -> Notifiers:
    """Raises ValueError with one sentence that names the setting."""
    around = Surroundings(load_secret=load_secret, version=version, clock=clock)
    made = []
    for row in NOTIFIERS:
        if getattr(settings, row.setting) is None:
            continue
        try:
            made.append(Notifier(row.build(row.name, settings, around), clock=clock))
        except ValueError as error:
            raise ValueError(f"{row.setting}: {error}") from None
    return Notifiers(tuple(made))

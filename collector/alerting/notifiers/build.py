"""The table of notifiers: what makes the sender of each kind of receiver.

Every alert goes to all entries of the setting `notifiers` whose filters it fits. To add a kind, see
docs/internals/development.md.
"""

import base64
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from collector.alerting.alert import Alert, Severity, list_fields
from collector.alerting.notifiers.audit_feed import AuditFeed
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
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.notifiers.selection import QuietHours, Selection
from collector.alerting.notifiers.syslog import SyslogSender, SyslogSettings
from collector.alerting.notifiers.templates import load_template, write_entries_json, write_json
from collector.core.destinations import (
    AlertmanagerNotifier,
    AnyNotifier,
    AuditedNotifier,
    JiraNotifier,
    MailNotifier,
    OcsfFileNotifier,
    OcsfNotifier,
    OtlpNotifier,
    PagerDutyNotifier,
    PagerDutyRegion,
    SlackNotifier,
    SyslogNotifier,
    TeamsNotifier,
    TemplateNotifier,
    TicketNotifier,
    WebhookNotifier,
)
from collector.core.feature import Feature, Role
from collector.core.rates import LocalTime
from collector.storage.state.store import StateStore
from collector.trust.audit import AuditLine
from common.figures import Figure, list_figures
from common.settings import Secret, Section

_ROUTING_KEY_CHARACTERS: Final = 32
PAGERDUTY_URLS: Final[dict[PagerDutyRegion, str]] = {
    PagerDutyRegion.US: "https://events.pagerduty.com/v2/enqueue",
    PagerDutyRegion.EU: "https://events.eu.pagerduty.com/v2/enqueue",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What senders say of this collector, and what they need of it. `load_secret` gives the webhook's, asked where one
    is set; `clock` gives unix seconds."""

    cluster: str
    load_secret: Callable[[], str]
    version: str
    clock: Callable[[], float]


def _build_webhook(one: WebhookNotifier, around: Surroundings) -> Sender:
    secret = around.load_secret()
    return HttpSender(
        one.kind,
        check_address(one.url.get_secret_value(), "webhook"),
        write_alert,
        make_headers=lambda body: sign_headers(secret, around.clock(), body),
        write_entries=write_entries,
        takes_updates=True,
    )


def write_alert(alert: Alert) -> bytes:
    """Its fields as JSON."""
    return msgspec.json.encode(list_fields(alert))


def write_entries(entries: Sequence[AuditLine]) -> bytes:
    """Entries of the audit log as JSON."""
    return msgspec.json.encode({"audit": [asdict(one) for one in entries]})


def _build_syslog(one: SyslogNotifier, around: Surroundings) -> Sender:
    form = SyslogSettings(url=one.url, format=one.format, host_name=socket.gethostname(), version=around.version)
    return SyslogSender(form)


def _build_alertmanager(one: AlertmanagerNotifier, _: Surroundings) -> Sender:
    use = "http://HOST:9093 or https://HOST; a credential would be shown, let a proxy add it"
    url = check_plain_address(one.url, "address of an Alertmanager", use)
    return HttpSender(one.kind, url + "/api/v2/alerts", write_json(one.kind), takes_updates=True)


def _build_json(one: SlackNotifier | TeamsNotifier | OcsfNotifier, around: Surroundings, *, what: str) -> Sender:
    """Of a receiver that is known by its secret address alone."""
    return HttpSender(
        one.kind,
        check_address(one.url.get_secret_value(), what),
        _write_known(one.kind, around),
        write_entries=_write_audit(one.kind, around) if isinstance(one, AuditedNotifier) else None,
    )


def _write_known(name: str, around: Surroundings) -> Callable[[Alert], bytes]:
    return write_json(name, version=around.version, cluster=around.cluster)


def _write_audit(name: str, around: Surroundings) -> Callable[[Sequence[AuditLine]], bytes]:
    return write_entries_json(name, version=around.version, cluster=around.cluster)


def _build_pagerduty(one: PagerDutyNotifier, _: Surroundings) -> Sender:
    key = one.routing_key.get_secret_value()
    if len(key) != _ROUTING_KEY_CHARACTERS or not key.isascii() or not key.isalnum():
        raise ValueError(
            f"it is no integration key of PagerDuty, which has {_ROUTING_KEY_CHARACTERS} letters and digits; copy that "
            "of an Events API v2 integration"
        )
    return HttpSender(one.kind, PAGERDUTY_URLS[one.region], write_json(one.kind, routing_key=key))


def _build_mail(one: MailNotifier, _: Surroundings) -> Sender:
    return MailSender(MailSettings(url=one.url.get_secret_value(), sender=one.sender, recipients=one.recipients))


def _build_otlp(one: OtlpNotifier, around: Surroundings) -> Sender:
    headers = _read_headers(one.headers)
    return HttpSender(
        one.kind,
        check_otlp(one.url, is_with_headers=bool(headers)),
        _write_known(one.kind, around),
        make_headers=lambda body: headers,
        is_accepted=is_accepted_by_otlp,
        write_entries=_write_audit(one.kind, around),
    )


def _build_ocsf_file(one: OcsfFileNotifier, around: Surroundings) -> Sender:
    return FileSender(one.kind, one.path, _write_known("ocsf", around))


def _build_jira(one: JiraNotifier, _: Surroundings) -> Sender:
    use = "https://HOST, the token in `token`"
    url = check_address(check_plain_address(one.url, "address of Jira", use), "Jira")
    token = one.token.get_secret_value()
    basic = base64.b64encode(f"{one.user}:{token}".encode()).decode()
    headers = {"authorization": f"Basic {basic}" if one.user else f"Bearer {token}"}
    return HttpSender(
        one.kind,
        url + "/rest/api/2/issue",
        write_json(one.kind, project=one.project, issue_type=one.issue_type),
        make_headers=lambda body: headers,
        takes_openings=True,
    )


def _build_ticket(one: TicketNotifier, around: Surroundings) -> Sender:
    headers = _read_headers(one.headers)
    return HttpSender(
        one.kind,
        check_address(one.url.get_secret_value(), "ticket"),
        _write_known(one.kind, around),
        make_headers=lambda body: headers,
        takes_openings=True,
    )


def _build_template(one: TemplateNotifier, _: Surroundings) -> Sender:
    headers = {**_read_headers(one.headers), "content-type": one.content_type}
    return HttpSender(
        one.kind,
        check_address(one.url.get_secret_value(), "template"),
        load_template(one.template_file, one.content_type),
        make_headers=lambda body: headers,
        takes_openings=one.once,
    )


def _read_headers(secret: Secret | None) -> dict[str, str]:
    return read_headers(secret.get_secret_value() if secret is not None else "")


# By the model of their settings.
NOTIFIERS: Final[Mapping[type[Section], Callable[[Any, Surroundings], Sender]]] = {
    WebhookNotifier: _build_webhook,
    SyslogNotifier: _build_syslog,
    AlertmanagerNotifier: _build_alertmanager,
    SlackNotifier: partial(_build_json, what="Slack"),
    TeamsNotifier: partial(_build_json, what="Teams"),
    PagerDutyNotifier: _build_pagerduty,
    MailNotifier: _build_mail,
    OtlpNotifier: _build_otlp,
    OcsfNotifier: partial(_build_json, what="OCSF"),
    OcsfFileNotifier: _build_ocsf_file,
    JiraNotifier: _build_jira,
    TicketNotifier: _build_ticket,
    TemplateNotifier: _build_template,
}


@dataclass(frozen=True, slots=True)
class Notifiers:
    """All of them."""

    members: tuple[Notifier, ...]

    def add(self, connection: Connection, alerts: Sequence[Alert]) -> None:
        """Let alerts wait for everyone, in the transaction that keeps them. Raises StoreError."""
        for notifier in self.members if alerts else ():
            notifier.add(connection, alerts)

    def wake(self) -> None:
        """What was added is kept: deliver it."""
        for notifier in self.members:
            notifier.wake()

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Take back what waits and names a consumer by this pattern, and blank it in files of ours; how many that
        were. Raises OSError."""
        return sum(notifier.erase(pattern) for notifier in self.members)

    def start(self) -> None:
        """Begin to deliver."""
        for notifier in self.members:
            notifier.start()

    def stop(self) -> None:
        """End; what waits is sent after the next start."""
        for notifier in self.members:
            notifier.stop()

    @property
    def feature(self) -> Feature:
        """What the collector starts and shows."""
        return Feature(name="notifiers", role=Role.JOBS, start=self.start, stop=self.stop, figures=self.figures)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics, by notifier."""
        return tuple(
            figure
            for one in self.members
            for figure in (
                *list_figures(one.counts, "notifier_", notifier=one.name),
                *(one.feed.list_figures(one.name) if one.feed is not None else ()),
            )
        )


def build_notifiers(
    settings: Sequence[AnyNotifier],
    *,
    state: StateStore,
    cluster: str,
    load_secret: Callable[[], str],
    version: str,
    time_zone: str,
    clock: Callable[[], float],
) -> Notifiers:
    """One for each entry. Raises ValueError with one sentence that names the entry."""
    around = Surroundings(cluster=cluster, load_secret=load_secret, version=version, clock=clock)
    made = []
    for number, one in enumerate(settings):
        try:
            sender = NOTIFIERS[type(one)](one, around)
            selection = Selection(
                severity=Severity(one.severity),
                kinds=one.kinds,
                services=one.services,
                namespaces=one.namespaces,
                quiet_hours=QuietHours(one.quiet_hours, LocalTime(time_zone)),
            )
        except ValueError as error:
            raise ValueError(f"notifiers[{number}], {one.kind}: {error}") from None
        name = one.name or sender.name
        actions = one.audit if isinstance(one, AuditedNotifier) else ()
        feed = AuditFeed(state, name, actions, clock) if actions else None
        outbox = Outbox(state, name)
        made.append(Notifier(sender, outbox, name=one.name, selection=selection, feed=feed, clock=clock))
    return Notifiers(tuple(made))

"""Where alerts and blocks are sent: a model of settings for each kind of receiver (docs/use/notifiers.md and
docs/use/response.md).

The settings `notifiers` and `integrations` are lists of these. A kind may occur more than once, with a `name` each.
"""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from common.settings import AS_JSON, Secret, Section


class SyslogFormat(StrEnum):
    """What a syslog message about an alert holds."""

    RFC5424 = "rfc5424"  # Structured data and a sentence.
    CEF = "cef"  # A record of the Common Event Format.


class PagerDutyRegion(StrEnum):
    """Where PagerDuty keeps the account."""

    US = "us"
    EU = "eu"


class _Notifier(Section):
    name: str = Field(default="", max_length=64, pattern=r"^[a-z0-9_-]*$")
    """Name in the API and in metrics. Without it, the kind; two of a kind need it."""
    severity: Literal["low", "medium", "high"] = "low"
    """Least severe alerts that it gets."""
    kinds: tuple[str, ...] = Field(default=(), max_length=100)
    """Kinds of alerts that it gets, with `*` and `?`, as `volume_*`. Default: all."""
    services: tuple[str, ...] = Field(default=(), max_length=500)
    """Services whose alerts it gets, as they are listed, with `*` and `?`, as `shop/*`. Default: all."""
    namespaces: tuple[str, ...] = Field(default=(), max_length=500)
    """Namespaces of Kubernetes whose alerts it gets, with `*` and `?`. Default: all."""
    quiet_hours: tuple[str, ...] = Field(default=(), max_length=20)
    """When alerts below high severity wait, in `time_zone`, as `Mon-Fri 20:00-07:00`, `Sat,Sun 00:00-24:00`."""


class AuditedNotifier(_Notifier):
    """One that takes entries of the audit log too."""

    audit: tuple[str, ...] = Field(default=(), max_length=100)
    """Actions of the audit log whose entries it gets, with `*` and `?`, as `token.*`. Default: none."""


class WebhookNotifier(AuditedNotifier):
    """Each change of an alert as signed JSON."""

    kind: Literal["webhook"]
    url: Secret
    """URL; https, or http on loopback."""


class SyslogNotifier(AuditedNotifier):
    """A syslog server."""

    kind: Literal["syslog"]
    url: str
    """udp://, tcp:// or tls://HOST:PORT."""
    format: SyslogFormat = SyslogFormat.RFC5424
    """Structured data of RFC 5424, or the Common Event Format."""


class AlertmanagerNotifier(_Notifier):
    """A Prometheus Alertmanager."""

    kind: Literal["alertmanager"]
    url: str
    """URL of the Alertmanager."""


class SlackNotifier(AuditedNotifier):
    """Slack."""

    kind: Literal["slack"]
    url: Secret
    """Incoming webhook."""


class TeamsNotifier(_Notifier):
    """Microsoft Teams."""

    kind: Literal["teams"]
    url: Secret
    """Webhook of a workflow."""


class PagerDutyNotifier(_Notifier):
    """PagerDuty, by its Events API v2."""

    kind: Literal["pagerduty"]
    routing_key: Secret
    """Routing key of a service."""
    region: PagerDutyRegion = PagerDutyRegion.US
    """Region of the account."""


class MailNotifier(_Notifier):
    """Mails."""

    kind: Literal["mail"]
    url: Secret
    """smtp://USER:PASSWORD@HOST:587 (STARTTLS) or smtps://HOST:465."""
    sender: str = Field(min_length=1, max_length=320)
    """Sender address."""
    recipients: tuple[str, ...] = Field(min_length=1, max_length=50)
    """Recipients."""


class OtlpNotifier(AuditedNotifier):
    """Log records by OTLP/HTTP."""

    kind: Literal["otlp"]
    url: str
    """Endpoint; `/v1/logs` is added."""
    headers: Secret | None = None
    """Headers, as NAME=VALUE with commas, percent-encoded."""


class OcsfNotifier(_Notifier):
    """OCSF Detection Findings, posted."""

    kind: Literal["ocsf"]
    url: Secret
    """URL that receives them."""


class OcsfFileNotifier(_Notifier):
    """OCSF Detection Findings, one JSON line each in a file."""

    kind: Literal["ocsf_file"]
    path: Path
    """The file; lines are appended."""


class JiraNotifier(_Notifier):
    """An issue in Jira for each alert that opens."""

    kind: Literal["jira"]
    url: str
    """Address of Jira, as https://example.atlassian.net."""
    user: str = Field(default="", max_length=320)
    """Mail address of the account in the cloud. Without it, the token is a personal access token."""
    token: Secret
    """API token."""
    project: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """Key of the project."""
    issue_type: str = Field(default="Task", min_length=1, max_length=80)
    """Type of the issues."""


class TicketNotifier(_Notifier):
    """A ticket for each alert that opens, as plain JSON, posted."""

    kind: Literal["ticket"]
    url: Secret
    """URL that receives it."""
    headers: Secret | None = None
    """Headers, as NAME=VALUE with commas, percent-encoded."""


class TemplateNotifier(_Notifier):
    """What your template makes of an alert, posted."""

    kind: Literal["template"]
    url: Secret
    """URL that receives it."""
    template_file: Path
    """Jinja template of the body."""
    content_type: str = Field(default="application/json", pattern=r"^[a-z]+/[a-z0-9.+-]+(; ?charset=utf-8)?$")
    """Media type of the body."""
    headers: Secret | None = None
    """Headers, as NAME=VALUE with commas, percent-encoded."""
    once: bool = False
    """Send each alert once, when it opens, as a ticket."""


class WebhookIntegration(Section):
    """Every decision on blocks as signed JSON."""

    kind: Literal["webhook"]
    url: Secret
    """URL; https, or http on loopback."""


class FilesIntegration(Section):
    """Deny lists for proxies, as files that are kept up to date."""

    kind: Literal["files"]
    directory: Path
    """Directory of the files."""


class HaproxyIntegration(Section):
    """A list of HAProxy."""

    kind: Literal["haproxy"]
    socket: str = Field(max_length=512, pattern=r"^(/\S+|\S+:[0-9]{1,5})$")
    """Runtime API, as the path of a socket or HOST:PORT."""
    acl: str = Field(min_length=1, max_length=512, pattern=r"^[!-:<-~]*$")
    """Name of the list, as in `acl .. src -f NAME`. All its entries are replaced."""


class TraefikIntegration(Section):
    """How the deny list of Traefik is written, in files and by the API."""

    kind: Literal["traefik"]
    entry_points: tuple[str, ...] = ("web", "websecure")
    """Entry points to which the list applies. Empty: all that are default in Traefik."""


class OtlpIntegration(Section):
    """Metrics of services by OTLP/HTTP, as protobufs."""

    kind: Literal["otlp"]
    url: str
    """Endpoint; `/v1/metrics` is added."""
    headers: Secret | None = None
    """Headers, as NAME=VALUE with commas, percent-encoded."""


AnyNotifier = (
    WebhookNotifier
    | SyslogNotifier
    | AlertmanagerNotifier
    | SlackNotifier
    | TeamsNotifier
    | PagerDutyNotifier
    | MailNotifier
    | OtlpNotifier
    | OcsfNotifier
    | OcsfFileNotifier
    | JiraNotifier
    | TicketNotifier
    | TemplateNotifier
)
AnyIntegration = WebhookIntegration | FilesIntegration | HaproxyIntegration | TraefikIntegration | OtlpIntegration


def _check_names(notifiers: tuple[AnyNotifier, ...]) -> tuple[AnyNotifier, ...]:
    for name, count in Counter(one.name or one.kind for one in notifiers).items():
        if count > 1:
            raise ValueError(f"names {count} receivers {name}; give each a `name` of its own")
    return notifiers


def _check_kinds(integrations: tuple[AnyIntegration, ...]) -> tuple[AnyIntegration, ...]:
    for kind, count in Counter(one.kind for one in integrations).items():
        if count > 1 and kind in ("webhook", "traefik", "otlp"):
            raise ValueError(f"has {count} entries of kind {kind}; keep one")
    return integrations


NotifierList = Annotated[
    tuple[Annotated[AnyNotifier, Field(discriminator="kind")], ...], AfterValidator(_check_names), AS_JSON
]
IntegrationList = Annotated[
    tuple[Annotated[AnyIntegration, Field(discriminator="kind")], ...], AfterValidator(_check_kinds), AS_JSON
]

"""What a report says: the inventory, risk and alerts of a collector that has seen a capture, as one value.

Lists are in an order of their own, so that two reports of one file are equal. There are names, kinds, counts and
times in it, and no value of a call.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from collector.alerting.alert import Alert, AlertState, Severity
from collector.api.services import Services
from collector.inventory.endpoints.bodies import PERSONAL
from collector.inventory.endpoints.endpoint import AuthenticationLevel, Endpoint, Tier
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery, EndpointSort
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.filters import LIMIT_MAX
from collector.inventory.naming import name_service
from collector.inventory.query import Span, span_between
from collector.risk.finding import Circumstances, Finding, FindingState, Past, Recent
from collector.risk.finding import Severity as FindingSeverity
from collector.risk.finding_query import FindingQuery
from common.capture_report import CaptureSummary, UnreadPart

_NO_CREDENTIALS = ("none", "possible_credential", "unknown")
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedData:
    """One kind of data at one place of an endpoint's calls."""

    kind: str
    data_class: str
    side: str
    calls: int
    share: float  # Of the calls whose place was read.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedEndpoint:
    """One endpoint. Latencies are milliseconds, None where none was measured."""

    method: str
    host: str
    url_template: str
    protocols: tuple[str, ...]
    tier: str
    calls: int
    success: int
    redirection: int
    client_error: int
    server_error: int
    unanswered: int
    p50_ms: float | None
    p95_ms: float | None
    consumers: int
    authentication: str
    authentication_kinds: tuple[str, ...]
    is_login: bool
    exposure: str
    risk_score: int | None
    risk_level: str
    is_lossy: bool
    data: tuple[ReportedData, ...]

    @property
    def has_personal_data(self) -> bool:
        """Whether its calls hold data of persons."""
        return any(one.data_class in PERSONAL for one in self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedService:
    """One service with its endpoints, the most called first."""

    name: str
    calls: int
    endpoints: tuple[ReportedEndpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCredential:
    """A kind of credential. `calls` are those answered with success."""

    kind: str
    calls: int
    endpoints: int
    carriers: tuple[str, ...]
    weaknesses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFinding:
    """One finding of risk."""

    severity: str
    title: str
    rule: str
    owasp: str
    where: str
    why: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAlert:
    """One alert. Times are unix seconds."""

    severity: str
    kind: str
    owasp: str
    title: str
    why: str
    advice: str
    confidence: str
    opened_at: int
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureReport:
    """All of it."""

    version: str
    account: CaptureSummary
    services: tuple[ReportedService, ...]
    credentials: tuple[ReportedCredential, ...]
    findings: tuple[ReportedFinding, ...]
    alerts: tuple[ReportedAlert, ...]
    suppressed_alerts: int  # Beyond the budget of alerts a day.

    @property
    def endpoints(self) -> list[tuple[ReportedService, ReportedEndpoint]]:
        """Those of all services."""
        return [(service, endpoint) for service in self.services for endpoint in service.endpoints]

    @property
    def unauthenticated(self) -> list[tuple[ReportedService, ReportedEndpoint]]:
        """Those that answered with success to callers without credentials, and are no logins."""
        levels = (AuthenticationLevel.NONE, AuthenticationLevel.PARTIAL)
        found = self.endpoints
        return [(service, one) for service, one in found if one.authentication in levels and not one.is_login]


def build_report(services: Services, account: CaptureSummary, version: str) -> CaptureReport:
    """Read it from the collector. Raises StoreError."""
    span = _find_span(account, services.clock())
    inventory = EndpointInventory(reader=services.store, who=ConsumerSql(services.settings.consumer_order))
    endpoints = _list_endpoints(inventory, span)
    known = {endpoint.id for endpoint in endpoints}
    assert services.risks is not None
    findings = _list_findings(services, known)
    alerts = _list_alerts(services)
    grouped = _group(endpoints)
    missing = account.calls - sum(service.calls for service in grouped)
    return CaptureReport(
        version=version,
        account=replace(account, unread=(*account.unread, *([_word_missing(missing)] if missing > 0 else []))),
        services=grouped,
        credentials=_sum_credentials(endpoints),
        findings=tuple(map(_report_finding, findings)),
        alerts=tuple(map(_report_alert, alerts)),
        suppressed_alerts=services.alerts.suppressed_count,
    )


def _word_missing(calls: int) -> UnreadPart:
    """Calls that no table took: a collector takes none that are so much older than what came before."""
    return UnreadPart(
        what="Calls out of the order of time",
        count=calls,
        why="They are days older than calls before them in the file: sort its packets, as with `reordercap`.",
    )


def _find_span(account: CaptureSummary, now: float) -> Span:
    """All of the capture, in the rows that answer for so long a time."""
    start, end = account.first_unix_ns // _NS, account.last_unix_ns // _NS
    return span_between(start, max(end, start) + 1, now)


def _list_endpoints(inventory: EndpointInventory, span: Span) -> list[Endpoint]:
    found: list[Endpoint] = []
    cursor = ""
    while True:
        query = EndpointQuery(sort=EndpointSort.TEMPLATE, limit=LIMIT_MAX, cursor=cursor)
        page = inventory.list_endpoints(query, span)
        found += page.items
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


def _list_findings(services: Services, known: set[str]) -> list[Finding]:
    """Open ones of endpoints that there are; others had a name that was merged with another one since."""
    assert services.risks is not None
    found: list[Finding] = []
    cursor: str | None = ""
    while cursor is not None:
        query = FindingQuery(state=FindingState.OPEN, limit=LIMIT_MAX, cursor=cursor)
        page = services.risks.table.list_findings(query)
        found += page.items
        cursor = page.next_cursor
    order = list(FindingSeverity)
    current = [one for one in found if not one.endpoint_id or one.endpoint_id in known]
    return sorted(
        current,
        key=lambda one: (order.index(one.severity), one.rule, one.service, one.url_template, one.method, one.host),
    )


def _list_alerts(services: Services) -> list[Alert]:
    shown = services.alerts.list_alerts(state=None, kind=None, limit=1_000, after=None)
    severities = list(Severity)
    return sorted(shown, key=lambda one: (-severities.index(one.severity), one.opened_at, one.kind, one.title))


def _group(endpoints: Sequence[Endpoint]) -> tuple[ReportedService, ...]:
    by_service: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in endpoints:
        by_service[name_service(endpoint.service)].append(endpoint)
    services = [
        ReportedService(
            name=name,
            # Calls of operations are calls of their endpoint too.
            calls=sum(one.calls for one in members if one.operation is None),
            endpoints=tuple(
                _report_endpoint(one)
                for one in sorted(members, key=lambda one: (-one.calls, one.path, one.method, one.host))
            ),
        )
        for name, members in by_service.items()
    ]
    return tuple(sorted(services, key=lambda one: (-one.calls, one.name)))


def _report_endpoint(endpoint: Endpoint) -> ReportedEndpoint:
    status, latency, risk = endpoint.status, endpoint.latency_ms, endpoint.risk
    found = endpoint.bodies.data if endpoint.bodies is not None else ()
    return ReportedEndpoint(
        method=endpoint.method,
        host=endpoint.host,
        url_template=endpoint.path,
        protocols=tuple(sorted(endpoint.protocols)),
        tier=Tier(endpoint.tier).value,
        calls=endpoint.calls,
        success=status.success,
        redirection=status.redirection,
        client_error=status.client_error,
        server_error=status.server_error,
        unanswered=status.aborted + status.not_read,
        p50_ms=None if latency is None else latency.p50,
        p95_ms=None if latency is None else latency.p95,
        consumers=endpoint.consumers,
        authentication=endpoint.authentication.level.value,
        authentication_kinds=tuple(
            sorted(kind for kind in endpoint.authentication.kinds if kind not in _NO_CREDENTIALS)
        ),
        is_login=_is_login(endpoint),
        exposure=endpoint.exposure.level.value,
        risk_score=None if risk is None else risk.score,
        risk_level="" if risk is None else risk.level,
        is_lossy=endpoint.is_lossy,
        data=tuple(
            ReportedData(
                kind=one.kind,
                data_class=one.data_class.value,
                side=one.side.value,
                calls=one.calls,
                share=round(one.share, 4),
            )
            for one in sorted(found, key=lambda one: (one.side, one.data_class, one.kind))
        ),
    )


def _is_login(endpoint: Endpoint) -> bool:
    return Circumstances(endpoint=endpoint, past=Past(), recent=Recent(), now=0.0, seconds=1).is_login


def _sum_credentials(endpoints: Sequence[Endpoint]) -> tuple[ReportedCredential, ...]:
    calls: dict[str, int] = defaultdict(int)
    members: dict[str, set[str]] = defaultdict(set)
    carriers: dict[str, set[str]] = defaultdict(set)
    weaknesses: dict[str, set[str]] = defaultdict(set)
    for endpoint in endpoints:
        if endpoint.operation is not None:
            continue
        authentication = endpoint.authentication
        kinds = [kind for kind in authentication.kinds if kind not in _NO_CREDENTIALS]
        for kind in kinds:
            calls[kind] += authentication.kinds[kind]
            members[kind].add(endpoint.id)
            if len(kinds) == 1:  # Of several it is not known which one is carried where, or is weak.
                carriers[kind] |= authentication.carriers.keys()
                weaknesses[kind] |= authentication.weaknesses.keys()
    return tuple(
        ReportedCredential(
            kind=kind,
            calls=calls[kind],
            endpoints=len(members[kind]),
            carriers=tuple(sorted(carriers[kind])),
            weaknesses=tuple(sorted(weaknesses[kind])),
        )
        for kind in sorted(calls, key=lambda kind: (-calls[kind], kind))
    )


def _report_finding(finding: Finding) -> ReportedFinding:
    named = f"{finding.method} {finding.host}{finding.url_template} of {finding.service}"
    return ReportedFinding(
        severity=finding.severity.value,
        title=finding.title,
        rule=finding.rule,
        owasp=finding.owasp,
        where=named if finding.endpoint_id else finding.service,
        why=finding.why,
        advice=finding.advice,
    )


def _report_alert(alert: Alert) -> ReportedAlert:
    assert alert.state in AlertState
    return ReportedAlert(
        severity=alert.severity.value,
        kind=alert.kind.value,
        owasp=alert.risk,
        title=alert.title,
        why=alert.why,
        advice=alert.advice,
        confidence=alert.confidence.value,
        opened_at=int(alert.opened_at),
        calls=alert.calls,
    )

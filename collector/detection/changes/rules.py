"""Decides what is new about endpoints and workloads, and what of that is worth an alert. Pure, except for reads of
callers.

Takes observations (what one look of the risk job saw of an endpoint), callers and known facts, and gives facts. A
fact is something that exists, since when, and whether it was reported.

A fact is news where its subject was known for long enough. A service, an endpoint whose responses were read, or a
workload must be known for a day. For an endpoint with few consumers, a new one is news after two weeks without any.
Nothing is news in the first day of the installation.

`StoredCallers` reads from the store who was served by some endpoints in the last day.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from collector.core.kinds import ConsumerKind
from collector.inventory.consumers.consumer import PRINCIPAL_KINDS
from collector.inventory.endpoints.bodies import PERSONAL, BodySide, DataClass
from collector.inventory.endpoints.endpoint import SeenAt
from collector.inventory.endpoints.outbound import Routes, find_routes
from collector.inventory.endpoints.predicates import SUCCESS, ConsumerSql, counted_rows_of_routes, span_parameters
from collector.inventory.naming import name_service
from collector.inventory.partners import is_public
from collector.inventory.query import Since, Span, span_since
from collector.risk.finding import Circumstances, Finding, FindingState
from collector.storage.records import Reader, select

# Pods and jobs come and go, and each time with another address: callers inside that have no name are one.
INSIDE: Final = "inside:"
# Who logs in anew has another session.
SESSIONS: Final = "sessions:"
_SESSION: Final = next(number for number, kind in PRINCIPAL_KINDS.items() if kind == "session")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`name`: `kind:value`, INSIDE or SESSIONS, of an endpoint's consumers; of calls out the workload that made them.
    `key_id`: of its hash."""

    endpoint_id: str
    name: str
    key_id: int
    first_seen: int


class StoredCallers:
    """Who called, by the rows in the store; methods raise StoreError."""

    def __init__(self, reader: Reader, who: ConsumerSql) -> None:
        self._reader, self._who = reader, who

    def read_consumers(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """Who was answered 2xx by these endpoints, at most `limit` an endpoint."""
        who = self._who.id
        is_address = f"startsWith({who}, '{ConsumerKind.ADDRESS}:')"
        is_session = f"startsWith({who}, '{ConsumerKind.PRINCIPAL}:') AND r.principal_kind = {_SESSION}"
        name = (
            f"multiIf({is_session}, '{SESSIONS}', "
            f"{is_address} AND r.client_workload != '', concat('{ConsumerKind.WORKLOAD}:', r.client_workload), "
            f"{is_address} AND NOT {is_public('r.client_address')}, '{INSIDE}', {who})"
        )
        return _read(self._reader, ids, now, limit, name, SUCCESS)

    def read_workloads(self, ids: Sequence[str], now: float, limit: int) -> list[Caller]:
        """Whose programs called these servers of others, at most `limit` an endpoint."""
        name = f"concat('{ConsumerKind.WORKLOAD}:', r.client_workload)"
        return _read(self._reader, ids, now, limit, name, "r.client_workload != ''")

    def find_services(self, workloads: Sequence[str]) -> dict[str, int]:
        """Of workloads, as consumers, that serve too: when they were seen first (unix seconds)."""
        names = [name.partition(":")[2] for name in workloads]
        rows = select(self._reader, _SERVICES, {"names": names}) if names else []
        return {f"{ConsumerKind.WORKLOAD}:{row['name']}": int(row["first_seen"]) for row in rows}


_SERVICES: Final = """
SELECT if(r.namespace = '', toString(r.workload), concat(r.namespace, '/', r.workload)) AS name,
    toUnixTimestamp(min(r.first_seen)) AS first_seen
FROM routes AS r WHERE name IN {names:Array(String)} GROUP BY name"""


def _read(reader: Reader, ids: Sequence[str], now: float, limit: int, name: str, condition: str) -> list[Caller]:
    if not ids:
        return []
    span = span_since(Since.DAY, now)
    routes = find_routes(reader, list(ids), span_parameters(span))
    owners = list(routes.named)
    rows = select(reader, _statement(span, name, condition), _parameters(span, routes, limit)) if owners else []
    return [
        Caller(
            endpoint_id=owners[int(row["owner"]) - 1],
            name=row["name"],
            key_id=int(row["key_id"]),
            first_seen=int(row["first_seen"]),
        )
        for row in rows
    ]


def _parameters(span: Span, routes: Routes, limit: int) -> Mapping[str, Any]:
    return {**span_parameters(span), **routes.parameters, "limit": limit}


def _statement(span: Span, name: str, condition: str) -> str:
    return f"""
SELECT transform(r.route_id, {{routes:Array(UInt64)}}, {{owners:Array(UInt32)}}, toUInt32(0)) AS owner, {name} AS name,
    max(r.key_id) AS key_id, toUnixTimestamp(min(r.first_seen)) AS first_seen
{counted_rows_of_routes(span)} AND {condition}
GROUP BY owner, name
ORDER BY owner, first_seen, name
LIMIT {{limit:UInt32}} BY owner"""


# Sampled responses that held a class before it is one of the endpoint's: one alone may be a chance hit.
_CLASS_CALLS_MIN: Final = 2
_LOGIN_RULE: Final = "missing_authentication"
_SENSITIVE: Final = PERSONAL | {DataClass.SECRET, DataClass.CUSTOM}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEndpoint:
    """Times are unix seconds. `scope` is its service over all hosts and ports of one name; `login_gone` the finding
    that its login went, where that is open."""

    id: str
    scope: str
    service: str
    host: str
    label: str
    first_seen: float
    is_served: bool  # 2xx or 3xx.
    is_third_party: bool
    is_open: bool  # Returns personal data to whoever asks.
    has_bodies: bool
    classes: frozenset[DataClass]  # Sensitive ones in responses.
    consumers: int  # Of the last day.
    login_gone: Finding | None


def read_endpoint(seen: Circumstances, findings: Sequence[Finding]) -> SeenEndpoint:
    """Of an endpoint as it was judged."""
    endpoint = seen.endpoint
    gone = (one for one in findings if one.rule == _LOGIN_RULE and one.state is FindingState.OPEN)
    service = name_service(endpoint.service)
    return SeenEndpoint(
        id=endpoint.id,
        scope=f"{endpoint.service.cluster}|{service}",
        service=service,
        host=endpoint.host or endpoint.service.workload,
        label=f"{endpoint.method} {endpoint.template}",
        first_seen=endpoint.first_seen,
        is_served=endpoint.seen_at is not SeenAt.CLIENT and endpoint.status.success + endpoint.status.redirection > 0,
        is_third_party=not seen.is_ours,
        is_open=seen.is_open and bool(seen.personal_kinds),
        has_bodies=endpoint.bodies is not None and endpoint.bodies.responses_read > 0,
        classes=_find_classes(seen),
        consumers=endpoint.consumers,
        login_gone=next(gone, None),
    )


def _find_classes(seen: Circumstances) -> frozenset[DataClass]:
    calls: Counter[DataClass] = Counter()
    for one in seen.data:
        if one.side is BodySide.RESPONSE and one.data_class in _SENSITIVE:
            calls[one.data_class] += one.calls
    found = frozenset(name for name, count in calls.items() if count >= _CLASS_CALLS_MIN)
    return found - {DataClass.SECRET} if seen.is_login else found  # Tokens are what a login is for.


# Stands for all details: there are too many of them for another one to be news.
OPEN: Final = "*"


class FactKind(StrEnum):
    """What is there."""

    START = "start"  # The first look of all; its subject is empty.
    SERVICE = "service"
    ENDPOINT = "endpoint"  # It was served.
    DATA = "data"  # `detail`: a class of data in responses; empty: responses were read at all.
    CONSUMER = "consumer"  # `detail`: who was served by an endpoint.
    OUTBOUND = "outbound"  # `subject`: a workload as a consumer; `detail`: a host it called.
    LOGIN = "login"  # `detail`: when the finding was opened.
    # Of servers of the Model Context Protocol (collector/detection/changes/mcp.py).
    MCP_SERVER = "mcp_server"
    MCP_ITEM = "mcp_item"  # `subject`: a server; `detail`: a tool or prompt with its pin; `label` names it.
    MCP_NAME = "mcp_name"  # `subject`: the name of a tool; `detail`: a server that offers it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A row of `change_facts`; times are unix seconds. `scope`: what is told of together, a service or a workload;
    `anchor`: the subject or detail that its alert began with, empty where nobody was told (`told_at` is 0 then)."""

    kind: FactKind
    subject: str
    detail: str = ""
    scope: str = ""
    label: str = ""
    anchor: str = ""
    first_seen: float
    seen_at: float
    told_at: float = 0.0
    key_id: int = 0  # Of hashes in `detail`.


class Baseline:
    """The facts about some subjects."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._facts: dict[tuple[FactKind, str], dict[str, Fact]] = {}
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> None:
        """The newest holds."""
        self._facts.setdefault((fact.kind, fact.subject), {})[fact.detail] = fact

    def drop(self, fact: Fact) -> None:
        """It is known no more."""
        self._facts.get((fact.kind, fact.subject), {}).pop(fact.detail, None)

    def find(self, kind: FactKind, subject: str, detail: str = "") -> Fact | None:
        """One fact."""
        return self.of(kind, subject).get(detail)

    def of(self, kind: FactKind, subject: str) -> Mapping[str, Fact]:
        """All of a subject, by detail."""
        return self._facts.get((kind, subject), {})


DAY_SECONDS: Final = 86_400.0
LEARNING_SECONDS: Final = DAY_SECONDS
STABLE_SECONDS: Final = 14 * DAY_SECONDS
CONSUMERS_MAX: Final = 10  # Of an endpoint of few.
HOSTS_MAX: Final = 50  # Of a workload that calls few; others browse.
REFRESH_SECONDS: Final = 30 * DAY_SECONDS  # A fact that is still so is written anew, for its row expires.
_HASHED: Final = ("principal:", "credential:")


def find_endpoint_changes(seen: SeenEndpoint, known: Baseline, now: float, *, is_learning: bool) -> list[Fact]:
    """What an endpoint shows of itself. Facts that are told of have their time of telling."""
    facts: list[Fact] = []
    if seen.is_third_party:
        return facts
    if seen.is_served:
        facts += _find_new_endpoint(seen, known, now, is_learning=is_learning)
    if seen.has_bodies:
        facts += _find_new_data(seen, known, now, is_learning=is_learning)
    if seen.login_gone is not None and not is_learning:  # Still so after the first day, it is reported then.
        opened = f"{seen.login_gone.changed_at:.0f}"
        if known.find(FactKind.LOGIN, seen.id, opened) is None:
            facts.append(_mark_reported(_make(FactKind.LOGIN, seen, now, detail=opened), now))
    return facts


def _find_new_endpoint(seen: SeenEndpoint, known: Baseline, now: float, *, is_learning: bool) -> list[Fact]:
    service, endpoint = known.find(FactKind.SERVICE, seen.scope), known.find(FactKind.ENDPOINT, seen.id)
    since = min(seen.first_seen, now)
    facts: list[Fact] = []
    if service is None or _is_due(service, now):
        first = Fact(kind=FactKind.SERVICE, subject=seen.scope, first_seen=since, seen_at=now)
        facts.append(first if service is None else replace(service, seen_at=now))
    if endpoint is not None:
        return [*facts, replace(endpoint, seen_at=now)] if _is_due(endpoint, now) else facts
    fact = _make(FactKind.ENDPOINT, seen, now, first_seen=since)
    # One that was asked for longer ago has another id now, by a merge or a name, or was refused until today.
    is_young = now - since <= DAY_SECONDS
    is_news = is_young and service is not None and now - service.first_seen >= DAY_SECONDS and not is_learning
    return [*facts, _mark_reported(fact, now) if is_news else fact]


def _find_new_data(seen: SeenEndpoint, known: Baseline, now: float, *, is_learning: bool) -> list[Fact]:
    before = known.of(FactKind.DATA, seen.id)
    base = before.get("")
    is_settled = base is not None and now - base.first_seen >= DAY_SECONDS and not is_learning
    facts: list[Fact] = []
    for detail in ("", *sorted(seen.classes)):
        fact = before.get(detail)
        if fact is not None:
            facts += [replace(fact, seen_at=now)] if _is_due(fact, now) else []
            continue
        fresh = _make(FactKind.DATA, seen, now, detail=detail)
        facts.append(_mark_reported(fresh, now) if is_settled else fresh)
    return facts


def find_new_consumers(
    seen: SeenEndpoint, callers: Sequence[Caller], known: Baseline, now: float, *, is_learning: bool
) -> list[Fact]:
    """Who was served by an endpoint of few consumers; one that has more is open from then on."""
    before = known.of(FactKind.CONSUMER, seen.id)
    if OPEN in before:
        return [replace(before[OPEN], seen_at=now)] if _is_due(before[OPEN], now) else []
    fresh = [
        _make(FactKind.CONSUMER, seen, now, detail=one.name, key_id=one.key_id)
        for one in callers
        if one.name not in before
    ]
    if len(before) + len(fresh) > CONSUMERS_MAX or seen.consumers > CONSUMERS_MAX:
        return [_make(FactKind.CONSUMER, seen, now, detail=OPEN)]
    old = [fact for fact in before.values() if not fact.told_at]  # Who was told of makes none unstable.
    is_stable = bool(old) and all(now - fact.first_seen >= STABLE_SECONDS for fact in old) and not is_learning
    facts = [replace(fact, seen_at=now) for fact in before.values() if _is_due(fact, now)]
    return facts + [_mark_reported(fact, now) if is_stable and not _is_renamed(fact, old) else fact for fact in fresh]


def find_new_hosts(
    workload: str, hosts: Iterable[SeenEndpoint], base: float, known: Baseline, now: float, *, is_learning: bool
) -> list[Fact]:
    """What a workload calls outside. `base`: since when the workload is known, unix seconds."""
    before = known.of(FactKind.OUTBOUND, workload)
    if OPEN in before:
        return [replace(before[OPEN], seen_at=now)] if _is_due(before[OPEN], now) else []
    by_name = {seen.host: seen for seen in sorted(hosts, key=lambda one: (one.first_seen, one.id), reverse=True)}
    first = before.get("")
    since = min(base, first.first_seen if first is not None else now)
    is_settled = now - since >= DAY_SECONDS and not is_learning
    facts = [replace(fact, seen_at=now) for name, fact in before.items() if name in by_name and _is_due(fact, now)]
    if first is None or _is_due(first, now):
        facts.append(_outbound(workload, "", since, now))
    fresh = [
        _outbound(workload, name, min(seen.first_seen, now), now)
        for name, seen in sorted(by_name.items())
        if name not in before
    ]
    if len(before) + len(fresh) > HOSTS_MAX:
        return [_outbound(workload, OPEN, now, now)]
    return facts + [_mark_reported(fact, now) if is_settled else fact for fact in fresh]


def _outbound(workload: str, host: str, since: float, now: float) -> Fact:
    return Fact(
        kind=FactKind.OUTBOUND,
        subject=workload,
        detail=host,
        scope=workload,
        label=host,
        first_seen=since,
        seen_at=now,
    )


def _is_renamed(fact: Fact, old: Sequence[Fact]) -> bool:
    """Whether a hash may be one that is known, by the installation's key of before."""
    if not fact.detail.startswith(_HASHED):
        return False
    keys = {one.key_id for one in old if one.detail.startswith(_HASHED)}
    return bool(keys) and fact.key_id not in keys


def _make(
    kind: FactKind,
    seen: SeenEndpoint,
    now: float,
    *,
    detail: str = "",
    first_seen: float | None = None,
    key_id: int = 0,
) -> Fact:
    return Fact(
        kind=kind,
        subject=seen.id,
        detail=detail,
        scope=seen.scope,
        label=seen.label,
        first_seen=now if first_seen is None else first_seen,
        seen_at=now,
        key_id=key_id,
    )


def _mark_reported(fact: Fact, now: float) -> Fact:
    return replace(fact, told_at=now)


def _is_due(fact: Fact, now: float) -> bool:
    return now - fact.seen_at >= REFRESH_SECONDS

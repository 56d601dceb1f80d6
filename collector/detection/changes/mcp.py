"""Watches servers of the Model Context Protocol: pins what they list, and reports what changed.

A pin is the keyed hashes of a tool's description and schema. A tool that changes after people approved it may be an
attack (rug pull), and so may a second server that offers a tool of a known name (shadowing). The collector has hashes
only, so it says that a text changed, and not what it says.

What is known is kept as facts (collector/detection/changes/rules.py). A pin that was seen once stays known: a rollout
whose replicas answer by turns is reported once. Hashes of another installation key are pinned anew without a report.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from collector.alerting.alert import AlertKind, Report, Severity
from collector.alerting.lifecycle import CHANGE_SECONDS
from collector.core.kinds import Sensitivity
from collector.detection.changes.detector import FactTable
from collector.detection.changes.rules import DAY_SECONDS, LEARNING_SECONDS, REFRESH_SECONDS, Baseline, Fact, FactKind
from collector.inventory.mcp import McpInventory, McpItem, McpKind, McpServer
from collector.inventory.query import Since, span_since

NAMED_MAX: Final = 10  # Tools in the words of one report.
REPORTS_MAX: Final = 20  # Of one look, gravest first; further ones wait for the next.
SERVERS_MAX: Final = 2_000  # Looked at.
_GRAVITY: Final = {Severity.HIGH: 0, Severity.MEDIUM: 1, Severity.LOW: 2}
_LEVELS: Final = {
    Severity.HIGH: Sensitivity.QUIET,
    Severity.MEDIUM: Sensitivity.NORMAL,
    Severity.LOW: Sensitivity.PARANOID,
}
_SUBJECTS: Final = 1_000  # Of one statement.
# Of what a resource says of itself nobody decides by it; its URI is data.
_PINNED: Final = (McpKind.TOOL, McpKind.PROMPT)


@dataclass(frozen=True, slots=True)
class _News:
    """A report, and the facts that keep it from being made again."""

    report: Report
    facts: tuple[Fact, ...]


class McpWatch:
    """Looks at all servers of the last day. Not thread-safe."""

    def __init__(
        self,
        *,
        servers: McpInventory,
        facts: FactTable,
        clock: Callable[[], float],
        report: Callable[[Sequence[Report]], None],
    ) -> None:
        """`clock`: unix seconds; `report` takes reports for the alerts."""
        self._servers, self._facts, self._clock, self._send = servers, facts, clock, report

    def look(self) -> int:
        """Compare what servers list with what is known; gives how many reports were made. Blocks. Raises StoreError,
        and what changed is found at the next look then."""
        now = self._clock()
        found_servers = self._servers.read_all(span_since(Since.DAY, now))
        # Who was there first owns the names of its tools.
        servers = sorted(found_servers, key=lambda one: (one.first_seen, one.id))[:SERVERS_MAX]
        if not servers:
            return 0
        start, known = self._read(servers)
        is_learning = start is None or now - start < LEARNING_SECONDS
        quiet: list[Fact] = []
        news: list[_News] = []
        for server in servers:
            for found in _compare(server, known, now, is_learning=is_learning):
                if isinstance(found, _News):
                    news.append(found)
                else:
                    quiet.append(found)
                    known.add(found)
        news.sort(key=lambda one: _GRAVITY[one.report.severity])
        told = news[:REPORTS_MAX]
        if told:
            self._send([one.report for one in told])
        facts = [*quiet, *(fact for one in told for fact in one.facts)]
        if facts:
            self._facts.save(facts)
        return len(told)

    def _read(self, servers: Iterable[McpServer]) -> tuple[float | None, Baseline]:
        """Since when changes are watched, and what is known of these servers and of the names that they list."""
        subjects = {""} | {one.id for one in servers}
        subjects |= {_name_subject(item) for one in servers for item in _list_pinned(one)}
        wanted = sorted(subjects)
        known = Baseline()
        start = None
        for begin in range(0, len(wanted), _SUBJECTS):
            for fact in self._facts.read(wanted[begin : begin + _SUBJECTS]):
                known.add(fact)
                if fact.kind is FactKind.START:
                    start = fact.first_seen
        return start, known


def _compare(server: McpServer, known: Baseline, now: float, *, is_learning: bool) -> Iterator[Fact | _News]:
    first = known.find(FactKind.MCP_SERVER, server.id)
    if first is None:
        here = _make(FactKind.MCP_SERVER, server, server.id, "", now)
        # One that was called for longer was not known only because nobody listed its tools.
        is_young = now - server.first_seen <= DAY_SECONDS
        yield _report_server(server, here, now) if is_young and not is_learning else here
    elif now - first.seen_at >= REFRESH_SECONDS:
        yield replace(first, seen_at=now)
    is_settled = first is not None and now - first.first_seen >= DAY_SECONDS and not is_learning
    before = known.of(FactKind.MCP_ITEM, server.id)
    pinned = {(fact.detail.rpartition("|")[0], fact.key_id) for fact in before.values()}
    names, keys = {name for name, _ in pinned}, {key_id for _, key_id in pinned}
    changed: list[tuple[McpItem, Fact]] = []
    fresh: list[tuple[McpItem, Fact]] = []
    for item in _list_pinned(server):
        name, pin = _name_subject(item), f"{item.description_pin}{item.schema_pin}"
        fact = before.get(f"{name}|{pin}")
        if fact is not None:
            if now - fact.seen_at >= REFRESH_SECONDS:
                yield replace(fact, seen_at=now)
            continue
        fact = replace(_make(FactKind.MCP_ITEM, server, server.id, f"{name}|{pin}", now), key_id=server.key_id)
        # Under another key, a name that is not shown is another one.
        is_other = name not in names and (bool(item.name) or keys <= {server.key_id})
        if (name, server.key_id) in pinned:
            changed.append((item, fact))
        elif is_other and is_settled:
            fresh.append((item, fact))
        else:
            yield fact
    if changed:
        yield _report_changed(server, changed, now)
    if fresh:
        yield _report_new(server, fresh, now)
    yield from _find_shadows(server, known, now, is_learning=is_learning)


def _find_shadows(server: McpServer, known: Baseline, now: float, *, is_learning: bool) -> Iterator[Fact | _News]:
    """Tools of a name that another server offered first."""
    shadows: list[tuple[McpItem, Fact]] = []
    others: set[str] = set()
    for item in _list_pinned(server):
        if item.kind is not McpKind.TOOL or not item.name:
            continue
        subject = _name_subject(item)
        owners = known.of(FactKind.MCP_NAME, subject)
        fact = owners.get(server.id)
        if fact is not None:
            if now - fact.seen_at >= REFRESH_SECONDS:
                yield replace(fact, seen_at=now)
            continue
        # The same program elsewhere, such as in a namespace for tests, offers what it is meant to.
        fact = replace(_make(FactKind.MCP_NAME, server, subject, server.id, now), scope=_name_program(server))
        foreign = {one.label for one in owners.values() if (one.label, one.scope) != (fact.label, fact.scope)}
        if foreign and not is_learning:
            shadows.append((item, fact))
            others |= foreign
        else:
            yield fact
    if shadows:
        yield _report_shadows(server, shadows, sorted(others), now)


def _list_pinned(server: McpServer) -> Iterator[McpItem]:
    return (item for item in server.items if item.kind in _PINNED)


def _name_subject(item: McpItem) -> str:
    """A tool or prompt among those of all servers: by its name, which no key changes, where that is known."""
    return f"mcp {item.kind} {item.name or item.id}"


def _name_program(server: McpServer) -> str:
    """Its workload, in whatever namespace and at whatever port."""
    return server.service.rpartition(":")[0].rpartition("/")[2]


def _make(kind: FactKind, server: McpServer, subject: str, detail: str, now: float) -> Fact:
    return Fact(
        kind=kind,
        subject=subject,
        detail=detail,
        scope=server.service,
        label=server.label,
        first_seen=now,
        seen_at=now,
    )


def _report_server(server: McpServer, fact: Fact, now: float) -> _News:
    opened = "" if server.authentication != "none" else " Its calls carry no credentials."
    why = (
        f"An MCP server was first called {_day(server.first_seen)} at {server.service}{server.path}, where none was "
        f"expected. It lists {server.tools:,} tools.{opened}"
    )
    return _write(
        AlertKind.NEW_MCP_SERVER,
        server,
        [fact],
        now,
        title=f"{server.label} is a new MCP server",
        why=why,
        severity=Severity.MEDIUM if opened else Severity.LOW,
    )


def _report_changed(server: McpServer, changed: Sequence[tuple[McpItem, Fact]], now: float) -> _News:
    count = len(changed)
    title = f"{server.label} changed {changed[0][0].kind} {_name(changed[0][0])}"
    if count > 1:
        title = f"{server.label} changed {count:,} tools or prompts"
    why = (
        f"Expected were the descriptions and schemas that it listed before; these have others now: {_list(changed)}. "
        "Clients follow them as instructions, so a change may be an attack (rug pull)."
    )
    return _write(
        AlertKind.MCP_TOOL_CHANGED, server, [fact for _, fact in changed], now, title=title, why=why, measure=count
    )


def _report_new(server: McpServer, fresh: Sequence[tuple[McpItem, Fact]], now: float) -> _News:
    count = len(fresh)
    title = f"{server.label} lists {fresh[0][0].kind} {_name(fresh[0][0])}, which is new"
    if count > 1:
        title = f"{server.label} lists {count:,} new tools or prompts"
    why = f"None but those known for a day and more were expected. New: {_list(fresh)}."
    return _write(
        AlertKind.NEW_MCP_TOOL,
        server,
        [fact for _, fact in fresh],
        now,
        title=title,
        why=why,
        severity=Severity.MEDIUM if any(item.is_destructive for item, _ in fresh) else Severity.LOW,
        measure=count,
    )


def _report_shadows(
    server: McpServer, shadows: Sequence[tuple[McpItem, Fact]], others: Sequence[str], now: float
) -> _News:
    count = len(shadows)
    title = f"{server.label} offers {_name(shadows[0][0])}, a tool of another MCP server"
    if count > 1:
        title = f"{server.label} offers {count:,} tools of other MCP servers"
    why = (
        f"Expected was each name at one server. {', '.join(others[:NAMED_MAX])} offered these first: {_list(shadows)}. "
        "A client that uses both may call the wrong one (shadowing)."
    )
    return _write(
        AlertKind.MCP_TOOL_SHADOWED, server, [fact for _, fact in shadows], now, title=title, why=why, measure=count
    )


def _write(
    kind: AlertKind,
    server: McpServer,
    facts: Sequence[Fact],
    now: float,
    *,
    title: str,
    why: str,
    severity: Severity | None = None,
    measure: float = 1.0,
) -> _News:
    severity = severity or kind.row.severity
    report = Report(
        kind=kind,
        severity=severity,
        title=title,
        why=f"{why} {kind.row.advice}",
        calm_seconds=CHANGE_SECONDS,
        window_start=now,
        window_end=now,
        endpoint_id=server.endpoint_ids[0],
        risk=kind.row.owasp,
        advice=kind.row.advice,
        measure=measure,
        quietest=_LEVELS[severity],
    )
    return _News(report, tuple(replace(fact, told_at=now) for fact in facts))


def _name(item: McpItem) -> str:
    return item.name or f"{item.id} (a name that is not shown)"


def _list(found: Sequence[tuple[McpItem, Fact]]) -> str:
    more = f", and {len(found) - NAMED_MAX:,} more" if len(found) > NAMED_MAX else ""
    return ", ".join(_name(item) for item, _ in found[:NAMED_MAX]) + more


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")

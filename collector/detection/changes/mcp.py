"""Watches servers of the Model Context Protocol: what they list is compared with what was known of them.

Clients follow the description of a tool as an instruction. So each tool and prompt, and what a server wants models to
know, is pinned by hashes of its texts, and a new pin is reported (rug pull). So is a tool of a name that another server
offered first (shadowing), a tool that is new at a server that is known for a day, and a new server.

All pins that any sensor saw are compared, so a text that one client got alone is among them. A pin stays known: a
rollout whose replicas answer by turns is reported once. One that was away for RETURN_SECONDS while others were listed
is reported again. Pins of another installation key, or made in another way, are learned anew without a report. Several
texts of a name at its first look are its baseline, and reported as that. What a server may fill is bounded: a text that
differs each time is reported once, in these words, and texts that sensors did not keep as they grow.

What is news is a fact with the kind of its alert as `anchor`; it waits until it is reported (`told_at`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from shlex import quote
from typing import Final

from collector.alerting.alert import AlertKind, Report, Severity
from collector.alerting.lifecycle import CHANGE_SECONDS
from collector.core.kinds import Sensitivity
from collector.detection.changes.detector import FactTable
from collector.detection.changes.rules import DAY_SECONDS, LEARNING_SECONDS, REFRESH_SECONDS, Baseline, Fact, FactKind
from collector.inventory.mcp import McpInventory, McpItem, McpServer
from collector.inventory.mcp_states import McpKind, McpPin
from collector.inventory.query import Since, span_since
from common.figures import Figure, make_gauges

NAMED_MAX: Final = 10  # Tools in the words of one report.
REPORTS_MAX: Final = 20  # Of one look, gravest first; further ones are counted, and wait for the next.
SERVERS_MAX: Final = 2_000  # Looked at; further ones are counted.
# New ones of a name in a day; then its text is one that differs each time. Of more, those that no state has go.
PINS_MAX: Final = 16
NAMES_MAX: Final = 1_024  # Kept of one server; then its names are.
SETTLED_SECONDS: Final = DAY_SECONDS  # What a server adds after so long is new.
RETURN_SECONDS: Final = 7 * DAY_SECONDS
_KEPT_SECONDS: Final = 30 * DAY_SECONDS  # Since a pin was listed last, at least.
_GRAVITY: Final = {Severity.HIGH: 0, Severity.MEDIUM: 1, Severity.LOW: 2}
_LEVELS: Final = {
    Severity.HIGH: Sensitivity.QUIET,
    Severity.MEDIUM: Sensitivity.NORMAL,
    Severity.LOW: Sensitivity.PARANOID,
}
_SUBJECTS: Final = 1_000  # Of one statement.
_START: Final = "mcp"  # Subject of the first look of all.
_ALL: Final = "*"  # Stands for all pins of a name, or all names of a server.
_LEFT: Final = f"{_ALL}left "  # Before the bits of a count of texts that sensors did not keep.
# Of what a resource says of itself nobody decides by it; its URI is data.
_PINNED: Final = (McpKind.TOOL, McpKind.PROMPT, McpKind.INSTRUCTIONS)
# Connectors of chat clients must offer these (OpenAI, "Building MCP servers for ChatGPT"),
_GENERIC: Final = frozenset(("search", "fetch"))
_SHARED_MIN: Final = 3  # and a name that so many others offer is no one server's.


@dataclass(frozen=True, slots=True)
class _News:
    """A report, and the facts that it is of."""

    report: Report
    facts: tuple[Fact, ...]


@dataclass(slots=True)
class _Look:
    """One look as it goes: what is known, and facts to keep."""

    now: float
    start: float  # Since when servers are watched.
    servers: Sequence[McpServer]
    known: Baseline
    facts: dict[tuple[FactKind, str, str], Fact] = field(default_factory=dict)
    gone: list[Fact] = field(default_factory=list)
    _by_id: dict[str, McpServer] = field(default_factory=dict)
    _texts: dict[str, dict[str, set[tuple[int, str]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_id = {name: one for one in self.servers for name in one.known_ids}

    @property
    def is_learning(self) -> bool:
        """Whether what is there was there before the watch, as far as anybody knows."""
        return self.now - self.start < LEARNING_SECONDS

    def make(self, kind: FactKind, server: McpServer, subject: str, detail: str = "", label: str = "") -> Fact:
        """A fact of now."""
        return Fact(
            kind=kind,
            subject=subject,
            detail=detail,
            scope=server.service,
            label=label,
            first_seen=self.now,
            seen_at=self.now,
        )

    def add(self, fact: Fact, news: AlertKind | None = None) -> Fact:
        """Keep it, to be reported where it is news."""
        if news is not None:
            fact = replace(fact, anchor=news.value, told_at=0.0)
        self.known.add(fact)
        self.facts[fact.kind, fact.subject, fact.detail] = fact
        return fact

    def drop(self, fact: Fact) -> None:
        """Keep it no longer."""
        self.known.drop(fact)
        self.facts.pop((fact.kind, fact.subject, fact.detail), None)
        self.gone.append(fact)

    def refresh(self, fact: Fact) -> None:
        """It is still so: its row expires."""
        if self.now - fact.seen_at >= REFRESH_SECONDS:
            self.add(replace(fact, seen_at=self.now))

    def find_server(self, server: McpServer) -> Fact | None:
        """Since when it is known, by whichever of its endpoints."""
        facts = (self.known.find(FactKind.MCP_SERVER, one) for one in sorted(server.known_ids))
        return next((one for one in facts if one is not None), None)

    def list_pins(self, server: McpServer) -> list[Fact]:
        """Those known of it."""
        return [fact for one in sorted(server.known_ids) for fact in self.known.of(FactKind.MCP_ITEM, one).values()]

    def list_texts(self, server: McpServer, subject: str) -> set[tuple[int, str]]:
        """Pins of one name. Asked once all pins are compared."""
        texts = self._texts.get(server.id)
        if texts is None:
            texts = self._texts[server.id] = defaultdict(set)
            for fact in self.list_pins(server):
                texts[_name_of(fact)].add((fact.key_id, fact.detail))
        return texts.get(subject, set())

    def list_owners(self, subject: str) -> Iterator[tuple[Fact, McpServer]]:
        """Servers called lately that offer a name, each once."""
        found: dict[str, tuple[Fact, McpServer]] = {}
        for owner, fact in sorted(self.known.of(FactKind.MCP_NAME, subject).items()):
            server = self._by_id.get(owner)
            if server is not None:
                found.setdefault(server.id, (fact, server))
        return iter(found.values())

    def list_waiting(self, server: McpServer) -> Iterator[Fact]:
        """What is news of it and not reported."""
        own = [fact for one in sorted(server.known_ids) for fact in self.known.of(FactKind.MCP_SERVER, one).values()]
        subjects = dict.fromkeys(_name_subject(item) for item in _list_pinned(server))
        offers = (self.known.find(FactKind.MCP_NAME, name, one) for name in subjects for one in server.known_ids)
        own += (fact for fact in offers if fact is not None)
        return (fact for fact in (*own, *self.list_pins(server)) if fact.anchor and not fact.told_at)


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
        self._waiting = self._not_compared = 0  # Of the last look.

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        waiting = (
            f"Alerts about servers of the Model Context Protocol that wait: a look sends {REPORTS_MAX}, gravest first."
        )
        beyond = "Servers of the Model Context Protocol, or routes of such, that are not compared: there are too many."
        return make_gauges(
            [
                ("mcp_alerts_waiting", waiting, self._waiting),
                ("mcp_servers_not_compared", beyond, self._not_compared),
            ]
        )

    def look(self) -> int:
        """Compare what servers list with what is known; gives how many reports were made. Blocks. Raises StoreError,
        and what changed is found at the next look then."""
        now = self._clock()
        found = self._servers.read_all(span_since(Since.DAY, now))
        servers = sorted(found.servers, key=lambda one: (one.first_seen, one.id))[:SERVERS_MAX]
        look = self._begin(servers, now)
        for server in servers:
            _compare_server(server, look)
        for server in servers:
            _find_shadows(server, look)
        news = sorted((one for server in servers for one in _report(server, look)), key=_rank)
        told = news[:REPORTS_MAX]
        if told:
            self._send([one.report for one in told])
        for fact in (fact for one in told for fact in one.facts):
            look.add(replace(fact, told_at=now))
        if look.facts or look.gone:
            self._facts.save(list(look.facts.values()), look.gone)
        self._waiting = len(news) - len(told)
        self._not_compared = found.left_out + len(found.servers) - len(servers)
        return len(told)

    def _begin(self, servers: Sequence[McpServer], now: float) -> _Look:
        """With what is known of these servers, and of the names that they list."""
        subjects = {_START} | {name for one in servers for name in one.known_ids}
        subjects |= {_name_subject(item) for one in servers for item in _list_pinned(one)}
        wanted = sorted(subjects)
        known = Baseline()
        for begin in range(0, len(wanted), _SUBJECTS):
            for fact in self._facts.read(wanted[begin : begin + _SUBJECTS]):
                known.add(fact)
        start = known.find(FactKind.START, _START)
        look = _Look(now, now if start is None else start.first_seen, servers, known)
        if start is None:
            look.add(Fact(kind=FactKind.START, subject=_START, first_seen=now, seen_at=now))
        else:
            look.refresh(start)
        return look


def _compare_server(server: McpServer, look: _Look) -> None:
    first = look.find_server(server)
    if first is None:
        # One that was called for longer was not known only because nobody listed its tools.
        is_young = look.now - server.first_seen <= DAY_SECONDS
        here = look.make(FactKind.MCP_SERVER, server, server.id, label=server.label)
        look.add(here, AlertKind.NEW_MCP_SERVER if is_young and not look.is_learning else None)
    else:
        look.refresh(first)
    is_settled = first is not None and look.now - first.first_seen >= SETTLED_SECONDS and not look.is_learning
    pins: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    left: dict[str, int] = {}
    before = look.list_pins(server)
    for fact in before:
        name, _, mark = fact.detail.rpartition("|")
        if mark.startswith(_LEFT):
            left[name] = max(left.get(name, 0), int(mark.removeprefix(_LEFT)))
        else:
            pins[name, fact.key_id].append(fact)
    names = {_name_of(fact) for fact in before}
    since: dict[int, float] = {}  # By key of hashes.
    for fact in before:
        since[fact.key_id] = min(since.get(fact.key_id, look.now), fact.first_seen)
    for item in _list_pinned(server):
        name = _name_subject(item)
        if name not in names and len(names) >= NAMES_MAX:
            if not any(fact.detail == _ALL for fact in before):
                full = look.make(FactKind.MCP_ITEM, server, server.id, _ALL, "ever more names")
                before.append(look.add(full, AlertKind.NEW_MCP_TOOL))
            continue  # Behind it may be what is known, and is compared as ever.
        for pin in sorted(item.pins, key=lambda one: (one.first_seen, one.last_seen)):
            # Under another key, a name that is not shown is another one.
            is_same_key = not since or look.now - since.get(pin.made_by, look.now) >= DAY_SECONDS
            is_new = is_settled and name not in names and (bool(item.name) or is_same_key)
            _compare_pin(server, item, pin, pins[name, pin.made_by], look, is_new=is_new)
        names.add(name)
        # Whoever shows so many texts that some are not kept may hide one among them: each doubling is news.
        bits = item.pins_left_out.bit_length()
        if bits > left.get(name, 0):
            detail, label = f"{name}|{_LEFT}{bits}", f"{_name(item)}, some of whose texts were not kept"
            fact = look.make(FactKind.MCP_ITEM, server, server.id, detail, label)
            look.add(replace(fact, key_id=item.pins[0].made_by), AlertKind.MCP_TOOL_CHANGED)


def _compare_pin(
    server: McpServer, item: McpItem, pin: McpPin, known: list[Fact], look: _Look, *, is_new: bool
) -> None:
    """`known`: those of its name that can be compared, to which it is added."""
    name = _name_subject(item)
    detail = _detail(item, pin)
    listed = min(max(float(pin.last_seen), look.now - _KEPT_SECONDS), look.now)
    same = next((fact for fact in known if fact.detail == detail), None)
    if same is not None:
        # By the sight itself: a bound in time moves on while nobody lists it.
        is_away = min(pin.last_seen, look.now) - same.seen_at >= RETURN_SECONDS
        is_back = is_away and any(one.seen_at > same.seen_at for one in known)
        if is_back:
            look.add(replace(same, first_seen=look.now, seen_at=listed), AlertKind.MCP_TOOL_CHANGED)
        elif listed - same.seen_at >= DAY_SECONDS:
            look.add(replace(same, seen_at=listed))
        return
    ending = f"|{_ALL}{pin.made_by:x}"
    if any(fact.detail.endswith(ending) for fact in known):
        return
    is_varying = sum(look.now - fact.first_seen < DAY_SECONDS for fact in known) >= PINS_MAX
    if not is_varying:
        _make_room(item, known, look)
    label = f"{_name(item)}, whose text differs each time" if is_varying else _name(item)
    fact = look.make(FactKind.MCP_ITEM, server, server.id, f"{name}{ending}" if is_varying else detail, label)
    news = AlertKind.NEW_MCP_TOOL if is_new else None
    if known:
        # What was listed before the watch began is what it begins with.
        is_old = pin.last_seen <= look.start and _is_first(fact, known)
        news = None if is_old else AlertKind.MCP_TOOL_CHANGED
    known.append(look.add(replace(fact, key_id=pin.made_by, seen_at=listed), news))


def _make_room(item: McpItem, known: list[Fact], look: _Look) -> None:
    """For another pin: the one goes that was listed longest ago, unless a sensor still sends it or it waits."""
    shown = {_detail(item, pin) for pin in item.pins}
    away = [fact for fact in known if fact.detail not in shown and (fact.told_at or not fact.anchor)]
    away.sort(key=lambda one: one.seen_at)
    for fact in away[: max(len(known) - PINS_MAX + 1, 0)]:
        known.remove(fact)
        look.drop(fact)


def _detail(item: McpItem, pin: McpPin) -> str:
    return f"{_name_subject(item)}|{pin.description_hash}{pin.schema_hash}"


def _is_first(fact: Fact, known: Iterable[Fact]) -> bool:
    """Whether it is one of those that a name had when it was first seen, of which none is what another one was."""
    return all(fact.first_seen <= one.first_seen for one in known)


def _find_shadows(server: McpServer, look: _Look) -> None:
    """Tools of a name that another server offered first. Names of the first days were there before."""
    names = {_name_of(fact) for fact in look.list_pins(server)}
    for item in _list_tools(server):
        subject = _name_subject(item)
        if subject not in names:
            continue
        owners = look.known.of(FactKind.MCP_NAME, subject)
        own = next((owners[one] for one in sorted(server.known_ids) if one in owners), None)
        if own is None:
            since = 0.0 if look.is_learning else look.now
            own = look.add(
                replace(look.make(FactKind.MCP_NAME, server, subject, server.id, item.name), first_seen=since)
            )
        else:
            look.refresh(own)
    # In the order of the servers: of two that are seen first in one look, the older one owns the name.
    for item in _list_tools(server):
        subject = _name_subject(item)
        owners = look.known.of(FactKind.MCP_NAME, subject)
        own = next((owners[one] for one in sorted(server.known_ids) if one in owners), None)
        if own is not None and not own.anchor and any(True for _ in _find_owners(server, own, look)):
            look.add(own, AlertKind.MCP_TOOL_SHADOWED)


def _find_owners(server: McpServer, own: Fact, look: _Look) -> Iterator[McpServer]:
    """Servers called lately that offered a name before, and are another program."""
    if not own.first_seen:
        return
    for fact, other in look.list_owners(own.subject):
        order, own_order = ((one.first_seen, at.first_seen, at.id) for one, at in ((fact, other), (own, server)))
        if other is not server and order < own_order and not _is_copy(server, other, own.subject, look):
            yield other


def _is_copy(server: McpServer, other: McpServer, subject: str, look: _Look) -> bool:
    """Whether two servers are one program, as in a namespace for tests: by workload, own name and texts. What cannot be
    compared yet is."""
    if _name_program(server) != _name_program(other) or (server.name and other.name and server.name != other.name):
        return False
    pins, others = look.list_texts(server, subject), look.list_texts(other, subject)
    return bool(pins & others) or {key for key, _ in pins}.isdisjoint(key for key, _ in others)


def _has_same_texts(server: McpServer, other: McpServer, subject: str) -> bool:
    """Whether two servers of one own name list the same, as replicas under several names, or behind a gateway, do."""
    if not server.name or server.name != other.name:
        return False
    newest, others = _list_newest(server, subject), _list_newest(other, subject)
    keys = newest.keys() & others.keys()
    return bool(keys) and all(newest[key] == others[key] for key in keys)


def _list_newest(server: McpServer, subject: str) -> dict[int, str]:
    """The text that was listed last, by key of its hashes."""
    item = next((one for one in _list_tools(server) if _name_subject(one) == subject), None)
    return {} if item is None else {pin.made_by: _detail(item, pin) for pin in reversed(item.pins)}


def _list_pinned(server: McpServer) -> Iterator[McpItem]:
    return (item for item in server.items if item.kind in _PINNED)


def _list_tools(server: McpServer) -> Iterator[McpItem]:
    return (item for item in server.items if item.is_listed_tool and item.name)


def _name_subject(item: McpItem) -> str:
    """A tool or prompt among those of all servers: by its name, which no key changes, where that is known."""
    return f"mcp {item.kind} {item.name or item.id}"


def _name_of(fact: Fact) -> str:
    """The subject of the name that a pin is of."""
    return fact.detail.rpartition("|")[0]


def _name_program(server: McpServer) -> str:
    """Its workload, in whatever namespace and at whatever port."""
    return server.service.rpartition(":")[0].rpartition("/")[2]


def _rank(news: _News) -> int:
    return _GRAVITY[news.report.severity]


def _report(server: McpServer, look: _Look) -> Iterator[_News]:
    """What is news of a server, a report a kind."""
    by_kind: dict[str, list[Fact]] = defaultdict(list)
    for fact in look.list_waiting(server):
        by_kind[fact.anchor].append(fact)
    writers: Mapping[AlertKind, Callable[[McpServer, Sequence[Fact], _Look], _Words]] = {
        AlertKind.NEW_MCP_SERVER: _word_server,
        AlertKind.MCP_TOOL_CHANGED: _word_changed,
        AlertKind.NEW_MCP_TOOL: _word_new,
        AlertKind.MCP_TOOL_SHADOWED: _word_shadows,
    }
    for kind, write in writers.items():
        facts = by_kind.get(kind.value)
        if facts:
            yield _write(kind, server, facts, look.now, write(server, facts, look))


@dataclass(frozen=True, slots=True)
class _Words:
    """What a report says."""

    title: str
    why: str
    severity: Severity | None = None


def _word_server(server: McpServer, facts: Sequence[Fact], look: _Look) -> _Words:
    opened = "" if server.authentication != "none" else " Its calls carry no credentials."
    why = (
        f"An MCP server answers at {server.service}{server.path}, where none was expected. It was first called "
        f"{_day(server.first_seen)} and lists {server.tools:,} tools.{opened}"
    )
    return _Words(f"{server.label} is a new MCP server", why, Severity.MEDIUM if opened else Severity.LOW)


def _word_changed(server: McpServer, facts: Sequence[Fact], look: _Look) -> _Words:
    kept: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    for fact in look.list_pins(server):
        kept[_name_of(fact), fact.key_id].append(fact)
    changed = [fact for fact in facts if not _is_first(fact, kept[_name_of(fact), fact.key_id])]
    if not changed:
        why = f"One text of each was expected. These had several when they were first seen: {_list(facts)}."
        what = facts[0].label if len(facts) == 1 else f"{len(facts):,} texts that models read"
        return _Words(f"MCP server {server.label} shows several texts of {what}", why, Severity.LOW)
    facts = changed
    what = facts[0].label if len(facts) == 1 else f"{len(facts):,} texts that models read"
    why = (
        f"The descriptions or schemas differ from those that it listed before: {_list(facts)}. "
        "Clients follow them as instructions, so a change may be an attack (rug pull)."
    )
    return _Words(f"MCP server {server.label} changed {what}", why)


def _word_new(server: McpServer, facts: Sequence[Fact], look: _Look) -> _Words:
    what = f"{facts[0].label}, which is new" if len(facts) == 1 else f"{len(facts):,} new tools or prompts"
    items = {_name_subject(item): item for item in server.items}
    grave = (items.get(_name_of(fact)) for fact in facts)
    is_grave = any(one is None or one.may_destroy or one.kind is McpKind.INSTRUCTIONS for one in grave)
    why = f"None but those known for a day and more were expected. New: {_list(facts)}."
    return _Words(f"MCP server {server.label} lists {what}", why, Severity.MEDIUM if is_grave else Severity.LOW)


def _word_shadows(server: McpServer, facts: Sequence[Fact], look: _Look) -> _Words:
    what = f"{facts[0].label}, a tool of another MCP server"
    if len(facts) > 1:
        what = f"{len(facts):,} tools of other MCP servers"
    # Whoever reads it may not see the others, so it does not name them.
    owners = [(fact, list(islice(_find_owners(server, fact, look), _SHARED_MIN))) for fact in facts]
    is_same = all(found and all(_has_same_texts(server, one, fact.subject) for one in found) for fact, found in owners)
    risk = "It has the same name and offers the same texts, so it may be the same server at another place."
    if not is_same:
        risk = "A client that uses both may call the wrong one (shadowing)."
    why = (
        f"Expected was each name at one server. Others offered these first: {_list(facts)}. {risk} "
        f"`apidae get mcp-servers --tool {quote(facts[0].label)}` lists them."
    )
    is_shared = all(fact.label in _GENERIC or len(found) >= _SHARED_MIN for fact, found in owners)
    return _Words(
        f"MCP server {server.label} offers {what}", why, Severity.LOW if is_shared or is_same else Severity.MEDIUM
    )


def _write(kind: AlertKind, server: McpServer, facts: Sequence[Fact], now: float, words: _Words) -> _News:
    severity = words.severity or kind.row.severity
    report = Report(
        kind=kind,
        severity=severity,
        title=words.title,
        why=f"{words.why} {kind.row.advice}",
        calm_seconds=CHANGE_SECONDS,
        window_start=now,
        window_end=now,
        endpoint_id=server.id,
        risk=kind.row.owasp,
        advice=kind.row.advice,
        measure=float(len(facts)),
        quietest=_LEVELS[severity],
    )
    return _News(report, tuple(facts))


def _name(item: McpItem) -> str:
    if item.kind is McpKind.INSTRUCTIONS:
        return "its instructions"
    return f"{item.kind} {item.name or f'{item.id} (a name that is not shown)'}"


def _list(facts: Sequence[Fact]) -> str:
    more = f", and {len(facts) - NAMED_MAX:,} more" if len(facts) > NAMED_MAX else ""
    return ", ".join(fact.label for fact in facts[:NAMED_MAX]) + more


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")

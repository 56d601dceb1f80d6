"""Formats what is generated of the pages of alert kinds (docs/alerts) and of finding rules (docs/findings): titles,
facts, commands and the two lists.

Each page begins with hand-written parts: what it means, why it is raised, what to do, what it does not show.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from collector.alerting.alert import AlertKind, KindGroup, Subject
from collector.risk.finding import Rule
from collector.risk.rules import load_rules

DOCS: Final = Path(__file__).parents[2] / "docs"
ALERTS: Final = DOCS / "alerts"
FINDINGS: Final = DOCS / "findings"
PARTS: Final = ("Meaning", "Why", "Do", "Not shown")
_GROUPS: Final = {
    KindGroup.VOLUME: ("Volume", "A new level that stays is one alert and then expected."),
    KindGroup.HEALTH: ("Health", "These accuse nobody. Endpoints of one service are one alert."),
    KindGroup.ABUSE: ("Abuse", "A caller does what it should not, or more than it should."),
    KindGroup.RISK: ("Risk", "An endpoint is grave by what its calls show."),
    KindGroup.CHANGE: (
        "Changes",
        "Nothing but changed MCP tools is reported in the installation's first day. News of one service or workload "
        "within a day are one alert. The level `quiet` reports missing authentication and changed MCP tools only.",
    ),
    KindGroup.SELF: ("Apidae itself", "What keeps Apidae from seeing, keeping or deciding."),
}
_CLOSES: Final = {
    KindGroup.VOLUME: "after three windows without a report, at least 2 minutes",
    KindGroup.HEALTH: "after three windows without a report, at least 2 minutes",
    KindGroup.ABUSE: "after 10 minutes to 1 hour without a report",
    KindGroup.RISK: "after 1 day without a report",
    KindGroup.CHANGE: "after 1 day without a report",
    KindGroup.SELF: "at once when the cause is gone",
}
_SUBJECTS: Final = {
    Subject.ENDPOINT: "an endpoint",
    Subject.SERVICE: "a service",
    Subject.PAIR: "a caller at an endpoint",
    Subject.CONSUMER: "a caller",
    Subject.ADDRESS: "an address",
    Subject.NODE: "a node",
    Subject.COLLECTOR: "the collector",
}
_MEASURED: Final = {
    KindGroup.VOLUME: ("alerts a day", "alerts-per-day"),
    KindGroup.HEALTH: ("alerts a day", "alerts-per-day"),
    KindGroup.ABUSE: ("recall, and honest callers accused", "abuse"),
    KindGroup.RISK: ("share of false findings", "inventory-and-risk"),
    KindGroup.CHANGE: ("alerts a day", "alerts-per-day"),
}
_ATTACKS: Final = ("recall, and ordinary requests reported", "attack-payloads")


def list_pages() -> dict[Path, str]:
    """Every page of a kind or rule as it should be, by its file, and both lists. A page that does not exist yet has a
    title and no hand-written part."""
    alerts = {ALERTS / f"{kind}.md": _format_alert(kind) for kind in AlertKind}
    rules = [rule for rule, _ in load_rules()]
    findings = {FINDINGS / f"{rule.id}.md": _format_finding(rule) for rule in rules}
    return {
        **alerts,
        **findings,
        ALERTS / "README.md": "\n".join(_list_alerts(alerts)) + "\n",
        FINDINGS / "README.md": "\n".join(_list_findings(rules, findings)) + "\n",
    }


def write_pages() -> None:
    """Updates docs/alerts and docs/findings."""
    for path, text in list_pages().items():
        path.write_text(text)


def _format_alert(kind: AlertKind) -> str:
    row = kind.row
    measured = _ATTACKS if kind is AlertKind.INJECTION else _MEASURED.get(row.group)
    facts = (
        ("Group", f"[{_GROUPS[row.group][0].lower()}](README.md#{_GROUPS[row.group][0].lower().replace(' ', '-')})"),
        ("About", _SUBJECTS[row.subject]),
        ("OWASP", row.owasp),
        ("Severity", f"{row.severity}, unless what was seen says otherwise"),
        ("Counts", row.unit),
        ("Closes", _CLOSES[row.group]),
        ("[Sensitivity](../use/alerts.md#how-alerts-work)", "applies" if row.is_detected else "does not apply"),
        ("May propose a [block](../use/response.md)", "yes" if row.can_block else "no"),
        ("[Evidence](../use/alerts.md#evidence) says", "what was answered" if row.reads_objects else ""),
        ("Measured", f"[{measured[0]}](../reference/measured.md#{measured[1]})" if measured else ""),
    )
    commands = [f"apidae get alerts --kind {kind}", "apidae describe alert ID"]
    if row.group is not KindGroup.SELF:
        commands.append("apidae get evidence ID")
    if row.is_detected:
        commands.append('apidae verdict ID false_alarm --note "nightly report"')
    commands.append(f'apidae known-good add "planned work" --kind {kind} --days 1')
    ends = (
        "The last two report a false alarm to the detector, and suppress what is known to be good"
        if row.is_detected
        else "The last one suppresses the kind for a day"
    )
    return _format(
        ALERTS / f"{kind}.md", f"`{kind}`", facts, commands, f"{ends} ([silences](../use/alerts.md#silences))."
    )


def _format_finding(rule: Rule) -> str:
    facts = (
        ("Rule", f"`{rule.id}`"),
        ("Severity", f"{rule.severity}, unless the evidence says otherwise"),
        ("OWASP", rule.owasp),
        ("Found on", "an endpoint, and each operation of it" if rule.is_of_operation else "an endpoint"),
        ("Based on", "calls of the last 24 hours"),
        ("In short", rule.advice),
        ("Measured", "[share of false findings](../reference/measured.md#inventory-and-risk)"),
    )
    commands = [
        f"apidae get findings --rule {rule.id}",
        'apidae set finding ID accepted --note "public by design"',
        f'apidae set finding accepted --rule {rule.id} --namespace shop --note "inside the mesh" --days 90',
    ]
    ends = (
        "The last two decide on one finding and on many; each decision can be undone ([states](../use/risk.md#states))."
    )
    return _format(FINDINGS / f"{rule.id}.md", rule.title, facts, commands, ends)


def _format(path: Path, title: str, facts: Iterable[tuple[str, str]], commands: Iterable[str], ends: str) -> str:
    """Title, what was written by hand, facts, commands."""
    rows = [f"| {name} | {value} |" for name, value in facts if value]
    head = [f"# {title}", "", read_written(path), "", "## Facts", "", "| Fact | Value |", "|---|---|", *rows]
    return "\n".join([*head, "", "## Commands", "", ends, "", "```", *commands, "```", ""])


def read_written(path: Path) -> str:
    """The hand-written part of a page."""
    found = re.search(r"^- \*\*.*?(?=\n## |\Z)", path.read_text(), re.M | re.S) if path.exists() else None
    return found[0].strip() if found else ""


def read_part(text: str, part: str) -> str:
    """The text behind `- **Meaning**:`, up to the next part."""
    found = re.search(rf"^- \*\*{part}\*\*: (.*?)(?=^- \*\*|^## |\Z)", text, re.M | re.S)
    return found[1].strip() if found else ""


def _shorten(page: str) -> str:
    """The first sentence of what it means, in one line."""
    meaning = " ".join(read_part(page, PARTS[0]).split())
    return re.sub(
        r" \(A(?:PI)?\d+:\d{4}\)|, A(?:PI)?\d+:\d{4}(?=\))", "", re.split(r"(?<=[\w)`])[.:;](?= |$)", meaning)[0]
    )


def _list_alerts(pages: dict[Path, str]) -> Iterator[str]:
    yield "# Alert kinds\n"
    yield "`scripts/generate` makes this list. [Alerts](../use/alerts.md) says how they come about and are silenced."
    yield "Each alert links to the page of its kind, which the collector itself serves at `/docs/alerts/KIND`."
    for group, (title, words) in _GROUPS.items():
        yield f"\n## {title}\n\n{words}\n"
        yield "| Kind | Meaning | Severity | OWASP |\n|---|---|---|---|"
        for kind in (kind for kind in AlertKind if kind.row.group is group):
            row = kind.row
            page = pages[ALERTS / f"{kind}.md"]
            yield f"| [`{kind}`]({kind}.md) | {_shorten(page)} | {row.severity} | {row.owasp} |"


def _list_findings(rules: Iterable[Rule], pages: dict[Path, str]) -> Iterator[str]:
    yield "# Finding rules\n"
    yield "`scripts/generate` makes this list. [Risk](../use/risk.md) says how they change a score, and who decides."
    yield "Each finding links to the page of its rule, which the collector itself serves at `/docs/findings/RULE`."
    yield "\n| Rule | Meaning | Severity | OWASP |\n|---|---|---|---|"
    for rule in rules:
        page = pages[FINDINGS / f"{rule.id}.md"]
        yield f"| [{rule.title}]({rule.id}.md) | {_shorten(page)} | {rule.severity} | {rule.owasp} |"

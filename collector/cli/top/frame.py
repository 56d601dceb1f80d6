"""Draws a `View` as the lines of one screen: a title, the gravest alerts, the table, what happened, and the keys.

Pure: a state and a size in, lines out, never more than the screen has. A narrow terminal has fewer columns before an
endpoint's path is cut, but always the one that is sorted by.
"""

import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from collector.cli.output import COLUMN_GAP, SEVERITY_STYLES, choose_columns
from collector.cli.top.snapshot import AlertLine, EndpointLine, Snapshot
from collector.cli.top.state import HELP, NAMES, Pane, Sort, State

ALERTS_SHOWN = 3  # Above the endpoints.
SERVICE_COLUMNS_MIN = 12
SERVICE_COLUMNS_MAX = 40
ENDPOINT_COLUMNS_MIN = 16
ROWS_MIN = 3
NOTES_SHOWN = 3
SEVERITY_COLUMNS = 9
AGE_COLUMNS = 5
UNKNOWN = "?"
UNKNOWN_LEGEND = "? no 2xx answer was seen, so nobody can say whether credentials are needed"
MONITOR_NOTICE = "No HTTP call was seen yet. Calls over TLS are read where the sensor's read_tls is auto or full."
CREDENTIAL_WORDS = {
    "bearer_jwt": "JWT",
    "bearer_opaque": "bearer token",
    "jwt_custom_header": "JWT",
    "api_key_header": "API key",
    "api_key_query": "API key",
    "api_key_cookie": "API key",
    "cookie_session": "cookie",
    "mtls_forwarded": "mTLS",
}
_POSSIBLE = "possible_credential"
STATUS_STYLES = {"2xx": "green", "3xx": "cyan", "4xx": "yellow", "5xx": "red", "aborted": "red"}
KEYS_LINES = (
    "q quit  / filter  s sort  r reverse  ↑↓ select  Enter details  a alerts  p pause  ? help",
    "q quit  / filter  s sort  Enter details  a alerts  ? help",
    "q quit  ? help",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one drawing is of. `stale_seconds`: since the collector answered last, 0 while it does."""

    snapshot: Snapshot
    rates: Mapping[str, float]
    url: str
    elapsed_seconds: float
    notes: Sequence[str] = ()
    error: str = ""
    stale_seconds: float = 0.0
    now: float = 0.0  # Unix seconds, for ages; 0: ages are not shown.


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The lines of the screen from the top, and the ids of all rows in their order, on the screen or not."""

    lines: tuple[Text, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Of endpoints. `rank`: its turn to go in a narrow terminal, the highest first, 0 never."""

    title: str
    rank: int
    is_number: bool = False
    sort: Sort | None = None


COLUMNS = (
    Column(title="Service", rank=1, sort=Sort.SERVICE),
    Column(title="Host", rank=7),
    Column(title="Method", rank=0),
    Column(title="Endpoint", rank=0, sort=Sort.ENDPOINT),
    Column(title="Calls", rank=5, is_number=True, sort=Sort.CALLS),
    Column(title="Calls/s", rank=2, is_number=True, sort=Sort.RATE),
    Column(title="Status", rank=4, sort=Sort.ERRORS),
    Column(title="p95 ms", rank=6, is_number=True, sort=Sort.LATENCY),
    Column(title="Risk", rank=3, is_number=True, sort=Sort.RISK),
    Column(title="Credentials", rank=0),
    Column(title="Consumers", rank=8, is_number=True, sort=Sort.CONSUMERS),
)
SERVICE, HOST, ENDPOINT, CREDENTIALS = 0, 1, 3, 9
VALUES: Mapping[Sort, Callable[[EndpointLine, float], float | str]] = {
    Sort.RATE: lambda line, rate: rate,
    Sort.CALLS: lambda line, rate: line.calls,
    Sort.ERRORS: lambda line, rate: line.error_share,
    Sort.LATENCY: lambda line, rate: line.p95_ms if line.p95_ms is not None else -1.0,
    Sort.RISK: lambda line, rate: line.risk if line.risk is not None else -1,
    Sort.CONSUMERS: lambda line, rate: line.consumers,
    Sort.ENDPOINT: lambda line, rate: f"{line.template} {line.method}",
    Sort.SERVICE: lambda line, rate: f"{line.service} {line.host}",
}


def draw_frame(view: View, state: State, width: int, height: int) -> Frame:
    """The whole screen."""
    head = [_draw_title(view, state)]
    if view.error:
        head.append(Text(f"The collector did not answer for {view.stale_seconds:.0f} s: {view.error}", "bold red"))
    if state.pane is Pane.HELP:
        lines = [*head, Text(), *_draw_help()]
        return Frame(lines=_fit([*lines[: height - 1], Text(KEYS_LINES[-1], "dim")], width), rows=())
    foot = [Text(note, "dim") for note in view.notes[-NOTES_SHOWN:]] if height >= 16 else []
    endpoints: Sequence[EndpointLine] = ()
    if state.pane is Pane.ENDPOINTS:
        alerts = view.snapshot.open_alerts
        head += _draw_top_alerts(alerts, view.now) if height >= 14 else _count_alerts(alerts)
        endpoints = sort_endpoints(filter_endpoints(view.snapshot.endpoints, state.search), view.rates, state)
        header, rows = _draw_endpoints(endpoints, view.rates, state, width)
        if height >= 16 and any(line.coverage is None for line in endpoints):
            foot.append(Text(UNKNOWN_LEGEND, "dim"))
    else:
        header, rows = _draw_alerts(view.snapshot.open_alerts, view.now, width)
    foot.append(_draw_prompt(state, len(rows), view.snapshot, width))
    space = max(ROWS_MIN, height - len(head) - len(foot) - 1)
    body = _draw_rows(rows, view, state, space, width)
    body += [Text()] * (space - len(body))
    lines = [*head, header, *body, *foot]
    if view.error:
        for line in lines[2:-1]:
            line.stylize("dim")
    return Frame(lines=_fit(lines[:height], width), rows=tuple(row_id for row_id, _ in rows))


def _fit(lines: Sequence[Text], width: int) -> tuple[Text, ...]:
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return tuple(lines)


def _draw_title(view: View, state: State) -> Text:
    snapshot = view.snapshot
    rate = sum(view.rates.values())
    parts = [Text("apidae top", "bold"), Text(view.url, "cyan"), Text(count_of(snapshot.total, "endpoint"))]
    parts.append(Text(f"{rate:,.1f} calls/s"))
    alerts = snapshot.open_alerts
    parts.append(
        Text(count_of(len(alerts), "open alert"), SEVERITY_STYLES.get(alerts[0].severity, "") if alerts else "")
    )
    if view.now:
        parts.append(Text(time.strftime("%H:%M:%S", time.localtime(view.now)), "dim"))
    if state.is_paused:
        parts.insert(1, Text("PAUSED", "bold reverse"))
    return Text("  ").join(parts)


def count_of(count: int, noun: str) -> str:
    """`1 alert`, `2 alerts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _count_alerts(alerts: Sequence[AlertLine]) -> list[Text]:
    return [_draw_alert(alerts[0], 0.0)] if alerts else []


def _draw_top_alerts(alerts: Sequence[AlertLine], now: float) -> list[Text]:
    """The gravest, a line each."""
    lines = [_draw_alert(alert, now) for alert in alerts[:ALERTS_SHOWN]]
    if len(alerts) > ALERTS_SHOWN:
        lines.append(Text(f"{'':{SEVERITY_COLUMNS}} and {len(alerts) - ALERTS_SHOWN} more: a shows all", "dim"))
    return [*lines, Text()] if lines else []


def _draw_alert(alert: AlertLine, now: float) -> Text:
    age = f"{word_age(now - alert.opened_at):>{AGE_COLUMNS}} " if now else ""
    style = SEVERITY_STYLES.get(alert.severity, "")
    return Text.assemble((f"{alert.severity or UNKNOWN:{SEVERITY_COLUMNS}} ", style), (age, "dim"), clean(alert.title))


def word_age(seconds: float) -> str:
    """`45s`, `12m`, `5h`, `3d`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def filter_endpoints(endpoints: Sequence[EndpointLine], search: str) -> list[EndpointLine]:
    """Those in which every word occurs; the collector does the same, a moment later, with all it has."""
    words = search.lower().split()
    return [
        line
        for line in endpoints
        if all(word in f"{line.method} {line.host}{line.template} {line.service}".lower() for word in words)
    ]


def sort_endpoints(endpoints: Sequence[EndpointLine], rates: Mapping[str, float], state: State) -> list[EndpointLine]:
    """As the person chose; the busiest first among equals."""
    value = VALUES[state.sort]
    ordered = sorted(endpoints, key=lambda line: (-line.calls, line.service, line.template, line.method))
    is_descending = (state.sort not in NAMES) is not state.is_reversed
    return sorted(ordered, key=lambda line: value(line, rates.get(line.id, 0.0)), reverse=is_descending)


Rows = list[tuple[str, Text]]


def _draw_endpoints(
    endpoints: Sequence[EndpointLine], rates: Mapping[str, float], state: State, width: int
) -> tuple[Text, Rows]:
    """The header and a line for each endpoint."""
    cells = [describe_line(line, rates.get(line.id, 0.0)) for line in endpoints]
    titles = [_draw_column_title(column, state) for column in COLUMNS]
    widths = [max([cell_len(title), *(row[i].cell_len for row in cells)]) for i, title in enumerate(titles)]
    # A path comes before a name: the service gets what the path leaves.
    service_columns = min(widths[SERVICE], SERVICE_COLUMNS_MAX)
    widths[SERVICE] = min(widths[SERVICE], SERVICE_COLUMNS_MIN)
    ranks = [0 if column.sort is state.sort else column.rank for column in COLUMNS]
    shown = choose_columns(widths, ranks, width)
    if len({(line.host, line.service) for line in endpoints}) == len({line.service for line in endpoints}):
        shown = [index for index in shown if index != HOST]  # Each service has one host, which says nothing more.
    left = width - sum(widths[index] + COLUMN_GAP for index in shown)
    widths[ENDPOINT] = max(min(widths[ENDPOINT], ENDPOINT_COLUMNS_MIN), widths[ENDPOINT] + min(left, 0))
    widths[SERVICE] += min(max(left, 0), service_columns - widths[SERVICE])
    header = _join(
        [Text(titles[i], "bold reverse" if COLUMNS[i].sort is state.sort else "bold") for i in shown], shown, widths
    )
    rows: Rows = []
    for line, row in zip(endpoints, cells, strict=True):
        row[SERVICE] = Text(cut_middle(row[SERVICE].plain, widths[SERVICE]))
        rows.append((line.id, _join([row[i] for i in shown], shown, widths)))
    return header, rows


def _draw_column_title(column: Column, state: State) -> str:
    if column.sort is not state.sort:
        return column.title
    return f"{column.title} {'▲' if (state.sort in NAMES) is not state.is_reversed else '▼'}"


def _join(cells: Sequence[Text], shown: Sequence[int], widths: Sequence[int]) -> Text:
    line = Text()
    for cell, index in zip(cells, shown, strict=True):
        cell = cell.copy()
        cell.truncate(widths[index], overflow="ellipsis")
        space = " " * (widths[index] - cell.cell_len)
        line.append(space if COLUMNS[index].is_number else "")
        line.append_text(cell)
        line.append(("" if COLUMNS[index].is_number else space) + " " * COLUMN_GAP)
    line.rstrip()
    return line


def cut_middle(name: str, width: int) -> str:
    """At most `width` characters, both ends kept: names of one application begin alike, and ports end them."""
    if cell_len(name) <= width:
        return name
    start = (width - 1) // 2
    return f"{name[:start]}…{name[len(name) - (width - 1 - start) :]}"


def _draw_alerts(alerts: Sequence[AlertLine], now: float, width: int) -> tuple[Text, Rows]:
    age = f"{'Age':>{AGE_COLUMNS}} " if now else ""
    header = Text(f"{'Severity':{SEVERITY_COLUMNS}} {age}Alert", "bold")
    return header, [(alert.id, _draw_alert(alert, now)) for alert in alerts]


def _draw_rows(rows: Rows, view: View, state: State, space: int, width: int) -> list[Text]:
    """As many as fit, around the selected one, with the details of the expanded one below it."""
    if not rows:
        if state.pane is Pane.ALERTS:
            return [Text("No alert is open.", "dim")]
        return [Text("Nothing matches the filter." if state.search else MONITOR_NOTICE, "dim")]
    ids = [row_id for row_id, _ in rows]
    place = ids.index(state.selected) if state.selected in ids else 0
    details = _draw_details(view, state, width) if state.expanded in ids else []
    fitting = max(1, space - len(details))
    offset = min(max(0, place - fitting // 2), max(0, len(rows) - fitting))
    lines: list[Text] = []
    for row_id, line in rows[offset : offset + fitting]:
        if row_id == state.selected:
            line.append(" " * max(0, width - line.cell_len))
            line.stylize("reverse")
        lines.append(line)
        if row_id == state.expanded:
            lines += details
    return lines[:space]


def _draw_details(view: View, state: State, width: int) -> list[Text]:
    """Of the expanded row, a fact a line."""
    if state.pane is Pane.ALERTS:
        facts = next((_list_alert_facts(one) for one in view.snapshot.alerts if one.id == state.expanded), [])
    else:
        facts = next((_list_facts(one) for one in view.snapshot.endpoints if one.id == state.expanded), [])
    lines = []
    for name, value in facts:
        if value:
            wrapped = textwrap.wrap(clean(value), max(20, width - 16)) or [""]
            lines += [Text.assemble((f"  {name if i == 0 else '':12}", "dim"), text) for i, text in enumerate(wrapped)]
    return lines


def _list_facts(line: EndpointLine) -> list[tuple[str, str]]:
    statuses = ", ".join(f"{name} {calls:,}" for name, calls in line.statuses)
    credentials = describe_credentials(line).plain
    return [
        ("service", line.service),
        ("host", line.host),
        ("answers", statuses),
        ("credentials", UNKNOWN_LEGEND if credentials == UNKNOWN else credentials),
        ("data", ", ".join(line.data)),
        ("exposure", line.exposure),
        ("risk", "" if line.risk is None else f"{line.risk} of 100, {line.risk_level}"),
        ("last seen", line.last_seen),
        ("more", f"apidae describe endpoint {line.id}"),
    ]


def _list_alert_facts(alert: AlertLine) -> list[tuple[str, str]]:
    return [
        ("why", alert.why),
        ("what to do", alert.advice),
        ("kind", alert.kind),
        ("more", f"apidae describe alert {alert.id}"),
    ]


def _draw_prompt(state: State, shown: int, snapshot: Snapshot, width: int) -> Text:
    """The filter while it is typed, else what is filtered and the keys."""
    if state.is_typing:
        return Text.assemble(
            ("filter: ", "bold"), state.search, ("█", "blink"), ("  Enter keeps it, Esc clears it", "dim")
        )
    line = Text()
    if state.search and state.pane is Pane.ENDPOINTS:
        line.append(f"filter: {state.search}  ", "bold")
    if state.pane is Pane.ENDPOINTS and snapshot.total > shown:
        line.append(f"{shown:,} of {snapshot.total:,}, by calls  ")
    left = width - cell_len(line.plain)
    return line.append(next((keys for keys in KEYS_LINES if cell_len(keys) <= left), KEYS_LINES[-1]), "dim")


def _draw_help() -> list[Text]:
    lines = [Text.assemble((f"{keys:26} ", "bold"), meaning) for keys, meaning in HELP]
    legend = (
        ("≈", "an estimate: some of the calls were not read"),
        ("Credentials none", "2xx answers went out without credentials"),
        ("Credentials possible", "with a value that looks like a credential, under an unknown name"),
        ("Credentials JWT 40%", "the others had none"),
        ("Credentials ?", "no 2xx answer was seen"),
        ("Status 4xx 3%", "the largest class of answers that is not 2xx, and its share"),
        ("Calls/s", "over the last 30 s; sensors report every 10 s"),
    )
    return [*lines, Text(), *(Text.assemble((f"{sign:26} ", "bold"), meaning) for sign, meaning in legend)]


def clean(text: str) -> str:
    """Without control characters, which would steer the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def describe_line(line: EndpointLine, calls_per_second: float) -> list[Text]:
    """The cells of one row, in the order of COLUMNS. Text, not str: rich would read brackets in a path as markup."""
    return [
        Text(clean(line.service)),
        Text(clean(line.host)),
        Text(clean(line.method)),
        Text(clean(line.template)),
        Text(f"{'≈ ' if line.is_estimated else ''}{line.calls:,}"),
        Text(f"{calls_per_second:,.1f}"),
        describe_statuses(line.statuses),
        Text("" if line.p95_ms is None else f"{line.p95_ms:,.1f}"),
        Text("" if line.risk is None else str(line.risk), SEVERITY_STYLES.get(line.risk_level, "")),
        describe_credentials(line),
        Text(f"{line.consumers:,}"),
    ]


def describe_statuses(statuses: Sequence[tuple[str, int]]) -> Text:
    """`2xx`, or of several the largest that is another: `4xx 3%`; a share that rounds to nothing is `<1%`."""
    if not statuses:
        return Text()
    total = sum(calls for _, calls in statuses)
    name, calls = max(statuses, key=lambda pair: (pair[0] != "2xx", pair[1]))
    share = 100 * calls / total
    shown = "" if calls == total else f" {share:.0f}%" if share >= 0.5 else " <1%"
    return Text(f"{name}{shown}", STATUS_STYLES.get(name, ""))


def describe_credentials(line: EndpointLine) -> Text:
    """`none` in red where 2xx answers went out without any, `possible` where they had an unknown value; else the kinds,
    with the share where it is not all."""
    if line.coverage is None:
        return Text(UNKNOWN, "dim")
    if line.coverage == 0:
        return Text("possible" if _POSSIBLE in line.authentication_kinds else "none", "bold red")
    words = dict.fromkeys(
        CREDENTIAL_WORDS.get(kind, kind.replace("_", " ")) for kind in line.authentication_kinds if kind != _POSSIBLE
    )
    kinds = ", ".join(words) or "yes"
    if line.coverage >= 0.995:
        return Text(kinds, "green")
    return Text(f"{kinds} {100 * line.coverage:.0f}%", "yellow")

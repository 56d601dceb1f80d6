"""Draws a `Snapshot` for the terminal: alerts in red on top, then the endpoints, then where the web page is.

Pure: text in, text out. It fits the terminal: in a narrow one columns give way before an endpoint's path does, in a
low one the least busy endpoints.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from collector.cli.output import COLUMN_GAP, choose_columns
from scripts.live.inventory import AlertLine, EndpointLine, Snapshot

ALERTS_SHOWN = 3
CHROME_LINES = 7  # Title, header, rules and the closing line around the table's rows.
FRAME_COLUMNS = 4  # Of the panel around alerts.
SERVICE_COLUMNS_MIN = 12
SERVICE_COLUMNS_MAX = 30
ENDPOINT_COLUMNS_MIN = 16
# Title, whether numbers stand in it, and its turn to go where the terminal is too narrow: the highest first, 0 never.
COLUMNS = (
    ("Service", False, 0),
    ("Method", False, 0),
    ("Endpoint", False, 0),
    ("Calls", True, 0),
    ("Calls/s", True, 1),
    ("Status", False, 3),
    ("p95 ms", True, 4),
    ("Credentials", False, 0),
    ("Consumers", True, 2),
)
SERVICE, ENDPOINT = 0, 2
MONITOR_NOTICE = "waiting for HTTP traffic on this host (what runs encrypted is not seen yet)"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that one drawing shows."""

    snapshot: Snapshot
    rates: Mapping[str, float]
    url: str
    elapsed_seconds: float
    notes: Sequence[str] = ()
    height: int = 40  # Lines.
    width: int = 140  # Characters.


def draw(view: View) -> RenderableType:
    """The whole screen."""
    parts: list[RenderableType] = []
    lines_taken = CHROME_LINES + len(view.notes) + bool(view.snapshot.error)
    if alerts := view.snapshot.open_alerts:
        text = write_alerts(alerts, view.width - FRAME_COLUMNS)
        title = count_of(len(alerts), "alert")
        parts.append(Panel(text, title=title, title_align="left", border_style="red"))
        lines_taken += text.plain.count("\n") + 3
    rows_max = max(3, view.height - lines_taken)
    parts.append(draw_endpoints(view.snapshot.endpoints, view.rates, rows_max, view.width))
    parts.extend(Text(note, style="dim") for note in view.notes)
    if view.snapshot.error:
        parts.append(Text(f"the collector did not answer: {view.snapshot.error}", style="red"))
    footer = Text.assemble(
        ("  web page ", "dim"), (view.url, "bold cyan"), (f"   {view.elapsed_seconds:.0f} s   Ctrl-C stops", "dim")
    )
    parts.append(footer)
    return Group(*parts)


def count_of(count: int, noun: str) -> str:
    """`1 alert`, `2 alerts`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def write_alerts(alerts: Sequence[AlertLine], width: int) -> Text:
    """Open alerts, newest first: what, and why; in lines of at most `width`."""
    text = Text()
    for alert in alerts[:ALERTS_SHOWN]:
        text.append(textwrap.fill(alert.title, width) + "\n", "bold red")
        text.append(textwrap.fill(alert.why, width, initial_indent="  ", subsequent_indent="  ") + "\n", "red")
    if len(alerts) > ALERTS_SHOWN:
        text.append(f"and {len(alerts) - ALERTS_SHOWN} more on the web page", "red")
    text.rstrip()
    return text


def draw_endpoints(
    endpoints: Sequence[EndpointLine], rates: Mapping[str, float], rows_max: int, width: int
) -> RenderableType:
    """The inventory, busiest first."""
    ordered = sorted(
        endpoints, key=lambda line: (-rates.get(line.id, 0.0), -line.calls, line.service, line.template, line.method)
    )
    rows = [describe_line(line, rates.get(line.id, 0.0)) for line in ordered[:rows_max]]
    widths = [
        max([cell_len(title), *(row[index].cell_len for row in rows)]) for index, (title, _, _) in enumerate(COLUMNS)
    ]
    # A path comes before a name: the service gets what the path leaves.
    service_columns = min(widths[SERVICE], SERVICE_COLUMNS_MAX)
    widths[SERVICE] = min(widths[SERVICE], SERVICE_COLUMNS_MIN)
    shown = choose_columns(widths, [rank for _, _, rank in COLUMNS], width)
    left = width - COLUMN_GAP - sum(widths[index] + COLUMN_GAP for index in shown)
    widths[SERVICE] += min(max(left, 0), service_columns - widths[SERVICE])
    widths[ENDPOINT] = max(ENDPOINT_COLUMNS_MIN, widths[ENDPOINT] + min(left, 0))

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, COLUMN_GAP - 1, 0, 0))
    for index in shown:
        title, is_number, _ = COLUMNS[index]
        table.add_column(
            title, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis", width=widths[index]
        )
    if not endpoints:
        return Group(table, Text(MONITOR_NOTICE, style="dim"))
    for row in rows:
        row[SERVICE] = keep_end(row[SERVICE].plain, widths[SERVICE])
        table.add_row(*(row[index] for index in shown))
    if len(ordered) > rows_max:
        table.caption = f"and {len(ordered) - rows_max} more on the web page"
    return table


def keep_end(name: str, width: int) -> Text:
    """At most `width` characters of it, the last ones: services of one application begin alike."""
    return Text(name if cell_len(name) <= width else "…" + name[1 - width :])


def describe_line(line: EndpointLine, calls_per_second: float) -> list[Text]:
    """The cells of one row, in the order of COLUMNS. Text, not str: rich would read brackets in a path as markup."""
    return [
        Text(line.service),
        Text(line.method),
        Text(line.template),
        Text(f"{'≈ ' if line.is_estimated else ''}{line.calls:,}"),
        Text(f"{calls_per_second:.1f}"),
        describe_statuses(line.statuses),
        Text("" if line.p95_ms is None else f"{line.p95_ms:.1f}"),
        describe_credentials(line),
        Text(f"{line.consumers:,}"),
    ]


def describe_statuses(statuses: Sequence[tuple[str, int]]) -> Text:
    """`2xx`, or of several the largest that is none: `4xx 3%`; a share that rounds to nothing is `<1%`."""
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
        return Text("?", "dim")
    if line.coverage == 0:
        return Text("possible" if _POSSIBLE in line.authentication_kinds else "none", "bold red")
    words = dict.fromkeys(
        CREDENTIAL_WORDS.get(kind, kind.replace("_", " ")) for kind in line.authentication_kinds if kind != _POSSIBLE
    )
    kinds = ", ".join(words) or "yes"
    if line.coverage >= 0.995:
        return Text(kinds, "green")
    return Text(f"{kinds} {100 * line.coverage:.0f}%", "yellow")

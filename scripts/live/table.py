"""Draws a `Snapshot` for the terminal: alerts in red on top, then the endpoints, then where the web page is.

Pure: text in, text out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scripts.live.inventory import AlertLine, EndpointLine, Snapshot

ALERTS_SHOWN = 3
STATUSES_SHOWN = 2
CHROME_LINES = 7  # Title, header, rules and the closing line around the table's rows.
MONITOR_NOTICE = "waiting for HTTP traffic on this host (what runs encrypted is not seen yet)"
STATUS_STYLES = {"2xx": "green", "3xx": "cyan", "4xx": "yellow", "5xx": "red", "aborted": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that one drawing shows."""

    snapshot: Snapshot
    rates: Mapping[str, float]
    url: str
    elapsed_seconds: float
    notes: Sequence[str] = ()
    height: int = 40


def draw(view: View) -> RenderableType:
    """The whole screen."""
    parts: list[RenderableType] = []
    alerts = view.snapshot.open_alerts
    if alerts:
        parts.append(draw_alerts(alerts))
    lines_taken = (
        CHROME_LINES
        + (2 + 2 * min(len(alerts), ALERTS_SHOWN) + (len(alerts) > ALERTS_SHOWN) if alerts else 0)
        + len(view.notes)
    )
    parts.append(draw_endpoints(view.snapshot.endpoints, view.rates, max(3, view.height - lines_taken)))
    parts.extend(Text(note, style="dim") for note in view.notes)
    if view.snapshot.error:
        parts.append(Text(f"the collector did not answer: {view.snapshot.error}", style="red"))
    footer = Text.assemble(
        ("  web page ", "dim"), (view.url, "bold cyan"), (f"   {view.elapsed_seconds:.0f} s   Ctrl-C stops", "dim")
    )
    parts.append(footer)
    return Group(*parts)


def draw_alerts(alerts: Sequence[AlertLine]) -> RenderableType:
    """Open alerts, newest first: what, and why."""
    text = Text()
    for index, alert in enumerate(alerts[:ALERTS_SHOWN]):
        text.append(("\n" if index else "") + alert.title, "bold red")
        text.append(f"\n  {alert.why}", "red")
    if len(alerts) > ALERTS_SHOWN:
        text.append(f"\nand {len(alerts) - ALERTS_SHOWN} more on the web page", "red")
    return Panel(
        text, title=f"{len(alerts)} alert{'s' if len(alerts) > 1 else ''}", title_align="left", border_style="red"
    )


def draw_endpoints(endpoints: Sequence[EndpointLine], rates: Mapping[str, float], rows_max: int) -> RenderableType:
    """The inventory, busiest first."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("Service", no_wrap=True, max_width=24)
    table.add_column("Method", no_wrap=True)
    table.add_column("Endpoint", ratio=1, no_wrap=True, overflow="ellipsis", min_width=24)
    for title in ("Calls", "Calls/s", "Status", "p95 ms", "Credentials", "Consumers"):
        table.add_column(title, justify="left" if title in ("Status", "Credentials") else "right", no_wrap=True)
    if not endpoints:
        return Group(table, Text(MONITOR_NOTICE, style="dim"))
    ordered = sorted(
        endpoints, key=lambda line: (-rates.get(line.id, 0.0), -line.calls, line.service, line.template, line.method)
    )
    for line in ordered[:rows_max]:
        table.add_row(
            line.service,
            line.method,
            line.template,
            f"{line.calls:,}",
            f"{rates.get(line.id, 0.0):.1f}",
            describe_statuses(line.statuses),
            "" if line.p95_ms is None else f"{line.p95_ms:.1f}",
            describe_credentials(line),
            f"{line.consumers:,}",
        )
    hidden = len(ordered) - rows_max
    if hidden > 0:
        table.caption = f"and {hidden} more on the web page"
    return table


def describe_statuses(statuses: Sequence[tuple[str, int]]) -> Text:
    """`2xx 97% 5xx 3%`: the two largest shares; one that rounds to nothing is `<1%`."""
    total = sum(calls for _, calls in statuses)
    text = Text()
    for name, calls in sorted(statuses, key=lambda pair: -pair[1])[:STATUSES_SHOWN]:
        share = 100 * calls / total
        shown = "" if len(statuses) == 1 else f" {share:.0f}%" if share >= 0.5 else " <1%"
        text.append(f"{' ' if text else ''}{name}{shown}", STATUS_STYLES.get(name, ""))
    return text


def describe_credentials(line: EndpointLine) -> Text:
    """`none` in red where 2xx answers went out without any; else the kinds, with the share where it is not all."""
    if line.coverage is None:
        return Text("?", "dim")
    if line.coverage == 0:
        return Text("none", "bold red")
    kinds = ", ".join(kind.replace("_", " ") for kind in line.authentication_kinds) or "yes"
    if line.coverage >= 0.995:
        return Text(kinds, "green")
    return Text(f"{kinds} {100 * line.coverage:.0f}%", "yellow")

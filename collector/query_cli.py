"""`apidae endpoints|consumers|alerts|incidents|coverage|exposure|sensors`: ask a collector; a table, JSON or CSV out.

JSON is what the API says and CSV has every column; a table has those for which the terminal is wide enough, and all of
them in a pipe.
"""

import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

TIMEOUT_SECONDS = 35.0  # Above the store's own limit of 30 s, so that its sentence arrives.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # What a spreadsheet takes for a formula (OWASP, CSV injection).


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its heading, the dotted place of its value in an item, and its turn to go where a terminal is too
    narrow: the highest first, 0 never.
    """

    name: str
    place: str
    rank: int = 0


def describe_columns(*described: tuple[str, str, int]) -> tuple[Column, ...]:
    return tuple(Column(name=name, place=place, rank=rank) for name, place, rank in described)


ENDPOINT_COLUMNS = describe_columns(
    ("method", "method", 0),
    ("host", "host", 8),
    ("template", "template", 0),
    ("service", "service.workload", 0),
    ("calls", "calls", 0),
    ("2xx", "status.2xx", 5),
    ("4xx", "status.4xx", 4),
    ("5xx", "status.5xx", 3),
    ("p95_ms", "latency_ms.p95", 2),
    ("credentials", "authentication.level", 0),
    ("consumers", "consumers", 1),
    ("tier", "tier", 6),
    ("last_seen", "last_seen", 7),
    ("protocols", "protocols", 5),
    ("data", "bodies.data_classes", 3),
    ("records", "bodies.records_returned", 6),
    ("exposure", "exposure.level", 4),
    ("spec", "spec.status", 6),
    ("namespace", "service.namespace", 6),
    ("kind", "kubernetes.kind", 8),
    ("image", "container_image_name", 8),
    ("image_tags", "container_image_tags", 9),
    ("risk", "risk.score", 2),
)
CONSUMER_COLUMNS = describe_columns(
    ("consumer", "id", 0),
    ("endpoints", "endpoints", 0),
    ("calls", "calls", 0),
    ("errors", "errors", 1),
    ("denied", "denied", 1),
    ("objects", "objects", 0),
    ("held_by", "holders.label", 3),
    ("last_seen", "last_seen", 2),
)
EXPOSURE_COLUMNS = describe_columns(
    ("cluster", "cluster", 4),
    ("namespace", "namespace", 0),
    ("workload", "workload", 0),
    ("port", "port", 0),
    ("exposure", "exposure.level", 0),
    ("reasons", "exposure.reasons", 1),
    ("since", "exposure.since", 3),
)
ALERT_COLUMNS = describe_columns(
    ("id", "id", 6),
    ("state", "state", 0),
    ("severity", "severity", 0),
    ("kind", "kind", 5),
    ("title", "title", 0),
    ("opened_at", "opened_at", 0),
    ("observed_rate", "observed_rate", 3),
    ("expected_rate", "expected_rate", 4),
)
INCIDENT_COLUMNS = describe_columns(
    ("id", "id", 6),
    ("state", "state", 0),
    ("severity", "severity", 0),
    ("actor", "actor", 2),
    ("title", "title", 0),
    ("alerts", "alerts", 3),
    ("risks", "risks", 4),
    ("opened_at", "opened_at", 0),
)
NOTIFIER_COLUMNS = describe_columns(
    ("name", "name", 0),
    ("target", "target", 0),
    ("last_outcome", "last_outcome", 0),
    ("seen", "seen", 1),
    ("delivered", "delivered", 0),
    ("failed", "failed", 0),
    ("dropped", "dropped", 2),
    ("limited", "limited", 2),
    ("repeated", "repeated", 3),
    ("waiting", "waiting", 1),
)
PORT_COLUMNS = describe_columns(
    ("node", "node", 3),
    ("role", "role", 8),
    ("port", "service.port", 0),
    ("service", "service.workload", 0),
    ("address", "address", 7),
    ("protocol", "protocol", 0),
    ("reading", "reading", 0),
    ("connections", "connections", 2),
    ("bytes", "bytes", 4),
    ("calls", "calls", 5),
    ("estimated_calls", "estimated_calls", 5),
    ("joined_late", "joined_late", 9),
    ("lost_calls", "lost_calls", 9),
    ("first_seen", "first_seen", 10),
    ("reason", "reason", 1),
)
NODE_COLUMNS = describe_columns(
    ("node", "node", 0),
    ("read_connections", "share.read_connections_ratio", 0),
    ("read_bytes", "share.read_bytes_ratio", 0),
    ("ports", "ports", 1),
    ("read_ports", "read_ports", 1),
    ("unreadable_ports", "unreadable_ports", 2),
    ("unseen_ports", "unseen_ports", 3),
    ("outbound_hosts", "outbound_hosts", 3),
    ("estimated_calls", "estimated_calls", 4),
    ("joined_late", "joined_late", 5),
    ("lost_calls", "lost_calls", 0),
)
LOSS_COLUMNS = describe_columns(
    ("node", "node", 0),
    ("stage", "stage", 1),
    ("reason", "reason", 0),
    ("count", "count", 0),
    ("meaning", "meaning", 0),
    ("advice", "advice", 0),
)
SENSOR_COLUMNS = describe_columns(
    ("node", "node", 0),
    ("state", "state", 0),
    ("version", "version", 5),
    ("lag_ms", "lag_ms", 4),
    ("seen_calls", "seen_calls", 1),
    ("lost_calls", "lost_calls", 0),
    ("loss_ratio", "loss_ratio", 2),
    ("certificate_left_days", "certificate_left_days", 3),
    ("last_report_at", "last_report_at", 3),
    ("reason", "reason", 0),
)

UrlOption = Annotated[str, typer.Option("--url", envvar="APIDAE_URL", help="Address of the collector's HTTP side.")]
TokenOption = Annotated[str, typer.Option("--token", envvar="APIDAE_TOKEN", help="API token; none with --no-auth.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most this many.")]
SinceOption = Annotated[str, typer.Option("--since", help="1h, 24h, 7d, 30d or 90d.")]
URL = "http://127.0.0.1:8080"
COLUMN_GAP = 2  # Between two columns of a table.
NARROW_WIDTH = 24  # Columns up to it are never broken over lines; longer ones give way.
PIPE_WIDTH = 10_000  # More than any row: where nobody looks, nothing is left out or broken.
NUMBER = re.compile(r"-?[0-9.e+-]*")


def register(app: typer.Typer) -> None:
    """Add the commands that ask a collector."""

    @app.command("endpoints")
    def endpoints(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        method: str = "",
        service: str = "",
        host: str = "",
        namespace: Annotated[str, typer.Option(help="Of Kubernetes.")] = "",
        label: Annotated[str, typer.Option(help="Of the workload: key=value, or a key.")] = "",
        tier: str = "",
        auth: str = "",
        protocol: Annotated[str, typer.Option(help="http/1.1, http/2, grpc, websocket, ..")] = "",
        spec: Annotated[str, typer.Option(help="documented, shadow, zombie or none.")] = "",
        sort: str = "calls",
        since: SinceOption = "24h",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the endpoints of the inventory."""
        filters = {"q": query, "method": method, "service": service, "host": host, "tier": tier, "auth": auth}
        filters |= {"namespace": namespace, "label": label, "spec": spec}
        asked = {**filters, "protocol": protocol, "sort": sort, "since": since, "limit": str(limit)}
        print_items(fetch(url, token, "endpoints", asked)["items"], ENDPOINT_COLUMNS, output)

    @app.command("consumers")
    def consumers(
        query: Annotated[str, typer.Option("--query", "-q", help="Part of kind:value.")] = "",
        since: SinceOption = "24h",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List who calls."""
        asked = {"q": query, "since": since, "limit": str(limit)}
        print_items(fetch(url, token, "consumers", asked)["items"], CONSUMER_COLUMNS, output)

    @app.command("exposure")
    def exposure(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        level: Annotated[str, typer.Option(help="external or internal.")] = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List what leads to the workloads of watched Kubernetes clusters."""
        found = fetch(url, token, "exposure", {"q": query, "level": level, "limit": str(limit)})
        for cluster in found["clusters"]:
            if cluster["reason"]:
                typer.echo(f"Cluster {cluster['cluster'] or '(unnamed)'}: {cluster['reason']}", err=True)
        print_items(found["items"], EXPOSURE_COLUMNS, output)

    @app.command("alerts")
    def alerts(
        state: Annotated[str, typer.Option("--state", help="open or closed; default both.")] = "",
        kind: str = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List alerts, newest first."""
        asked = {"state": state, "kind": kind, "limit": str(limit)}
        print_items(fetch(url, token, "alerts", asked)["items"], ALERT_COLUMNS, output)

    @app.command("incidents")
    def incidents(
        state: Annotated[str, typer.Option("--state", help="open or closed; default both.")] = "",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List incidents, all that one actor did, newest first."""
        asked = {"state": state, "limit": str(limit)}
        print_items(fetch(url, token, "incidents", asked)["items"], INCIDENT_COLUMNS, output)

    @app.command("notifiers")
    def notifiers(
        test: Annotated[str, typer.Option("--test", help="Send a test alert to this one now.")] = "",
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List where alerts go, and how that goes; or test one. A test that fails exits with 1."""
        if not test:
            print_items(fetch(url, token, "notifiers", {})["items"], NOTIFIER_COLUMNS, output)
            return
        answer = act(url, token, f"notifiers/{quote(test, safe='')}/test", {"by": "apidae notifiers"})
        if answer["outcome"] != "delivered":
            raise fail(f"Notifier {test}: {answer['outcome']}. {answer['meaning']}")
        typer.echo(f"Notifier {test}: {answer['outcome']}. {answer['meaning']}")

    @app.command("coverage")
    def coverage(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        node: str = "",
        service: str = "",
        protocol: str = "",
        reading: Annotated[str, typer.Option(help="read, unreadable, unseen, not_http, silent or lost.")] = "",
        role: Annotated[str, typer.Option(help="listening, outbound or node.")] = "",
        sort: str = "bytes",
        is_by_node: Annotated[bool, typer.Option("--nodes", help="The share that is read, of each node.")] = False,
        is_losses: Annotated[bool, typer.Option("--losses", help="What was lost, and what may be done.")] = False,
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List every listening port and called host: what is spoken, whether it is read, and why not."""
        if is_by_node:
            found = fetch(url, token, "coverage", {})
            print_items([{**found["cluster"], "node": "(all)"}, *found["nodes"]], NODE_COLUMNS, output)
        elif is_losses:
            print_items(fetch(url, token, "coverage", {})["losses"], LOSS_COLUMNS, output)
        else:
            filters = {"q": query, "node": node, "service": service, "protocol": protocol, "reading": reading}
            asked = {**filters, "role": role, "sort": sort, "limit": str(limit)}
            print_items(fetch(url, token, "coverage/ports", asked)["items"], PORT_COLUMNS, output)

    @app.command("sensors")
    def sensors(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List the sensors and how they do."""
        print_items(fetch(url, token, "sensors", {})["items"], SENSOR_COLUMNS, output)


def fetch(
    url: str, token: str, path: str, asked: Mapping[str, str], transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """The JSON answer of one question; on failure prints one sentence and raises typer.Exit(1)."""
    request = {"method": "GET", "params": {name: value for name, value in asked.items() if value}}
    return _exchange(url, token, path, request, transport)


def act(
    url: str, token: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON answer of a POST; fails as `fetch` does."""
    return _exchange(url, token, path, {"method": "POST", "json": dict(body), "headers": headers or {}}, None)


def put(url: str, token: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON answer of a PUT; fails as `fetch` does."""
    return _exchange(url, token, path, {"method": "PUT", "json": dict(body)}, None)


def act_with(url: str, token: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """`act` with other values than texts."""
    return _exchange(url, token, path, {"method": "POST", "json": dict(body)}, None)


def remove(url: str, token: str, path: str) -> dict[str, Any]:
    """The JSON answer of a DELETE; fails as `fetch` does."""
    return _exchange(url, token, path, {"method": "DELETE"}, None)


def _exchange(
    url: str, token: str, path: str, request: Mapping[str, Any], transport: httpx.BaseTransport | None
) -> dict[str, Any]:
    if not (token.isascii() and token.isprintable()):
        raise fail("The API token is not printable ASCII; correct --token or APIDAE_TOKEN.")
    if not url.startswith(("http://", "https://")):
        raise fail(f"The URL is {url!r}; it must begin with http:// or https://; set --url or APIDAE_URL.")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= request.get("headers", {})
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT_SECONDS) as client:
            response = client.request(**{**request, "headers": headers}, url=f"{url.rstrip('/')}/api/v1/{path}")
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(
            f"The collector at {url} cannot be reached ({error}); start it, or set --url or APIDAE_URL."
        ) from error
    except ValueError as error:
        raise fail(f"What answers at {url} is no Apidae collector; set --url or APIDAE_URL.") from error
    if response.is_error:
        detail = answer.get("detail", "") if isinstance(answer, dict) else ""
        raise fail(f"The collector at {url} answered {response.status_code}: {detail}")
    return dict(answer)


def fail(sentence: str) -> typer.Exit:
    """Prints the sentence; the caller raises what it gets."""
    typer.echo(sentence, err=True)
    return typer.Exit(1)


def print_items(items: Sequence[Mapping[str, Any]], columns: Sequence[Column], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(items, indent=2))
    elif output is Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        writer.writerows([[write_cell(pick(item, column.place)) for column in columns] for item in items])
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=PIPE_WIDTH)
        cells = [[_word(pick(item, column.place)) for column in columns] for item in items]
        console.print(draw_table(columns, cells, console.width))


def draw_table(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> Table:
    """All items, and of the columns those that fit into `width` characters; what still does not fit is broken over
    lines, never cut. The caption names what is left out.
    """
    longest = [max(map(cell_len, texts)) for texts in zip([column.name for column in columns], *cells, strict=True)]
    shown = choose_columns(longest, [column.rank for column in columns], width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, COLUMN_GAP - 1, 0, 0), caption_justify="left")
    for index in shown:
        is_number = bool(cells) and all(NUMBER.fullmatch(row[index]) for row in cells)
        table.add_column(
            columns[index].name,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=longest[index] <= NARROW_WIDTH,
        )
    for row in cells:
        # Text, not str: rich would read brackets in an attacker's path as markup.
        table.add_row(*(Text(row[index]) for index in shown))
    hidden = ", ".join(column.name for index, column in enumerate(columns) if index not in shown)
    if not cells:
        table.caption = "nothing found"
    elif hidden:
        table.caption = f"too narrow for {hidden}: -o csv has all"
    return table


def choose_columns(widths: Sequence[int], ranks: Sequence[int], width: int) -> list[int]:
    """Which columns to show, by index: those of the highest rank go until all fit into `width` or all left are 0."""
    shown = list(range(len(widths)))
    for index in sorted((i for i in shown if ranks[i]), key=lambda i: -ranks[i]):
        if sum(widths[i] + COLUMN_GAP for i in shown) <= width:
            break
        shown.remove(index)
    return shown


def pick(item: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place, several in one text; None where it is not there."""
    value: Any = item
    for name in place.split("."):
        if isinstance(value, list):
            value = [one.get(name) for one in value if isinstance(one, Mapping)]
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def write_cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet runs: text that starts like a formula gets an apostrophe; numbers stay numbers."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _word(value: Any) -> str:
    """A cell of the table, without control characters that would steer the terminal."""
    text = f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)

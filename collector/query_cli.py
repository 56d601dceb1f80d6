"""`apidae endpoints|consumers|alerts|coverage|sensors`: ask a collector over its HTTP API; a table, JSON or CSV out."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import httpx
import typer
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
    """One column: its heading and the dotted place of its value in an item."""

    name: str
    place: str


ENDPOINT_COLUMNS = (
    Column(name="method", place="method"),
    Column(name="host", place="host"),
    Column(name="template", place="template"),
    Column(name="service", place="service.workload"),
    Column(name="calls", place="calls"),
    Column(name="2xx", place="status.2xx"),
    Column(name="4xx", place="status.4xx"),
    Column(name="5xx", place="status.5xx"),
    Column(name="p95_ms", place="latency_ms.p95"),
    Column(name="credentials", place="authentication.level"),
    Column(name="consumers", place="consumers"),
    Column(name="tier", place="tier"),
    Column(name="last_seen", place="last_seen"),
)
CONSUMER_COLUMNS = tuple(
    Column(name=name, place=place)
    for name, place in (
        ("consumer", "id"),
        *((n, n) for n in ("endpoints", "calls", "errors", "denied", "objects", "last_seen")),
    )
)
ALERT_COLUMNS = tuple(
    Column(name=name, place=name)
    for name in ("id", "state", "severity", "kind", "title", "opened_at", "observed_rate", "expected_rate")
)
PORT_COLUMNS = tuple(
    Column(name=name, place=place)
    for name, place in (
        ("node", "node"),
        ("port", "service.port"),
        ("service", "service.workload"),
        ("protocol", "protocol"),
        ("read", "is_read"),
        ("connections", "connections"),
        ("bytes", "bytes"),
        ("reason", "reason"),
    )
)
SENSOR_COLUMNS = tuple(
    Column(name=name, place=name)
    for name in (
        "node",
        "state",
        "version",
        "lag_ms",
        "seen_calls",
        "lost_calls",
        "loss_ratio",
        "last_report_at",
        "reason",
    )
)

UrlOption = Annotated[str, typer.Option("--url", envvar="APIDAE_URL", help="Address of the collector's HTTP side.")]
TokenOption = Annotated[str, typer.Option("--token", envvar="APIDAE_TOKEN", help="API token; none with --no-auth.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most this many.")]
SinceOption = Annotated[str, typer.Option("--since", help="1h, 24h, 7d, 30d or 90d.")]
URL = "http://127.0.0.1:8080"


def register(app: typer.Typer) -> None:
    """Add the commands that ask a collector."""

    @app.command("endpoints")
    def endpoints(
        query: Annotated[str, typer.Option("--query", "-q", help="Words that must all occur.")] = "",
        method: str = "",
        service: str = "",
        host: str = "",
        tier: str = "",
        auth: str = "",
        sort: str = "calls",
        since: SinceOption = "24h",
        limit: LimitOption = 50,
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the endpoints of the inventory."""
        filters = {"q": query, "method": method, "service": service, "host": host, "tier": tier, "auth": auth}
        asked = {**filters, "sort": sort, "since": since, "limit": str(limit)}
        _print(fetch(url, token, "endpoints", asked)["items"], ENDPOINT_COLUMNS, output)

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
        _print(fetch(url, token, "consumers", asked)["items"], CONSUMER_COLUMNS, output)

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
        _print(fetch(url, token, "alerts", asked)["items"], ALERT_COLUMNS, output)

    @app.command("coverage")
    def coverage(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List every listening port and what is spoken there."""
        _print(fetch(url, token, "coverage", {})["ports"], PORT_COLUMNS, output)

    @app.command("sensors")
    def sensors(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List the sensors and how they do."""
        _print(fetch(url, token, "sensors", {})["items"], SENSOR_COLUMNS, output)


def fetch(
    url: str, token: str, path: str, asked: Mapping[str, str], transport: httpx.BaseTransport | None = None
) -> dict[str, Any]:
    """The JSON answer of one question; on failure prints one sentence and raises typer.Exit(1)."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    parameters = {name: value for name, value in asked.items() if value}
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT_SECONDS) as client:
            response = client.get(f"{url.rstrip('/')}/api/v1/{path}", params=parameters, headers=headers)
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _fail(
            f"The collector at {url} cannot be reached ({error}); start it, or set --url or APIDAE_URL."
        ) from error
    except ValueError as error:
        raise _fail(f"What answers at {url} is no Apidae collector; set --url or APIDAE_URL.") from error
    if response.is_error:
        detail = answer.get("detail", "") if isinstance(answer, dict) else ""
        raise _fail(f"The collector at {url} answered {response.status_code}: {detail}")
    return dict(answer)


def _fail(sentence: str) -> typer.Exit:
    typer.echo(sentence, err=True)
    return typer.Exit(1)


def _print(items: Sequence[Mapping[str, Any]], columns: Sequence[Column], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(items, indent=2))
    elif output is Output.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        writer.writerows([[write_cell(pick(item, column.place)) for column in columns] for item in items])
    else:
        table = Table(*(column.name for column in columns))
        for item in items:
            # Text, not str: rich would read brackets in an attacker's path as markup.
            table.add_row(*(Text(_word(pick(item, column.place))) for column in columns))
        Console().print(table)


def pick(item: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place; None where it is not there."""
    value: Any = item
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def write_cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet runs: text that starts like a formula gets an apostrophe; numbers stay numbers."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _word(value: Any) -> str:
    """A cell of the table, without control characters that would steer the terminal."""
    text = f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)
    return "".join(character if character.isprintable() else "\ufffd" for character in text)

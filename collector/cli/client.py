"""What the commands that ask a collector share: requests, common options, and output as a table, JSON or CSV.

A request that fails prints one sentence and exits with 1. JSON is what the API says, and CSV has every column. A table
has the columns for which the terminal is wide enough, and all of them in a pipe.
"""

import csv
import getpass
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import httpx
import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.log_lines import escape

TIMEOUT_SECONDS = 35.0  # Above the 10 s for a turn and 20 s of work, so that the sentence arrives.


URL = "http://127.0.0.1:8080"


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def name_decider(given: str = "") -> str:
    """Who decides: as given, else the user's name, else `uid:10001` where the user has none, as in a container."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # KeyError: Python 3.12.
        return f"uid:{os.getuid()}"


AskedByOption = Annotated[
    str,
    typer.Option(
        "--asked-by",
        callback=name_decider,
        show_default="your user name",
        help="In whose name; kept behind the name of the token.",
    ),
]
UrlOption = Annotated[str, typer.Option("--url", envvar="APIDAE_URL", help="Address of the collector's HTTP side.")]
TokenOption = Annotated[str, typer.Option("--token", envvar="APIDAE_TOKEN", help="API token; none with --no-auth.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]
ASKING_OPTIONS = tuple(
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
    for name, annotation, default in (
        ("url", UrlOption, URL),
        ("token", TokenOption, ""),
        ("output", OutputOption, Output.TABLE),
    )
)
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most this many.")]
SinceOption = Annotated[str, typer.Option("--since", help="1h, 24h, 7d, 30d or 90d.")]


# What a spreadsheet takes for a formula (OWASP, CSV injection), in full width too.
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
COLUMN_GAP = 2  # Between two columns of a table.
NARROW_WIDTH = 24  # Columns up to it are never broken over lines; longer ones give way.
PIPE_WIDTH = 10_000  # More than any row: where nobody looks, nothing is left out or broken.
ESTIMATED = "≈ "
NUMBER = re.compile(rf"(?:{ESTIMATED})?-?[0-9.e+-]*")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, the dotted place of its value in an item, and its turn to go where a terminal is too
    narrow: the highest first, 0 never. `estimate` is the place of what says that the value is one.
    """

    name: str
    place: str
    rank: int = 0
    estimate: str = ""


def describe_columns(text: str) -> tuple[Column, ...]:
    """Columns as words: `name=place~estimate/rank`, where a place equal to the name, no estimate and rank 0 are left
    out."""
    columns = []
    for word in text.split():
        named, _, rank = word.partition("/")
        placed, _, estimate = named.partition("~")
        name, _, place = placed.partition("=")
        columns.append(Column(name, place or name, int(rank or 0), estimate))
    return tuple(columns)


@dataclass(frozen=True, slots=True)
class Api:
    """The collector that a command asks, and how it prints. A request that fails prints one sentence and raises
    typer.Exit(1)."""

    url: str
    token: str
    output: Output

    def fetch(self, path: str, asked: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON answer of one question."""
        return self._exchange(path, "GET", {"params": {name: value for name, value in (asked or {}).items() if value}})

    def act(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        """The JSON answer of a POST."""
        return self._exchange(path, "POST", {"json": dict(body)}, headers, timeout_seconds)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer of a PUT."""
        return self._exchange(path, "PUT", {"json": dict(body)})

    def remove(self, path: str) -> dict[str, Any]:
        """The JSON answer of a DELETE."""
        return self._exchange(path, "DELETE", {})

    def _exchange(
        self,
        path: str,
        method: str,
        request: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        url = self.url
        if not (self.token.isascii() and self.token.isprintable()):
            raise fail("The API token is not printable ASCII; correct --token or APIDAE_TOKEN.")
        if not url.startswith(("http://", "https://")):
            raise fail(f"The URL is {url!r}; it must begin with http:// or https://; set --url or APIDAE_URL.")
        sent = {**({"authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        try:
            with httpx.Client(timeout=timeout_seconds) as client:
                response = client.request(method, f"{url.rstrip('/')}/api/v1/{path}", headers=sent, **request)
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

    def print_items(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        """As a table, or as JSON or CSV."""
        if self.output is Output.JSON:
            typer.echo(json.dumps(items, indent=2))
        elif self.output is Output.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow([column.name for column in columns])
            writer.writerows([[write_cell(pick(item, column.place)) for column in columns] for item in items])
        else:
            console = Console()
            if not console.is_terminal:
                console = Console(width=PIPE_WIDTH)
            cells = [[_write_word(item, column) for column in columns] for item in items]
            console.print(draw_table(columns, cells, console.width))


def command(
    app: typer.Typer, name: str, *, prints: bool = True, help: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a function as a command whose first parameter is the API. The command has the options of the others, --url
    and --token, and --output where it prints items."""

    def add(run: Callable[..., None]) -> Callable[..., None]:
        def call(url: str, token: str, output: Output = Output.TABLE, **given: Any) -> None:
            run(Api(url, token, output), **given)

        own = list(inspect.signature(run).parameters.values())[1:]
        shared = ASKING_OPTIONS if prints else ASKING_OPTIONS[:2]
        options = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
        # What Typer makes options of.
        call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in options}
        call.__doc__ = run.__doc__
        app.command(name, help=help)(call)
        return run

    return add


def fail(sentence: str) -> typer.Exit:
    """Prints the sentence; the caller raises what it gets."""
    say(sentence, err=True)
    return typer.Exit(1)


def say(sentence: str, *, err: bool = False) -> None:
    """Prints a sentence, which may quote what clients, services and sensors send, as one line that steers no
    terminal."""
    typer.echo(escape(sentence), err=err)


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
    """The value at a dotted place, several in one text, of counts their names, of a service `namespace/workload`; None
    where it is not there."""
    value: Any = item
    for name in place.split("."):
        if isinstance(value, list):
            value = [one.get(name) for one in value if isinstance(one, Mapping)]
        else:
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and "workload" in value:
        return "/".join(filter(None, (value.get("namespace"), value["workload"])))
    return ", ".join(map(str, value)) if isinstance(value, list | Mapping) else value


def write_cell(value: Any) -> Any:
    """A CSV cell that no spreadsheet runs and no terminal obeys: text that starts like a formula, behind spaces too,
    gets an apostrophe; numbers stay numbers."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = _clean(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) else text


def _write_word(item: Mapping[str, Any], column: Column) -> str:
    """A cell of the table, marked where it is an estimate."""
    value = pick(item, column.place)
    mark = ESTIMATED if column.estimate and pick(item, column.estimate) else ""
    return _clean(mark + (f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)))


def _clean(text: str) -> str:
    """Without control characters, which would steer the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)

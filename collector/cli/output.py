"""How answers are printed: as a table, JSON, YAML, CSV, or names alone.

JSON and YAML are what the API says, and CSV has every column. A table has the columns for which the terminal is wide
enough, and all of them in a pipe or with `-o wide`.
"""

import csv
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from collector.api.columns import Column, clean_text, pick, write_cell

if TYPE_CHECKING:  # Completion and `--help` wait for no table.
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"

    @property
    def is_table(self) -> bool:
        """For people."""
        return self in (Output.TABLE, Output.WIDE)


COLUMN_GAP = 2  # Between two columns of a table.
NARROW_WIDTH = 24  # Columns up to it are never broken over lines; longer ones give way.
PIPE_WIDTH = 10_000  # More than any row: where nobody looks, nothing is left out or broken.
ESTIMATED = "≈ "
NUMBER = re.compile(rf"(?:{ESTIMATED})?-?[0-9.,]*")
# Of a severity, and of the level of a risk.
SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}
SEVERITY_COLUMNS = ("severity", "level", "risk_level")
UNGROUPED_COLUMNS = ("port",)  # Numbers that are names.
DIGITS = 3  # Significant ones of a number with a fraction.


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints items of one answer as `output` says."""

    output: Output = Output.TABLE
    has_headers: bool = True

    def print_items(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column], key: str = "id") -> None:
        """A row for each item; `key` is the place of its name."""
        if self.print_document(items):
            return
        if self.output is Output.NAME:
            for item in items:
                typer.echo(clean_text(str(pick(item, key) or "")))
        elif self.output is Output.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            if self.has_headers:
                writer.writerow([column.name for column in columns])
            writer.writerows([[write_cell(pick(item, column.place)) for column in columns] for item in items])
        else:
            self._print_table(items, columns)

    def print_document(self, document: Any) -> bool:
        """Whether it was printed as it is, as JSON or YAML."""
        if self.output is Output.JSON:
            typer.echo(json.dumps(document, indent=2))
        elif self.output is Output.YAML:
            import yaml

            typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), nl=False)
        else:
            return False
        return True

    def _print_table(self, items: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
        console = open_console(is_wide=self.output is Output.WIDE)
        cells = [[write_word(item, column) for column in columns] for item in items]
        print_lines(console, draw_table(columns, cells, console.width, has_headers=self.has_headers))


def open_console(*, is_wide: bool = False) -> "Console":
    """Standard output, as wide as the terminal; in a pipe nothing is too wide."""
    from rich.console import Console

    console = Console()
    return Console(width=PIPE_WIDTH) if is_wide or not console.is_terminal else console


def print_lines(console: "Console", shown: "RenderableType") -> None:
    """Without the spaces and the empty lines that only pad."""
    with console.capture() as captured:
        console.print(shown)
    typer.echo("\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines() if line.strip()))


def draw_table(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int, *, has_headers: bool = True
) -> "Table":
    """All items, and of the columns those that fit into `width` characters; what still does not fit is broken over
    lines, never cut. The caption names what is left out.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table

    longest = [max(map(cell_len, texts)) for texts in zip([column.name for column in columns], *cells, strict=True)]
    shown = choose_columns(longest, [column.rank for column in columns], width)
    table = Table(
        box=box.SIMPLE_HEAD if has_headers else None,
        show_header=has_headers,
        pad_edge=False,
        padding=(0, COLUMN_GAP - 1, 0, 0),
        caption_justify="left",
    )
    for index in shown:
        is_number = bool(cells) and all(NUMBER.fullmatch(row[index]) for row in cells)
        table.add_column(
            columns[index].name,
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=longest[index] <= NARROW_WIDTH,
        )
    for row in cells:
        table.add_row(*(style_cell(columns[index], row[index]) for index in shown))
    hidden = ", ".join(column.name for index, column in enumerate(columns) if index not in shown)
    if not cells:
        table.caption = "nothing found"
    elif hidden:
        table.caption = f"too narrow for {hidden}: -o wide has all"
    return table


def style_cell(column: Column, text: str) -> "Text":
    """Text, not str: rich would read brackets in an attacker's path as markup."""
    from rich.text import Text

    return Text(text, SEVERITY_STYLES.get(text, "") if column.name in SEVERITY_COLUMNS else "")


def choose_columns(widths: Sequence[int], ranks: Sequence[int], width: int) -> list[int]:
    """Which columns to show, by index: those of the highest rank go until all fit into `width` or all left are 0."""
    shown = list(range(len(widths)))
    for index in sorted((i for i in shown if ranks[i]), key=lambda i: -ranks[i]):
        if sum(widths[i] + COLUMN_GAP for i in shown) <= width:
            break
        shown.remove(index)
    return shown


def write_word(item: Mapping[str, Any], column: Column) -> str:
    """A cell of the table, marked where it is an estimate."""
    value = pick(item, column.place)
    mark = ESTIMATED if column.estimate and pick(item, column.estimate) else ""
    return clean_text(
        mark + (str(value) if column.name in UNGROUPED_COLUMNS and value is not None else write_value(value))
    )


def write_value(value: Any) -> str:
    """For people: yes and no, thousands apart, and a fraction with three significant digits and no exponent."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    decimals = DIGITS - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{min(max(decimals, 0), 2 * DIGITS)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

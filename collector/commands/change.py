"""`apidae diff|tombstones`: what came to the inventory and went."""

from typing import Annotated, Any

import typer

from collector.commands.client import fetch
from collector.commands.options import URL, Output, OutputOption, TokenOption, UrlOption
from collector.commands.table import describe_columns, print_items

_NAME = (
    *(("method", "method", 0), ("host", "host", 3), ("template", "template", 0), ("operation.name", "operation", 0)),
    ("service", "service", 1),
)
DIFF_COLUMNS = describe_columns(
    ("change", "change", 0), *_NAME, ("credentials", "credentials", 0), ("last_seen", "last_seen", 2), ("id", "id", 4)
)
TOMBSTONE_COLUMNS = describe_columns(
    *_NAME, ("calls", "calls", 0), ("first_seen", "first_seen", 2), ("last_seen", "last_seen", 0), ("id", "id", 4)
)


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("diff")
    def diff(
        start: Annotated[str, typer.Argument(help="The earlier date, as 2026-10-01.")],
        end: Annotated[str, typer.Argument(help="The later date.")],
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Compare the inventory at two dates: endpoints that came, went, or changed credentials."""
        print_items(
            list_changes(fetch(url, token, "inventory/diff", {"start": start, "end": end})), DIFF_COLUMNS, output
        )

    @app.command("tombstones")
    def tombstones(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List endpoints that nobody called for 30 days."""
        print_items(fetch(url, token, "inventory/tombstones", {})["items"], TOMBSTONE_COLUMNS, output)


def list_changes(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each."""
    rows = [
        {**one, "change": change, "credentials": one["authentication"]}
        for change in ("appeared", "gone")
        for one in found[change]
    ]
    return rows + [
        {
            **one["after"],
            "change": "changed",
            "credentials": f"{one['before']['authentication']} -> {one['after']['authentication']}",
        }
        for one in found["changed"]
    ]

"""Commands that edit templates of endpoints, and the comparison of the inventory at two dates."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.cli.client import (
    Api,
    AskedByOption,
    add_group,
    command,
    describe_columns,
    say,
)

EndpointArgument = Annotated[str, typer.Argument(help="Id of an endpoint.")]
PlaceArgument = Annotated[int, typer.Argument(help="Which segment, from 0: of /users/{id} the parameter is 1.", min=0)]


def register_templates(app: typer.Typer) -> None:
    """Add the group."""
    templates = add_group(app, "templates", "Split, merge, rename and pin templates; undo it.")

    @command(templates, "rename", prints=False)
    def rename(
        api: Api, endpoint: EndpointArgument, place: PlaceArgument, name: str, asked_by: AskedByOption = ""
    ) -> None:
        """Give a parameter another name."""
        _edit(api, endpoint, "rename", {"place": place, "name": name, "asked_by": asked_by})

    @command(templates, "split", prints=False)
    def split(
        api: Api, endpoint: EndpointArgument, place: PlaceArgument, value: str, asked_by: AskedByOption = ""
    ) -> None:
        """Give one value of a parameter an endpoint of its own."""
        _edit(api, endpoint, "split", {"place": place, "value": value, "asked_by": asked_by})

    @command(templates, "merge", prints=False)
    def merge(
        api: Api,
        endpoints: Annotated[list[str], typer.Argument(help="Ids of endpoints.")],
        name: Annotated[str, typer.Option(help="Of the parameter.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Make several endpoints one."""
        _print_edit(api.act("template-edits/merge", {"endpoints": endpoints, "name": name, "asked_by": asked_by}))

    @command(templates, "keep-host", prints=False)
    def keep_host(
        api: Api,
        endpoint: EndpointArgument,
        host: Annotated[str, typer.Argument(help="Which keeps its own name; default: all that the pattern has.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Keep hosts apart that were taken for one, as {tenant}.example.com."""
        _edit(api, endpoint, "keep-host", {"host": host, "asked_by": asked_by})

    @command(templates, "pin", prints=False)
    def pin(api: Api, endpoint: EndpointArgument, asked_by: AskedByOption = "") -> None:
        """Keep a template whatever is learned."""
        _edit(api, endpoint, "pin", {"asked_by": asked_by})

    @command(templates, "undo", prints=False)
    def undo(api: Api, edit: str, asked_by: AskedByOption = "") -> None:
        """Undo an edit."""
        _print_edit(api.act(f"template-edits/{quote(edit, safe='')}/undo", {"asked_by": asked_by}))


def _edit(api: Api, endpoint: str, action: str, body: dict[str, Any]) -> None:
    _print_edit(api.act(f"endpoints/{quote(endpoint, safe='')}/{action}", body))


def _print_edit(edit: dict[str, Any]) -> None:
    state = "undone" if edit["undone_at"] else edit["kind"]
    since = f"; all calls since {edit['exact_since']}" if edit["exact_since"] else ""
    say(f"{edit['id']}: {state} {edit['method']} {edit['host']}{edit['template']}{since}. {edit['note']}".strip())


DIFF_COLUMNS = describe_columns(
    "change detail method host/3 template operation.name=operation service/1 last_seen/2 id/4"
)


def register_change(get: typer.Typer) -> None:
    """Add the command."""

    @command(get, "changes")
    def changes(
        api: Api,
        start: Annotated[str, typer.Argument(help="The earlier date, as 2026-10-01; default: yesterday.")] = "",
        end: Annotated[str, typer.Argument(help="The later date; default: today.")] = "",
    ) -> None:
        """Compare the inventory at two dates: endpoints that came or went, credentials, exposure, kinds of data."""
        asked = {name: value for name, value in (("start", start), ("end", end)) if value}
        api.print_items(list_changes(api.fetch("inventory/diff", asked)), DIFF_COLUMNS)


def list_changes(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each."""
    rows = [
        {**one, "change": change, "detail": f"credentials: {one['authentication']}"}
        for change in ("appeared", "gone")
        for one in found[change]
    ]
    rows += [
        {
            **one["after"],
            "change": "credentials",
            "detail": f"{one['before']['authentication']} -> {one['after']['authentication']}",
        }
        for one in found["changed"]
    ]
    rows += [{**one, "change": "exposure", "detail": f"{one['before']} -> {one['after']}"} for one in found["exposed"]]
    for one in found["data"]:
        kinds = "; ".join(f"{place}: {', '.join(kinds)}" for place, kinds in one["kinds"].items())
        rows.append({**one, "change": "data", "detail": kinds})
    return rows

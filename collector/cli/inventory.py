"""Commands on the inventory: `apidae templates ..` edits templates (split, merge, rename, pin, undo).

`apidae diff` lists the endpoints that came, went or changed.
"""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.cli.client import (
    URL,
    ByOption,
    Output,
    OutputOption,
    TokenOption,
    UrlOption,
    act,
    describe_columns,
    fetch,
    print_items,
)
from collector.cli.lists import add_list

EndpointArgument = Annotated[str, typer.Argument(help="Id of an endpoint.")]
PlaceArgument = Annotated[int, typer.Argument(help="Which segment, from 0: of /users/{id} the parameter is 1.", min=0)]


def register_template(app: typer.Typer) -> None:
    """Add the commands."""
    templates = typer.Typer(help="Split, merge, rename and pin templates; undo it.", no_args_is_help=True)
    app.add_typer(templates, name="templates")

    add_list(templates, "templates list")

    @templates.command("rename")
    def rename(
        endpoint: EndpointArgument,
        place: PlaceArgument,
        name: str,
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Give a parameter another name."""
        _tell(act(url, token, f"endpoints/{quote(endpoint, safe='')}/rename", {"place": place, "name": name, "by": by}))

    @templates.command("split")
    def split(
        endpoint: EndpointArgument,
        place: PlaceArgument,
        value: str,
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Give one value of a parameter an endpoint of its own."""
        _tell(
            act(url, token, f"endpoints/{quote(endpoint, safe='')}/split", {"place": place, "value": value, "by": by})
        )

    @templates.command("merge")
    def merge(
        endpoints: Annotated[list[str], typer.Argument(help="Ids of endpoints.")],
        name: Annotated[str, typer.Option(help="Of the parameter.")] = "",
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Make several endpoints one."""
        _tell(act(url, token, "template-edits/merge", {"endpoints": endpoints, "name": name, "by": by}))

    @templates.command("keep-host")
    def keep_host(
        endpoint: EndpointArgument,
        host: Annotated[str, typer.Argument(help="Which keeps its own name; default: all that the pattern has.")] = "",
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Keep hosts apart that were taken for one, as {tenant}.example.com."""
        _edit(url, token, endpoint, "keep-host", {"host": host, "by": by})

    @templates.command("pin")
    def pin(endpoint: EndpointArgument, by: ByOption = "", url: UrlOption = URL, token: TokenOption = "") -> None:
        """Keep a template whatever is learned."""
        _edit(url, token, endpoint, "pin", {"by": by})

    @templates.command("undo")
    def undo(edit: str, by: ByOption = "", url: UrlOption = URL, token: TokenOption = "") -> None:
        """Undo an edit."""
        _tell(act(url, token, f"template-edits/{quote(edit, safe='')}/undo", {"by": by}))


def _edit(url: str, token: str, endpoint: str, action: str, body: dict[str, Any]) -> None:
    _tell(act(url, token, f"endpoints/{quote(endpoint, safe='')}/{action}", body))


def _tell(edit: dict[str, Any]) -> None:
    state = "undone" if edit["undone_at"] else edit["kind"]
    since = f"; all calls since {edit['exact_since']}" if edit["exact_since"] else ""
    typer.echo(
        f"{edit['id']}: {state} {edit['method']} {edit['host']}{edit['template']}{since}. {edit['note']}".strip()
    )


DIFF_COLUMNS = describe_columns(
    "change method host/3 template operation.name=operation service/1 credentials last_seen/2 id/4"
)


def register_change(app: typer.Typer) -> None:
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

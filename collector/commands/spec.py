"""`apidae specs ..`: API descriptions, and how what is seen differs from them."""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.commands.client import act, fetch, remove
from collector.commands.options import URL, ByOption, Output, OutputOption, TokenOption, UrlOption
from collector.commands.table import describe_columns, print_items

SPEC_COLUMNS = describe_columns(
    ("name", "name", 0),
    ("version", "version", 1),
    ("service", "service", 1),
    ("in_force", "is_in_force", 0),
    ("operations", "operations", 0),
    ("deprecated", "deprecated", 2),
    ("versions", "versions", 3),
    ("source", "source", 2),
    ("time", "time", 4),
)
REPORT_COLUMNS = describe_columns(
    ("status", "status", 0),
    ("method", "method", 0),
    ("path", "path", 0),
    ("what", "what", 0),
    ("endpoint", "endpoint", 3),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    specs = typer.Typer(help="API descriptions (OpenAPI) beside what is seen.", no_args_is_help=True)
    app.add_typer(specs, name="specs")

    @specs.command("list")
    def list_specs(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List the descriptions; on standard error what is wrong with files, where services serve one, and how that
        fits their calls."""
        found = fetch(url, token, "specs", {})
        for path, error in found["file_errors"].items():
            typer.echo(f"{path}: {error}", err=True)
        for one in found["seen_in_traffic"]:
            typer.echo(f"Seen in traffic: {one['method']} {one['host']}{one['template']} of {one['service']}", err=True)
        for one in found["items"]:
            if one["fit"]:
                typer.echo(f"{one['name']}: {one['fit']}", err=True)
        print_items(found["items"], SPEC_COLUMNS, output)

    @specs.command("upload")
    def upload(
        file: Annotated[Path, typer.Argument(help="OpenAPI 2.0, 3.0 or 3.1, as JSON or YAML.", exists=True)],
        name: Annotated[str, typer.Option(help="Default: its title.")] = "",
        service: Annotated[str, typer.Option(help="Which service it describes; default: by its hosts.")] = "",
        by: ByOption = "",
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Put a description in force; the same name is a newer version."""
        body = {"document": file.read_text(), "name": name, "service": service, "by": by}
        answer = act(url, token, "specs", body)
        typer.echo(f"{answer['name']}: {answer['operations']} operations, version {answer['versions']} of its name.")

    @specs.command("delete")
    def delete(name: str, url: UrlOption = URL, token: TokenOption = "") -> None:
        """Take a description out, with all its versions."""
        remove(url, token, f"specs/{quote(name, safe='')}")
        typer.echo(f"{name} is out.")

    @specs.command("report")
    def report(name: str, url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """Compare a description with what is seen: shadow, zombie, orphan, drift."""
        found = fetch(url, token, f"specs/{quote(name, safe='')}/report", {})
        if output is Output.JSON:
            typer.echo(json.dumps(found, indent=2))
            return
        print_items(list_rows(found), REPORT_COLUMNS, output)


def list_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each thing that is not as described."""
    rows = [
        {
            "status": status,
            "method": one["method"],
            "path": one["template"],
            "what": one["spec"]["reason"],
            "endpoint": one["id"],
        }
        for status in ("shadow", "zombie")
        for one in report[status]
    ]
    rows += [
        {"status": drift["kind"], "method": one["method"], "path": one["template"], "what": drift["sentence"],
         "endpoint": one["id"]}
        for status in ("documented", "zombie")
        for one in report[status]
        for drift in one["drift"]
    ]  # fmt: skip
    rows += [
        {"status": "orphan", "method": one["method"], "path": one["http_route"], "what": "never called", "endpoint": ""}
        for one in report["orphan"]
    ]
    return rows

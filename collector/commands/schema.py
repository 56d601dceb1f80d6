"""`apidae schema|services|export`: what endpoints look like, and a service as an OpenAPI or Postman document."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.commands.client import fetch
from collector.commands.options import URL, Output, OutputOption, SinceOption, TokenOption, UrlOption
from collector.commands.table import describe_columns, print_items
from collector.schemas.outline import name_type

PARAMETER_COLUMNS = describe_columns(
    ("place", "place", 0), ("name", "name", 0), ("type", "type", 0), ("share", "share", 1), ("required", "required", 0)
)
OPERATION_COLUMNS = describe_columns(
    ("protocol", "protocol", 0),
    ("kind", "kind", 0),
    ("operation", "name", 0),
    ("sampled_calls", "sampled_calls", 1),
    ("sampled_errors", "sampled_errors", 2),
    ("estimated_calls", "estimated_calls", 0),
)
SERVICE_COLUMNS = describe_columns(
    ("service", "service", 0),
    ("cluster", "cluster", 2),
    ("namespace", "namespace", 1),
    ("endpoints", "endpoints", 0),
)


class Format(StrEnum):
    """What a service is exported as."""

    OPENAPI = "openapi"
    POSTMAN = "postman"


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("schema")
    def schema(
        endpoint: Annotated[str, typer.Argument(help="Id of an endpoint, as `apidae endpoints -o json` has it.")],
        since: SinceOption = "24h",
        url: UrlOption = URL,
        token: TokenOption = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show what one endpoint looks like: parameters and fields of bodies, then its operations where it has some."""
        answer = fetch(url, token, f"endpoints/{quote(endpoint, safe='')}/schema", {"since": since})
        if output is Output.JSON:
            typer.echo(json.dumps(answer, indent=2))
            return
        print_items(list_fields(answer), PARAMETER_COLUMNS, output)
        if answer["operations"]:
            print_items(answer["operations"], OPERATION_COLUMNS, output)

    @app.command("services")
    def services(url: UrlOption = URL, token: TokenOption = "", output: OutputOption = Output.TABLE) -> None:
        """List the services that have endpoints."""
        print_items(fetch(url, token, "services", {})["items"], SERVICE_COLUMNS, output)

    @app.command("export")
    def export(
        form: Annotated[Format, typer.Argument(help="openapi or postman.")],
        service: Annotated[str, typer.Argument(help="As `apidae services` lists it, or the name of its workload.")],
        file: Annotated[
            Path | None, typer.Option("--file", "-f", help="Where to write; default standard output.")
        ] = None,
        url: UrlOption = URL,
        token: TokenOption = "",
    ) -> None:
        """Write what a service looks like as an OpenAPI 3.1 document, or as a Postman collection."""
        document = fetch(url, token, f"services/{quote(service, safe='')}/{form.value}.json", {})
        text = json.dumps(document, indent=2) + "\n"
        if file is None:
            typer.echo(text, nl=False)
        else:
            file.write_text(text)


def list_fields(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters and fields of bodies as rows: place, name, type, share, required."""
    rows = [
        {
            "place": one["place"],
            "name": one["name"],
            "type": name_type(one["schema"]),
            "share": one["share"],
            "required": "yes" if one["is_required"] else "",
        }
        for one in answer["parameters"]
    ]
    for one in answer["requests"]:
        rows += _list_body(f"request {one['media_type']}".strip(), one["schema"])
    for one in answer["responses"]:
        rows += _list_body(f"{one['status_class']}xx {one['media_type']}".strip(), one["schema"])
    return rows


def _list_body(place: str, schema: dict[str, Any], path: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if not path:
        rows.append({"place": place, "name": "(body)", "type": name_type(schema), "share": "", "required": ""})
    for option in schema.get("anyOf", [schema]):
        required = option.get("required", [])
        for name, inner in option.get("properties", {}).items():
            share = 1.0 if name in required else inner.get("x-apidae-share", "")
            mark = "yes" if name in required else ""
            rows.append(
                {"place": place, "name": path + name, "type": name_type(inner), "share": share, "required": mark}
            )
            rows += _list_body(place, inner, f"{path}{name}.")
        for key, step in (("items", "[]."), ("additionalProperties", "{}.")):
            if isinstance(option.get(key), dict):
                rows += _list_body(place, option[key], f"{path.removesuffix('.')}{step}")
    return rows

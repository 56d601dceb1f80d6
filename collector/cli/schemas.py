"""Commands on schemas and descriptions of APIs: what endpoints look like, export, upload and comparison."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.cli.client import (
    Api,
    AskedByOption,
    SinceOption,
    add_group,
    command,
    describe_columns,
    say,
)

PARAMETER_COLUMNS = describe_columns("place name type share/1 required")
OPERATION_COLUMNS = describe_columns("protocol kind operation=name sampled_calls/1 sampled_errors/2 estimated_calls")


SpecArgument = Annotated[str, typer.Argument(help="Name of a description, as `apidae get specs` lists it.")]


class Format(StrEnum):
    """What a service is exported as."""

    OPENAPI = "openapi"
    POSTMAN = "postman"


def register_schema(app: typer.Typer, get: typer.Typer) -> None:
    """Add the commands."""

    @command(get, "schema")
    def schema(
        api: Api,
        endpoint: Annotated[str, typer.Argument(help="Id of an endpoint, as `apidae get endpoints` lists it.")],
        since: SinceOption = "24h",
    ) -> None:
        """Show the schema of one endpoint: parameters, fields of bodies, operations."""
        answer = api.fetch(f"endpoints/{quote(endpoint, safe='')}/schema", {"since": since})
        if api.print_document(answer):
            return
        api.print_items(list_fields(answer), PARAMETER_COLUMNS)
        if answer["operations"]:
            api.print_items(answer["operations"], OPERATION_COLUMNS)

    @command(app, "export", prints=False)
    def export(
        api: Api,
        form: Annotated[Format, typer.Argument(help="openapi or postman.")],
        service: Annotated[str, typer.Argument(help="As `apidae get services` lists it, or the name of its workload.")],
        file: Annotated[
            Path | None, typer.Option("--file", "-f", help="Where to write; default standard output.")
        ] = None,
    ) -> None:
        """Write what a service looks like as an OpenAPI 3.1 document, or as a Postman collection."""
        document = api.fetch(f"services/{quote(service, safe='')}/{form.value}.json")
        text = json.dumps(document, indent=2) + "\n"
        if file is None:
            typer.echo(text, nl=False)
        else:
            file.write_text(text)


def list_fields(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters and fields of bodies as rows: place, name, type, share, required."""
    from collector.schemas.json_schema import name_type

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
    from collector.schemas.json_schema import name_type

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


REPORT_COLUMNS = describe_columns("status method path what endpoint/3")


def register_specs(app: typer.Typer) -> None:
    """Add the group."""
    specs = add_group(app, "specs", "Compare API descriptions (OpenAPI) with the calls that were seen.")

    @command(specs, "upload", prints=False)
    def upload(
        api: Api,
        file: Annotated[Path, typer.Argument(help="OpenAPI 2.0, 3.0 or 3.1, as JSON or YAML.", exists=True)],
        name: Annotated[str, typer.Option(help="Default: its title.")] = "",
        service: Annotated[str, typer.Option(help="Which service it describes; default: by its hosts.")] = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Put a description in force; the same name is a newer version."""
        body = {"document": file.read_text(), "name": name, "service": service, "asked_by": asked_by}
        answer = api.act("specs", body)
        say(f"{answer['name']}: {answer['operations']} operations, version {answer['versions']} of its name.")

    @command(specs, "delete", prints=False)
    def delete(api: Api, name: SpecArgument) -> None:
        """Delete a description with all its versions."""
        api.remove(f"specs/{quote(name, safe='')}")
        say(f"{name} is out.")

    @command(specs, "report")
    def report(api: Api, name: SpecArgument) -> None:
        """Compare a description with what is seen: shadow, zombie, orphan, drift."""
        found = api.fetch(f"specs/{quote(name, safe='')}/report")
        if api.print_document(found):
            return
        api.print_items(list_rows(found), REPORT_COLUMNS)


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

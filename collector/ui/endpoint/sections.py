"""Sections of an endpoint's page, and their buttons: what it looks like, edits of its template, and its risk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.core.errors import ConflictError, UnknownError
from collector.inventory.endpoints.endpoint import Endpoint
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.mapping import EditError, split_template
from collector.risk.assessment import RiskAssessor
from collector.risk.finding import Finding, FindingState
from collector.risk.tls import NO_ENDPOINT
from collector.schemas.evidence import read_parameters
from collector.schemas.json_schema import name_type, render
from collector.schemas.merging import FieldNode, Part, PartSchema
from collector.schemas.service import SchemaInventory
from collector.storage.records import Reader
from collector.ui.components.rendering import read_form

ROWS_MAX = 200  # Fields shown of one part.
_PLACES = ((Part.QUERY, "query"), (Part.HEADER, "header"), (Part.COOKIE, "cookie"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One line: a parameter or a field of a body. `share` is None where it is not known."""

    name: str
    type: str
    share: float | None
    is_required: bool


def read_schema(reader: Reader, schemas: SchemaInventory, endpoint: Endpoint) -> dict[str, Any]:
    """The template's values: `path_parameters`, `schema_parts` as (title, samples, rows), `tokens`. Raises
    StoreError."""
    schema = schemas.read_endpoint(endpoint)
    return {
        "tokens": schema.tokens,
        "path_parameters": read_parameters(reader, endpoint.path_id, endpoint.template, endpoint.host),
        "schema_parts": [
            *((place, part.samples, _list_parameters(part)) for one, place in _PLACES for part in schema.find(one)),
            *((_name_body(part), part.samples, list_rows(part.root)) for part in schema.parts if _is_body(part)),
        ],
    }


def _is_body(part: PartSchema) -> bool:
    return part.part in (Part.REQUEST_BODY, Part.RESPONSE_BODY)


def _name_body(part: PartSchema) -> str:
    side = "request" if part.part is Part.REQUEST_BODY else f"{part.status_class}xx response"
    return f"{side}, {part.media_type or 'no media type'}"


def _list_parameters(part: PartSchema) -> list[FieldRow]:
    return [_row(name, node, part.root) for name, node in sorted(part.root.children.items())]


def list_rows(root: FieldNode) -> list[FieldRow]:
    """Fields below a document in the order of their paths; of lists and maps what is in them."""
    rows = [FieldRow(name="(body)", type=name_type(render(root)), share=None, is_required=False)]
    pending = [(path, node, root) for path, node in sorted(root.children.items(), reverse=True)]
    while pending and len(rows) < ROWS_MAX:
        path, node, parent = pending.pop()
        if not path.endswith("[]"):
            rows.append(_row(path, node, parent))
        pending += [
            (f"{path}{step if step == '[]' else '.' + step}", child, node)
            for step, child in sorted(node.children.items(), reverse=True)
        ]
    return rows


def _row(name: str, node: FieldNode, parent: FieldNode) -> FieldRow:
    is_key = name.endswith("}")
    return FieldRow(
        name=name,
        type=name_type(render(node)),
        share=None if is_key else node.share(parent),
        is_required=not is_key and node.is_required(parent),
    )


# Offered in a list; others by `apidae templates`.
VALUES_SHOWN: Final = 100
SIBLINGS_SHOWN: Final = 100
EDITS_SHOWN: Final = 20


def read_edits(editor: TemplateEditor | None, endpoint: Endpoint, complaint: str = "") -> dict[str, Any]:
    """The template's values; nothing may be edited where there is no editor, nor of an operation, whose path is its
    parent's. Raises StoreError."""
    if editor is None or endpoint.operation is not None:
        return {"can_edit": False}
    edits = editor.list_edits_of(endpoint.service, endpoint.host, endpoint.method)
    return {
        "can_edit": True,
        "edit_complaint": complaint,
        "edit_places": [
            (place, part, editor.list_values(endpoint.id, place=place)[:VALUES_SHOWN])
            for place, part in enumerate(split_template(endpoint.template))
            if "{" in part
        ],
        "edit_hosts": editor.list_hosts(endpoint.service, endpoint.host)[:VALUES_SHOWN],
        "edit_siblings": editor.list_siblings(endpoint.id)[:SIBLINGS_SHOWN],
        "edits": edits[:EDITS_SHOWN],
    }


def add_edit_actions(
    router: APIRouter,
    editor: TemplateEditor,
    show: Callable[[Request, str, str], Response],
) -> None:
    """What the buttons do. `show` gives the endpoint's page with what was wrong."""

    def undo(_: str, form: Mapping[str, str]) -> object:
        return editor.undo(form.get("edit", ""), by=name_actor())

    actions: dict[str, Callable[[str, Mapping[str, str]], object]] = {
        "rename": lambda name, form: editor.rename(
            name, place=_read_place(form), name=form.get("name", "").strip(), by=name_actor()
        ),
        "split": lambda name, form: editor.split(
            name, place=_read_place(form), value=form.get("value", ""), by=name_actor()
        ),
        "merge": lambda name, form: editor.merge(
            [name, form.get("other", "")], name=form.get("name", "").strip(), by=name_actor()
        ),
        "keep-host": lambda name, form: editor.keep_host(name, host=form.get("host", ""), by=name_actor()),
        "pin": lambda name, form: editor.pin(name, by=name_actor()),
        "undo": undo,
    }

    @router.post("/endpoints/{endpoint_id}/{action}")
    async def edit(request: Request, endpoint_id: str, action: str) -> Response:
        if action not in actions:
            raise Problem(404, f"There is no action {action!r}; use one of {', '.join(actions)}.")
        form = await read_form(request)
        try:
            await run_in_threadpool(actions[action], endpoint_id, form)
        except (EditError, ConflictError, UnknownError) as error:
            return await run_in_threadpool(show, request, endpoint_id, str(error))
        # An id that an endpoint had before stays good, so the way back needs no new one.
        return RedirectResponse(f"/endpoints/{quote(endpoint_id, safe='')}#edits-title", status_code=303)


def _read_place(form: Mapping[str, str]) -> int:
    text = form.get("place", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1


FINDINGS_SHOWN = 100


def read_risk(risks: RiskAssessor | None, endpoint_id: str) -> dict[str, Any]:
    """The values that the page of an endpoint shows; nothing where its risk was not computed."""
    record = risks.table.read_risks([endpoint_id]).get(endpoint_id) if risks is not None else None
    if risks is None or record is None:
        return {"risk": None, "findings": ()}
    return {"risk": record.risk, "findings": _list_findings(risks, endpoint_id)}


def read_service_findings(risks: RiskAssessor | None) -> dict[str, Any]:
    """What the coverage shows: findings on services that nobody can read."""
    return {"findings": _list_findings(risks, NO_ENDPOINT)[:FINDINGS_SHOWN] if risks is not None else ()}


def _list_findings(risks: RiskAssessor, endpoint_id: str) -> list[Finding]:
    found = risks.table.read_findings([endpoint_id]).get(endpoint_id, [])
    order = list(FindingState)
    return sorted(found, key=lambda one: (order.index(one.state), one.title, one.service))

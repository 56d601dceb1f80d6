"""The section of an endpoint's page that says what it looks like: an endpoint in, rows for the template out."""

from dataclasses import dataclass
from typing import Any

from collector.inventory.endpoint import Endpoint
from collector.inventory.reader import Reader
from collector.schemas.evidence import read_parameters
from collector.schemas.json_schema import render
from collector.schemas.merging import FieldNode, Part, PartSchema
from collector.schemas.outline import name_type
from collector.schemas.reader import SchemaInventory

ROWS_MAX = 200  # Fields shown of one part.
_PLACES = ((Part.QUERY, "query"), (Part.HEADER, "header"), (Part.COOKIE, "cookie"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One line: a parameter or a field of a body. `share` is None where it is not known."""

    name: str
    type: str
    share: float | None
    is_required: bool


class SchemaSource:
    """Reads what the section shows. Raises StoreError."""

    def __init__(self, *, reader: Reader, schemas: SchemaInventory) -> None:
        self._reader = reader
        self._schemas = schemas

    def build_values(self, endpoint: Endpoint) -> dict[str, Any]:
        """The template's values: `path_parameters`, `schema_parts` as (title, samples, rows), `tokens`."""
        schema = self._schemas.read_endpoint(endpoint)
        return {
            "tokens": schema.tokens,
            "path_parameters": read_parameters(self._reader, endpoint.path_id, endpoint.template, endpoint.host),
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

"""Formats docs/reference/routes: every route of the API by subject, with its parameters, the fields of its body, the
role that it needs, a command, and what a collector answered to it.

The commands are rows of `EXAMPLES`; a route that only reads needs none. tests/console/routes.py runs them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collector.api.permissions import find_permission

FOLDER: Final = Path(__file__).parents[2] / "docs" / "reference" / "routes"
PREFIX: Final = "/api/v1"
_TITLES: Final = {
    "inventory": "Endpoints, consumers, services and calls",
    "exposure": "Exposure",
    "alerts": "Alerts, incidents and notifiers",
    "detection": "Detection",
    "response": "Blocks and the ladder",
    "coverage": "Coverage and sensors",
    "schemas": "Schemas and exported descriptions",
    "specs": "API descriptions",
    "templates": "Template edits",
    "privacy": "Erasure",
    "risk": "Risk and findings",
    "views": "Saved views",
    "exports": "Exported lists",
    "users": "Users, tokens and the audit log",
    "operation": "Operation",
}
_TEXT_LINES_MAX: Final = 3
_TEXT_MAX: Final = 160  # Characters of a value.
_DEPTH_MAX: Final = 5
_VALUES_MAX: Final = 12  # Of a word; beyond it the page would be a list.
_PLACE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What a route is called with. `query`: as in the address. `saves`: a variable of later commands, and where the
    answer has it, as `items.0.id`. `options`: more of curl's. `is_last`: it takes away what others read. `is_run`: by
    the test, which has no log that is written."""

    query: str = ""
    body: Mapping[str, Any] | None = None
    saves: tuple[str, str] = ("", "")
    options: str = ""
    is_last: bool = False
    is_run: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route with one method."""

    method: str
    path: str
    described: Mapping[str, Any] = field(repr=False)
    example: Example = field(default_factory=Example)

    @property
    def tag(self) -> str:
        """What it is about, which is its page."""
        return str(self.described["tags"][0])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the places in its path."""
        return tuple(_PLACE.findall(self.path))

    @property
    def command(self) -> str:
        """As a person runs it in a shell that has `APIDAE_URL`, `APIDAE_TOKEN` and the ids in variables."""
        path = _PLACE.sub(lambda match: f"${match[1].upper()}", self.path)
        query = f"?{self.example.query}" if self.example.query else ""
        words = ["curl -s", *([self.example.options] if self.example.options else [])]
        words += [f"-X {self.method}"] if self.method != "GET" else []
        words.append('-H "Authorization: Bearer $APIDAE_TOKEN"')
        lines = [" ".join(words)]
        if self.example.body is not None:
            lines += ['-H "Content-Type: application/json"', f"-d '{json.dumps(self.example.body)}'"]
        return " \\\n    ".join([*lines, f'"$APIDAE_URL{path}{query}"'])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    text: str

    @property
    def is_json(self) -> bool:
        """Whether it can be read so."""
        try:
            json.loads(self.text)
        except ValueError:
            return False
        return True


_ASKED: Final[Mapping[str, Any]] = {"asked_by": "ada"}
_DOCUMENT: Final = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "users", "version": "2"},
        "paths": {"/users/{user_id}": {"get": {"responses": {"200": {"description": "ok"}}}}},
    }
)
# By method and path below the prefix, in the order in which they run.
EXAMPLES: Final[Mapping[str, Example]] = {
    "GET /endpoints": Example(query="sort=risk&limit=1"),
    "GET /calls": Example(query="endpoint=ep0001&start=$(date -u -d -2hours +%FT%TZ)&end=$(date -u +%FT%TZ)&limit=1"),
    "GET /timeseries": Example(query="service=shop/users:8080"),
    "GET /consumers": Example(query="limit=1"),
    "GET /services": Example(query="limit=1"),
    "GET /mcp/servers": Example(query="auth=none", saves=("SERVER_ID", "items.0.id")),
    "GET /mcp/tools": Example(query="may_destroy=true&limit=1"),
    "GET /models": Example(query="destination=outside&limit=1"),
    "GET /exports/alerts.json": Example(query="state=open"),
    "GET /alerts": Example(query="severity=high&limit=1"),
    "GET /incidents": Example(query="limit=1"),
    "GET /findings": Example(query="state=open&limit=1", saves=("FINDING_ID", "items.0.id")),
    "GET /metrics": Example(),
    "GET /blocks": Example(saves=("BLOCK_ID", "items.0.id")),
    "GET /sessions": Example(query="all=true", saves=("SESSION_ID", "items.0.id")),
    "POST /consumers/identify": Example(body={"value": "key-of-a-partner-0123456789"}),
    "POST /consumers/labels": Example(body={"consumer": "address:10.0.0.9", "name": "nightly export", **_ASKED}),
    "POST /alerts/{alert_id}/acknowledge": Example(body=_ASKED),
    "POST /alerts/{alert_id}/verdict": Example(body={"verdict": "confirmed", "note": "a stolen key", **_ASKED}),
    "POST /alerts/{alert_id}/mute": Example(body={"seconds": 3_600, "reason": "a load test", **_ASKED}),
    "POST /alerts/{alert_id}/expected": Example(body={"reason": "the nightly export", **_ASKED}),
    "POST /alerts/{alert_id}/unsilence": Example(body=_ASKED),
    "POST /detection/sensitivity": Example(body={"level": "normal", **_ASKED}),
    "POST /detection/known-good": Example(
        body={"note": "crawler of a partner", "network": "198.51.100.0/24", **_ASKED}, saves=("RULE_ID", "id")
    ),
    "POST /detection/known-good/{rule_id}/end": Example(body=_ASKED),
    "POST /notifiers/{name}/test": Example(body=_ASKED),
    "POST /blocks/preview": Example(body={"consumer": "address:203.0.113.9"}),
    "POST /blocks": Example(
        body={"consumer": "address:203.0.113.9", "seconds": 600, "reason": "guesses passwords", **_ASKED},
        saves=("BLOCK_ID", "id"),
    ),
    "POST /blocks/{block_id}/approve": Example(body=_ASKED),
    "POST /blocks/{block_id}/reject": Example(body=_ASKED),
    "POST /blocks/{block_id}/lift": Example(body=_ASKED, is_last=True),
    "POST /blocks/lift": Example(body=_ASKED, is_last=True),
    "PUT /ladder/{kind}": Example(body={"step": "propose", "seconds": 3_600, **_ASKED}),
    "POST /coverage/targets": Example(body={"namespace": "shop", "ratio": 0.9, **_ASKED}),
    "POST /models/prices": Example(
        body={"currency": "USD", "prices": [{"model": "acme-1*", "input": 1.0, "output": 4.0}], **_ASKED}
    ),
    "POST /specs": Example(body={"document": _DOCUMENT, "service": "shop/users", **_ASKED}),
    "POST /specs/compare": Example(body={"document": _DOCUMENT, "service": "shop/users"}),
    "DELETE /specs/{name}": Example(is_last=True),
    "POST /template-edits/merge": Example(body={"endpoints": ["ep0118", "ep0119"], **_ASKED}),
    "POST /endpoints/{endpoint_id}/pin": Example(body=_ASKED, saves=("EDIT_ID", "id")),
    "POST /endpoints/{endpoint_id}/keep-host": Example(body=_ASKED),
    "POST /endpoints/{endpoint_id}/rename": Example(body={"place": 1, "name": "user", **_ASKED}),
    "POST /template-edits/{edit_id}/undo": Example(body=_ASKED, is_last=True),
    "POST /endpoints/{endpoint_id}/split": Example(body={"place": 1, "value": "me", **_ASKED}),
    "POST /findings/decisions": Example(
        body={"state": "accepted", "note": "inside the mesh", "filters": {"rule": "credentials_in_url"}, **_ASKED},
        saves=("DECISION_ID", "id"),
    ),
    "POST /findings/decisions/{decision_id}/undo": Example(body=_ASKED, is_last=True),
    "POST /findings/{finding_id}/state": Example(body={"state": "accepted", "note": "public by design", **_ASKED}),
    "POST /views": Example(
        body={"list": "endpoints", "name": "Open data", "query": "auth=none&data=response:personal", **_ASKED},
        saves=("VIEW_ID", "id"),
    ),
    "DELETE /views/{view_id}": Example(is_last=True),
    "POST /metrics/endpoints": Example(body={"add": ["ep0003"], **_ASKED}),
    "POST /tokens": Example(body={"name": "ci", "role": "viewer", "days": 30, **_ASKED}),
    "DELETE /tokens/{name}": Example(is_last=True),
    "PUT /first-token": Example(body={"is_on": True, **_ASKED}),
    "PUT /role-bindings": Example(body={"kind": "group", "name": "sre", "role": "responder", **_ASKED}),
    "POST /role-bindings/remove": Example(body={"kind": "group", "name": "sre"}, is_last=True),
    "POST /sessions/end": Example(body=_ASKED, is_last=True),
    "DELETE /sessions/{session_id}": Example(is_last=True),
    "GET /events": Example(options="-N --max-time 1"),
    "GET /backup": Example(options='-o backup.tar -H "apidae-backup: $BACKUP_TOKEN"', is_run=False),
    "POST /erasures": Example(
        body={"consumer": "address:10.0.0.10", "reason": "a request of 2 March", **_ASKED}, is_run=False
    ),
}


def list_operations(document: Mapping[str, Any]) -> list[Operation]:
    """All of a description, by subject; within one those that only read come first. Raises KeyError for one that
    changes something and has no row in `EXAMPLES`."""
    order, last = list(EXAMPLES), len(EXAMPLES)
    found = []
    for path, operations in document["paths"].items():
        for method, described in operations.items():
            name = f"{method.upper()} {path.removeprefix(PREFIX)}"
            example = EXAMPLES[name] if method != "get" else EXAMPLES.get(name, Example())
            found.append(Operation(method=method.upper(), path=path, described=described, example=example))

    def rank(one: Operation) -> tuple[int, bool, bool, int]:
        name = f"{one.method} {one.path.removeprefix(PREFIX)}"
        place = order.index(name) if name in EXAMPLES else last
        return list(_TITLES).index(one.tag), one.example.is_last, one.method != "GET", place

    return sorted(found, key=rank)


def format_pages(document: Mapping[str, Any], answers: Mapping[str, Answer]) -> dict[Path, str]:
    """The page of each subject and their list. `answers`: by the operation's id."""
    operations = list_operations(document)
    pages = {}
    rows = []
    for tag, title in _TITLES.items():
        mine = [one for one in operations if one.tag == tag]
        parts = [f"# {title}\n", *(line for one in mine for line in _format(one, document, answers))]
        pages[FOLDER / f"{tag}.md"] = "\n".join(parts).rstrip() + "\n"
        rows += [
            f"| `{one.method} {one.path.removeprefix(PREFIX)}` | [{one.described['summary']}]({tag}.md#{_anchor(one)}) "
            f"| {_name_role(one)} |"
            for one in mine
        ]
    pages[FOLDER / "README.md"] = _HEAD + "\n".join(rows) + "\n"
    return pages


_HEAD: Final = """# Routes of the API

`scripts/generate` makes these pages from the collector's own description, `/api/v1/openapi.json`, and from what a
collector with made data answers. A test runs each command. [The API](../api.md) has what all routes share.

- Commands take the address and the [token](../../use/security.md#tokens) from `APIDAE_URL` and `APIDAE_TOKEN`, and ids
  from variables such as `ALERT_ID`.
- In the responses, lists are cut to their first item, long texts to their beginning, and what lies deep to `…`.
- Where the made data has nothing of the kind, the response is the problem that says so, with its status.
- **Role**: the least that may call it ([users](../../use/users.md)).

| Route | What it does | Role |
|---|---|---|
"""


def _name_role(one: Operation) -> str:
    permission = find_permission(one.method, one.path.removeprefix(PREFIX))
    if permission is None:
        return "none"
    return f"{permission.role.value}{' of everything' if permission.is_whole else ''}"


def _anchor(one: Operation) -> str:
    return re.sub(r"[^\w\- ]", "", one.described["summary"].lower()).replace(" ", "-")


def _format(one: Operation, document: Mapping[str, Any], answers: Mapping[str, Answer]) -> Iterator[str]:
    yield f"## {one.described['summary']}\n"
    yield f"`{one.method} {one.path}` · role: {_name_role(one)}\n"
    if words := str(one.described.get("description", "")).strip():
        yield f"{_one_line(words)}\n"
    rows = [*_list_parameters(one, document)] if one.tag != "exports" else []
    body = one.described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    rows += _list_fields(body, document)
    if rows:
        yield "| Name | In | Type | Meaning |\n|---|---|---|---|"
        yield from rows
        yield ""
    elif one.tag == "exports":
        yield "It takes the parameters of the list ([filters](../filters.md)).\n"
    yield f"```\n{one.command}\n```\n"
    answer = answers.get(one.described["operationId"])
    if answer is None:
        return
    yield f"Status {answer.status}:\n"
    yield f"```{'json' if answer.is_json else 'text'}\n{answer.text}\n```\n"


def _list_parameters(one: Operation, document: Mapping[str, Any]) -> Iterator[str]:
    for parameter in one.described.get("parameters", ()):
        required = "" if not parameter.get("required") or parameter["in"] == "path" else ", required"
        place, kind = f"{parameter['in']}{required}", _name_type(parameter["schema"], document)
        yield f"| `{parameter['name']}` | {place} | {kind} | {_one_line(parameter.get('description', ''))} |"


def _list_fields(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for name, about in found.get("properties", {}).items():
        required = ", required" if name in found.get("required", ()) else ""
        kind, meaning = _name_type(about, document), _one_line(about.get("description", ""))
        yield f"| `{name}` | body{required} | {kind} | {meaning} |"


def _name_type(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """In a word; of few values these."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if values := schema.get("enum"):
        return (
            ", ".join(f"`{value}`" for value in values if value) if len(values) <= _VALUES_MAX else "one of many words"
        )
    if kinds := [_name_type(one, document) for one in schema.get("anyOf", ()) if one.get("type") != "null"]:
        return " or ".join(dict.fromkeys(kinds))
    items = f" of {_name_type(schema['items'], document)}" if schema.get("items") else ""
    return f"{schema.get('type', 'any')}{items}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def shorten(text: str) -> str:
    """An answer as the page shows it."""
    if not Answer(status=0, text=text).is_json:
        return "\n".join(line[:_TEXT_MAX] for line in text.strip().splitlines()[:_TEXT_LINES_MAX])
    return json.dumps(_cut(json.loads(text), 0), indent=2, ensure_ascii=False)


def _cut(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _TEXT_MAX else value[:_TEXT_MAX] + "…"
    if isinstance(value, dict | list) and value and depth >= _DEPTH_MAX:
        return "…"
    if isinstance(value, dict):
        return {key: _cut(one, depth + 1) for key, one in value.items()}
    return [_cut(one, depth + 1) for one in value[:1]] if isinstance(value, list) else value


def find_value(text: str, place: str) -> str:
    """What an answer has at `items.0.id`."""
    value = json.loads(text)
    for part in place.split("."):
        value = value[int(part) if isinstance(value, list) else part]
    return str(value)


def is_up_to_date(kept: str, wanted: str) -> bool:
    """Whether a page says the same, but for the values in the answers: ids, times and counts differ at each run."""
    (text, answers), (other_text, other_answers) = _split(kept), _split(wanted)
    return text == other_text and all(map(_has_shape, answers, other_answers))


def _split(page: str) -> tuple[str, list[Any]]:
    """A page without its answers, and those that are JSON."""
    blocks = re.compile(r"^```(json|text)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
    answers = [json.loads(text) for kind, text in blocks.findall(page) if kind == "json"]
    return blocks.sub(r"```\1```", page), answers


def _has_shape(one: Any, other: Any) -> bool:
    """Of the same fields at every place; nothing, as null or an empty list, may stand for anything."""
    if one in (None, [], {}) or other in (None, [], {}):
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_has_shape(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return _has_shape(one[0], other[0])
    return not isinstance(one, dict | list) and not isinstance(other, dict | list)

"""Differences that are told, one by one, and none where all is as described."""

import json
from typing import Any

from collector.schemas.merging import Part, StoredSchema
from collector.schemas.service import merge
from collector.specs.document import Spec, read_spec
from collector.specs.drift import SCHEMAS_MAX, Drift, Seen, find_drift
from tests.collector.schemas.states import Node

ORDER = {
    "type": "object",
    "required": ["id", "total"],
    "properties": {"id": {"type": "integer"}, "total": {"type": "number"}},
}
OPERATION: dict[str, Any] = {
    "security": [{"key": []}],
    "parameters": [{"in": "query", "name": "page"}, {"in": "query", "name": "filter[status]"}],
    "responses": {
        "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}}},
        "4XX": {"content": {"application/json": {"schema": {}}}},
    },
}
ROOT = {
    "openapi": "3.1.0",
    "paths": {"/orders": {"post": OPERATION}},
    "components": {
        "schemas": {
            "Page": {"allOf": [{"properties": {"items": {"type": "array", "items": ORDER}}}, {"type": "object"}]}
        }
    },
}
SPEC = read_spec(json.dumps(ROOT))
AS_DESCRIBED = {"items": [{"id": 1, "total": 2}, {"id": 2, "total": 2.5}]}


def _drift(
    *told: object,
    target: str = "/orders?page=1",
    statuses: dict[int, int] | None = None,
    share: float | None = 1.0,
    spec: Spec = SPEC,
) -> list[tuple[str, str, str]]:
    node = Node()
    for document in told:
        node.call(1, target, told=document)
    stored = [
        StoredSchema(
            part=Part(one.part), status_class=one.status_class, media_type=one.media_type, samples=one.samples,
            left_out=0, fields=one.fields, operations=one.operations,
        )
        for one in node.tell()
    ]  # fmt: skip
    seen = Seen(schema=merge(stored), statuses=statuses or {200: 3}, authenticated_share=share)
    found: tuple[Drift, ...] = find_drift(seen, spec.operations[0], spec)
    return [(one.kind.value, one.place, one.name) for one in found]


def test_nothing_where_all_is_as_described() -> None:
    assert _drift(*[AS_DESCRIBED] * 5, statuses={200: 5, 404: 1}) == []


def test_parameters_statuses_and_credentials() -> None:
    assert _drift(AS_DESCRIBED, target="/orders?page=1&debug=true&filter[name]=x") == [
        ("undocumented_parameter", "query", "debug")
    ]
    assert _drift(AS_DESCRIBED, statuses={200: 1, 500: 2}) == [("undocumented_status", "response", "500")]
    assert _drift(AS_DESCRIBED, share=0.5) == [("weaker_authentication", "request", "credentials")]
    assert _drift(AS_DESCRIBED, share=None) == []


def test_fields() -> None:
    assert _drift({"items": [{"id": 1, "total": 2, "password": "x"}]}) == [
        ("undocumented_field", "2xx response", "items[].password")
    ]
    assert _drift({"items": [{"id": "a b", "total": 2}]}) == [("other_type", "2xx response", "items[].id")]
    assert _drift(*[{"items": [{"id": 1}]}] * 4) == [("missing_field", "2xx response", "items[].total")]
    assert _drift({"items": [{"id": 1}]}) == []  # Too few to say so.


def _describe(schemas: dict[str, Any]) -> Spec:
    return read_spec(json.dumps({**ROOT, "components": {"schemas": schemas}}))


def _name(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_a_base_and_its_subtypes_that_name_each_other() -> None:
    """As generators write them, with a discriminator: each path from one to the next was followed, 40^4 of them."""
    names = [f"Pet{number}" for number in range(40)]
    page = {"type": "object", "properties": {"kind": {"type": "string"}}, "oneOf": [_name(name) for name in names]}
    pets = {
        name: {"allOf": [_name("Page"), {"type": "object", "properties": {f"of{name}": {"type": "integer"}}}]}
        for name in names
    }
    spec = _describe({"Page": page, **pets})
    assert _drift({"kind": "Pet7", "ofPet7": 7}, spec=spec) == []
    assert _drift({"kind": "Pet7", "ofPet7": "a b", "of": 1}, spec=spec) == [
        ("undocumented_field", "2xx response", "of"), ("other_type", "2xx response", "ofPet7"),
    ]  # fmt: skip
    assert _drift([{"kind": "Pet7"}], spec=spec) == [("other_type", "2xx response", "")]


def test_more_alternatives_than_can_be_added_say_nothing() -> None:
    width, floors = 20, 7
    assert width**floors > SCHEMAS_MAX
    tower = {f"Floor{floor}": {"anyOf": [_name(f"Floor{floor + 1}")] * width} for floor in range(floors)}
    spec = _describe({"Page": {"oneOf": [_name("Floor0")]}, **tower, f"Floor{floors}": {"type": "string"}})
    assert _drift({"kind": "Pet7"}, spec=spec) == []


HEADED: dict[str, Any] = {
    **OPERATION,
    "parameters": [
        {"in": "query", "name": "page", "required": True, "schema": {"type": "integer"}},
        {"in": "header", "name": "X-Tenant-Id", "required": True, "schema": {"type": "integer"}},
        {"in": "header", "name": "Accept", "required": True, "schema": {"type": "string"}},
    ],
}
HEADED_SPEC = read_spec(json.dumps({**ROOT, "paths": {"/orders": {"post": HEADED}}}))


def _drift_of(*calls: tuple[str, tuple[str, ...]]) -> list[tuple[str, str, str]]:
    node = Node()
    for target, lines in calls:
        node.call(1, target, *lines)
    stored = [
        StoredSchema(
            part=Part(one.part), status_class=one.status_class, media_type=one.media_type, samples=one.samples,
            left_out=0, fields=one.fields, operations=one.operations,
        )
        for one in node.tell()
    ]  # fmt: skip
    seen = Seen(schema=merge(stored), statuses={200: 3}, authenticated_share=1.0)
    found = find_drift(seen, HEADED_SPEC.operations[0], HEADED_SPEC)
    return [(one.kind.value, one.place, one.name) for one in found]


def test_headers_and_parameters_that_are_required() -> None:
    usual = ("Accept: text/html", "User-Agent: a", "X-Request-Id: 7", "Cache-Control: no-cache", "If-None-Match: x")
    described = ("/orders?page=1", ("x-tenant-id: 4", "X-Api-Key: k", *usual))
    assert _drift_of(*[described] * 5) == []
    assert _drift_of(described, ("/orders?page=1", ("X-Tenant-Id: 4", "X-Debug-Level: 3"))) == [
        ("undocumented_parameter", "header", "x-debug-level")
    ]
    bare = ("/orders?limit=1", ("X-Order-Status: 4",))
    assert _drift_of(*[bare] * 2) == [
        ("undocumented_parameter", "query", "limit"), ("undocumented_parameter", "header", "x-order-status")
    ]  # fmt: skip
    assert _drift_of(*[bare] * 3) == [
        ("undocumented_parameter", "query", "limit"), ("missing_parameter", "query", "page"),
        ("undocumented_parameter", "header", "x-order-status"), ("missing_parameter", "header", "X-Tenant-Id"),
    ]  # fmt: skip


def test_numbers_that_were_words() -> None:
    wrong = ("/orders?page=first", ("X-Tenant-Id: acme",))
    assert _drift_of(wrong) == [("other_type", "query", "page"), ("other_type", "header", "X-Tenant-Id")]

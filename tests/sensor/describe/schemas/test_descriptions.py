"""Outlines of descriptions: what calls are compared with is in them, and nothing else that a description may hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.specs.document import read_spec
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import DESCRIPTION_NS, Schema, SchemaBook, SchemaPart
from sensor.describe.schemas.descriptions import names_description, write_outline
from sensor.routes.vocabulary import load_vocabulary
from tests.work import count_calls

SECRET = "zwetschge7391"
THREE: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Shop", "version": "2", "description": SECRET, "contact": {"email": f"{SECRET}@example.org"}},
    "servers": [{"url": "https://shop.example/v1", "description": SECRET}],
    "security": [{"key": [SECRET]}],
    "tags": [{"name": SECRET}],
    "x-internal": {"type": SECRET},
    "paths": {
        "/orders/{id}": {
            "summary": SECRET,
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {
                "operationId": "getOrder",
                "deprecated": True,
                "description": SECRET,
                "responses": {
                    "200": {
                        "description": SECRET,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"},
                                                         "example": {"id": SECRET}}},
                    }
                },
            },
        },
        "/orders/ada@example.org": {"get": {"responses": {}}},
    },
    "components": {
        "schemas": {
            "Order": {
                "type": ["object", "null"],
                "title": SECRET,
                "required": ["id", "description"],
                "properties": {
                    "id": {"type": "integer", "default": 7, "example": SECRET},
                    "description": {"type": "string", "enum": [SECRET], "pattern": SECRET},
                    "default": {"type": "string", "const": SECRET},
                },
                "example": {"id": SECRET},
            }
        },
        "examples": {"one": {"value": SECRET}},
    },
}  # fmt: skip
TWO: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "Old"},
    "host": "old.example",
    "basePath": "/api",
    "produces": ["application/json"],
    "paths": {"/things": {"post": {
        "parameters": [{"in": "body", "name": "body", "schema": {"$ref": "#/definitions/Thing"}},
                       {"in": "query", "name": "limit", "type": "integer", "default": 20}],
        "responses": {"201": {"description": SECRET, "schema": {"$ref": "#/definitions/Thing"}}}}}},
    "definitions": {"Thing": {"properties": {"size": {"type": "number"}}}},
}  # fmt: skip


def outline(tree: object) -> str:
    found = write_outline(tree)
    assert found is not None
    return found


def test_what_calls_are_compared_with_stays() -> None:
    spec, whole = read_spec(outline(THREE)), read_spec(json.dumps(THREE))
    assert (spec.title, spec.version, spec.hosts, spec.base_paths) == ("Shop", "2", {"shop.example"}, ("/v1",))
    (operation,) = spec.operations  # That of the path with an address is left out.
    before = whole.operations[0]
    for name in ("method", "path", "operation_id", "is_deprecated", "requires_authentication", "parameters"):
        assert getattr(operation, name) == getattr(before, name)
    order = spec.resolve(operation.responses["200"]["application/json"])
    assert order["required"] == ["id", "description"] and order["type"] == ["object", "null"]
    assert {name: one["type"] for name, one in order["properties"].items()} == {
        "id": "integer", "description": "string", "default": "string"
    }  # fmt: skip
    (old,) = read_spec(outline(TWO)).operations
    assert [(one.place, one.name, one.schema["type"]) for one in old.parameters] == [("query", "limit", "integer")]
    assert set(old.bodies) == {"*/*"} and set(old.responses["201"]) == {"application/json"}


@pytest.mark.parametrize("tree", [THREE, TWO], ids=["3.1", "2.0"])
def test_sentences_examples_and_values_stay_on_the_node(tree: dict[str, Any]) -> None:
    assert SECRET in json.dumps(tree)
    assert SECRET not in outline(tree) and "ada@" not in outline(tree)


@pytest.mark.parametrize(
    "tree",
    [None, [], {}, {"openapi": "3.1.0"}, {"paths": {}}, {"openapi": 3, "paths": {}}, {"openapi": "x", "paths": {}}],
)
def test_what_is_no_description(tree: object) -> None:
    assert write_outline(tree) is None


def test_one_that_is_too_long_is_none_and_costs_little() -> None:
    paths = {f"/{'x' * 200}/{number}": {"get": {"responses": {}}} for number in range(5_000)}
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        deep = {"items": deep}
    assert write_outline({"openapi": "3.0.0", "paths": paths}) is None
    assert write_outline({"openapi": "3.0.0", "paths": {"/a": {"get": {"schema": deep}}}}) is not None
    assert count_calls(lambda: write_outline({"openapi": "3.0.0", "paths": paths})) < 300_000  # Some 50 ms.


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*THREE, "get", "schema", "properties", "$ref"]), inner, max_size=5)
        ),
        max_leaves=30,
    )
)
def test_never_raises(paths: object) -> None:
    write_outline({"openapi": "3.0.0", "paths": paths, "security": paths, "components": paths, "info": paths})


@pytest.mark.parametrize(
    ("path", "is_one"),
    [("/openapi.json", True), ("/v1/swagger.json", True), ("/v3/api-docs", True), ("/v3/api-docs/shop", True),
     ("/api-docs", True), ("/gists/7", False), ("/openapi.json/raw", False), ("/openapi.yaml", False)],
)  # fmt: skip
def test_where_they_are_served(path: str, is_one: bool) -> None:
    assert names_description(path) is is_one


def take(book: SchemaBook) -> list[Schema]:
    return [one for several in book.take(1) for one in several if one.part is SchemaPart.DESCRIPTION]


def serve(book: SchemaBook, tree: object, *, time_ns: int = 1, status: int = 200, is_complete: bool = True) -> None:
    call = BodyCall(7, status, b"", b"", 0, 0, time_ns, None, is_description=True)
    book.learn_bodies(call, None, BodyDocument("application/json", b"", tree, is_complete), ())


def test_the_book_tells_it_once_and_when_it_changed() -> None:
    book = SchemaBook(load_vocabulary(), SampleRule())
    serve(book, THREE, status=404)
    serve(book, THREE, is_complete=False)
    assert take(book) == []
    serve(book, THREE)
    (told,) = take(book)
    assert (told.route_id, told.document, told.fields) == (7, outline(THREE), ())
    serve(book, TWO, time_ns=2)  # Within the minute nothing is read.
    serve(book, THREE, time_ns=1 + DESCRIPTION_NS)
    assert take(book) == []
    serve(book, TWO, time_ns=1 + 2 * DESCRIPTION_NS)
    (changed,) = take(book)
    assert changed.document == outline(TWO) and changed.version > told.version
    silent = SchemaBook(load_vocabulary(), SampleRule(), export_openapi_outlines=False)
    serve(silent, THREE)
    assert take(silent) == []

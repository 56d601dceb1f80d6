"""Whatever calls showed, the document is valid OpenAPI 3.1 and the collection has a request for each operation."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from collector.schemas.merging import Part, StoredSchema
from collector.schemas.openapi import build_openapi
from collector.schemas.postman import build_postman
from collector.schemas.service import Described, EndpointSchema, merge
from tests.collector.schemas.states import Node

SEGMENTS = st.sampled_from(("orders", "v1", "{order_id}", "{file_id}.json", "{word}", "shop.v1.Orders", "me"))
METHODS = st.sampled_from(("GET", "POST", "DELETE", "PROPFIND", "QUERY", "_OTHER"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("id", "name", "4711", "a@b.example", "alice", "[]", "{word}")), inner)
    ),
    max_leaves=12,
)

CREDENTIALS = st.sampled_from(
    (
        ("", 0),
        ("header authorization bearer", 1 << 3),
        ("header authorization basic,cookie sessionid", 1 << 1 | 1 << 8),
        ("header authorization token", 1 << 5),
        ("header {word:0a1b2c3d}", 1 << 23),
        ("cookie {integer}", 1 << 8),
        ("query api_key", 1 << 6),
    )
)


def _template(segments: list[str]) -> str:
    """Names of parameters are unique, as naming makes them."""
    used: dict[str, int] = {}
    parts = []
    for segment in segments:
        used[segment] = used.get(segment, 0) + 1
        parts.append(segment.replace("}", f"_{used[segment]}}}") if used[segment] > 1 else segment)
    return "/" + "/".join(parts)


@st.composite
def endpoints(draw: st.DrawFn) -> list[Described]:
    return [
        Described(
            id=f"{number:016x}",
            service="shop:80",
            host=draw(st.sampled_from(("shop.example", "", "other", "b.example:8080"))),
            method=draw(METHODS),
            template=_template(draw(st.lists(SEGMENTS, max_size=4))),
            calls=number,
            last_seen=1,
            statuses=draw(st.dictionaries(st.sampled_from((0, 101, 200, 204, 404, 599, 799)), st.just(3))),
            credentials=tuple(draw(st.lists(CREDENTIALS, max_size=4))),
            authenticated_share=draw(st.none() | st.floats(0, 1)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


def _describe(asked: Any, told: Any, query: str) -> EndpointSchema:
    node = Node()
    node.call(1, f"/a?{query}", "X-Tenant-Id: 4", "Cookie: session_id=1", asked=asked, told=told)
    return merge(
        StoredSchema(
            part=Part(one.part), status_class=one.status_class, media_type=one.media_type, samples=one.samples,
            left_out=one.left_out, fields=one.fields, operations=one.operations,
        )
        for one in node.tell()
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(described=endpoints(), asked=JSON, told=JSON, query=st.text("ab=&%[]1", max_size=20))
def test_documents_are_valid(described: list[Described], asked: Any, told: Any, query: str) -> None:
    schema = _describe(asked, told, query)
    document = build_openapi("shop:80", described, {one.id: schema for one in described})
    OpenAPIV31SpecValidator(document).validate()
    collection = build_postman(document)
    requests = sum(len(folder["item"]) for folder in collection["item"])
    assert requests == sum(len(item) for item in document["paths"].values())

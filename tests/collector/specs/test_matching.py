"""Which operation an endpoint is, and what follows: documented, shadow, zombie; by service, host and best fit."""

import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.budget import BudgetBook, StoppedError
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.specs.document import SpecError, read_spec
from collector.specs.matching import (
    PARAMETER,
    Effort,
    Index,
    Revision,
    SeenEndpoint,
    SpecBook,
    assess_endpoint,
    split_path,
)

PATHS: dict[str, Any] = {
    "/orders/{id}": {"get": {"operationId": "getOrder", "responses": {}}},
    "/orders/latest": {"get": {"operationId": "getLatest", "deprecated": True, "responses": {}}},
}


def _document(**fields: Any) -> str:
    return json.dumps({"openapi": "3.1.0", "info": {"title": "Shop", "version": "2"}, "paths": PATHS, **fields})


def _revision(text: str, *, service: str = "", is_current: bool = True) -> Revision:
    return Revision(name="shop", service=service, spec=read_spec(text), is_current=is_current)


def _seen(template: str, method: str = "GET", host: str = "shop.example", *, is_served: bool = True) -> SeenEndpoint:
    return SeenEndpoint(
        id=template,
        service="shop:80",
        workload="shop",
        host=host,
        method=method,
        template=template,
        served_calls=9 * is_served,
    )


def _status(template: str, *revisions: Revision, host: str = "shop.example", is_served: bool = True) -> SpecStatus:
    endpoint = _seen(template, host=host, is_served=is_served)
    return assess_endpoint(endpoint, SpecBook(revisions, [endpoint])).status


def test_the_path_with_most_literals_holds() -> None:
    book = SpecBook([_revision(_document(), service="shop")], [])
    told = assess_endpoint(_seen("/orders/{order_id}"), book)
    assert (told.status, told.http_route, told.operation_id) == (SpecStatus.DOCUMENTED, "/orders/{id}", "getOrder")
    told = assess_endpoint(_seen("/orders/latest"), book)
    assert (told.status, told.operation_id, told.reason) == (SpecStatus.ZOMBIE, "getLatest", "deprecated")


def test_head_is_its_get_and_options_is_no_shadow() -> None:
    book = SpecBook([_revision(_document(), service="shop")], [])
    told = assess_endpoint(_seen("/orders/{order_id}", "HEAD"), book)
    assert (told.status, told.operation_id) == (SpecStatus.DOCUMENTED, "getOrder")
    assert assess_endpoint(_seen("/orders/{order_id}", "POST"), book).status is SpecStatus.SHADOW
    assert assess_endpoint(_seen("/accounts", "HEAD"), book).status is SpecStatus.SHADOW
    for template in ("/orders/{order_id}", "/accounts"):
        assert assess_endpoint(_seen(template, "OPTIONS"), book).status is SpecStatus.NONE
    paths = {"/orders": {"head": {"operationId": "countOrders", "responses": {}}, "options": {"responses": {}}}}
    own = SpecBook([_revision(_document(paths=paths), service="shop")], [])
    assert assess_endpoint(_seen("/orders", "HEAD"), own).operation_id == "countOrders"
    assert assess_endpoint(_seen("/orders", "OPTIONS"), own).status is SpecStatus.DOCUMENTED


def test_servers_and_base_paths() -> None:
    text = _document(servers=[{"url": "https://{env}.example:8443/api/v2/", "variables": {"env": {"default": "shop"}}}])
    assert _status("/api/v2/orders/{id}", _revision(text)) is SpecStatus.DOCUMENTED
    assert _status("/orders/{id}", _revision(text)) is SpecStatus.SHADOW
    assert _status("/api/v2/orders/{id}", _revision(text), host="other.example") is SpecStatus.NONE
    old = json.dumps({"swagger": "2.0", "host": "shop.example", "basePath": "/v1", "paths": PATHS})
    assert _status("/v1/orders/{id}", _revision(old), host="shop.example:8080") is SpecStatus.DOCUMENTED


def test_hosts_of_tenants_are_those_of_a_variable() -> None:
    variables = {
        "customer": {"default": "demo"},
        "region": {"default": "eu", "enum": ["eu", "us"]},
        "v": {"default": "v2"},
    }
    url = "https://{customer}.{region}.shop.example/{v}"
    text = _document(servers=[{"url": url, "variables": variables}])
    path = "/v2/orders/{order_id}"
    for host in ("{tenant}.{word}.shop.example", "{tenant}.{word}.shop.example:8443", "demo.eu.shop.example"):
        assert _status(path, _revision(text), host=host) is SpecStatus.DOCUMENTED
    for host in ("acme.eu.shop.example", "{tenant}.eu.shop.example", "{tenant}.shop.example", "shop.example"):
        assert _status(path, _revision(text), host=host) is SpecStatus.NONE
    region = _document(servers=[{"url": "https://{region}.shop.example/{v}", "variables": variables}])
    assert _status(path, _revision(region), host="us.shop.example") is SpecStatus.DOCUMENTED
    assert _status(path, _revision(region), host="asia.shop.example") is SpecStatus.NONE
    anywhere = _document(servers=[{"url": "{scheme}://{host}/api", "variables": {}}, {"url": "//shop.example"}])
    assert read_spec(anywhere).hosts == {"shop.example"}
    assert read_spec(anywhere).base_paths == ("/api", "")


def test_what_only_an_older_version_has_is_a_zombie() -> None:
    older = json.dumps({"openapi": "3.0.3", "info": {"version": "1"}, "paths": {"/carts": {"get": {"responses": {}}}}})
    revisions = (_revision(_document(), service="shop"), _revision(older, service="shop", is_current=False))
    assert _status("/carts", *revisions) is SpecStatus.ZOMBIE
    assert _status("/others", *revisions) is SpecStatus.SHADOW
    assert _status("/others", *revisions, is_served=False) is SpecStatus.NONE
    assert _status("/others") is SpecStatus.NONE


def test_without_service_and_host_the_best_fit_is_covered() -> None:
    shop = [_seen("/orders/{order_id}"), _seen("/orders/latest")]
    other = SeenEndpoint(
        id="x", service="other:80", workload="other", host="o", method="GET", template="/orders/{name}", served_calls=9
    )
    book = SpecBook([_revision(_document())], [*shop, other])
    assert assess_endpoint(shop[0], book).status is SpecStatus.DOCUMENTED
    assert assess_endpoint(other, book).status is SpecStatus.NONE


def test_yaml_and_security() -> None:
    text = """
openapi: 3.0.3
info: {title: T, version: 2024-01-01}
security: [{key: []}]
paths:
  /a:
    get: {responses: {'200': {description: ok}}}
    post: {security: [], responses: {}}
    put: {security: [{}, {key: []}], responses: {}}
"""
    spec = read_spec(text)
    assert spec.version == "2024-01-01"
    assert {one.method: one.requires_authentication for one in spec.operations} == {
        "GET": True, "POST": False, "PUT": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no object"),
        ("[1]", "no object"),
        ("{", "neither JSON nor YAML"),
        ('{"openapi": "4.0"}', "send OpenAPI 2.0"),
        ('{"openapi": "3.1.0", "paths": []}', "paths are no object"),
        ("a: *b", "neither JSON nor YAML"),
        (" " * (5 << 20), "the limit is"),
    ],
)
def test_what_is_no_description_is_refused_in_a_sentence(text: str, named: str) -> None:
    with pytest.raises(SpecError, match=named):
        read_spec(text)


def test_odd_parts_are_skipped_and_loops_end() -> None:
    spec = read_spec(
        json.dumps(
            {
                "openapi": "3.1.0",
                "paths": {"/a": {"get": {"parameters": [{"$ref": "#/x"}, 7], "responses": 5}}, "b": 1, "/c": None},
                "x": {"$ref": "#/x"},
            }
        )
    )
    assert [one.path for one in spec.operations] == ["/a"]
    assert spec.resolve({"$ref": "#/x"}) == {}


_SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}", "a{x}", "{x}.json", "{x}{y}", "a{x}b{y}"])
_PATHS = st.lists(st.lists(_SEGMENTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)), max_size=8)
_SEEN = st.lists(
    st.sampled_from(["a", "b", "ab", "aab", "{id}", "x.json", ".json", "{id}.json"]), min_size=1, max_size=3
)


@given(paths=_PATHS, seen=_SEEN)
def test_what_is_found_has_as_many_literals_as_any_operation_that_fits(paths: list[str], seen: list[str]) -> None:
    """Compared with every operation in turn, by regular expressions."""

    def count_literals(path: str) -> int:
        described = split_path(path)
        if len(described) != len(seen):
            return -1
        literals = 0
        for one, other in zip(described, seen, strict=True):
            is_literal = not PARAMETER.search(one)
            pattern = ".+".join(re.escape(part) for part in PARAMETER.split(one))
            if not (one == other if is_literal else re.fullmatch(pattern, other)):
                return -1
            literals += is_literal
        return literals

    revision = _revision(_document(paths={path: {"get": {}} for path in paths}), service="shop")
    found = Index(revision, [""], Effort()).find("GET", "/" + "/".join(seen))
    most = max(map(count_literals, paths), default=-1)
    assert (count_literals(found.http_route) if found is not None else -1) == most


def test_a_segment_of_many_parameters_takes_linear_time() -> None:
    """A regular expression would try 40 places for each of 20 parameters, and hold every other thread meanwhile."""
    path = "/" + "".join(f"{{p{number}}}a" for number in range(20)) + "!"
    revision = _revision(_document(paths={path: {"get": {}}}), service="shop")
    assert Index(revision, [""], Effort()).find("GET", "/" + "a" * 60) is None


def test_a_description_of_many_patterns_beside_each_other_is_skipped() -> None:
    paths = {f"/{{id}}.x{number}": {"get": {}} for number in range(9_999)}
    revision = _revision(_document(paths=paths), service="shop")
    book = SpecBook([revision], [])
    seen = [_seen(f"/page{number}.html") for number in range(1_000)]
    statuses = [assess_endpoint(one, book).status for one in seen]
    assert book.list_exhausted() == {"shop"}
    assert statuses[0] is SpecStatus.SHADOW and statuses[-1] is SpecStatus.NONE


def test_a_large_description_is_compared_with_many_endpoints() -> None:
    paths = {f"/v1/items{number}/{{id}}": {"get": {}} for number in range(9_999)}
    book = SpecBook([_revision(_document(paths=paths), service="shop")], [])
    seen = [_seen(f"/v1/items{number}/{{item_id}}") for number in range(0, 20_000, 2)]
    found = Counter(assess_endpoint(one, book).status for one in seen)
    assert not book.list_exhausted()
    assert found == {SpecStatus.DOCUMENTED: 5_000, SpecStatus.SHADOW: 5_000}


def test_comparing_ends_with_the_budget() -> None:
    book = SpecBook([_revision(_document(), service="shop")], [])
    with BudgetBook().open() as budget, pytest.raises(StoppedError):
        budget.cancel()
        assess_endpoint(_seen("/orders/latest"), book)


def _repeat(first: str, line: str) -> str:
    """Eight values, each of which names the one before ten times."""
    lines = [line.format(n=n, before=", ".join([f"*a{n - 1}"] * 10)) for n in range(1, 9)]
    return "\n".join([f"a0: &a0 {first}", *lines, "openapi: 3.1.0", "info: {title: *a8}", "paths: {}"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (_repeat("[x, x]", "a{n}: &a{n} [{before}]"), "more than 300000 values, aliases written out"),
        (_repeat("{k: v}", "a{n}: &a{n} {{<<: [{before}], k{n}: v}}"), "more than 300000 values, aliases written out"),
        ("openapi: 3.1.0\ninfo: &i {title: *i}\npaths: {}", r"an alias within itself \(\*i\)"),
        ("openapi: 3.1.0\npaths: [" + "1, " * 300_001 + "]", "more than 300000 values"),
    ],
)
def test_yaml_that_grows_when_it_is_read_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        read_spec(text)


def test_aliases_of_an_ordinary_document_are_read() -> None:
    text = "openapi: 3.0.3\npaths:\n  /a: &a {get: {deprecated: true}}\n  /b: *a\n  /c: {<<: *a, put: {}}\n"
    assert [(one.method, one.path) for one in read_spec(text).operations] == [
        ("GET", "/a"),
        ("GET", "/b"),
        ("GET", "/c"),
        ("PUT", "/c"),
    ]


def test_reading_ends_with_the_budget() -> None:
    with BudgetBook().open() as budget, pytest.raises(StoppedError):
        budget.cancel()
        read_spec("openapi: 3.1.0\npaths: {}")

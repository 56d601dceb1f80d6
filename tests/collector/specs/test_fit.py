"""Which documents seen in traffic describe the service that served them, and for which of its paths."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from collector.inventory.endpoints.spec_status import SpecStatus
from collector.specs.document import read_spec
from collector.specs.fit import Extent, FitResult, assess_served, is_named_by
from collector.specs.matching import Revision, SeenEndpoint, SpecBook, assess_endpoint

SERVICE = "gateway:80"
PLACE = "gateway.example/openapi.json"

Calls = Mapping[str, int]  # By template.


def _write(paths: Iterable[str], **fields: Any) -> str:
    operations = {path: {"get": {"responses": {}}} for path in paths}
    return json.dumps({"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": operations, **fields})


def _revise(text: str, *, place: str = PLACE, is_current: bool = True, service: str = SERVICE) -> Revision:
    return Revision(name=place, service=service, spec=read_spec(text), is_current=is_current, place=place)


def _see(calls: Calls, *, host: str = "gateway.example", service: str = SERVICE) -> list[SeenEndpoint]:
    return [
        SeenEndpoint(
            id=template,
            service=service,
            workload="gateway",
            host=host,
            method="GET",
            template=template,
            served_calls=count,
        )
        for template, count in calls.items()
    ]


def _assess(
    revisions: Revision | list[Revision], endpoints: list[SeenEndpoint], before: Extent = Extent.NONE
) -> FitResult:
    """Of the first document."""
    found = revisions if isinstance(revisions, list) else [revisions]
    return assess_served(found, endpoints, {found[0].name: before})[found[0].name]


def _list_statuses(revisions: list[Revision], endpoints: list[SeenEndpoint]) -> dict[str, SpecStatus]:
    fits = {name: one.fit for name, one in assess_served(revisions, endpoints, {}).items()}
    book = SpecBook(revisions, endpoints, fits)
    return {one.template: assess_endpoint(one, book).status for one in endpoints}


def test_a_document_of_another_service_makes_no_shadow() -> None:
    other = _revise(_write(f"/orders/{number}/{{id}}" for number in range(30)))
    own = _see({"/login": 50, "/profile": 20, "/openapi.json": 4})
    assessed = _assess(other, own)
    assert assessed.extent is Extent.NONE and not assessed.fit.heads
    assert assessed.reason == (
        "Only seen: 0 of the 70 calls of gateway:80 match it, and 0 of its 30 operations are called there. "
        "Half of either is needed; upload it if it describes gateway:80."
    )
    assert set(_list_statuses([other], own).values()) == {SpecStatus.NONE}


@pytest.mark.parametrize("shared", [["/health"], ["/", "/health", "/{page}"], ["/health", "/version"]])
def test_what_every_service_has_is_no_fit(shared: list[str]) -> None:
    """However often it is called."""
    other = _revise(_write([*shared, *(f"/orders/{number}" for number in range(30))]))
    own = dict.fromkeys(shared, 100_000) | {f"/accounts/{number}": 7 for number in range(10)} | {"/about": 60_000}
    assert set(_list_statuses([other], _see(own)).values()) == {SpecStatus.NONE}


def test_a_document_of_the_service_finds_its_shadows() -> None:
    own = _revise(_write(["/orders", "/orders/{id}", "/carts", "/never"]))
    seen = _see({"/orders": 40, "/orders/{order_id}": 30, "/carts": 9, "/admin": 21, "/openapi.json": 900})
    assessed = _assess(own, seen)
    assert (assessed.extent, assessed.reason) == (Extent.SERVICE, "79 of the 100 calls of gateway:80 match it.")
    statuses = _list_statuses([own], seen)
    assert [name for name, status in statuses.items() if status is SpecStatus.SHADOW] == ["/admin", "/openapi.json"]


def test_two_endpoints_are_enough_and_one_is_not() -> None:
    own = _revise(_write(["/orders", "/orders/{id}", "/carts"]))
    assert _assess(own, _see({"/orders": 1})).extent is Extent.NONE
    assert _assess(own, _see({"/orders": 1, "/carts": 1})).extent is Extent.SERVICE
    for paths in (["/orders"], ["/orders", "/carts"]):
        assert _assess(_revise(_write(paths)), _see({"/orders": 1})).extent is Extent.SERVICE, "half of it"
    assert _assess(own, []).extent is Extent.NONE


def test_a_route_that_is_seen_as_many_endpoints_outweighs_no_calls() -> None:
    own = _revise(_write(["/orders", "/orders/{id}", "/carts", "/carts/{id}"]))
    documented = {"/orders": 400, "/orders/{id}": 300, "/carts": 100, "/carts/{id}": 100}
    seen = _see(documented | {f"/static/{number}.js": 1 for number in range(11)})
    assert _assess(own, seen).extent is Extent.SERVICE


def test_it_comes_and_goes_with_the_calls_and_not_near_the_line() -> None:
    own = _revise(_write(["/orders", "/carts", *(f"/more/{number}" for number in range(10))]))

    def assess_at(matched: int, before: Extent) -> Extent:
        calls = {"/orders": matched, "/carts": matched, "/a": 100 - matched, "/b": 100 - matched}
        return _assess(own, _see(calls), before).extent

    extents = []
    extent = Extent.NONE
    for matched in (40, 49, 50, 45, 40, 34, 33, 45, 49, 55):
        extent = assess_at(matched, extent)
        extents.append(extent is Extent.SERVICE)
    assert extents == [False, False, True, True, True, True, False, False, False, True]


def test_a_gateways_document_of_one_of_ten_services_is_about_that_part() -> None:
    part = _revise(_write(["/orders", "/orders/{id}", "/orders/{id}/lines", "/orders/never"]))
    calls = {"/orders": 10, "/orders/{order_id}": 10, "/orders/{order_id}/lines": 5, "/orders/{order_id}/tax": 3}
    calls |= {f"/service{number}/things": 25 for number in range(9)}
    assessed = _assess(part, _see(calls))
    assert assessed.extent is Extent.PART
    assert assessed.reason == (
        "25 of the 253 calls of gateway:80 match it, and 3 of its 4 operations are called there: it is about paths "
        "that begin as its own."
    )
    statuses = _list_statuses([part], _see(calls))
    assert [name for name, status in statuses.items() if status is SpecStatus.SHADOW] == ["/orders/{order_id}/tax"]
    assert [name for name, status in statuses.items() if status is SpecStatus.DOCUMENTED] == list(calls)[:3]


def test_documents_of_all_parts_of_a_gateway_are_in_force_side_by_side() -> None:
    """Each is served below a folder that its paths do not have, as gateways that take it off do."""
    revisions, calls = [], {}
    for name in ("orders", "carts", "users", "bills"):
        text = _write(["/", "/items", "/items/{id}"], servers=[{"url": "/"}])
        revisions.append(_revise(text, place=f"gateway.example/{name}/v3/api-docs"))
        calls |= {f"/{name}/items": 5, f"/{name}/items/{{id}}": 5, f"/{name}/secret": 1, f"/{name}/v3/api-docs": 1}
    assessed = assess_served(revisions, _see(calls), {})
    assert [one.extent for one in assessed.values()] == [Extent.PART] * 4
    statuses = _list_statuses(revisions, _see(calls))
    shadows = [name for name, status in statuses.items() if status is SpecStatus.SHADOW]
    assert [name for name in shadows if not name.endswith("api-docs")] == [
        f"/{name}/secret" for name in ("orders", "carts", "users", "bills")
    ]
    assert statuses["/users/items/{id}"] is SpecStatus.DOCUMENTED


@pytest.mark.parametrize(
    "fields",
    [{"servers": [{"url": "/api/v2"}]}, {"servers": [{"url": "https://public.example/api/v2"}]}],
    ids=["relative", "absolute"],
)
@pytest.mark.parametrize("base", ["", "/api/v2"])
def test_a_base_path_that_a_proxy_takes_off_does_not_matter(fields: dict[str, Any], base: str) -> None:
    own = _revise(_write(["/orders", "/carts"], **fields))
    seen = _see({f"{base}/orders": 5, f"{base}/carts": 5, f"{base}/admin": 2})
    assert _list_statuses([own], seen) == {
        f"{base}/orders": SpecStatus.DOCUMENTED,
        f"{base}/carts": SpecStatus.DOCUMENTED,
        f"{base}/admin": SpecStatus.SHADOW,
    }


def test_version_2_with_host_and_base_path() -> None:
    paths = {path: {"get": {"responses": {}}} for path in ("/orders", "/carts")}
    text = json.dumps({"swagger": "2.0", "host": "gateway.example", "basePath": "/v1", "paths": paths})
    own = _revise(text)
    assert _assess(own, _see({"/v1/orders": 5, "/v1/carts": 5})).extent is Extent.SERVICE
    # Its host is the service's, so that it is about what is below its base path even where little of it is called.
    statuses = _list_statuses([own], _see({"/v1/orders": 1, "/v1/other": 9, "/page": 90}))
    assert statuses == {
        "/v1/orders": SpecStatus.DOCUMENTED,
        "/v1/other": SpecStatus.SHADOW,
        "/page": SpecStatus.NONE,
    }


def test_a_document_whose_servers_are_the_service_is_its_description() -> None:
    text = _write(["/orders", "/carts"], servers=[{"url": "https://gateway.example"}])
    own, seen = _revise(text), _see({"/orders": 1, "/admin": 9})
    assessed = _assess(own, seen)
    assert assessed.reason == "Its servers name gateway.example."
    assert _list_statuses([own], seen)["/admin"] is SpecStatus.SHADOW
    # A second document makes the service a gateway: each is about its own paths.
    second = _revise(_write(["/users"]), place="gateway.example/v3/api-docs")
    assert _list_statuses([own, second], seen)["/admin"] is SpecStatus.NONE


@pytest.mark.parametrize(
    ("url", "host", "is_named"),
    [
        ("https://shop.example", "shop.example", True),
        ("https://shop.example:8443/v1", "shop.example", True),
        ("https://shop.example:8443", "shop.example:8443", True),
        ("https://shop.example:8443", "shop.example:9443", False),
        ("https://shop.example", "other.example", False),
        ("https://{tenant}.shop.example", "{name}.shop.example", True),
        ("http://10.0.0.5:8080", "10.0.0.5:8080", True),
        ("http://10.0.0.5:8080", "10.0.0.5:9090", False),
        ("http://localhost:8080", "localhost:8080", False),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", False),
        ("http://[::1]:8080", "[::1]:8080", False),
        ("http://{host}", "{name}", False),
        ("/v1", "shop.example", False),
        ("https://shop.example:99999x", "shop.example", False),
    ],
)
def test_servers_name_a_host(url: str, host: str, is_named: bool) -> None:
    assert is_named_by(read_spec(_write([], servers=[{"url": url}])), host) is is_named


def test_an_export_of_another_service_on_the_same_machine_is_only_seen() -> None:
    """All that runs on one machine has one host name."""
    export = _revise(
        _write(["/api/v1/orders", "/api/v1/orders/{id}"], servers=[{"url": "http://127.0.0.1:9000"}]),
        place="127.0.0.1:8080/api/v1/services/{service}/openapi.json",
    )
    seen = _see({"/api/v1/endpoints": 40, "/api/v1/alerts": 40, "/healthz": 9}, host="127.0.0.1:8080")
    assert set(_list_statuses([export], seen).values()) == {SpecStatus.NONE}


def test_what_only_an_older_version_has_fits_and_is_a_zombie() -> None:
    older = json.loads(_write(["/orders", "/carts"]))
    older |= {"servers": [{"url": "/v1"}]}
    revisions = [
        _revise(_write(["/orders"], servers=[{"url": "/v2"}])),
        _revise(json.dumps(older), is_current=False),
    ]
    seen = _see({"/v2/orders": 2, "/v1/carts": 9, "/v1/orders": 9})
    assert _list_statuses(revisions, seen) == {
        "/v2/orders": SpecStatus.DOCUMENTED,
        "/v1/carts": SpecStatus.ZOMBIE,
        "/v1/orders": SpecStatus.ZOMBIE,
    }


def test_an_upload_that_names_the_service_is_always_in_force() -> None:
    seen = _see({"/login": 50, "/profile": 20})
    given = Revision(name="given", service=SERVICE, spec=read_spec(_write(["/login"])), is_current=True)
    nothing = Revision(name="nothing", service=SERVICE, spec=read_spec(_write(["/never"])), is_current=True)
    served = _revise(_write(["/login", "/profile"]))
    assert _list_statuses([served, given], seen) == {"/login": SpecStatus.DOCUMENTED, "/profile": SpecStatus.SHADOW}
    assert set(_list_statuses([served, nothing], seen).values()) == {SpecStatus.SHADOW}


def test_calls_of_another_service_do_not_count() -> None:
    own = _revise(_write(["/orders", "/carts"]))
    seen = [*_see({"/orders": 9, "/carts": 9}, service="elsewhere:80"), *_see({"/a": 1, "/b": 1})]
    assert _assess(own, seen).extent is Extent.NONE


def test_a_document_that_is_too_costly_to_compare_is_not_in_force_and_says_why() -> None:
    paths = [f"/v1/{{id}}.x{number}" for number in range(9_999)]
    seen = _see({f"/v1/page{number}": 1 for number in range(600)})
    assessed = _assess(_revise(_write(paths, servers=[{"url": "https://gateway.example"}])), seen)
    assert (assessed.extent, assessed.fit.heads) == (Extent.NONE, frozenset())
    assert "takes more than 5,000,000 comparisons" in assessed.reason

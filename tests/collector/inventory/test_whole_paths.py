"""Which trees of routes are one value, and which are APIs."""

import time
from pathlib import Path

import pytest

from collector.core.rows import Route, Segment, Service
from collector.inventory.query import Versions
from collector.inventory.templates.catalogue import Catalogue, map_endpoints
from collector.inventory.templates.mapping import EndpointMapping
from collector.inventory.templates.path_trie import RouteEvidence
from collector.receiver.reports import RevealBook
from collector.storage.arrow import build_routes
from collector.storage.embedded import EmbeddedStore

SERVICE = Service(cluster="", namespace="", workload="w", workload_kind=3, host_name="n", port=80)


def _segment(text: str) -> Segment:
    if text.isdigit():
        return Segment(3, "", 0, 0)
    return Segment(2, "", hash(text) & 0xFFFFFFFF, len(text)) if text.startswith("~") else Segment(1, text, 0, 0)


def map_calls(*calls: str) -> dict[str, set[str]]:
    """Templates of calls `METHOD /path`, each served twice, with the calls that got them. A word with `~` is one that
    the sensor keeps to itself; a trailing slash stays."""
    routes = {}
    for number, call in enumerate(calls, 1):
        method, path = call.split(" ")
        segments = tuple(_segment(text) for text in path.split("/") if text)
        route = Route(
            route_id=number, service=SERVICE, host="h", method=method, segments=segments,
            has_trailing_slash=path.endswith("/"),
        )  # fmt: skip
        routes[number] = RouteEvidence(route=route, calls=2, served_calls=2)
    found: dict[str, set[str]] = {}
    for number, name in map_endpoints(routes.values(), {}).items():
        found.setdefault(f"{calls[number - 1].split(' ')[0]} {name.template}", set()).add(calls[number - 1])
    return found


FILES = [f"GET /{folder}/{number}/page-{number}.html" for folder in ("css", "docs", "images") for number in (1, 2)]
FILES += [f"GET /{folder}/logo-{number}.png" for folder in ("css", "docs", "images") for number in (1, 2, 3)]


def test_a_tree_of_files_is_one_endpoint() -> None:
    assert list(map_calls(*FILES)) == ["GET /{path}"]


def test_an_api_beside_files_stays() -> None:
    api = ["GET /api/orders", "POST /api/orders", "GET /api/orders/7", "GET /api/reports/daily", "GET /health"]
    found = map_calls(*FILES, *api)
    assert set(found) == {"GET /{path}", "GET /api/orders", "POST /api/orders", "GET /api/orders/{order_id}",
                          "GET /api/reports/daily", "GET /health"}  # fmt: skip


def test_files_below_one_place_leave_it() -> None:
    assert list(map_calls(*(call.replace("GET /", "GET /static/") for call in FILES))) == ["GET /static/{path}"]


def test_buckets_that_are_made_are_values_before_the_path() -> None:
    calls = []
    for bucket in ("invoices", "backups", "photos", "~acme"):
        calls += [f"PUT /{bucket}", f"GET /{bucket}"]
        calls += [
            f"{method} /{bucket}/{key}" for method in ("PUT", "GET") for key in ("2024/a.pdf", "b.pdf", "x/y/c.pdf")
        ]
    assert set(map_calls(*calls)) == {"PUT /{name}", "GET /{name}", "PUT /{name}/{path}", "GET /{name}/{path}"}


def test_formats_of_answers_are_no_files() -> None:
    calls = [
        f"GET /{name}/{part}.json"
        for name in ("users", "orders", "carts", "items")
        for part in ("list", "count", "find")
    ]
    assert len(map_calls(*calls)) == len(calls)


def test_what_follows_a_path_of_any_length_stays() -> None:
    names = ("~nginx", "~redis", "shop/cart", "shop/~orders", "tools/~backup", "team/web/~front")
    calls = [
        f"GET /v2/{name}/{rest}"
        for name in names
        for rest in ("manifests/latest", "manifests/~a", "blobs/~b", "tags/list")
    ]
    found = set(map_calls("GET /v2/", "GET /v2/_catalog", *calls))
    assert {"GET /v2/", "GET /v2/_catalog", "GET /v2/{path}/tags/list"} <= found
    assert all("/{path}/" in one for one in found - {"GET /v2/", "GET /v2/_catalog"})


@pytest.mark.parametrize(
    "calls",
    [
        # Nested resources: the same names at several depths, with ids between them.
        [f"GET /{one}/7/{two}" for one in ("users", "posts", "groups", "pages") for two in ("comments", "likes")]
        + ["GET /me/comments", "GET /me/likes", "GET /users/7/posts/7/comments"],
        # A large API of which every route was called once.
        [
            f"GET /api/{area}/{name}"
            for area in ("billing", "users", "stock")
            for name in ("list", "search", "count", "export")
        ],
    ],
)
def test_apis_are_no_paths(calls: list[str]) -> None:
    assert not any("{path}" in template for template in map_calls(*calls))


@pytest.mark.parametrize("form", ["user-{}", "notes-{}.txt", "r{}", "v{}_draft"])
def test_siblings_that_differ_in_a_number_are_values_from_eight_on(form: str) -> None:
    eight = [f"GET /members/{form.format(number)}" for number in range(8)]
    assert len(map_calls(*eight)) == 1
    assert len(map_calls(*eight[:7])) == 7


def test_versions_are_not_values() -> None:
    assert len(map_calls(*(f"GET /v{number}" for number in range(1, 12)))) == 11


def test_words_that_are_written_like_the_ids_beside_them_are_values() -> None:
    calls = ["PUT /notes/7", "GET /notes/7", "DELETE /notes/7"]
    calls += [
        f"{method} /notes/{title}" for method in ("PUT", "GET") for title in ("ideas", "garden", "budget", "recipes")
    ]
    assert set(map_calls(*calls)) == {f"{method} /notes/{{note_id}}" for method in ("PUT", "GET", "DELETE")}
    assert "GET /notes/search" in map_calls(*calls, "GET /notes/search")
    actions = [
        "PUT /notes/7",
        "GET /notes/7",
        *(f"GET /notes/{name}" for name in ("search", "count", "recent", "export")),
    ]
    assert len(map_calls(*actions)) == len(actions)


def test_a_trailing_slash_stays_where_all_served_calls_had_it() -> None:
    assert set(map_calls("GET /api/orders/", "POST /api/orders/")) == {"GET /api/orders/", "POST /api/orders/"}
    assert set(map_calls("GET /api/orders/", "POST /api/orders")) == {"GET /api/orders", "POST /api/orders"}


@pytest.mark.store
def test_routes_are_compared_again_once_their_calls_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EmbeddedStore(tmp_path)
    try:
        versions = Versions(store, "endpoint_routes", "endpoint_aliases", clock=time.time)
        catalogue = Catalogue(store, EndpointMapping(writer=store, take_version=versions.take), RevealBook())
        routes = [
            Route(
                route_id=number, service=SERVICE, host="h", method="GET", has_trailing_slash=False,
                segments=(_segment("members"), _segment(f"user-{number}")),
            )
            for number in range(1, 9)
        ]  # fmt: skip
        store.insert_arrow("routes", build_routes([(route, 1) for route in routes]))
        catalogue.map_routes(routes)
        assert catalogue.group() == 0
        monkeypatch.setattr(catalogue, "_count_calls", lambda: dict.fromkeys(range(1, 9), (2, 2, 0)))
        assert catalogue.group() == 8
        assert len(set(catalogue.list_endpoints().values())) == 1
        assert catalogue.group() == 0
    finally:
        store.close()

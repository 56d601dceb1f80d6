"""Which names and trees of routes are values, and which are APIs."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.catalogue import Catalogue, RouteTotals, map_endpoints
from collector.inventory.templates.path_trie import RouteEvidence
from collector.inventory.templates.table import TemplateTable
from collector.receiver.reports import RevealBook
from collector.storage.arrow import build_routes
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import Seed
from tests.collector.states import create_state

SERVICE = Service(cluster="", namespace="", workload="w", workload_kind=3, host_name="n", port=80)


def _segment(text: str) -> Segment:
    if text.isdigit():
        return Segment(3, "", 0, 0)
    return Segment(2, "", hash(text) & 0xFFFFFFFF, len(text)) if text.startswith("~") else Segment(1, text, 0, 0)


def map_calls(*calls: str, answers: Mapping[str, str] = MappingProxyType({}), served: int = 2) -> dict[str, set[str]]:
    """Templates of calls `METHOD /path`, each served twice, with the calls that got them. A word with `~` is one that
    the sensor keeps to itself; a trailing slash stays. `answers` by the end of a path."""
    routes = {}
    for number, call in enumerate(calls, 1):
        method, path = call.split(" ")
        segments = tuple(_segment(text) for text in path.split("/") if text)
        route = Route(
            route_id=number, service=SERVICE, host="h", method=method, segments=segments,
            has_trailing_slash=path.endswith("/"),
        )  # fmt: skip
        answer = next((text for end, text in answers.items() if path.endswith(end)), "")
        routes[number] = RouteEvidence(route=route, calls=2, served_calls=served, answer=answer)
    found: dict[str, set[str]] = {}
    for number, name in map_endpoints(routes.values(), {}).items():
        found.setdefault(f"{calls[number - 1].split(' ')[0]} {name.template}", set()).add(calls[number - 1])
    return found


PAGES = ("content", "query", "insert", "export")
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


@pytest.mark.parametrize("form", ["user-{}", "notes-{}", "r{}", "v{}_draft"])
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
    assert set(map_calls("GET /api/orders/", "POST /api/orders")) == {"GET /api/orders/", "POST /api/orders"}


def _list_calls(paths: str, *names: str) -> list[str]:
    return [call.replace("NAME", name) for name in names for call in paths.split(", ")]


TABLES = ("orders", "coupons", "payments", "users")
RICH = "application/json " + ",".join(f"/field_{number}" for number in range(9))


def test_names_that_clients_make_with_the_same_below_them_are_values() -> None:
    paths = "PUT /boxes/NAME, GET /boxes/NAME, GET /boxes/NAME/items, PUT /boxes/NAME/items/7"
    found = map_calls("GET /boxes", *_list_calls(paths, "articles", "links"))
    assert set(found) == {
        "GET /boxes", "PUT /boxes/{box_name}", "GET /boxes/{box_name}", "GET /boxes/{box_name}/items",
        "PUT /boxes/{box_name}/items/{item_id}",
    }  # fmt: skip
    resources = "GET /NAME, POST /NAME, GET /NAME/7, PUT /NAME/7"
    assert len(map_calls(*_list_calls(resources, "orders", "users", "items", "teams", "events"))) == 20


def test_names_that_are_deleted_one_by_one_are_values_of_their_collection() -> None:
    members = _list_calls("GET /folders/NAME, DELETE /folders/NAME", "photos", "music", "papers", "notes")
    assert set(map_calls("GET /folders", *members)) == {
        "GET /folders", "GET /folders/{folder_name}", "DELETE /folders/{folder_name}"
    }  # fmt: skip
    settings = _list_calls("GET /settings/NAME, PUT /settings/NAME", "mail", "theme", "region", "limits")
    assert len(map_calls("GET /settings", *settings)) == 9


def test_a_name_that_is_called_as_the_values_beside_it_is_one() -> None:
    calls = _list_calls("GET /tags/NAME, HEAD /tags/NAME, PUT /tags/NAME", "7", "latest")
    assert set(map_calls(*calls)) == {"GET /tags/{tag_id}", "HEAD /tags/{tag_id}", "PUT /tags/{tag_id}"}
    assert "DELETE /tags/all" in map_calls("GET /tags/7", "PUT /tags/7", "DELETE /tags/7", "DELETE /tags/all")


def test_names_with_the_same_answers_below_them_are_values() -> None:
    calls = _list_calls(
        "GET /NAME/content, GET /NAME/query, GET /NAME/structure", "orders", "coupons", "payments", "users"
    )
    html = {"": "text/html "}
    assert len(map_calls(*calls, answers=html)) == 3
    assert len(map_calls(*calls)) == 12
    assert len(map_calls(*calls, answers={"/query": "text/html "})) == 3  # No other was read.
    own = {f"/{name}/content": f"application/json /{name}" for name in TABLES}
    own |= {f"/{name}/query": f"application/json /{name},/total" for name in TABLES}
    assert len(map_calls(*calls, answers=own)) == 12


def test_names_that_answer_with_the_same_many_fields_are_values() -> None:
    calls = _list_calls("GET /nodes/NAME", "inject", "debug", "split", "join")
    assert list(map_calls(*calls, answers={"": RICH})) == ["GET /nodes/{node_name}"]
    assert len(map_calls(*calls, answers={"": "application/json /code,/data,/message"})) == 4


def test_one_answer_at_every_depth_is_a_whole_path() -> None:
    tree = ("/tree", "/tree/trips", "/tree/trips/rome", "/tree/trips/rome/plan", "/tree/budget")
    versions = ("/tree/trips/rome/plan/versions", "/tree/budget/versions")
    answers = {"/versions": "application/json /[],/[]/id", "": RICH}
    found = map_calls(*(f"GET {path}" for path in (*tree, *versions)), answers=answers)
    assert set(found) == {"GET /tree", "GET /tree/{path}", "GET /tree/{path}/versions"}
    assert len(map_calls(*(f"GET {path}" for path in tree), answers={"": "application/json /code,/data"})) == len(tree)


def test_numbered_names_are_values_however_they_were_answered() -> None:
    calls = [f"GET /rooms/r-{number}/plan" for number in range(8)]
    assert list(map_calls(*calls, served=0)) == ["GET /rooms/{room_name}/plan"]


def test_paths_that_are_folded_elsewhere_are_folded_everywhere() -> None:
    names = ("readme", "trips/rome", "trips/rome/plan", "budget/june")
    tree = [f"GET /contents/{name}" for name in names] + ["GET /contents"]
    files = [f"GET /files/{name}" for name in names]
    api = ["GET /orders/open", "GET /orders/late", "GET /orders/readme"]
    found = map_calls(*tree, *files, *api, answers={"": RICH})
    assert {"GET /contents/{path}", "GET /files/{path}", *api} <= set(found)
    assert set(files) <= set(map_calls(*files, *api))


def test_names_that_end_in_a_format_are_values_of_their_own() -> None:
    calls = [f"GET /city/~{name}{end}" for name in "abcd" for end in ("", ".json")]
    plain = ["GET /city/roads", "GET /city/trees", "GET /city/roads.json", "GET /city/trees.json"]
    assert set(map_calls(*calls, *plain)) == {"GET /city/{city_name}", "GET /city/{city_id}.json"}


@pytest.mark.parametrize(
    ("answer", "count", "methods", "endpoints"),
    [
        ("text/plain ", 8, ("GET", "POST"), 2),
        ("application/json /state", 8, ("GET", "POST"), 2),
        ("text/plain ", 7, ("GET", "POST"), 14),
        ("text/plain ", 8, ("GET",), 8),
        ("text/html ", 8, ("GET", "POST"), 16),
        ("", 8, ("GET", "POST"), 16),
    ],
)
def test_many_names_with_the_same_methods_and_answers_are_values(
    answer: str, count: int, methods: tuple[str, ...], endpoints: int
) -> None:
    names = ("deploy", "rotate", "nightly", "release", "purge", "sync", "index", "backup")[:count]
    calls = [f"{method} /hooks/{name}" for name in names for method in methods]
    assert len(map_calls(*calls, answers={"": answer})) == endpoints
    assert len(map_calls(*calls, "GET /hooks/deploy/runs", answers={"": answer})) == len(calls) + 1


def test_three_files_that_differ_in_a_number_are_values() -> None:
    assert list(map_calls(*(f"GET /logs/run-{number}.log" for number in (1, 2, 3)))) == ["GET /logs/{log_name}"]
    assert len(map_calls(*(f"GET /logs/run-{number}" for number in (1, 2, 3)))) == 3


def test_a_fixed_segment_on_the_way_is_no_path() -> None:
    paths = "GET /NAME/report, GET /NAME/balance, GET /NAME/journal, GET /NAME/api/report, GET /NAME/api/balance"
    books = ("~a", "~b", "~c", "~d", "~e")
    found = map_calls(*_list_calls(paths, *books))
    assert set(found) == {path.replace("NAME", "{name}") for path in paths.split(", ")}


def test_three_names_with_very_much_that_answers_alike_are_values() -> None:
    paths = ", ".join(f"GET /NAME/{name}" for name in ("report", "balance", "journal", "events", "errors", "query"))
    calls = [*_list_calls(paths, "home", "club", "shop"), "GET /static/app"]
    assert len(map_calls(*calls, answers={"": "text/html "})) == 7
    assert len(map_calls(*_list_calls("GET /NAME/list, GET /NAME/count", "home", "club", "shop"), "GET /health")) == 7


def test_three_numbered_names_that_clients_make_are_values() -> None:
    calls = _list_calls("PUT /workers/NAME", "worker-0", "worker-1", "worker-2")
    assert list(map_calls(*calls)) == ["PUT /workers/{worker_name}"]
    assert len(map_calls(*(call.replace("PUT", "GET") for call in calls))) == 3


def test_objects_that_clients_store_at_any_depth_are_a_whole_path() -> None:
    names = ("a.pdf", "b.txt", "raw/part", "raw/deep/part", "raw/deep/other")
    keys = [f"{method} /{box}/{name}" for box in ("invoices", "photos", "backups") for name in names
            for method in ("PUT", "GET")]  # fmt: skip
    boxes = [f"{method} /{box}" for box in ("invoices", "photos", "backups") for method in ("PUT", "GET")]
    assert set(map_calls(*keys, *boxes)) == {"PUT /{name}", "GET /{name}", "PUT /{name}/{path}", "GET /{name}/{path}"}


def test_the_name_of_a_file_that_clients_write_is_a_value() -> None:
    assert set(map_calls("PUT /home/{}.ics", "GET /home/{}.ics")) == {"PUT /home/{home_name}", "GET /home/{home_name}"}
    assert set(map_calls("GET /home/{}.ics")) == {"GET /home/{home_id}.ics"}
    assert set(map_calls("PUT /home/{}.json", "GET /home/7")) == {"PUT /home/{home_id}.json", "GET /home/{home_id}"}


def test_the_servers_own_names_are_no_part_of_a_path() -> None:
    calls = _list_calls(
        "GET /NAME/+simple/tools, GET /NAME/tools, GET /NAME/+api", "~a/dev", "~b/dev", "~c/dev", "~d/dev"
    )
    assert "GET /{path}/kit" not in map_calls(*calls)


@pytest.mark.store
def test_routes_are_compared_again_once_their_calls_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EmbeddedStore(tmp_path)
    try:
        catalogue = Catalogue(store, TemplateTable(create_state(), store), RevealBook())
        routes = [
            Route(
                route_id=number, service=SERVICE, host="h", method="GET", has_trailing_slash=False,
                segments=(_segment("members"), _segment(f"~user-{number}")),
            )
            for number in range(1, 9)
        ]  # fmt: skip
        store.insert_arrow("routes", build_routes([(route, 1) for route in routes]))
        catalogue.map_routes(routes)
        assert catalogue.group() == 0
        monkeypatch.setattr(catalogue, "_count_calls", lambda: dict.fromkeys(range(1, 9), RouteTotals(2, 2)))
        assert catalogue.group() == 8
        assert len(set(catalogue.list_endpoints().values())) == 1
        assert catalogue.group() == 0
    finally:
        store.close()


@pytest.mark.store
@pytest.mark.parametrize(("media_type", "endpoints"), [("text/html", 4), ("application/json", 20)])
def test_pages_show_by_their_heads_alone_that_what_is_above_them_is_a_value(
    media_type: str, endpoints: int, tmp_path: Path
) -> None:
    names = ("orders", "products", "invoices", "coupons", "carriers")
    seed = Seed()
    for number, path in enumerate(f"/{name}/{page}" for name in names for page in PAGES):
        seed.calls(seed.endpoint(number + 1, "GET", path), 2, response_content_type=media_type)
    store = EmbeddedStore(tmp_path)
    try:
        seed.write(store)
        catalogue = Catalogue(store, TemplateTable(create_state(), store), RevealBook())
        catalogue.group(is_all=True)
        assert len(set(catalogue.list_endpoints().values())) == endpoints
    finally:
        store.close()

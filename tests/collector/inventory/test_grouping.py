"""Names of templates and the merging of routes into endpoints."""

import random
from dataclasses import replace

import pytest

from collector.core.rows import Route, Segment, Service
from collector.inventory.naming import singularize, template
from collector.inventory.templates.catalogue import map_endpoints
from collector.inventory.templates.path_trie import RouteEvidence

SERVICE = Service(cluster="", namespace="", workload="w", workload_kind=3, host_name="n", port=80)


def _literal(text: str) -> Segment:
    return Segment(1, text, 0, 0)


def _evidence(route_id: int, *segments: Segment, calls: int = 1, served: int = 1) -> RouteEvidence:
    route = Route(
        route_id=route_id, service=SERVICE, host="h", method="GET", segments=segments, has_trailing_slash=False
    )
    return RouteEvidence(route=route, calls=calls, served_calls=served)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ((), "/"),
        ((_literal("v1"), _literal("users"), Segment(3, "", 0, 0)), "/v1/users/{user_id}"),
        ((_literal("companies"), Segment(4, "", 0, 0), Segment(4, "", 0, 0)), "/companies/{company_id}/{company_id_2}"),
        ((Segment(2, "", 9, 4), _literal("{}.json")), "/{word}/{id}.json"),
    ],
)
def test_template(segments, expected):
    assert template(segments, False) == expected


def test_singularize():
    assert [singularize(word) for word in ("users", "companies", "boxes", "status", "people")] == [
        "user", "company", "box", "status", "person",
    ]  # fmt: skip


def test_an_open_set_of_words_is_a_parameter_and_order_does_not_matter():
    routes = [_evidence(n, _literal("users"), Segment(2, "", n + 1, 5)) for n in range(12)]
    routes.append(_evidence(99, _literal("users"), Segment(3, "", 0, 0), calls=5))
    mapped = map_endpoints(routes, {})
    assert {endpoint.template for endpoint in mapped.values()} == {"/users/{user_id}"}
    shuffled = random.Random(2).sample(routes, len(routes))
    assert map_endpoints(shuffled, {}) == mapped


def test_busy_words_stay_literals():
    routes = [_evidence(n, Segment(2, "", n + 1, 5), calls=100, served=90) for n in range(5)]
    mapped = map_endpoints(routes, {n + 1: f"word{'abcde'[n]}" for n in range(5)})
    assert len({endpoint.template for endpoint in mapped.values()}) == 5


def test_a_trailing_slash_is_no_other_endpoint():
    plain, slash = _evidence(1, _literal("users")), _evidence(2, _literal("users"))
    slash = RouteEvidence(route=replace(slash.route, has_trailing_slash=True), calls=1, served_calls=1)
    mapped = map_endpoints([plain, slash], {})
    assert mapped[1] == mapped[2]
    assert mapped[1].template == "/users"


def _word(number: int) -> Segment:
    return Segment(2, "", number, 6)


INTEGER = Segment(3, "", 0, 0)


def _map(routes: list[RouteEvidence]) -> list[str]:
    """Templates of the routes in their order; words are told as `w1`, `w2`."""
    words = {number: f"w{number}" for number in range(1, 100)}
    endpoints = map_endpoints(routes, words)
    return [endpoints[evidence.route.route_id].template for evidence in routes]


def test_api_words_with_the_same_names_below_are_values_of_the_set():
    routes = [_evidence(n, _literal("repos"), _word(n), _literal("issues"), calls=20) for n in range(1, 4)]
    routes += [_evidence(10 + n, _literal("repos"), _word(20 + n), _literal("issues")) for n in range(4)]
    routes.append(_evidence(30, _literal("repos"), _literal("search"), _literal("issues"), calls=90, served=90))
    assert set(_map(routes)) == {"/repos/{repo_name}/issues"}


def test_words_with_an_api_of_their_own_stay():
    groups = [("pods", "nodes", "events"), ("jobs", "cronjobs", "schedules"), ("roles", "bindings", "subjects")]
    routes = [
        _evidence(10 * group + n, _literal("apis"), _word(group), _literal(name))
        for group, names in enumerate(groups, 1)
        for n, name in enumerate(names)
    ]
    assert _map(routes) == [f"/apis/w{group}/{name}" for group, names in enumerate(groups, 1) for name in names]


def test_words_after_a_version_are_resources_unless_many_are_alike():
    for version in ("v2", "2.0", "4"):
        assert len(set(_map([_evidence(n, _literal(version), _word(n)) for n in range(1, 8)]))) == 7
    values = [_evidence(n, _literal("shops"), _word(n)) for n in range(1, 8)]
    assert set(_map(values)) == {"/shops/{shop_name}"}

    def make_tenants(count: int) -> list[RouteEvidence]:
        parts = ("orders", "users")
        return [
            _evidence(2 * n + place, _literal("v2"), _word(n), _literal(part), calls=20, served=20)
            for n in range(1, count + 1)
            for place, part in enumerate(parts)
        ]

    assert len(set(_map(make_tenants(7)))) == 14
    assert set(_map(make_tenants(8))) == {"/v2/{name}/orders", "/v2/{name}/users"}


def test_sub_resources_named_by_words_stay():
    routes = [_evidence(1, _literal("users"), INTEGER, calls=40, served=40)]
    routes += [_evidence(2 + n, _literal("users"), INTEGER, _word(n + 1)) for n in range(5)]
    assert _map(routes)[1:] == [f"/users/{{user_id}}/w{n}" for n in range(1, 6)]


def test_whole_numbers_beside_a_number_are_values():
    routes = [_evidence(1, INTEGER, _literal("orders"), calls=40, served=40)]
    routes += [_evidence(2, _literal("62"), _literal("orders")), _evidence(3, _literal("2"), _literal("status"))]
    assert _map(routes) == ["/{id}/orders", "/{id}/orders", "/2/status"]


def test_files_of_many_kinds_are_values():
    names = ["{}.pdf", "{}.png", "{}.csv", "report.pdf", "report.html"]
    routes = [_evidence(n, _literal("files"), _literal(name)) for n, name in enumerate(names, 1)]
    assert _map(routes) == ["/files/{file_name}"] * 4 + ["/files/report.html"]


def test_a_seldom_called_word_beside_an_open_set_is_a_value():
    busy = [_evidence(100 + n, _literal(f"r{n}"), calls=200, served=200) for n in range(9)]
    values = [_evidence(n, _literal("groups"), _word(n), calls=2, served=2) for n in range(1, 4)]
    rare, usual = _evidence(20, _literal("groups"), _literal("team"), calls=20, served=20), 300
    often = _evidence(21, _literal("groups"), _literal("search"), calls=usual, served=usual)
    assert _map([*busy, *values, rare, often])[-2:] == ["/groups/{group_name}", "/groups/search"]

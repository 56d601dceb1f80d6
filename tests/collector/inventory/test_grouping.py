"""Names of templates and the merging of routes into endpoints."""

import random

import pytest

from collector.inventory.grouping import RouteEvidence, map_endpoints
from collector.inventory.naming import singularize, template
from collector.rows import Route, Segment, Service

SERVICE = Service(cluster="", namespace="", workload="w", workload_kind=3, host_name="n", port=80)


def _literal(text: str) -> Segment:
    return Segment(1, text, 0, 0)


def _evidence(route_id: int, *segments: Segment, calls: int = 1, served: int = 1) -> RouteEvidence:
    route = Route(
        route_id=route_id, service=SERVICE, host="h", method="GET", segments=segments, has_trailing_slash=False
    )
    return RouteEvidence(route=route, calls=calls, served_calls=served, consumers=1)


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
    assert {endpoint.url_template for endpoint in mapped.endpoints.values()} == {"/users/{user_id}"}
    shuffled = random.Random(2).sample(routes, len(routes))
    assert map_endpoints(shuffled, {}) == mapped


def test_busy_words_stay_literals():
    routes = [_evidence(n, Segment(2, "", n + 1, 5), calls=100, served=90) for n in range(5)]
    mapped = map_endpoints(routes, {n + 1: f"word{'abcde'[n]}" for n in range(5)})
    assert len({endpoint.url_template for endpoint in mapped.endpoints.values()}) == 5


def test_version_changes_exactly_when_the_mapping_does():
    routes = [_evidence(1, _literal("users"))]
    assert map_endpoints(routes, {}).version == map_endpoints([*routes], {}).version
    assert map_endpoints([*routes, _evidence(2, _literal("orders"))], {}).version != map_endpoints(routes, {}).version

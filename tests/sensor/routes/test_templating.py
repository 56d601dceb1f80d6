"""Shapes, routes and reveal."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import SegmentKind, Service, WorkloadKind
from sensor.core.keyed import KeyedHash, fold
from sensor.routes.segments import Shape, classify_segment
from sensor.routes.templating import Templater
from sensor.routes.trie import MAX_WORDS
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import START_NS, make_origin

SERVICE = Service(cluster="", namespace="", workload="w", workload_kind=WorkloadKind.PROCESS, host_name="n", port=80)
PATHS = ["/v1/users/42", "/v1/users/43/orders", "/v1/users/zorblatt", "/a.json", "/", "/v1/users/", "/v1/users"]


def _templater() -> Templater:
    return Templater(load_vocabulary(), KeyedHash(1, b"0123456789abcdef"))


def _route(templater: Templater, path: str, status: int = 200, consumer: int = 1, time_ns: int = START_NS):
    return templater.route(SERVICE, "h", "GET", path, status, make_origin(consumer), time_ns)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("users", SegmentKind.LITERAL),
        ("getUserById", SegmentKind.LITERAL),
        ("v2", SegmentKind.LITERAL),
        ("12345", SegmentKind.INTEGER),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", SegmentKind.UUID),
        ("507f1f77bcf86cd799439011", SegmentKind.HEX),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", SegmentKind.ULID),
        ("2024-02-29", SegmentKind.DATE),
        ("a.b@example.com", SegmentKind.EMAIL),
        ("cus_8fj2Kd92ka7L", SegmentKind.TOKEN),
        ("V1StGXR8_Z5jdHi6B-myT", SegmentKind.TOKEN),
        ("zorblatt", SegmentKind.WORD),
    ],
)
def test_shapes(text, kind):
    assert classify_segment(text, load_vocabulary()).kind is kind


@pytest.mark.parametrize(
    ("text", "pattern"), [("42.json", "{}.json"), ("42:cancel", "{}:cancel"), ("Products(5)", "Products({})")]
)
def test_patterns_around_a_parameter(text, pattern):
    shape = classify_segment(text, load_vocabulary())
    assert (shape.kind, shape.text) == (SegmentKind.LITERAL, pattern)


@given(st.text(max_size=60))
def test_never_raises_and_repr_hides_values(text):
    shape = classify_segment(text, load_vocabulary())
    assert isinstance(shape, Shape)
    assert "redacted" in repr(shape)
    _route(_templater(), text)


def test_route_ids_do_not_depend_on_order():
    forward, backward = _templater(), _templater()
    ids = {path: _route(forward, path).route.route_id for path in PATHS}
    shuffled = random.Random(1).sample(PATHS, len(PATHS))
    assert {path: _route(backward, path).route.route_id for path in shuffled} == ids
    assert {path: _route(forward, path).route.route_id for path in PATHS} == ids


def test_object_is_named_by_its_parameters():
    templater = _templater()
    assert _route(templater, "/v1/users").object_hash == 0
    first, second = _route(templater, "/v1/users/42"), _route(templater, "/v1/users/43")
    assert first.object_hash != second.object_hash
    assert first.object_number == 42
    assert first.route is second.route


def test_an_object_is_the_fold_of_its_values_in_order():
    templater = _templater()
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    two = _route(templater, "/v1/users/42/orders/7a9").object_hash
    assert two == fold(keyed_hash(b"42"), keyed_hash(b"7a9"))
    assert two != fold(keyed_hash(b"7a9"), keyed_hash(b"42"))
    assert (
        _route(templater, "/v1/users/5/orders/5").object_hash != _route(templater, "/v1/users/6/orders/6").object_hash
    )
    # A word's value is its decoded text, whether it was met before or not.
    for _ in range(2):
        assert _route(templater, "/zorbax%21").object_hash == keyed_hash(b"zorbax!")


def test_a_number_has_at_most_eighteen_digits():
    templater = _templater()
    assert _route(templater, "/v1/users/" + "9" * 18).object_number == 10**18 - 1
    assert _route(templater, "/v1/users/" + "9" * 19).object_number is None
    assert _route(templater, "/v1/users/-42").object_number is None
    assert _route(templater, "/v1/users/42/zorbax").object_number is None


def test_a_trace_is_the_way_of_the_route():
    templater = _templater()
    paths = [*PATHS, "/", "/orders/5.json", "/a/b/", "/zorbax/1"]
    for path in paths:
        route = _route(templater, path).route
        trace = templater.trace(route.service, route.host, route.method, path)
        assert trace is not None
        assert trace.route is route
        assert [step.text for step in trace.steps] == [text for text in path.split("/") if text]
        assert trace.node.segments == route.segments
    trace = templater.trace(route.service, route.host, route.method, "/orders/5.json")
    assert [(step.is_exact, step.is_plain) for step in trace.steps] == [(True, True), (False, False)]
    assert templater.trace(route.service, route.host, route.method, "/never/met/before") is None
    assert templater.trace(route.service, "other.example", route.method, "/") is None


def test_many_words_become_a_parameter():
    templater = _templater()
    letters = "bcdfghjklmnpqrstvwxz"
    words = [f"zor{a}u{b}a" for a in letters for b in letters][: MAX_WORDS + 20]
    routes = {_route(templater, f"/v1/users/{word}").route for word in words}
    assert len(routes) == MAX_WORDS + 1
    assert any(route.segments[-1].kind is SegmentKind.PARAMETER for route in routes)


@pytest.mark.parametrize("text", ["Assets:Bank", "@user10:lab.test", "user10:Lab", "a@b"])
def test_a_value_with_a_colon_or_an_at_sign_is_no_literal(text):
    assert classify_segment(text, load_vocabulary()).kind is not SegmentKind.LITERAL


@pytest.mark.parametrize("text", ["lib", "exe", "red", "-", "+login", "_api"])
def test_directories_colours_and_signed_names_are_literals(text):
    assert classify_segment(text, load_vocabulary()).kind is SegmentKind.LITERAL


def test_a_custom_method_is_a_literal():
    assert classify_segment("orders:search", load_vocabulary()) == Shape(SegmentKind.LITERAL, "orders:search", "")
    assert classify_segment("7:cancel", load_vocabulary()) == Shape(SegmentKind.LITERAL, "{}:cancel", "7")

"""What a GraphQL request asks for is measured as a server would count it: levels, repeats, requests, introspection."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.inventory.endpoints import bodies as collected
from sensor.core.calls import BodyFlag, RawBodies
from sensor.describe.bodies import graphql
from sensor.describe.bodies.graphql import MAX_NUMBER, QueryMeasure, measure_body, measure_query_string
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.sensitive.kinds import PLACE_SHIFT, CallFact, DataPlace, decode_number, encode_number

JSON = "application/json"


def measure(document: str) -> QueryMeasure:
    found = measure_body(json.dumps({"query": document, "variables": {"query": "x", "a": {"b": {}}}}).encode(), JSON)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("document", "depth"),
    [
        ("{ me }", 1),
        ("query Q { a { b { c } } }", 3),
        ("query Q($a: [In!]! = [{x: {y: 1}}]) { a(in: {x: {y: {z: 1}}}) { b } }", 2),
        ('{ a(text: "}{{{") { b } # { c {\n }', 2),
        ('{ a(text: """ " }{ { """) { b } }', 2),
        ("{ a { ... on T { b { c } } ... { d } ... @include(if: $x) { e { f } } } }", 3),
        ("{ a { ...F } } fragment F on T { b { ...G } } fragment G on T { c { d } }", 4),
        ("fragment F on T { b { c } } query { a { ...F } x }", 3),
        ("mutation M { a { b } } query Q { c { d { e } } }", 3),
        ("{ a { ...F } } fragment F on T { b { ...F } }", MAX_NUMBER),
        ("{ a { ...F } } fragment F on T { b { ...G } } fragment G on T { c { ...F } }", MAX_NUMBER),
        ("{" + "a {" * 60 + "b" + "}" * 61, 61),
        ("{ a { b { c", 3),
    ],
)
def test_levels_are_those_of_fields_past_arguments_and_fragments(document: str, depth: int) -> None:
    assert measure(document).depth == depth


@pytest.mark.parametrize(
    ("document", "repeats"),
    [
        ("{ a b c }", 1),
        ("{ " + " ".join(f"x{n}: login(password: {n}) {{ token }}" for n in range(50)) + " }", 50),
        ("mutation { " + " ".join(f"a{n}:login" for n in range(30)) + " }", 30),
        ("{ " + "name " * 40 + "}", 40),
        ("{ name name: other other: third }", 1),
        ("{ a " + "@skip(if: false) " * 25 + "}", 25),
        ("{ a { ...F ...F ...F } } fragment F on T { b }", 3),
        ("{ first: user { name } second: user { name } third: user { name } }", 3),
        ("{ nodes { name } items { name } pages { name } }", 1),
        ("{ a: f b: f c: f", 3),
    ],
)
def test_repeats_are_of_one_field_in_one_place(document: str, repeats: int) -> None:
    assert measure(document).repeats == repeats


def test_requests_of_a_batch_are_counted_with_persisted_ones() -> None:
    assert measure_body(json.dumps([{"query": "{ a }"}] * 40).encode(), JSON) == QueryMeasure(1, 1, 40, False)
    persisted = [{"operationName": "A", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}] * 12
    assert measure_body(json.dumps(persisted).encode(), JSON) == QueryMeasure(0, 0, 12, False)
    assert measure_body(json.dumps(persisted[0]).encode(), JSON) == QueryMeasure(0, 0, 1, False)


def test_other_ways_to_send_a_request_are_read() -> None:
    assert measure_query_string("query=%7Ba%7Bb%7D%7D&variables=%7B%7D") == QueryMeasure(2, 1, 1, False)
    assert measure_body(b"{ a { b } }", "application/graphql") == QueryMeasure(2, 1, 1, False)
    assert measure_body(b"query=%7B__schema%7Btypes%7Bname%7D%7D%7D", "application/x-www-form-urlencoded") == (
        QueryMeasure(3, 1, 1, True)
    )


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"\xff[", b'{"query": "red shoes"}', b'{"query": {"match": {"a": 1}}}', b'{"query": "a { b"}',
        b'{"query": "SELECT 1"}', b'[{"jsonrpc": "2.0", "method": "a"}]', b'{"q": "{a{b}}"}',
    ],
)  # fmt: skip
def test_what_is_no_graphql_is_not_measured(body: bytes) -> None:
    assert measure_body(body, JSON) is None


def test_what_asks_for_the_schema_is_introspection_and_the_type_name_is_not() -> None:
    assert measure("query IntrospectionQuery { __schema { types { name } } }").is_introspection
    assert measure('{ user { name } me: __type(name: "User") { name } }').is_introspection
    assert not measure("{ me { __typename id } }").is_introspection
    assert not measure('{ search(text: "__schema") { id } }').is_introspection


def test_ordinary_requests_report_nothing() -> None:
    assert measure("{ me { friends(first: 5) { edges { node { id name } } } } }").list_codes() == set()


def test_steps_are_the_same_on_both_sides_and_never_too_large() -> None:
    for number in [*range(1, 3_000), MAX_NUMBER]:
        step = encode_number(number)
        assert 0 < step < 64 and decode_number(step) == collected.decode_number(step)
        assert number / 1.25 < collected.decode_number(step) <= number or step == 63


@given(st.text(alphabet='{}():@."# \n\\query fragmenton_a', max_size=400), st.integers(0, 400))
def test_any_text_is_measured_without_an_error(text: str, cut: int) -> None:
    body = json.dumps({"query": "{" + text}).encode()
    measure_body(body[:cut], JSON)
    found = measure_body(body, JSON)
    assert found is not None and 0 <= found.depth <= MAX_NUMBER and found.repeats >= 0


def test_a_request_is_measured_up_to_a_bound() -> None:
    whole = json.dumps({"query": "{ " + "a { " * 20_000}).encode()
    assert measure_body(whole, JSON) == measure_body(whole[: graphql.MAX_CHARACTERS], JSON)
    batch = json.dumps([{"query": "{a}"}] * 10_000).encode()
    assert measure_body(batch, JSON) == measure_body(batch[: graphql.MAX_CHARACTERS], JSON)


def read(document: str, *, response: bytes = b"{}", reader: BodyReader | None = None) -> set[int]:
    body = json.dumps({"query": document}).encode()
    head = b"POST /graphql HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(response)
    call = BodyCall(
        1, 200, head, answer, len(head) + len(body), len(answer) + len(response), 10**9, RawBodies(body, response)
    )
    facts = (reader or BodyReader(SampleRule())).read(call)
    assert facts is not None
    codes = {code for code in facts.data if code >> PLACE_SHIFT >= DataPlace.CALL}
    assert bool(codes) == bool(facts.flags & BodyFlag.NOTED)
    return codes


def test_an_answer_with_the_schema_is_a_fact_of_its_own() -> None:
    asked, served = (
        DataPlace.CALL << PLACE_SHIFT | fact for fact in (CallFact.INTROSPECTION, CallFact.INTROSPECTION_SERVED)
    )
    query = "{ __schema { types { name } } }"
    assert read(query, response=b'{"data":{"__schema":{"types":[]}}}') == {asked, served}
    assert read(query, response=b'{"errors":[{"message":"GraphQL introspection is not allowed: __schema"}]}') == {asked}
    assert read(query, response=b'{"data":{"__schema":null}}') == {asked}


def test_a_request_is_measured_between_two_samples_too() -> None:
    reader = BodyReader(SampleRule(first_count=1))
    assert read("{ a }", reader=reader) == set()
    deep = "{" + "a {" * 40 + "b" + "}" * 41
    assert read(deep, reader=reader) == {DataPlace.QUERY_DEPTH << PLACE_SHIFT | encode_number(41)}

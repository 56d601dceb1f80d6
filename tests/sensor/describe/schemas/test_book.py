"""What leaves the node of heads and documents: types, shares, names that may be told, and no value."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import Origin
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import REPEAT_NS, Schema, SchemaBook, SchemaPart
from sensor.describe.schemas.operations import Operation, find_in_document, find_in_head, find_told
from sensor.describe.schemas.tree import MAX_FIELDS, Tree, judge_name, name_type
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.routes.shared_use import MAX_SIBLINGS, MIN_SPAN_NS, Telling
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.kinds import Text
from tests.sensor.records import make_origin

VOCABULARY = load_vocabulary()
ALL = SampleRule(first_count=1 << 30)
HOUR = MIN_SPAN_NS // 10**9
ONE_ADDRESS = [make_origin(1, token) for token in range(101, 106)]
PRIVATE_NAMES = ("kowalczyk", "kowalczykField", "chlamydia", "methotrexate", "zoroastrian", "zorblatt", "timbuktuville")


def _book() -> SchemaBook:
    return SchemaBook(VOCABULARY, ALL)


def _document(tree: object, media_type: str = "application/json", *, is_complete: bool = True) -> BodyDocument:
    return BodyDocument(media_type, media_type.encode(), tree, is_complete)


def _call(status: int = 200, consumer: int = 1, *, seconds: int = 1, authentication: int = 0) -> BodyCall:
    return _call_of(make_origin(consumer), status, seconds=seconds, authentication=authentication)


def _call_of(origin: Origin, status: int = 200, *, seconds: int = 1, authentication: int = 0) -> BodyCall:
    return BodyCall(7, status, b"", b"", 0, 0, seconds * 10**9, None, None, 0, origin, authentication)


def _learn(book: SchemaBook, told: object, *, consumers: Iterable[int] = (1,), status: int = 200) -> None:
    """Each of the consumers has the same answer twice, an hour apart."""
    for seconds in (1, 1 + HOUR):
        for consumer in consumers:
            book.learn_bodies(_call(status, consumer, seconds=seconds), None, _document(told), ())


def _take(book: SchemaBook) -> list[Schema]:
    return [schema for message in book.take(1) for schema in message]


def _fields(schema: Schema) -> dict[str, tuple[int, int, dict[str, int]]]:
    return {one.path: (one.present, one.objects, dict(one.types)) for one in schema.fields}


def test_types_and_shares_of_a_body() -> None:
    book = _book()
    document = _document({"items": [{"id": 1, "email": "a@example.org"}, {"id": 2}], "total": 2.5})
    book.learn_bodies(_call(), None, document, ())
    (schema,) = _take(book)
    assert (schema.part, schema.status_class, schema.samples) == (SchemaPart.RESPONSE_BODY, 2, 1)
    assert _fields(schema) == {
        "": (0, 1, {"object": 1}),
        "/items": (1, 0, {"array": 1}),
        "/items/[]": (0, 2, {"object": 2}),
        "/items/[]/email": (1, 0, {"string/email": 1}),
        "/items/[]/id": (2, 0, {"integer/int32": 2}),
        "/total": (1, 0, {"number": 1}),
    }


def test_of_a_cut_object_no_share_is_learned() -> None:
    tree = Tree(VOCABULARY)
    tree.learn([{"id": 1, "name": "x"}, {"id": 2}], make_origin(), 1, is_cut=True)
    fields = {one.path: one for one in tree.list_fields()}
    assert (fields["/[]"].objects, fields["/[]/id"].present, fields["/[]/name"].present) == (1, 1, 1)
    assert dict(fields["/[]/id"].types) == {"integer/int32": 2}


def test_keys_that_are_values_are_told_by_their_pattern() -> None:
    book = _book()
    keys = ("9f1c2d3e-0000-4000-8000-123456789abc", "4711", "alice", "deadbeefdeadbeef", "bob@example.org", "a1b2c3d4")
    _learn(book, {"accounts": {key: {"balance": 1} for key in keys}}, consumers=range(1, 9))
    (schema,) = _take(book)
    paths = {one.path for one in schema.fields}
    told = json.dumps(sorted(paths))
    assert not any(key in told for key in keys)
    assert {"/accounts/{uuid}", "/accounts/{integer}", "/accounts/{word}/balance"} <= paths


def test_an_unknown_name_leaves_once_callers_share_it() -> None:
    book = _book()
    assert judge_name("zorblattField", VOCABULARY)[0] is Telling.SHARED
    _learn(book, {"zorblattField": 1}, consumers=(1, 2))
    assert "/{word}" in _fields(_take(book)[0])
    book.learn_bodies(_call(200, 3, seconds=HOUR), None, _document({"zorblattField": 1}), ())
    assert "/{word}" in _fields(_take(book)[0])
    book.learn_bodies(_call(200, 3, seconds=HOUR + 1), None, _document({"zorblattField": 1}), ())
    assert _fields(_take(book)[0])["/zorblattField"] == (6, 0, {"integer/int32": 6})


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_one_address_with_five_tokens_makes_no_name_of_a_field_leave(name: str) -> None:
    book = _book()
    for day in range(30):
        for origin in ONE_ADDRESS:
            call = _call_of(origin, seconds=1 + day * 24 * HOUR)
            book.learn_bodies(call, _document({name: 1}), _document({name: 1}), ())
            head = _head(f"/a?{name}=1", f"X-{name}: 1", f"Cookie: {name}=1")
            book.learn_head(7, 200, head, origin, call.time_ns)
    parts = _take(book)
    assert len(parts) == 5
    assert all(name.lower() not in field.path.lower() for part in parts for field in part.fields)


def test_names_that_few_documents_have_are_keys_of_a_map() -> None:
    letters = "bcdfghjklmnpqr"
    names = [f"zor{letter}ula" for letter in letters]
    book = _book()
    for name in names:
        _learn(book, {"places": {name: 1}, "users": {"zorblatt": 1}}, consumers=(1, 2, 3))
    assert {path for path in _fields(_take(book)[0]) if path.count("/") == 2} == {"/places/{word}", "/users/{word}"}
    book = _book()
    _learn(book, {"places": dict.fromkeys(names, 1)}, consumers=(1, 2, 3))  # Each document has them: a record.
    assert len(names) > MAX_SIBLINGS
    assert {f"/places/{name}" for name in names} <= _fields(_take(book)[0]).keys()


def test_a_closed_set_needs_api_words_often_and_of_several_consumers() -> None:
    def values(status: list[Any], consumers: Iterable[int]) -> tuple[tuple[str, ...], bool]:
        book = _book()
        for consumer in consumers:
            for value in status:
                _learn(book, {"status": value}, consumers=(consumer,))
        field = next(one for one in _take(book)[0].fields if one.path == "/status")
        return field.values, field.is_open

    assert values(["active", "pending"] * 5, (1, 2, 3)) == (("active", "pending"), False)
    assert values(["active", "pending"] * 8, (1, 2)) == ((), False)
    assert values(["active"], (1, 2, 3)) == ((), False)
    assert values(["active", "alice", "active"] * 5, (1, 2, 3)) == ((), True)


def test_a_sensitive_field_has_no_set() -> None:
    book = _book()
    for consumer in range(30):
        _learn(book, {"password": "secret"}, consumers=(consumer,))
    field = next(one for one in _take(book)[0].fields if one.path == "/password")
    assert (field.values, field.is_open) == ((), True)


def _head(target: str, *lines: str) -> RequestHead:
    text = "\r\n".join([f"GET {target} HTTP/1.1", "Host: a.example", *lines, "", ""])
    head = parse_request_head(text.encode(), False)
    assert isinstance(head, RequestHead)
    return head


def test_parameters_of_heads() -> None:
    book = _book()
    book.learn_head(
        7,
        200,
        _head("/a?page=2&active=true", "X-Tenant-Id: 17", "Cookie: session_id=abc; theme=dark"),
        make_origin(),
        1,
    )
    book.learn_head(7, 200, _head("/a?page=3"), make_origin(), 1)
    book.learn_head(7, 404, _head("/a?probe=1"), make_origin(), 1)
    parts = {schema.part: _fields(schema) for schema in _take(book)}
    assert parts[SchemaPart.QUERY]["/page"] == (2, 0, {"integer/int32": 2})
    assert parts[SchemaPart.QUERY]["/active"] == (1, 0, {"boolean": 1})
    assert parts[SchemaPart.QUERY][""][1] == 2
    assert parts[SchemaPart.HEADER]["/x-tenant-id"] == (1, 0, {"integer/int32": 1})
    assert set(parts[SchemaPart.COOKIE]) == {"", "/session_id", "/theme"}
    assert "/probe" not in parts[SchemaPart.QUERY]


def test_operations() -> None:
    def names(document: object) -> list[tuple[str, str, str]]:
        return [(one.protocol, one.kind, one.name) for one in find_in_document(document)]

    assert names({"query": "query ListOrders { orders { id } }"}) == [("graphql", "query", "ListOrders")]
    assert names({"query": "{ me: viewer { id } }"}) == [("graphql", "query", "viewer")]
    two = "query A { a } mutation PayOrder($id: ID!) { pay(id: $id) { id } }"
    assert names({"query": two, "operationName": "PayOrder"}) == [("graphql", "mutation", "PayOrder")]
    persisted = {"operationName": "ListOrders", "extensions": {"persistedQuery": {"version": 1}}}
    assert names(persisted) == [("graphql", "query", "ListOrders")]
    batch = [{"jsonrpc": "2.0", "method": "listAccounts", "id": 1}, {"jsonrpc": "2.0", "method": "getBalance", "id": 2}]
    assert [name for *_, name in names(batch)] == ["listAccounts", "getBalance"]
    tool = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search_orders", "arguments": {}}}
    assert names(tool) == [("mcp", "tool", "search_orders")]
    assert names({"method": "card", "amount": 3}) == []
    assert names({"query": "shoes"}) == []
    nameless = ({"query": "query ){5id}}"}, {"jsonrpc": "2.0", "method": ""}, {"query": "{" + "#" * 5_000 + "\n id }"})
    assert [names(document) for document in nameless] == [[], [], []]
    assert names(tool | {"params": {"name": ""}}) == [("mcp", "tool", "tools/call")]
    assert find_in_head("", b'"http://shop.example/GetOrder"')[0].name == "GetOrder"
    assert find_in_head("query=%7B%20orders%20%7D", b"")[0].name == "orders"


def test_an_action_in_a_header_a_query_or_a_form_is_an_operation() -> None:
    action = [Operation("action", "action", "GetItem")]
    assert find_in_head("", b"", b"DynamoDB_20120810.GetItem") == action
    assert find_in_head("Version=2010-05-08&Action=GetItem", b"") == action
    assert find_in_document({"Action": "GetItem", "Version": "2010-05-08"}) == action
    for query in ("action=save", "Action=7", "Action=x9f3k2q7z1", "Actions=GetItem"):
        assert find_in_head(query, b"") == [], query
    book = _book()
    book.learn_head(7, 200, _head("/", "X-Amz-Target: Tables_20260101.PutItem"), make_origin(), 1)
    (counted,) = [schema.operations for schema in _take(book) if schema.part is SchemaPart.OPERATIONS]
    assert [(one.protocol, one.kind, one.name, one.calls) for one in counted] == [("action", "action", "PutItem", 1)]
    book.learn_bodies(_call(), _document({"Key": {"id": 7}}), None, ())  # The body of such a call is no other sample.
    assert [one for one in _take(book) if one.part is SchemaPart.OPERATIONS] == []


def test_operations_are_counted_with_errors_and_names_that_are_values_hidden() -> None:
    book = _book()
    answer = _document({"errors": [{"message": "no"}]})
    book.learn_bodies(_call(), _document({"query": "mutation PayOrder { pay }"}), answer, ())
    book.learn_bodies(_call(), _document({"query": "query x9f3k2q7z1 { a }"}), None, ())
    (counted,) = [schema.operations for schema in _take(book) if schema.part is SchemaPart.OPERATIONS]
    assert [(one.kind, one.name, one.calls, one.errors) for one in counted] == [
        ("mutation", "PayOrder", 1, 1),
        ("query", "{word}", 1, 0),
    ]


def test_an_operation_of_unknown_words_leaves_once_callers_share_it() -> None:
    """A client names its operations of GraphQL and its tools as it likes."""
    asked = (
        {"query": "query GetKowalczyk { a }", "variables": {"order_id": 7}},
        {"jsonrpc": "2.0", "method": "getKowalczyk", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "kowalczyk_notes"}},
    )

    def name_operations(origins: Iterable[Origin], *days: float) -> set[tuple[str, str]]:
        book = _book()
        for day in days:
            for origin in origins:
                for document in asked:
                    call = _call_of(origin, seconds=1 + int(day * 24 * HOUR))
                    book.learn_bodies(call, _document(document), None, ())
        parts = _take(book)
        (counted,) = [part.operations for part in parts if part.part is SchemaPart.OPERATIONS]
        assert sum(one.calls for one in counted) == len(days) * len(list(origins)) * len(asked)
        names = {f"{one.protocol} {one.kind} {one.name}" for one in counted}
        assert {part.operation for part in parts if part.operation} <= names  # And none that is hidden.
        return {(one.protocol, one.name) for one in counted}

    hidden = {("graphql", "{word}"), ("json_rpc", "{word}"), ("mcp", "{word}")}
    assert name_operations(ONE_ADDRESS, *range(30)) == hidden
    assert name_operations([make_origin(number) for number in (1, 2, 3)], 0) == hidden
    shown = {("graphql", "GetKowalczyk"), ("json_rpc", "getKowalczyk"), ("mcp", "kowalczyk_notes")}
    assert name_operations([make_origin(number) for number in (1, 2, 3)], 0, 0.5, 1) == shown


def test_an_operation_has_facts_and_a_schema_of_its_own() -> None:
    book = _book()
    pay = {"query": "mutation PayOrder { pay }", "variables": {"order_id": 7}}
    for consumer in (1, 2, 2):
        call = _call(200, consumer, seconds=50 + consumer, authentication=1 << 3)
        book.learn_bodies(call, _document(pay), _document({"data": {"state": "paid"}}), (65, 129))
    book.learn_bodies(_call(200), _document({"query": "{ orders { id } }", "variables": {}}), None, ())
    # Refused: of an operation that is known a call, of others nothing.
    book.learn_bodies(_call(403, 3, seconds=60), _document(pay), None, ())
    book.learn_bodies(_call(403, 3), _document({"query": "mutation DropTable { a }"}), None, ())
    told = _take(book)
    (counted,) = [schema for schema in told if schema.part is SchemaPart.OPERATIONS]
    paid, listed = counted.operations
    assert (paid.name, paid.calls, paid.errors, paid.served, paid.refused, paid.failed) == ("PayOrder", 4, 1, 3, 1, 0)
    assert (paid.authentication, paid.data) == (((8, 3),), ((65, 3), (129, 3)))
    assert (paid.requests_read, paid.responses_read, paid.consumers) == (4, 3, 3)
    assert (paid.first_seen, paid.last_seen) == (51, 60)
    assert (listed.name, listed.calls, counted.samples) == ("orders", 1, 6)
    own = {(schema.part, schema.operation): _fields(schema) for schema in told if schema.operation}
    assert own[SchemaPart.REQUEST_BODY, "graphql mutation PayOrder"]["/order_id"] == (3, 0, {"integer/int32": 3})
    assert "/state" in own[SchemaPart.RESPONSE_BODY, "graphql mutation PayOrder"]
    # The whole part is told as before.
    (whole,) = [one for one in told if one.part is SchemaPart.REQUEST_BODY and not one.operation]
    assert {"/query", "/variables", "/variables/order_id"} <= _fields(whole).keys()


def test_what_is_an_operations_own() -> None:
    tool = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"limit": 3}}}
    assert find_told(tool, "mcp", "tool") == {"limit": 3}
    assert find_told({"jsonrpc": "2.0", "method": "a", "params": [1]}, "json_rpc", "method") == [1]
    assert find_told({"jsonrpc": "2.0", "id": 1, "result": {"a": 1}}, "json_rpc", "method") == {"a": 1}
    assert find_told({"errors": [], "data": None}, "graphql", "query") is None
    assert find_told([tool], "mcp", "tool") is None


def test_only_what_changed_is_told_again_and_all_on_a_new_stream() -> None:
    book = _book()
    _learn(book, {"id": 1})
    first = _take(book)
    assert _take(book) == []
    book.offer_all()
    (again,) = _take(book)
    assert again.version > first[0].version
    assert (again.generation, again.fields) == (first[0].generation, first[0].fields)


def test_what_is_offered_is_reported_where_it_is_asked_for() -> None:
    book = _book()
    _learn(book, {"id": 1})
    (first,) = _take(book)
    assert list(book.offer()) == [first.digest] and _take(book) == []
    assert [one for message in book.take(2 * REPEAT_NS) for one in message] == []  # The next offer says it again.
    book.ask([first.digest, 5])
    (again,) = _take(book)
    assert again.fields == first.fields and again.digest != first.digest
    # What changes after an offer needs none.
    _learn(book, {"id": 2})
    assert [one.generation for one in _take(book)] == [first.generation]


def test_what_changed_before_a_stream_waits_until_it_is_asked_for() -> None:
    book = _book()
    _learn(book, {"id": 1})
    (digest,) = book.offer()
    _learn(book, {"id": 2})
    assert _take(book) == []
    book.ask([digest])
    (state,) = _take(book)
    assert state.samples == 4
    book.offer()
    book.offer_all()  # An older collector.
    assert len(_take(book)) == 1


def test_the_book_is_bounded() -> None:
    tree = Tree(VOCABULARY)
    names = ["order", "item", "price", "user", "status", "name", "city", "page", "total", "count", "email", "phone"]
    for first in names:
        tree.learn({first: {f"{second}_{third}": 1 for second in names for third in names}}, make_origin(), 1)
    assert tree.nodes <= MAX_FIELDS
    assert tree.left_out


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(documents=st.lists(JSON, max_size=6), order=st.randoms(use_true_random=False))
def test_no_order_of_documents_changes_what_is_told(documents: list[object], order: Any) -> None:
    told = []
    for _ in range(2):
        tree = Tree(VOCABULARY)
        for document in documents:
            tree.learn(document, make_origin(), 1)
        told.append(tree.list_fields())
        order.shuffle(documents)
    assert told[0] == told[1]


@given(text=st.text(max_size=40))
def test_untyped_text_never_raises(text: str) -> None:
    assert name_type(Text(text))


def test_formats() -> None:
    cases = {
        "2026-11-25T10:00:00Z": "string/date-time",
        "2026-11-25": "string/date",
        "9f1c2d3e-0000-4000-8000-123456789abc": "string/uuid",
        "https://a.example/b": "string/uri",
        "10.0.0.1": "string/ipv4",
        "fe80::1": "string/ipv6",
        "P3DT4H": "string/duration",
        "": "string",
    }
    assert {text: name_type(text) for text in cases} == cases
    assert name_type(Text("17")) == "integer/int32"
    assert name_type(Text("007")) == "string"
    assert name_type(1 << 40) == "integer/int64"

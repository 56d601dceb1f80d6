"""Streams of messages are read as documents: events, lines, sequences, calls of MCP, and texts of language models."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import BodyFlag, RawBodies
from sensor.describe.bodies.decoding import Payload
from sensor.describe.bodies.documents import Document, read_document
from sensor.describe.bodies.reader import BodyCall, BodyDocument, BodyReader, list_calls
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.bodies.streams import find_calls_of_stream, split_events
from sensor.sensitive.document import find_sensitive
from sensor.sensitive.kinds import DataPlace, list_kinds
from tests.sensor.describe.bodies.messages import chunk

PERSON = {"id": 7, "name": "Anna Meier", "email": "anna@example.org", "phone": "+49 30 5550 1234"}
KINDS = {"PERSON_NAME", "EMAIL", "PHONE"}
CARD = "4111 1111 1111 1111"


def write_events(messages: Iterable[object], *, line_end: str = "\n") -> bytes:
    lines = [f"event: message{line_end}data: {json.dumps(one)}{line_end}{line_end}" for one in messages]
    return "".join(lines).encode()


def write_chunks(text: str, size: int) -> list[dict[str, object]]:
    """A text as a language model streams it."""
    pieces: list[object] = [{"role": "assistant", "content": ""}]
    pieces += [{"content": text[start : start + size]} for start in range(0, len(text), size)]
    return [
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "delta": piece, "finish_reason": None}],
        }
        for piece in pieces
    ]


def read(data: bytes, media_type: str = "text/event-stream", *, is_complete: bool = True) -> Document:
    document = read_document(data, media_type, is_complete=is_complete)
    assert document is not None
    return document


def find_kinds(document: Document) -> set[str]:
    return {finding.kind.value for finding in find_sensitive(document.values, max_values=8)}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_each_event_of_a_stream_is_a_record(line_end: str) -> None:
    document = read(write_events([PERSON] * 5, line_end=line_end))
    assert (document.records, document.is_list, find_kinds(document)) == (5, True, KINDS)


def test_an_event_that_is_cut_is_not_read() -> None:
    data = write_events([{"n": 1}, {"n": 2}, PERSON])
    document = read(data[:-4], is_complete=False)
    assert (document.records, find_kinds(document)) == (2, set())
    assert read(data[:-2]).records == 3  # The end of the stream ends its last event.


def test_data_of_several_lines_is_one_document() -> None:
    lines = b"".join(b"data: " + line + b"\n" for line in json.dumps(PERSON, indent=1).encode().split(b"\n"))
    document = read(b": a comment\nretry: 10\n" + lines + b"\n")
    assert (document.records, document.tree, find_kinds(document)) == (1, PERSON, KINDS)


def test_events_of_text_are_read_as_text() -> None:
    document = read(b"data: Name: Anna Meier\n\ndata: Email: anna@example.org\n\n")
    assert (document.records, find_kinds(document)) == (None, {"PERSON_NAME", "EMAIL"})


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("application/x-ndjson", b'{"n": 1}\r\n\n' + json.dumps(PERSON).encode() + b"\n"),
        ("application/jsonl", b'{"n": 1}\n' + json.dumps(PERSON).encode()),
        ("application/stream+json", b'{"n": 1}\n' + json.dumps(PERSON).encode()),
        ("application/json", b'{"n": 1}\n' + json.dumps(PERSON).encode() + b"\n"),
        ("application/json-seq", b'\x1e{"n": 1}\n\x1e' + json.dumps(PERSON, indent=1).encode() + b"\n"),
        ("application/geo+json-seq", b'\x1e{"n": 1}\n\x1e' + json.dumps(PERSON).encode() + b"\n"),
        (
            "application/connect+json",
            b"".join(
                bytes([flag]) + len(one).to_bytes(4, "big") + one
                for flag, one in ((0, b'{"n": 1}'), (0, json.dumps(PERSON).encode()), (2, b"{}"))
            ),
        ),
    ],
)
def test_messages_of_other_streams_are_records(media_type: str, data: bytes) -> None:
    document = read(data, media_type)
    assert (document.records, document.is_list, find_kinds(document)) == (2, True, KINDS)


def test_one_broken_line_does_not_hide_the_others() -> None:
    assert find_kinds(read(b"oops\n" + json.dumps(PERSON).encode() + b"\n", "application/x-ndjson")) == KINDS


def test_a_tool_of_mcp_answers_with_records() -> None:
    text = json.dumps([PERSON] * 3)
    answer = {"jsonrpc": "2.0", "id": 4, "result": {"content": [{"type": "text", "text": text}], "isError": False}}
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
    for messages in ([answer], [progress, answer]):
        document = read(write_events(messages))
        assert (document.records, find_kinds(document)) == (3, KINDS)
        assert document.tree == answer
    structured = {"jsonrpc": "2.0", "id": 4, "result": {"content": [], "structuredContent": {"result": [PERSON] * 3}}}
    assert read(write_events([structured])).records == 3


@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_what_a_model_says_is_put_together(size: int) -> None:
    document = read(write_events(write_chunks(f"Sure.\nName: Anna Meier\nThe card is {CARD}, as asked.", size)))
    assert find_kinds(document) == {"PERSON_NAME", "CREDIT_CARD"}
    assert (document.records, document.is_list) == (1, False)


@pytest.mark.parametrize("is_complete", [True, False])
def test_arguments_of_a_tool_call_are_put_together(is_complete: bool) -> None:
    text = json.dumps({"customer": PERSON, "note": "x" * 40})
    chunks = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": text[i : i + 4]}}]}}]}
        for i in range(0, len(text), 4)
    ]
    data = write_events(chunks)
    assert find_kinds(read(data if is_complete else data[:-300], is_complete=is_complete)) == KINDS


@pytest.mark.parametrize(
    "wrap",
    [
        lambda piece: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}},
        lambda piece: {"model": "m", "message": {"role": "assistant", "content": piece}, "done": False},
        lambda piece: {"candidates": [{"content": {"parts": [{"text": piece}]}, "index": 0}]},
        lambda piece: {"type": "response.output_text.delta", "delta": piece, "sequence_number": len(piece)},
    ],
)
def test_pieces_are_known_by_their_look(wrap: object) -> None:
    assert callable(wrap)
    text = f"The card of the customer is {CARD} and nothing else."
    assert find_kinds(read(write_events([wrap(text[i : i + 6]) for i in range(0, len(text), 6)]))) == {"CREDIT_CARD"}


def test_two_choices_are_not_mixed() -> None:
    halves = CARD[:9], CARD[9:]
    chunks = [
        {"choices": [{"index": index, "delta": {"content": piece}}]}
        for pieces in zip(("Number", " is ", *halves), ("and", " so", " on", " 12"), strict=True)
        for index, piece in enumerate(pieces)
    ]
    assert find_kinds(read(write_events(chunks))) == {"CREDIT_CARD"}


@pytest.mark.parametrize(
    "record",
    [
        {"digits": "41111111"},
        {"level": "info", "message": "The request was served from the cache"},
        {"user": "u-17", "text": "I shall be there at nine, and bring the others with me."},
        {"symbol": "ABC", "value": "17.25"},
    ],
)
def test_records_are_no_pieces(record: dict[str, object]) -> None:
    rows = [{"id": i, **{name: f"{value}{i % 7}" for name, value in record.items()}} for i in range(12)]
    document = read(write_events(rows))
    assert (document.records, document.is_list, find_kinds(document)) == (12, True, set())


def make_call(head: bytes, raw: bytes, **fields: object) -> BodyCall:
    request = b"GET /feed HTTP/1.1\r\nHost: shop\r\n\r\n"
    return BodyCall(1, 200, request, head, len(request), len(head) + 10 * len(raw), 1, RawBodies(b"", raw), **fields)  # type: ignore[arg-type]


def test_a_stream_over_http_1_and_2_is_read_where_the_sample_ends() -> None:
    data = write_events([PERSON] * 40)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = Payload(data[:-30], False, b"text/event-stream", b"")
    for call in (
        make_call(head, chunk(data)[:-60]),
        make_call(b"", b"", payloads=(Payload(b"", True, b"", b""), whole), head_bytes=90),
    ):
        facts = BodyReader(SampleRule()).read(call)
        assert facts is not None
        assert facts.flags & BodyFlag.RESPONSE_READ
        assert {kind.value for kind in list_kinds(facts.data, DataPlace.RESPONSE_BODY)} == KINDS
        assert facts.records >= 38


class Beginnings:
    """Takes what streams begin with."""

    def __init__(self) -> None:
        self.trees: list[object] = []

    def learn_bodies(self, *_: object) -> None:
        raise AssertionError("the call goes on")

    def learn_beginning(self, call: BodyCall, response: BodyDocument) -> None:
        self.trees.append(response.tree)

    def has_operations(self, route_id: int) -> bool:
        return False


def test_the_beginning_of_a_stream_has_its_whole_messages() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = chunk(write_events([{"jsonrpc": "2.0", "id": 1, "result": {"a": 1}}]) + b'data: {"jsonrpc": "2.')
    beginnings = Beginnings()
    reader = BodyReader(SampleRule(), beginnings)
    reader.read_beginning(make_call(head, raw.removesuffix(b"0\r\n\r\n")))
    reader.read_beginning(make_call(head.replace(b"text/event-stream", b"application/json"), raw))
    assert beginnings.trees == [{"jsonrpc": "2.0", "id": 1, "result": {"a": 1}}]
    assert reader.read_count == 0


def test_beginnings_of_streams_are_read_in_samples() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    raw = write_events([{"jsonrpc": "2.0", "id": 1, "result": {}}])
    beginnings = Beginnings()
    reader = BodyReader(SampleRule(first_count=2), beginnings)
    for _ in range(5):
        reader.read_beginning(make_call(head, raw))
    assert (len(beginnings.trees), reader.beginning_count) == (2, 2)


def test_of_the_beginning_of_a_stream_without_calls_nothing_is_learned() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    beginnings = Beginnings()
    BodyReader(SampleRule(), beginnings).read_beginning(make_call(head, write_events([PERSON])))
    assert beginnings.trees == []


@pytest.mark.parametrize("filler", [b"data: {}\n\n", b"data: x\n\n", b'data: {"jsonrpc": "2.0", "method": "ping"}\n\n'])
def test_no_call_of_json_rpc_hides_among_other_messages(filler: bytes) -> None:
    answers = [{"jsonrpc": "2.0", "id": number, "result": {"n": number}} for number in range(20)]
    hidden = json.dumps({"jsonrpc": "2.0", "id": 20, "result": {}, "more": 1}).encode()
    data = filler * 9_000 + write_events(answers) + b"data: " + hidden.replace(b"json", b"\\u006ason") + b"\n\n"
    found = [one for one in find_calls_of_stream(split_events(data, is_complete=True))[0] if "result" in one]
    assert [one["id"] for one in found] == list(range(21))


def test_calls_of_json_rpc_are_kept_as_they_are() -> None:
    rows = [["name", "n"]] + [["a", number] for number in range(20)]
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"rows": rows}}
    for data, media_type in ((write_events([answer]), "text/event-stream"), (json.dumps(answer).encode(), "text/json")):
        document = read(data, media_type)
        assert document.tree != answer  # Its rows have the names of columns.
        seen = BodyDocument(media_type, b"", document.tree, True, document.calls, document.messages)
        assert list_calls(seen) == ([answer], None, False)


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/json"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_of_a_call_that_is_cut_what_came_is_known(media_type: str, line_end: str) -> None:
    answer = {"result": {"tools": [{"name": f"tool{number}"} for number in range(9)]}, "jsonrpc": "2.0", "id": 1}
    notice = {"jsonrpc": "2.0", "method": "notifications/message"}
    is_stream = media_type == "text/event-stream"
    data = write_events([notice, answer], line_end=line_end) if is_stream else json.dumps(answer).encode()
    for cut in (60, len(json.dumps(answer)) - 60):
        document = read(data[:-cut], media_type, is_complete=False)
        seen = BodyDocument(media_type, b"", document.tree, False, document.calls, document.messages, document.cut)
        whole, last, _ = list_calls(seen)
        assert whole == ([notice] if is_stream else [])
        assert last is not None
        assert "id" not in last
        assert last["result"]["tools"][:1] == answer["result"]["tools"][:1]  # type: ignore[index]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_stream_of_mcp_says_where_to_write(line_end: str) -> None:
    calls = write_events([{"jsonrpc": "2.0", "id": 1, "result": {}}], line_end=line_end)
    said = f"event: endpoint{line_end}data: /messages?id=1{line_end}{line_end}".encode()
    assert read(said + calls).has_endpoint_event
    assert not read(calls).has_endpoint_event
    assert not read(
        write_events([{"jsonrpc": "2.0", "id": 1, "result": {"text": "event: endpoint"}}])
    ).has_endpoint_event


@given(st.binary(max_size=300), st.booleans())
def test_no_stream_breaks_its_reader(data: bytes, is_complete: bool) -> None:
    for media_type in ("text/event-stream", "application/json-seq", "application/connect+json"):
        try:
            read_document(b"data: " + data, media_type, is_complete=is_complete)
        except ValueError:
            continue

"""Which requests are remote procedure calls, and their messages in any cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.http.grpc import (
    EnvelopeCounter,
    RpcProtocol,
    StreamingKind,
    infer_streaming,
    name_grpc,
    read_status,
    recognise_rpc,
)
from sensor.http.http1.head import RequestHead, parse_request_head


def make_head(target: str, content_type: str = "", *lines: str) -> RequestHead:
    fields = "".join(f"{line}\r\n" for line in ("Host: h", f"Content-Type: {content_type}", *lines))
    head = parse_request_head(f"POST {target} HTTP/1.1\r\n{fields}\r\n".encode(), False)
    assert isinstance(head, RequestHead)
    return head


CALLS = [
    (make_head("/p.S/M", "application/grpc"), RpcProtocol.GRPC, "p.S", "M", True),
    (make_head("/S/M", "application/grpc+proto"), RpcProtocol.GRPC, "S", "M", True),
    (make_head("/p.q.S/Get_1", "Application/gRPC+json; charset=x"), RpcProtocol.GRPC, "p.q.S", "Get_1", True),
    (make_head("/p.S/M", "application/grpc-web+proto"), RpcProtocol.GRPC_WEB, "p.S", "M", True),
    (make_head("/p.S/M", "application/grpc-web"), RpcProtocol.GRPC_WEB, "p.S", "M", True),
    (make_head("/p.S/M", "application/grpc-web-text"), RpcProtocol.GRPC_WEB, "p.S", "M", False),
    (make_head("/p.S/M", "application/connect+json"), RpcProtocol.CONNECT, "p.S", "M", True),
    (
        make_head("/api/p.S/M", "application/json", "Connect-Protocol-Version: 1"),
        RpcProtocol.CONNECT,
        "p.S",
        "M",
        False,
    ),
    (make_head("/p.S/M?message=%7B%7D&encoding=json&connect=v1"), RpcProtocol.CONNECT, "p.S", "M", False),
    (make_head("/", "application/grpc"), RpcProtocol.GRPC, "", "", True),
    (make_head("/p.S/M/", "application/grpc"), RpcProtocol.GRPC, "", "", True),
    (make_head("/a-b/1", "application/grpc"), RpcProtocol.GRPC, "a-b", "1", True),
    (make_head("/M", "application/grpc"), RpcProtocol.GRPC, "", "", True),
]


@pytest.mark.parametrize(("head", "protocol", "service", "method", "is_enveloped"), CALLS)
def test_calls_are_recognised(head, protocol, service, method, is_enveloped):
    rpc = recognise_rpc(head)
    assert rpc is not None
    assert (rpc.protocol, rpc.service, rpc.method, rpc.is_enveloped) == (protocol, service, method, is_enveloped)


@pytest.mark.parametrize(
    "head",
    [
        make_head("/p.S/M", "application/json"),
        make_head("/p.S/M", "application/grpcx"),
        make_head("/p.S/M", "application/grpc.json"),
        make_head("/p.S/M", "application/connect"),
        make_head("/x?reconnect=v1"),
        make_head("/x?connect=v12"),
        make_head("/x"),
    ],
)
def test_plain_requests_are_not(head):
    assert recognise_rpc(head) is None


def test_answer_shows_grpc():
    assert name_grpc(make_head("/p.S/M")).service == "p.S"


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b"0", 0),
        (b"16", 16),
        (b"7", 7),
        (b"17", None),
        (b"-1", None),
        (b"", None),
        (b"007", None),
        ("²".encode(), None),
    ],
)
def test_statuses(value, status):
    assert read_status(value) == status


def test_kinds_follow_from_counts():
    kinds = {counts: infer_streaming(*counts) for counts in itertools.product((None, 0, 1, 2), repeat=2)}
    assert kinds[1, 1] is kinds[0, 1] is kinds[1, 0] is StreamingKind.UNARY
    assert (kinds[2, 1], kinds[1, 2], kinds[2, 2]) == (
        StreamingKind.CLIENT,
        StreamingKind.SERVER,
        StreamingKind.BIDIRECTIONAL,
    )
    assert all(kind is StreamingKind.UNKNOWN for counts, kind in kinds.items() if None in counts)


MESSAGES = st.lists(st.tuples(st.sampled_from([0, 1]), st.binary(max_size=300)), max_size=8)


def write_messages(messages: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([flag]) + len(body).to_bytes(4) + body for flag, body in messages)


@given(MESSAGES, st.lists(st.integers(0, 2_000), max_size=12))
def test_messages_are_counted_in_any_cut(messages, cuts):
    data = write_messages(messages)
    for places in (set(), set(cuts), set(range(len(data)))):
        counter = EnvelopeCounter()
        for start, end in itertools.pairwise(sorted({0, len(data), *(cut for cut in places if cut < len(data))})):
            counter.feed(data[start:end])
        assert counter.messages == len(messages)


def test_ends_are_no_messages():
    counter = EnvelopeCounter()
    counter.feed(write_messages([(0, b"a"), (1, b"b")]) + b"\x80\0\0\0\x0fgrpc-status:0\r\n")
    assert counter.messages == 2
    counter = EnvelopeCounter()
    counter.feed(write_messages([(0, b"a")]) + b"\x02\0\0\0\x02{}")
    assert counter.messages == 1


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        (b"grpc-status:0\r\n", 0),
        (b"grpc-message: no\r\nGrpc-Status: 7\r\n", 7),
        (b"grpc-status: 16", 16),
        (b"x-grpc-status: 3\r\n", None),
        (b"grpc-status: 99\r\n", None),
        (b"", None),
        (b"a: " + b"x" * 5_000 + b"\r\ngrpc-status: 5\r\n", None),
    ],
)
def test_status_in_the_body_of_grpc_web(trailers, status):
    data = write_messages([(0, b"grpc-status: 1\r\n")]) + b"\x80" + len(trailers).to_bytes(4) + trailers
    for step in (len(data), 1, 7):
        counter = EnvelopeCounter()
        for at in range(0, len(data), step):
            counter.feed(data[at : at + step])
        assert (counter.messages, counter.status) == (1, status)


def test_bytes_that_were_not_copied():
    inside, across, at_start = EnvelopeCounter(), EnvelopeCounter(), EnvelopeCounter()
    inside.feed(b"\0\0\0\0\x64ab")
    inside.skip(98)
    inside.feed(b"\0\0\0\0\1z")
    assert inside.messages == 2
    across.feed(b"\0\0\0\0\x64ab")
    across.skip(99)
    across.feed(b"\0\0\0\0\1z")
    assert across.messages is None
    at_start.skip(0)
    assert at_start.messages == 0
    at_start.skip(10)
    assert at_start.messages is None


def test_what_is_no_envelope_is_not_counted():
    counter = EnvelopeCounter()
    counter.feed(b'{"a": 1}')
    assert counter.messages is None


@given(st.lists(st.binary(max_size=40) | st.integers(0, 500), max_size=20))
def test_hostile_bytes_never_raise(pieces):
    counter = EnvelopeCounter()
    for piece in pieces:
        if isinstance(piece, bytes):
            counter.feed(piece)
        else:
            counter.skip(piece)
    assert counter.messages is None or counter.messages >= 0

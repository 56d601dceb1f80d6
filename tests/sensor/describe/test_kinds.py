"""What a call is besides HTTP: from heads and streams to records, by the describer as it runs."""

import pytest

from sensor.core.calls import AuthenticationKind, CallKind, CallRecord, Exchange, RawBodies, Role, Segment, SegmentKind
from sensor.core.calls import Ends as Endpoints
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.open import open_attacks
from sensor.describe.describer import Describer, DescribeSettings
from sensor.http.http2.exchange import build_stream_exchange
from sensor.http.http2.streams import StreamCall
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.describe.test_describe import _exchange, _Identity
from tests.sensor.http.http2_talk import CLIENT, SECOND, SERVER, Ends
from tests.sensor.http.http2_wire import write_data, write_headers

NAMES = [Segment(SegmentKind.LITERAL, "shop.v1.Orders"), Segment(SegmentKind.LITERAL, "Lookup")]
AT = Endpoints(
    connection=7,
    role=Role.SERVER,
    cgroup_id=3,
    peer_cgroup_id=4,
    local_address="192.0.2.1",
    local_port=80,
    remote_address="10.0.0.1",
    remote_port=5_000,
)
GRPC_FIELDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Orders/Lookup"),
               (b":authority", b"h.test"), (b"content-type", b"application/grpc"), (b"te", b"trailers")]  # fmt: skip
MESSAGE = b"\0\0\0\0\2hi"


@pytest.fixture
def describer() -> Describer:
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    return Describer(Templater(load_vocabulary(), keyed_hash), _Identity(), keyed_hash, DescribeSettings())


def describe(describer: Describer, call: StreamCall, *, connection: int = 7) -> CallRecord:
    at = Endpoints(**{name: getattr(AT, name) for name in Endpoints.__struct_fields__} | {"connection": connection})
    record = describer.describe(build_stream_exchange(at, call, int))
    assert isinstance(record, CallRecord)
    return record


def describe_exchange(describer: Describer, **fields: object) -> CallRecord:
    exchange = _exchange(**fields)
    assert isinstance(exchange, Exchange)
    record = describer.describe(exchange)
    assert isinstance(record, CallRecord)
    return record


def call_grpc(ends: Ends, status: bytes, *, sent: int = 1, received: int = 1, stream: int = 1) -> StreamCall:
    ends.seen.say(CLIENT, write_headers(stream, ends.request.encode(GRPC_FIELDS)))
    ends.seen.say(CLIENT, write_data(stream, MESSAGE * sent, is_end=True))
    ends.reply(stream, b"200", (b"content-type", b"application/grpc"))
    if received:
        ends.seen.say(SERVER, write_data(stream, MESSAGE * received))
    ends.seen.say(SERVER, write_headers(stream, ends.response.encode([(b"grpc-status", status)]), is_end=True))
    return ends.seen.calls[-1]


@pytest.mark.parametrize(
    ("sent", "received", "is_stream"), [(1, 1, False), (3, 1, True), (1, 4, True), (2, 2, True), (1, 0, False)]
)
def test_a_call_of_grpc(describer: Describer, sent: int, received: int, is_stream: bool) -> None:
    record = describe(describer, call_grpc(Ends(), b"5", sent=sent, received=received))
    assert (record.protocol.kind, record.figures.status_code, record.protocol.rpc_status) == (CallKind.GRPC, 200, 5)
    assert (record.protocol.request_messages, record.protocol.response_messages) == (sent, received)
    assert record.protocol.is_stream is is_stream
    assert list(record.target.route.segments) == NAMES
    assert (record.target.object_hash, record.credentials.authentication) == (0, AuthenticationKind.NONE)
    assert not (record.protocol.has_unknown_fields or record.protocol.is_inferred or record.figures.is_lossy)


def test_an_answer_that_goes_on_for_a_second_makes_a_stream_whose_messages_nobody_counted(describer: Describer) -> None:
    ends = Ends()
    ends.seen.say(CLIENT, write_headers(1, ends.request.encode(GRPC_FIELDS), is_end=True))
    ends.reply(1, b"200", (b"content-type", b"application/grpc"))
    ends.seen.connection.poll(ends.seen.time_ns + SECOND, SECOND, ends.seen.calls)
    ends.seen.say(SERVER, write_headers(1, ends.response.encode([(b"grpc-status", b"14")]), is_end=True))
    early, late = (describe(describer, call) for call in ends.seen.calls)
    assert (early.figures.calls, early.figures.is_final, early.protocol.rpc_status) == (1, False, None)
    assert (late.figures.calls, late.figures.is_final, late.protocol.rpc_status, late.protocol.is_stream) == (
        0,
        True,
        14,
        True,
    )
    assert early.target.route is late.target.route


def test_server_sent_events_are_a_stream_at_their_end(describer: Describer) -> None:
    ends = Ends()
    ends.ask(1)
    ends.reply(1, b"200", (b"content-type", b"text/event-stream"))
    ends.seen.connection.poll(ends.seen.time_ns + SECOND, SECOND, ends.seen.calls)
    ends.seen.say(SERVER, write_data(1, b"data: x\n\n", is_end=True))
    early, late = (describe(describer, call) for call in ends.seen.calls)
    assert (early.protocol.kind, early.figures.calls, late.figures.calls, late.protocol.is_stream) == (
        CallKind.HTTP,
        1,
        0,
        True,
    )


def test_websocket_over_http2(describer: Describer) -> None:
    ends = Ends()
    fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":path", b"/chat"),
              (b":authority", b"h")]  # fmt: skip
    ends.seen.say(CLIENT, write_headers(1, ends.request.encode(fields)))
    ends.reply(1)
    ends.seen.say(CLIENT, write_data(1, b"\x81\x85maskhello" * 2))
    ends.seen.say(SERVER, write_data(1, b"\x81\x02hi", is_end=True))
    record = describe(describer, ends.seen.close()[-1])
    assert (record.protocol.kind, record.protocol.is_stream) == (CallKind.WEBSOCKET, True)
    assert (record.protocol.request_messages, record.protocol.response_messages) == (2, 1)


def join_late(ends: Ends, turns: int, method: bytes = b"POST") -> list[StreamCall]:
    """Two methods in turn, whose fields all stand in tables that were filled before."""
    paths = [b"/p.S/A", b"/p.S/B"]
    warm = [[(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"h"),
             (b"authorization", b"Bearer token")] for path in paths]  # fmt: skip
    for fields in warm:
        ends.request.encode(fields)
    ends.response.encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
    for turn in range(turns):
        stream = 1_001 + 2 * turn
        ends.seen.say(CLIENT, write_headers(stream, ends.request.encode(warm[turn % 2]), is_end=True))
        ends.reply(stream, b"200", (b"content-type", b"application/grpc"), is_end=True)
    return ends.seen.calls


def test_unknown_endpoints_of_a_connection_are_told_apart_by_their_object(describer: Describer) -> None:
    calls = join_late(Ends(is_joined=True, client=None), 6)
    records = [describe(describer, call) for call in calls]
    assert {record.target.route.segments for record in records} == {(Segment(SegmentKind.LITERAL, "<unknown>"),)}
    assert len({record.target.route.route_id for record in records}) == 1
    objects = [record.target.object_hash for record in records]
    assert objects == objects[:2] * 3
    assert len(set(objects)) == 2 and 0 not in objects
    # Another connection's placeholders stand for something else.
    others = [describe(describer, call, connection=8).target.object_hash for call in calls]
    assert not set(objects) & set(others)


@pytest.mark.parametrize("method", [b"POST", b"PATCH"])  # The second stands in a table that the sensor never saw.
def test_an_unknown_head_is_no_attack(method: bytes) -> None:
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    account = AttackAccount()
    attacks = open_attacks(keyed_hash, bytes_per_second=1_000_000, account=account)
    templater = Templater(load_vocabulary(), keyed_hash)
    describer = Describer(templater, _Identity(), keyed_hash, DescribeSettings(), attacks=attacks)
    records = [describe(describer, call) for call in join_late(Ends(is_joined=True, client=None), 4, method)]
    assert [record.contents.payload for record in records] == [0] * 4 and account.attacks == 0
    assert {record.target.route.method for record in records} == {"_OTHER" if method == b"PATCH" else "POST"}


def test_of_an_unknown_head_nobody_says_that_it_had_no_credentials(describer: Describer) -> None:
    for call in join_late(Ends(is_joined=True, client=None), 2):
        record = describe(describer, call)
        assert record.protocol.has_unknown_fields and not record.figures.is_lossy
        assert record.credentials.authentication is AuthenticationKind.UNKNOWN


def test_a_cut_head_says_nothing_of_credentials_either(describer: Describer) -> None:
    head = b"GET /v1/users HTTP/1.1\r\nHost: api.example\r\nX-Long: " + b"a" * 100
    record = describe_exchange(describer, request_head=head, is_request_head_truncated=True)
    assert record.credentials.authentication is AuthenticationKind.UNKNOWN
    record = describe_exchange(describer, request_head=head + b"\r\n\r\n")
    assert record.credentials.authentication is AuthenticationKind.NONE


@pytest.mark.parametrize(
    ("fields", "status", "response", "expected"),
    [
        (b"Upgrade: websocket\r\nConnection: Upgrade\r\n", 101, b"", (CallKind.WEBSOCKET, None, True)),
        (b"Upgrade: websocket\r\nConnection: Upgrade\r\n", 400, b"", (CallKind.HTTP, None, False)),
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\n", 101, b"", (CallKind.HTTP, None, False)),
        (b"", 200, b"Content-Type: text/event-stream; charset=utf-8\r\n", (CallKind.HTTP, None, True)),
        (b"", 200, b"Content-Type: application/json\r\n", (CallKind.HTTP, None, False)),
        (b"Content-Type: application/grpc-web+proto\r\n", 200, b"", (CallKind.GRPC_WEB, None, False)),
        (b"Content-Type: application/grpc-web\r\n", 200, b"grpc-status: 16\r\n", (CallKind.GRPC_WEB, 16, False)),
        (b"Connect-Protocol-Version: 1\r\n", 200, b"", (CallKind.CONNECT, 0, False)),
        (b"Connect-Protocol-Version: 1\r\n", 404, b"", (CallKind.CONNECT, None, False)),
        (b"Content-Type: application/connect+json\r\n", 200, b"", (CallKind.CONNECT, None, False)),
    ],
)
def test_kinds_over_http1(
    describer: Describer,
    fields: bytes,
    status: int,
    response: bytes,
    expected: tuple[CallKind, int | None, bool],
) -> None:
    record = describe_exchange(
        describer,
        request_head=b"POST /shop.v1.Orders/Lookup HTTP/1.1\r\nHost: api.example\r\n" + fields + b"\r\n",
        response_head=b"HTTP/1.1 %d X\r\n" % status + response + b"\r\n",
        status_code=status,
    )
    assert (record.protocol.kind, record.protocol.rpc_status, record.protocol.is_stream) == expected
    if record.protocol.kind in (CallKind.GRPC_WEB, CallKind.CONNECT):
        assert list(record.target.route.segments) == NAMES


TRAILERS = b"grpc-status: 5\r\ngrpc-message: no such order\r\n"
ENDED = b"\x80" + len(TRAILERS).to_bytes(4) + TRAILERS


@pytest.mark.parametrize(
    ("media_type", "told", "size", "expected"),
    [
        (b"application/grpc-web+proto", MESSAGE + ENDED, 0, (5, 1, 1)),
        (b"application/grpc-web", MESSAGE * 3 + ENDED, 0, (5, 1, 3)),
        (b"application/grpc-web", MESSAGE + ENDED, 100, (None, 1, None)),  # Of its body more came than was copied.
        (b"application/grpc-web-text", b"AAAAAAA=", 0, (None, None, None)),
        (b"application/connect+proto", MESSAGE * 2 + b"\x02\0\0\0\x02{}", 0, (None, 1, 2)),
    ],
)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_messages_and_status_of_a_body_that_was_copied_over_http1(
    describer: Describer,
    media_type: bytes,
    told: bytes,
    size: int,
    expected: tuple[int | None, ...],
    is_chunked: bool,
) -> None:
    head = (
        b"POST /shop.v1.Orders/Lookup HTTP/1.1\r\nHost: api.example\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    )
    asked = head % (media_type, len(MESSAGE))
    raw = b"%x\r\n%b\r\n0\r\n\r\n" % (len(told), told) if is_chunked else told
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % (len(told) + size)
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n\r\n" % (media_type, framing)
    record = describe_exchange(
        describer,
        request_head=asked,
        response_head=answer,
        status_code=200,
        request_bytes=len(asked) + len(MESSAGE),
        response_bytes=len(answer) + len(raw) + size,
        bodies=RawBodies(MESSAGE, raw[:-9] if is_chunked and size else raw),
    )
    assert (record.protocol.rpc_status, record.protocol.request_messages, record.protocol.response_messages) == expected
    assert not record.protocol.is_stream

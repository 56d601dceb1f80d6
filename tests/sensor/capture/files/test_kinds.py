"""What replayed calls are: HTTP/2, upgrades to it, WebSockets and gRPC."""

from sensor.http.http2.frames import PREFACE
from tests.sensor.capture.files.packets import Talk, run
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_data, write_headers, write_settings


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


# RFC 7541, appendix A: GET, path /, http; an authority; status 200.
HTTP2_REQUEST = frame(1, 5, 1, b"\x82\x84\x86\x41\x05h.net")
HTTP2_ANSWER = frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88") + frame(0, 1, 1, b"hello")


def test_http2_is_read() -> None:
    talk = Talk().open().ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + HTTP2_REQUEST, size=9)
    (line,), replay = run(talk.answer(HTTP2_ANSWER).close().packets)
    expected = {
        "http.request.method": "GET",
        "url.path": "/",
        "url.domain": "h.net",
        "http.response.status_code": 200,
        "network.protocol.version": "2",
        "apidae.connection.call": 1,
    }
    assert {name: line.get(name) for name in expected} == expected
    assert (replay.flows.counts.http_flows, replay.flows.counts.http2_flows) == (1, 1)


def test_an_upgrade_to_http2_is_one_call() -> None:
    ask = (
        b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    )
    talk = Talk().open().ask(ask).answer(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n" + HTTP2_ANSWER)
    (line,), _ = run(talk.close().packets)
    assert (line["url.path"], line["http.response.status_code"]) == ("/x", 200)


def test_a_websocket_is_one_call_with_its_messages() -> None:
    ask = b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    said, heard = b"\x81\x85maskhello" * 3, b"\x82\x7e\x01\x00" + b"x" * 256 + b"\x88\x00"
    talk = Talk().open().ask(ask).answer(answer + heard[:10]).ask(said, size=5).answer(heard[10:])
    (line,), replay = run(talk.close().packets, is_raw=False)
    assert (line["apidae.kind"], line["http.response.status_code"], line["apidae.stream"]) == ("websocket", 101, True)
    assert (line["apidae.request.messages"], line["apidae.response.messages"]) == (3, 1)
    assert (line["http.request.size"], line["http.response.size"]) == (len(ask + said), len(answer + heard))
    assert not +replay.flows.counts.unread_bytes


def test_grpc_has_the_names_of_opentelemetry() -> None:
    fields = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Orders/Lookup"), (b":authority", b"h"),
        (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    request, response, message = Encoder(), Encoder(), b"\0\0\0\0\2hi"
    talk = Talk().open().ask(PREFACE + write_settings() + write_headers(1, request.encode(fields)))
    talk.ask(write_data(1, message, is_end=True))
    talk.answer(write_headers(1, response.encode([(b":status", b"200"), (b"content-type", b"application/grpc")])))
    talk.answer(write_data(1, message * 2))
    talk.answer(write_headers(1, response.encode([(b"grpc-status", b"13")]), is_end=True))
    (line,), _ = run(talk.close().packets, is_raw=False)
    expected = {
        "url.template": "/shop.v1.Orders/Lookup", "apidae.kind": "grpc", "rpc.system.name": "grpc",
        "rpc.method": "shop.v1.Orders/Lookup", "rpc.response.status_code": "INTERNAL", "apidae.request.messages": 1,
        "apidae.response.messages": 2, "apidae.stream": True, "http.response.status_code": 200,
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected

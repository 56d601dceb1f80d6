"""What the kernel side makes of real connections: calls, statuses and sizes, exact, whatever the segments."""

import select
import socket
import threading
import time
from collections.abc import Callable

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.capture.packets.exchange import EARLY_AFTER_NS
from sensor.core.calls import Exchange
from sensor.coverage.row import PortProtocol
from tests.bpf.recognised import drain
from tests.bpf.wire import (
    chunked,
    connected,
    receive_exactly,
    request,
    response,
    send_parts,
    serving,
    talk,
)
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel

Collect = Callable[[int, int], list[Exchange]]
Row = tuple[str, int, int, int]  # Request line's method and target, status, request bytes, response bytes.


def rows(exchanges: list[Exchange]) -> list[Row]:
    """What a test compares, in order."""
    return [
        (
            " ".join(exchange.request_head.decode("latin-1").split(" ")[:2]),
            exchange.figures.status_code,
            exchange.figures.request_bytes,
            exchange.figures.response_bytes,
        )
        for exchange in exchanges
    ]


def answering(sizes: list[int], *answers: tuple[bytes, ...]) -> Callable[[socket.socket], None]:
    """Reads sizes[i] bytes, then sends answers[i] part by part, for each i."""

    def answer(connection: socket.socket) -> None:
        for size, parts in zip(sizes, answers, strict=True):
            receive_exactly(connection, size)
            send_parts(connection, *parts)

    return answer


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_keep_alive_calls_have_their_own_bytes(collect: Collect, host: str) -> None:
    get, post = request("GET", "/a/1"), request("POST", "/b", body=b"x" * 500)
    first, second = response(200, b"y" * 3000), response(201)
    with (
        serving(answering([len(get), len(post)], (first,), (second,)), host=host) as port,
        connected(port, host) as client,
    ):
        client.sendall(get)
        receive_exactly(client, len(first))
        client.sendall(post)
        receive_exactly(client, len(second))
        assert rows(collect(port, 2)) == [
            ("GET /a/1", 200, len(get), len(first)),
            ("POST /b", 201, len(post), len(second)),
        ]


@pytest.mark.parametrize("size", [1, 2, 3, 17])
def test_head_cut_at_every_so_many_bytes(collect: Collect, size: int) -> None:
    sent, answer = request("GET", "/cut", "X-Filler: abcdefgh\r\n"), response(418)
    parts = tuple(sent[i : i + size] for i in range(0, len(sent), size))
    with serving(answering([len(sent)], tuple(answer[i : i + size] for i in range(0, len(answer), size)))) as port:
        talk(port, parts, len(answer))
        exchanges = collect(port, 1)
        assert rows(exchanges) == [("GET /cut", 418, len(sent), len(answer))]
        assert exchanges[0].request_head == sent
        assert exchanges[0].response_head == answer[:-2]


@pytest.mark.parametrize("depth", [2, 3, 10, 16, 40, 80])
def test_pipelined_requests_are_calls(collect: Collect, depth: int) -> None:
    sent = [request("GET", f"/p/{i}") for i in range(depth)]
    answers = [response(200, b"z" * i) for i in range(depth)]
    with serving(answering([sum(map(len, sent))], (b"".join(answers),))) as port:
        talk(port, (b"".join(sent),), sum(map(len, answers)))
        assert rows(collect(port, depth)) == [(f"GET /p/{i}", 200, len(sent[i]), len(answers[i])) for i in range(depth)]


def test_mixed_pipeline_with_bodiless_responses(collect: Collect) -> None:
    sent = [
        request("GET", "/a"),
        request("HEAD", "/b"),
        request("GET", "/c"),
        request("POST", "/d", body=b"GET /fake HTTP/1.1\r\n\r\n" * 5),
        request("GET", "/e"),
    ]
    answers = [
        response(200),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n",
        response(404),
    ]
    with serving(answering([sum(map(len, sent))], (b"".join(answers),))) as port:
        talk(port, (b"".join(sent),), sum(map(len, answers)))
        assert rows(collect(port, 5)) == [
            ("GET /a", 200, len(sent[0]), len(answers[0])),
            ("HEAD /b", 200, len(sent[1]), len(answers[1])),
            ("GET /c", 204, len(sent[2]), len(answers[2])),
            ("POST /d", 304, len(sent[3]), len(answers[3])),
            ("GET /e", 404, len(sent[4]), len(answers[4])),
        ]


def test_pipeline_cut_inside_the_second_head(collect: Collect) -> None:
    sent = [request("GET", f"/c/{i}") for i in range(3)]
    whole, answers = b"".join(sent), response(200) * 3
    with serving(answering([len(whole)], (answers,))) as port:
        talk(port, (whole[: len(sent[0]) + 9], whole[len(sent[0]) + 9 :]), len(answers))
        assert rows(collect(port, 3)) == [(f"GET /c/{i}", 200, len(sent[i]), len(answers) // 3) for i in range(3)]


def test_chunked_both_ways_and_another_in_the_same_segment(collect: Collect) -> None:
    upload = (
        b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    )
    get = request("GET", "/after")
    answers = [chunked(200, b"hello", b"w" * 300, trailer="X-T: 1\r\n"), response(404)]
    with serving(answering([len(upload + get)], (b"".join(answers),))) as port:
        talk(port, (upload + get,), sum(map(len, answers)))
        assert rows(collect(port, 2)) == [
            ("POST /up", 200, len(upload), len(answers[0])),
            ("GET /after", 404, len(get), len(answers[1])),
        ]


@pytest.mark.parametrize("size", [1, 4, 7])
def test_chunked_response_cut_anywhere(collect: Collect, size: int) -> None:
    sent, answer = request("GET", "/chunks"), chunked(200, b"abcdef", b"g" * 20)
    after, last = request("GET", "/last"), response(200)
    parts = tuple(answer[i : i + size] for i in range(0, len(answer), size))
    with serving(answering([len(sent), len(after)], parts, (last,))) as port, connected(port) as client:
        client.sendall(sent)
        receive_exactly(client, len(answer))
        client.sendall(after)
        receive_exactly(client, len(last))
        assert rows(collect(port, 2)) == [
            ("GET /chunks", 200, len(sent), len(answer)),
            ("GET /last", 200, len(after), len(last)),
        ]


def test_interim_responses_belong_to_the_final_one(collect: Collect) -> None:
    sent = request("POST", "/i", "Expect: 100-continue\r\n", b"hi")
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + early + response(201)
    with serving(answering([len(sent)], (answer,))) as port:
        talk(port, (sent,), len(answer))
        assert rows(collect(port, 1)) == [("POST /i", 201, len(sent), len(answer))]


def test_continue_in_its_own_segment_then_body_then_final(collect: Collect) -> None:
    sent = request("POST", "/i", "Expect: 100-continue\r\n", b"hi")
    interim, final = b"HTTP/1.1 100 Continue\r\n\r\n", response(200)
    with serving(answering([len(sent) - 2, 2], (interim,), (final,))) as port, connected(port) as client:
        client.sendall(sent[:-2])
        receive_exactly(client, len(interim))
        client.sendall(sent[-2:])
        receive_exactly(client, len(final))
        assert rows(collect(port, 1)) == [("POST /i", 200, len(sent), len(interim + final))]


def test_refused_expectation_then_another_request(collect: Collect) -> None:
    sent = b"POST /big HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 999\r\n\r\n"
    after = request("GET", "/next")
    refused, last = response(401), response(200)
    with serving(answering([len(sent), len(after)], (refused,), (last,))) as port, connected(port) as client:
        client.sendall(sent)
        receive_exactly(client, len(refused))
        client.sendall(after)
        receive_exactly(client, len(last))
        assert rows(collect(port, 2)) == [
            ("POST /big", 401, len(sent), len(refused)),
            ("GET /next", 200, len(after), len(last)),
        ]


@pytest.mark.parametrize(
    ("asking", "granting"),
    [
        (
            request("GET", "/first", "Upgrade: websocket\r\n"),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        ),
        (request("CONNECT", "/first"), b"HTTP/1.1 200 Connection established\r\n\r\n"),
    ],
)
def test_http_that_goes_on_after_an_upgrade_is_read(collect: Collect, asking: bytes, granting: bytes) -> None:
    inside, answer = request("GET", "/inside"), response(200)
    with serving(answering([len(asking), len(inside)], (granting,), (answer,))) as port, connected(port) as client:
        client.sendall(asking)
        receive_exactly(client, len(granting))
        client.sendall(inside)
        receive_exactly(client, len(answer))
        told = collect(port, 2 if asking.startswith(b"CONNECT") else 3)  # That of a WebSocket comes in two parts.
    first = f"{asking.split()[0].decode()} /first"
    assert (first, int(granting.split()[1]), len(asking), len(granting)) in rows(told)
    assert ("GET /inside", 200, len(inside), len(answer)) in rows(told)
    assert sum(exchange.figures.calls for exchange in told) == 2


def test_early_response_keeps_the_late_body(collect: Collect) -> None:
    sent, answer = request("POST", "/early", body=b"b" * 5000), response(413)
    head = len(sent) - 5000
    with serving(answering([head, 5000], (answer,), ())) as port, connected(port) as client:
        client.sendall(sent[:head])
        receive_exactly(client, len(answer))
        client.sendall(sent[head:])
        time.sleep(0.05)
        assert rows(collect(port, 1)) == [("POST /early", 413, len(sent), len(answer))]


def test_response_without_framing_ends_with_the_connection(collect: Collect) -> None:
    sent, answer = request("GET", "/old", version="1.0"), b"HTTP/1.0 200 OK\r\n\r\n" + b"HTTP/1.1 500 is body" * 200
    with serving(answering([len(sent)], (answer[:30], answer[30:]))) as port:
        talk(port, (sent,), len(answer))
        exchanges = collect(port, 1)
        assert rows(exchanges) == [("GET /old", 200, len(sent), len(answer))]
        assert not exchanges[0].figures.is_aborted


def test_body_segment_that_looks_like_a_response(collect: Collect) -> None:
    sent, head = request("GET", "/fakebody"), b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"
    body = b"HTTP/1.1 500 not a response, just body!!"
    with serving(answering([len(sent)], (head, body))) as port:
        talk(port, (sent,), len(head + body))
        assert rows(collect(port, 1)) == [("GET /fakebody", 200, len(sent), len(head + body))]


def test_unknown_method_counts_and_other_protocols_do_not(collect: Collect) -> None:
    sent, answer = request("FROBNICATE", "/m"), response(200)
    with serving(answering([len(sent)], (answer,))) as port:
        talk(port, (sent,), len(answer))
        assert rows(collect(port, 1)) == [("FROBNICATE /m", 200, len(sent), len(answer))]
    with serving(answering([6, 6], (b"+PONG\r\n",), (b"+PONG\r\n",))) as port:
        talk(port, (b"PING\r\n", b"PING\r\n"), 14)
        assert collect(port, 0) == []


def test_aborted_by_the_server_before_and_within_the_response(collect: Collect) -> None:
    sent = request("GET", "/gone")
    with serving(answering([len(sent)], ())) as port:
        talk(port, (sent,), 1)
        (exchange,) = collect(port, 1)
        assert (exchange.figures.status_code, exchange.figures.is_aborted, exchange.figures.calls) == (0, True, 1)
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"
    with serving(answering([len(sent)], (cut,))) as port:
        talk(port, (sent,), len(cut) + 1)
        (exchange,) = collect(port, 1)
        assert (exchange.figures.status_code, exchange.figures.is_aborted, exchange.figures.response_bytes) == (
            200,
            True,
            len(cut),
        )


def test_reset_by_the_client_aborts(collect: Collect) -> None:
    sent = request("GET", "/reset")

    def wait(connection: socket.socket) -> None:
        receive_exactly(connection, len(sent))
        connection.recv(1)

    with serving(wait) as port:
        with connected(port) as client:
            client.sendall(sent)
            time.sleep(0.05)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        (exchange,) = collect(port, 1)
        assert (exchange.figures.status_code, exchange.figures.is_aborted) == (0, True)


def test_half_closed_client_is_still_answered(collect: Collect) -> None:
    sent, answer = request("GET", "/half"), response(200)

    def late(connection: socket.socket) -> None:
        receive_exactly(connection, len(sent))
        connection.recv(1)
        connection.sendall(answer)

    with serving(late) as port, connected(port) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        receive_exactly(client, len(answer))
        assert rows(collect(port, 1)) == [("GET /half", 200, len(sent), len(answer))]


def test_long_head_is_copied_whole_and_parsed_beyond(collect: Collect) -> None:
    sent, answer = request("GET", "/long", "Cookie: " + "c" * 20_000 + "\r\n"), response(200)
    small = request("GET", "/small")
    with serving(answering([len(sent + small)], (answer * 2,))) as port:
        talk(port, (sent + small,), 2 * len(answer))
        exchanges = collect(port, 2)
        assert rows(exchanges) == [
            ("GET /long", 200, len(sent), len(answer)),
            ("GET /small", 200, len(small), len(answer)),
        ]
        assert [exchange.request_head for exchange in exchanges] == [sent, small]


def test_large_bodies(collect: Collect) -> None:
    sent, answer = request("PUT", "/up", body=b"u" * 1_000_000), response(200, b"d" * 2_000_000)
    after = request("GET", "/after")
    with serving(answering([len(sent), len(after)], (answer,), (response(200),))) as port, connected(port) as client:
        client.sendall(sent)
        receive_exactly(client, len(answer))
        client.sendall(after)
        receive_exactly(client, len(response(200)))
        assert rows(collect(port, 2)) == [
            ("PUT /up", 200, len(sent), len(answer)),
            ("GET /after", 200, len(after), len(response(200))),
        ]


def test_deferred_accept_loses_no_head(collect: Collect) -> None:
    sent, answer = request("GET", "/defer"), response(200)
    options = ((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5),)
    with serving(answering([2 * len(sent)], (answer * 2,)), options=options) as port:
        talk(port, (sent + sent[:7], sent[7:]), 2 * len(answer))
        assert rows(collect(port, 2)) == [("GET /defer", 200, len(sent), len(answer))] * 2


def test_long_response_is_told_early_and_completed(collect: Collect) -> None:
    sent, head = request("GET", "/stream"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    is_told = threading.Event()

    def stream(connection: socket.socket) -> None:
        receive_exactly(connection, len(sent))
        connection.sendall(head + b"4\r\ndata\r\n")
        is_told.wait(DEADLINE_SECONDS)
        connection.sendall(b"4\r\ndata\r\n0\r\n\r\n")

    size = len(head) + 2 * 9 + 5
    with serving(stream) as port:
        client = threading.Thread(target=talk, args=(port, (sent,), size))
        client.start()
        exchanges = collect(port, 1)
        is_told.set()
        exchanges += collect(port, 1)
        client.join()
        assert [(e.figures.calls, e.figures.is_final, e.figures.response_bytes) for e in exchanges] == [
            (1, False, 0),
            (0, True, size),
        ]
        assert exchanges[1].figures.duration_ns >= EARLY_AFTER_NS


def test_a_quiet_connection_is_covered_while_it_is_open(capture: PacketCapture, collect: Collect) -> None:
    sent, answer = request("GET", "/quiet"), response(200)
    with serving(answering([len(sent), len(sent)], (answer,), (answer,))) as port, connected(port) as client:
        for _ in range(2):
            client.sendall(sent)
            assert receive_exactly(client, len(answer)) == answer
        collect(port, 2)
        covered = [count for count in capture.coverage() if count.port == port]
        assert [(count.kind, count.connections) for count in covered] == [(PortProtocol.HTTP, 1)]
        assert covered[0].bytes > 0
    time.sleep(0.1)
    after = [count for count in capture.coverage() if count.port == port]
    assert [(count.connections, count.bytes) for count in after] == [(1, 2 * (len(sent) + len(answer)))]


def test_a_reader_who_waits_is_woken_by_the_first_event(capture: PacketCapture, collect: Collect) -> None:
    get, answer = request("GET", "/rung"), response(200)

    def wait() -> bool:
        watched = select.epoll()
        watched.register(capture.bell.fd, select.EPOLLIN)
        try:
            return bool(watched.poll(DEADLINE_SECONDS))
        finally:
            watched.close()

    with serving(answering([len(get)], (answer,))) as port:
        drain(capture)
        capture.bell.arm(is_for_records=False)
        talk(port, (get,), len(answer))
        assert wait()
        capture.bell.hush()
        # Armed with something in the ring it rings at once: nothing slips between a reading and the waiting.
        assert capture.has_events()
        capture.bell.arm(is_for_records=False)
        assert wait()
        assert len(collect(port, 1)) == 1

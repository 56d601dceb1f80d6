"""Turns of a connection that are seldom taken: refused tunnels and upgrades, answers without the body that they
announce, bodies that never come whole, and more pipelined messages than one segment's walk reaches.
"""

import socket
import time

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.ebpf.abi import Counter
from tests.bpf.conftest import Collect
from tests.bpf.test_capture import answering, rows
from tests.bpf.wire import chunked, connected, receive_exactly, request, response, send_parts, serving, talk

pytestmark = pytest.mark.kernel

GET = request("GET", "/after")
OK = response(200)


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (request("CONNECT", "example.org:443"), response(407, b"no")),
        (request("GET", "/ws", "Connection: upgrade\r\nUpgrade: websocket\r\n"), response(200, b"not today")),
        (request("HEAD", "/h"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (request("GET", "/n"), b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (request("GET", "/i"), b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + response(200)),
    ],
    ids=["connect_refused", "upgrade_refused", "head_chunked", "304_chunked", "many_interim"],
)
@pytest.mark.parametrize("is_pipelined", [False, True])
def test_http_goes_on(collect: Collect, first: bytes, answer: bytes, is_pipelined: bool) -> None:
    """Behind what might have ended it, or might have had a body."""
    sizes, answers = (
        ([len(first + GET)], [(answer + OK,)]) if is_pipelined else ([len(first), len(GET)], [(answer,), (OK,)])
    )
    with serving(answering(sizes, *answers)) as port:
        with connected(port) as client:
            if is_pipelined:
                client.sendall(first + GET)
                receive_exactly(client, len(answer + OK))
            else:
                for sent, size in ((first, len(answer)), (GET, len(OK))):
                    client.sendall(sent)
                    receive_exactly(client, size)
        status = int(answer.rpartition(b"HTTP/1.1 ")[2][:3])
        target = b" ".join(first.split(b" ")[:2]).decode()
        assert rows(collect(port, 2)) == [
            (target, status, len(first), len(answer)),
            ("GET /after", 200, len(GET), len(OK)),
        ]


def test_frames_in_the_segment_of_the_switch_are_not_http(collect: Collect) -> None:
    sent = request("GET", "/ws", "Connection: upgrade\r\nUpgrade: websocket\r\n")
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    with serving(answering([len(sent)], (switch + OK,))) as port:
        talk(port, (sent,), len(switch + OK))
        exchanges = collect(port, 2)  # Told at once, and with its bytes at its end.
        assert [(exchange.figures.calls, exchange.figures.status_code) for exchange in exchanges] == [
            (1, 101),
            (0, 101),
        ]
        assert rows(exchanges)[1] == ("GET /ws", 101, len(sent), len(switch + OK))


def test_an_answer_before_the_last_chunk_waits_for_it(collect: Collect) -> None:
    head = b"POST /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    begun, rest = b"5\r\nhello\r\n", b"3\r\nend\r\n0\r\nX: y\r\n\r\n"
    early = response(413)
    with serving(answering([len(head + begun), len(rest + GET)], (early,), (OK,))) as port, connected(port) as client:
        client.sendall(head + begun)
        receive_exactly(client, len(early))
        client.sendall(rest + GET)
        receive_exactly(client, len(OK))
        assert rows(collect(port, 2)) == [
            ("POST /up", 413, len(head + begun + rest), len(early)),
            ("GET /after", 200, len(GET), len(OK)),
        ]


def test_a_client_that_leaves_within_its_body_is_aborted(collect: Collect) -> None:
    sent = request("POST", "/half", body=b"x" * 500)[:-200]
    with serving(answering([len(sent)], ())) as port:
        with connected(port) as client:
            client.sendall(sent)
            time.sleep(0.05)
        (exchange,) = collect(port, 1)
        assert (exchange.figures.status_code, exchange.figures.is_aborted, exchange.figures.request_bytes) == (
            0,
            True,
            len(sent),
        )


def test_a_deferred_accept_with_a_long_body_and_more_calls(collect: Collect) -> None:
    sent = request("POST", "/defer", body=b"d" * 40_000)
    options = ((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5),)
    with serving(answering([len(sent), len(GET)], (OK,), (OK,)), options=options) as port, connected(port) as client:
        send_parts(client, sent[:600], sent[600:])
        receive_exactly(client, len(OK))
        client.sendall(GET)
        receive_exactly(client, len(OK))
        assert rows(collect(port, 2)) == [
            ("POST /defer", 200, len(sent), len(OK)),
            ("GET /after", 200, len(GET), len(OK)),
        ]


def test_each_chunked_answer_of_a_segment_is_its_own_call(collect: Collect) -> None:
    sent = [request("GET", f"/c/{number}") for number in range(13)]
    answers = [chunked(200, b"a" * number, b"bc", trailer="T: v\r\n" * (number % 2)) for number in range(1, 14)]
    with serving(answering([sum(map(len, sent))], (b"".join(answers),))) as port:
        talk(port, (b"".join(sent),), sum(map(len, answers)))
        assert rows(collect(port, 13)) == [
            (f"GET /c/{number}", 200, len(sent[number]), len(answers[number])) for number in range(13)
        ]


def test_past_what_a_segment_reaches_the_loss_is_counted_and_calls_go_on(
    capture: PacketCapture, collect: Collect
) -> None:
    """300 requests in one segment: some 90 are read, the position is lost, and the next segment is read again."""
    sent = [request("GET", f"/p/{number}") for number in range(300)]
    before = capture.counters()
    with serving(answering([sum(map(len, sent)), len(GET)], (OK * 300,), (OK,))) as port, connected(port) as client:
        client.sendall(b"".join(sent))
        receive_exactly(client, 300 * len(OK))
        client.sendall(GET)
        receive_exactly(client, len(OK))
        exchanges = collect(port, 90)
    after = capture.counters()
    targets = [row[0] for row in rows(exchanges)]
    assert targets[:80] == [f"GET /p/{number}" for number in range(80)]
    assert len(targets) <= 301
    assert after[Counter.TAIL_FAILED] > before[Counter.TAIL_FAILED]
    assert targets[-1] == "GET /after"

"""Turns of a connection that are seldom taken: refused tunnels and upgrades, answers without the body that they
announce, bodies that never come whole, and more pipelined messages than one segment's walk reaches.
"""

import socket
import time

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.ebpf.abi import Counter
from tests.bpf.conftest import Collect
from tests.bpf.recognised import drain
from tests.bpf.test_capture import answering, rows
from tests.bpf.wire import NO_HTTP, chunked, connected, receive_exactly, request, response, send_parts, serving, talk

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


GRANTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
CONNECT = request("CONNECT", "example.org:443")
UPGRADE = request("GET", "/up", "Connection: upgrade\r\nUpgrade: x\r\n")
ANSWERS_TO_CONNECT = [GRANTED, response(200), response(200, b""), chunked(200, b"ok")]


def cut_bytes(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1_000_000, 11, 1])
@pytest.mark.parametrize(
    ("first", "granted"), [*((CONNECT, answer) for answer in ANSWERS_TO_CONNECT), (UPGRADE, SWITCHED)]
)
def test_calls_behind_a_granted_upgrade_are_calls(collect: Collect, first: bytes, granted: bytes, size: int) -> None:
    """A server that goes on with HTTP/1.1 there, however what follows is cut into segments."""
    sent = [request("PURGE", "/odd"), GET, request("POST", "/body", body=b"b" * 40), GET]
    with serving(answering([len(first), *map(len, sent)], (granted,), *[cut_bytes(OK, size)] * 4)) as port:
        with connected(port) as client:
            client.sendall(first)
            receive_exactly(client, len(granted))
            for one in sent:
                for part in cut_bytes(one, size):
                    client.sendall(part)
                receive_exactly(client, len(OK))
        found = rows(collect(port, 5))
        assert [row[:2] for row in found] == [
            (b" ".join(first.split(b" ")[:2]).decode(), int(granted[9:12])),
            ("PURGE /odd", 200),
            ("GET /after", 200),
            ("POST /body", 200),
            ("GET /after", 200),
        ]
        assert [row[2:] for row in found] == [
            (len(first), len(granted)),
            *((len(one), len(OK)) for one in sent),
        ]


@pytest.mark.parametrize("is_pipelined", [False, True])
@pytest.mark.parametrize(("sent", "received"), NO_HTTP.values(), ids=NO_HTTP)
def test_a_tunnel_is_no_call(
    capture: PacketCapture, collect: Collect, sent: bytes, received: bytes, is_pipelined: bool
) -> None:
    before = capture.counters()
    sizes = [len(CONNECT + sent), len(sent)] if is_pipelined else [len(CONNECT), len(sent), len(sent)]
    answers = [(GRANTED + received,), (received,)] if is_pipelined else [(GRANTED,), (received,), (received,)]
    with serving(answering(sizes, *answers)) as port:
        with connected(port) as client:
            for data, answer in zip(
                [CONNECT + sent, sent] if is_pipelined else [CONNECT, sent, sent], answers, strict=True
            ):
                client.sendall(data)
                receive_exactly(client, len(b"".join(answer)))
        assert [row[:2] for row in rows(collect(port, 1))] == [("CONNECT example.org:443", 200)]
    after = capture.counters()
    assert after[Counter.CALLS] - before[Counter.CALLS] == 1


def count_lost(capture: PacketCapture, port: int) -> int:
    return sum(count.lost_calls for count in capture.coverage() if count.port == port)


@pytest.mark.parametrize("answer", [OK, response(200, b"b" * 600)], ids=["short", "long"])
@pytest.mark.parametrize("turns", [1, 10])
@pytest.mark.parametrize("count", [130, 300, 900])
def test_pipelined_requests_are_read_or_counted_as_lost(
    capture: PacketCapture, count: int, turns: int, answer: bytes
) -> None:
    """Many requests in one segment: some are read, the others are counted, and reading goes on behind them."""
    sent = b"".join(request("GET", f"/p/{number}") for number in range(count))
    drain(capture)
    before = capture.counters()
    sizes = [len(sent)] * turns + [len(GET)]
    with serving(answering(sizes, *[(answer * count,)] * turns, (OK,))) as port, connected(port) as client:
        for _ in range(turns):
            client.sendall(sent)
            receive_exactly(client, count * len(answer))
        client.sendall(GET)
        receive_exactly(client, len(OK))
        client.shutdown(socket.SHUT_WR)
        targets: list[str] = []
        more = [""]
        while more:  # A reading gives a part.
            time.sleep(0.3)
            more = [row[0] for row in rows([one for one in capture.read() if isinstance(one, Exchange)])]
            targets += more
        lost = count_lost(capture, port)
    after = capture.counters()
    print(count, turns, len(answer), "read", len(targets), "lost", lost)
    total, is_estimated = count * turns + 1, after[Counter.TAIL_FAILED] > before[Counter.TAIL_FAILED]
    assert is_estimated or targets[-1] == "GET /after"
    assert targets[:20] == [f"GET /p/{number}" for number in range(20)]
    assert len(targets) + lost == pytest.approx(total, rel=0.03 * is_estimated)
    assert after[Counter.DROPPED_DEPTH] - before[Counter.DROPPED_DEPTH] == lost
    assert after[Counter.CALLS] - before[Counter.CALLS] == len(targets) + lost


def test_answers_to_what_an_ambiguous_request_hides_are_counted(capture: PacketCapture, collect: Collect) -> None:
    """Line feeds alone: the flight is one call, and each further answer one that is lost."""
    sent = b"GET /first HTTP/1.1\nHost: h\n\n" + GET * 8
    with serving(answering([len(sent), len(GET)], (OK * 9,), (OK,))) as port, connected(port) as client:
        client.sendall(sent)
        receive_exactly(client, 9 * len(OK))
        client.sendall(GET)
        receive_exactly(client, len(OK))
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert [row[0] for row in rows(collect(port, 2))] == ["GET /first", "GET /after"]
        assert count_lost(capture, port) == 8

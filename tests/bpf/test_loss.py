"""Packets lost on the way: calls, statuses and bytes stay exact, because retransmissions fill the holes."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.ports import take_port
from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.http.http2.frames import PREFACE
from tests.bpf.test_capture import rows
from tests.bpf.test_http2 import collect as collect_streams
from tests.bpf.test_http2 import rows as stream_rows
from tests.bpf.wire import chunked, connected, receive_exactly, request, response, serving
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_headers, write_settings

pytestmark = [pytest.mark.kernel, pytest.mark.full]

Collect = Callable[[int, int], list[Exchange]]


@contextmanager
def dropping(port: int) -> Iterator[Callable[[], int]]:
    """Drops 15 % of what arrives from or for a port, before the cgroup hook sees it; yields a count of the drops."""
    nft = shutil.which("nft") or "/usr/sbin/nft"
    if not Path(nft).exists():
        pytest.skip("nft is not installed")
    table = f"apidae_test_{os.getpid()}"
    rules = f"""table inet {table} {{
      chain input {{
        type filter hook input priority 0;
        tcp dport {port} numgen random mod 100 < 15 counter drop
        tcp sport {port} numgen random mod 100 < 15 counter drop
      }}
    }}"""
    loaded = subprocess.run([nft, "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if loaded.returncode:
        pytest.skip(f"nftables does not work here: {loaded.stderr.strip()}")

    def dropped() -> int:
        listing = subprocess.run([nft, "list", "table", "inet", table], capture_output=True, text=True, check=True)
        return sum(map(int, re.findall(r"counter packets (\d+)", listing.stdout)))

    try:
        yield dropped
    finally:
        subprocess.run([nft, "delete", "table", "inet", table], check=True)


def test_fifteen_percent_of_packets_dropped(collect: Collect) -> None:
    calls = 23
    posts = [request("POST", f"/drop/{i}", body=b"u" * (i * 1_000)) for i in range(calls)]
    answers = [
        response(200 + i % 3, b"d" * (i * 3_000)) if i % 2 else chunked(200 + i % 3, b"e" * 700, b"f" * (i + 1))
        for i in range(calls)
    ]

    def answer(connection: socket.socket) -> None:
        for sent, back in zip(posts, answers, strict=True):
            receive_exactly(connection, len(sent))
            connection.sendall(back)

    port = take_port()
    with dropping(port) as dropped:
        with serving(answer, port=port) as port, connected(port) as client:
            client.settimeout(60)
            for sent, back in zip(posts, answers, strict=True):
                client.sendall(sent)
                assert len(receive_exactly(client, len(back))) == len(back)
            exchanges = collect(port, calls)
        assert dropped() > 0
    assert rows(exchanges) == [(f"POST /drop/{i}", 200 + i % 3, len(posts[i]), len(answers[i])) for i in range(calls)]


def test_connections_under_loss(collect: Collect) -> None:
    """A connection each: handshakes are lost too, so that first segments arrive on the listening socket."""
    sent, back = request("GET", "/one"), response(200)

    def answer(connection: socket.socket) -> None:
        receive_exactly(connection, len(sent))
        connection.sendall(back)

    port = take_port()
    with dropping(port) as dropped:
        with serving(answer, port=port) as port:
            for _ in range(23):
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                    client.sendall(sent)
                    assert receive_exactly(client, len(back)) == back
            exchanges = collect(port, 23)
        assert dropped() > 0
    assert rows(exchanges) == [("GET /one", 200, len(sent), len(back))] * 23


@contextmanager
def losing_first(port: int) -> Iterator[None]:
    """Drops the first segment to a port that carries more than an acknowledgement, and nothing after it."""
    nft = shutil.which("nft") or "/usr/sbin/nft"
    if not Path(nft).exists():
        pytest.skip("nft is not installed")
    table = f"apidae_test_{os.getpid()}"
    rules = f"""table inet {table} {{
      chain input {{
        type filter hook input priority 0;
        tcp dport {port} meta length > 100 numgen inc mod 1000000 0 counter drop
      }}
    }}"""
    loaded = subprocess.run([nft, "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if loaded.returncode:
        pytest.skip(f"nftables does not work here: {loaded.stderr.strip()}")
    try:
        yield
        listing = subprocess.run([nft, "list", "table", "inet", table], capture_output=True, text=True, check=True)
        assert "counter packets 1 " in listing.stdout, listing.stdout
    finally:
        subprocess.run([nft, "delete", "table", "inet", table], check=True)


def test_a_connection_of_http2_whose_first_segment_comes_second(capture: PacketCapture) -> None:
    """What came before it, a frame of its own, does not begin the connection: the preface and three requests follow."""
    requests = Encoder()
    fields = [[(b":method", b"GET"), (b":path", b"/first/%d" % number), (b":authority", b"h")] for number in range(4)]
    asked = [write_headers(1 + 2 * n, requests.encode(one), is_end=True) for n, one in enumerate(fields)]
    opening, rest = PREFACE + write_settings() + b"".join(asked[:3]), write_settings(is_ack=True)
    responses = Encoder()

    def answer(connection: socket.socket) -> None:
        receive_exactly(connection, len(opening + rest))
        for stream in (1, 3, 5):
            connection.sendall(write_headers(stream, responses.encode([(b":status", b"200")]), is_end=True))
        receive_exactly(connection, len(asked[3]))
        connection.sendall(write_headers(7, responses.encode([(b":status", b"200")]), is_end=True))

    port = take_port()
    with losing_first(port), serving(answer, port=port), connected(port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(10)
        client.sendall(opening)
        client.sendall(rest)
        time.sleep(0.5)
        client.sendall(asked[3])
        told = collect_streams(capture, port, 4)
    assert stream_rows(told) == [("GET", f"/first/{number}", 200) for number in range(4)]
    assert not [one for one in told if one.call.is_lossy or one.call.has_unknown_fields]


def test_a_call_of_http1_whose_first_segment_comes_second(collect: Collect) -> None:
    head, body = request("POST", "/first", body=b"u" * 3_000).split(b"\r\n\r\n", 1)
    second = request("GET", "/second" + "x" * 60)

    def answer(connection: socket.socket) -> None:
        receive_exactly(connection, len(head) + 4 + len(body))
        connection.sendall(response(201, b"d"))
        receive_exactly(connection, len(second))
        connection.sendall(response(200, b"e"))

    port = take_port()
    with losing_first(port), serving(answer, port=port), connected(port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(10)
        client.sendall(head + b"\r\n\r\n")
        client.sendall(body)
        assert receive_exactly(client, len(response(201, b"d")))
        client.sendall(second)
        exchanges = collect(port, 2)
    assert [(one.figures.status_code, one.figures.is_lossy) for one in exchanges] == [(201, False), (200, False)]

"""Packets lost on the way: calls, statuses and bytes stay exact, because retransmissions fill the holes."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sensor.calls import Exchange
from tests.bpf.test_capture import rows
from tests.bpf.wire import chunked, connected, receive_exactly, request, response, serving

pytestmark = pytest.mark.kernel

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


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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

    port = free_port()
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

    port = free_port()
    with dropping(port) as dropped:
        with serving(answer, port=port) as port:
            for _ in range(23):
                with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                    client.sendall(sent)
                    assert receive_exactly(client, len(back)) == back
            exchanges = collect(port, 23)
        assert dropped() > 0
    assert rows(exchanges) == [("GET /one", 200, len(sent), len(back))] * 23

"""Whom the kernel stops: where in a head a blocked credential stands, which addresses, and what is let through."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.keyed_hash import hash_siphash
from sensor.capture.packets.capture import PacketCapture
from sensor.core.clock import Clock
from sensor.core.config import EnforcementSettings
from sensor.ebpf.abi import STOP_EVENT, STOPS_BYTES, StopCount
from sensor.ebpf.enforcement_maps import StopMaps
from sensor.enforce.block import Block, BlockKind
from sensor.enforce.enforcer import Enforcer
from sensor.enforce.reset import Resetter, StopWatch
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = pytest.mark.kernel

SECRET = b"0123456789abcdef"
STOLEN, LONG = "stolen-0123456789", "x" * 900 + "7"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEVER = "127.0.3.9"
CLIENTS = STOPS_BYTES // (STOP_EVENT.size + 8) + 30  # More than the ring of resets has room for.

Block_ = Callable[..., None]


class Server:
    """Answers whatever comes, once for each blank line."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self._listener = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self.port = self._listener.getsockname()[1]
        self.read = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while received := connection.recv(1 << 16):
                    self.read += received
                    connection.sendall(ANSWER * received.count(b"\r\n\r\n"))
            except OSError:
                return

    def stop(self) -> None:
        self._listener.close()


@pytest.fixture
def server(capture: PacketCapture) -> Iterator[Server]:
    running = Server()
    capture.set_listening([running.port])
    yield running
    running.stop()


def build_enforcer() -> Enforcer:
    enforcer = Enforcer(
        limits=EnforcementSettings(enabled=True, never_block_cidrs=(ip_network(NEVER),), min_ipv4_prefix_bits=8),
        clock=Clock(),
        read_switch=lambda: "",
        history=SimpleNamespace(calls=1_000, measure_share=lambda blocks: 0.0),
        list_servers=lambda: (),
    )
    enforcer.set_key(1, SECRET)
    return enforcer


@contextmanager
def make_enforcer(capture: PacketCapture) -> Iterator[Enforcer]:
    """One that enforces what it is told on this kernel."""
    stops = StopMaps(capture.maps)
    watch = StopWatch(stops, Resetter(Path("/proc"), dict), Clock())
    enforcer = build_enforcer()
    watch.start()
    enforcer.begin(stops, watch, "")
    yield enforcer
    enforcer.end()
    stops.close()


@pytest.fixture
def block(capture: PacketCapture) -> Iterator[Block_]:
    """`block(addresses=.., credentials=..)`: from now on these are stopped, and no others."""

    def set_blocks(*, addresses: tuple[str, ...] = (), credentials: tuple[str, ...] = ()) -> None:
        hashes = [hash_siphash(SECRET, value.encode()) for value in credentials]
        blocks = [
            *(Block(id=text, kind=BlockKind.ADDRESS, network=ip_network(text), left_ms=60_000) for text in addresses),
            *(Block(id=str(h), kind=BlockKind.CREDENTIAL, hash=h, key_id=1, left_ms=60_000) for h in hashes),
        ]
        enforcer.take(tuple(blocks), 1)

    with make_enforcer(capture) as enforcer:
        yield set_blocks


def call(server: Server, *parts: str, source: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> str:
    """`ok` or `reset`: of all parts, each a segment of its own."""
    with socket.socket(family) as client:
        client.settimeout(DEADLINE_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET:
            client.bind((source, 0))
        client.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", server.port))
        wanted = sum(part.count("\r\n\r\n") for part in parts)
        try:
            for part in parts:
                client.sendall(part.encode())
                threading.Event().wait(0.05)
            received = b""
            while received.count(b"HTTP/1.1 200") < wanted:
                some = client.recv(1 << 16)
                if not some:
                    return "reset"
                received += some
        except ConnectionError:
            return "reset"
        except TimeoutError:
            return "hang"
    return "ok"


def head(*lines: str, target: str = "/users/1", method: str = "GET") -> str:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: a.example", *lines, "", ""))


PLAIN = head("Accept: */*")


@pytest.mark.parametrize(
    "parts",
    [
        (head(f"X-Api-Key: {STOLEN}"),),
        (head(f"x-api-key:{STOLEN}"),),
        (head("Accept: */*", f"Authorization: {STOLEN}", "User-Agent: x"),),
        (head(f"X-Vendor-Thing: {STOLEN}"),),
        (head(f"Cookie: a=b; sid={STOLEN}; c=d"),),
        (head(f"Cookie: sid={STOLEN}"),),
        (head(target=f"/users?page=2&api_key={STOLEN}"),),
        (head(target=f"/users?api_key={STOLEN}&page=2"),),
        (PLAIN + head(f"X-Api-Key: {STOLEN}"),),  # The second of two in one segment.
        (PLAIN, head(f"X-Api-Key: {STOLEN}")),  # The second of a connection.
        (f"GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {STOLEN}\nA: b\r\n\r\n",),
        ("GET / HTTP/1.1\r\nHost: a\r\n", f"X-Api-Key: {STOLEN}\r\n\r\n"),  # A head in two segments.
        (head("Content-Length: 2", f"X-Api-Key: {STOLEN}", method="POST") + "{}",),
    ],
    ids=lambda parts: repr(parts[-1])[:60],
)
def test_a_credential_is_found_and_never_read(server: Server, block: Block_, parts: tuple[str, ...]) -> None:
    assert call(server, *parts) == "ok"
    block(credentials=(STOLEN,))
    server.read = b""
    assert call(server, *parts) == "reset"
    assert STOLEN.encode() not in server.read
    block()
    assert call(server, *parts) == "ok"


@pytest.mark.parametrize(
    "parts",
    [
        (PLAIN,),
        (head(f"X-Api-Key: {STOLEN}0"),),
        (head(f"X-Api-Key: {STOLEN[:-1]}"),),
        (head(f"User-Agent: x{STOLEN}"),),
        (head(f"Cookie: sid=x{STOLEN}"),),
        # In a body: whoever writes of a credential does not show it.
        (head("Content-Length: 40", method="POST") + f"X-Api-Key: {STOLEN}\r\n".ljust(40),),
    ],
    ids=lambda parts: repr(parts[-1])[:60],
)
def test_others_pass(server: Server, block: Block_, parts: tuple[str, ...]) -> None:
    block(credentials=(STOLEN,))
    assert call(server, *parts) == "ok"


def test_a_long_token_is_matched_whole(server: Server, block: Block_) -> None:
    block(credentials=(f"Bearer {LONG}",))
    assert call(server, head(f"Authorization: Bearer {LONG}")) == "reset"
    assert call(server, head(f"Authorization: Bearer {LONG[:-1]}8")) == "ok"


def test_addresses_networks_and_the_never_block_list(server: Server, block: Block_) -> None:
    block(addresses=("127.0.3.7", "127.0.4.0/24", "127.0.3.0/28"))
    found = {source: call(server, PLAIN, source=source) for source in ("127.0.3.7", "127.0.4.9", "127.0.5.1", NEVER)}
    assert found == {"127.0.3.7": "reset", "127.0.4.9": "reset", "127.0.5.1": "ok", NEVER: "ok"}


def test_a_server_that_has_just_begun_to_listen(capture: PacketCapture, server: Server, block: Block_) -> None:
    capture.set_listening([])
    block(addresses=("127.0.3.7",), credentials=(STOLEN,))
    assert call(server, PLAIN, source="127.0.3.7") == "reset"
    assert call(server, head(f"X-Api-Key: {STOLEN}")) == "reset"
    assert call(server, PLAIN) == "ok"


def test_a_connection_that_is_open_is_stopped_too(server: Server, block: Block_) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 3, source_address=("127.0.3.8", 0)) as client:
        client.sendall(PLAIN.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        block(addresses=("127.0.3.8",))
        with pytest.raises(ConnectionError):
            client.sendall(PLAIN.encode())
            client.recv(100)


def test_ipv6(capture: PacketCapture, block: Block_) -> None:
    try:
        server = Server(socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on loopback")
    capture.set_listening([server.port])
    block(addresses=("::1",))
    assert call(server, PLAIN, family=socket.AF_INET6) == "reset"
    block(credentials=(STOLEN,))
    assert call(server, head(f"X-Api-Key: {STOLEN}"), family=socket.AF_INET6) == "reset"
    assert call(server, PLAIN, family=socket.AF_INET6) == "ok"
    server.stop()


def test_resets_that_the_ring_has_no_room_for_are_failed_ones(capture: PacketCapture) -> None:
    """Nobody reads the ring of resets, and nobody accepts the connections: that would take as many files again."""
    stops = StopMaps(capture.maps)
    enforcer = build_enforcer()
    enforcer.begin(stops, None, "")
    enforcer.take((Block(id="a", kind=BlockKind.ADDRESS, network=ip_network("127.0.2.2"), left_ms=60_000),), 1)

    def count() -> StopCount:
        (found,) = stops.counts().values()
        return found

    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS))
        address = listener.getsockname()
        capture.set_listening([address[1]])
        for _ in range(CLIENTS):
            client = socket.create_connection(address, source_address=("127.0.2.2", 0))
            opened.enter_context(client)
            # Closed without a word: nothing is sent again.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(PLAIN.encode())
        wait_until(lambda: count().connections == CLIENTS, "all are stopped")
    assert count().lost >= 20
    assert stops.count_lost() == count().lost == enforcer.report().blocks[0].failed_resets
    enforcer.end()
    stops.close()


def test_a_blocked_credential_from_a_spared_address_passes_and_counts(
    capture: PacketCapture, server: Server, block: Block_
) -> None:
    block(credentials=(STOLEN,))
    assert call(server, head(f"X-Api-Key: {STOLEN}"), source=NEVER) == "ok"
    stops = StopMaps(capture.maps)
    assert [count.spared for count in stops.counts().values()] == [1]
    stops.close()

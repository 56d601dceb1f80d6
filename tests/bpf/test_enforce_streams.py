"""Whom the kernel stops over HTTP/2: at the first header block of a connection, where a blocked credential is written
out there, and only if its client was seen to share no connection."""

import socket
from collections.abc import Callable, Iterator

import pytest

from common.keyed_hash import hash_siphash
from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import AuthenticationKind, Credentials, Ends, PrincipalKind, Role
from sensor.enforce.block import Block, BlockKind
from sensor.enforce.enforcer import Enforcer
from sensor.http.hpack import encode_huffman
from sensor.http.http2.frames import PREFACE
from tests.bpf.test_enforce import SECRET, Server, make_enforcer
from tests.sensor.http.hpack_encoder import Encoder, Pair
from tests.sensor.http.http2_wire import write_headers, write_settings, write_window_update
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel

STOLEN, LONG = b"Bearer stolen-0123456789", b"Bearer " + b"x" * 900 + b"7"
START = PREFACE + write_settings((3, 100)) + write_window_update(0)
FIXED = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/users/1"), (b":authority", b"a.example")]

Stop = Callable[..., None]


@pytest.fixture
def server(capture: PacketCapture) -> Iterator[Server]:
    running = Server()
    capture.set_listening([running.port])
    yield running
    running.stop()


@pytest.fixture
def stop(capture: PacketCapture) -> Iterator[Stop]:
    """`stop(value, is_shared=..)`: this credential is blocked, and its client was seen on a connection."""
    with make_enforcer(capture) as enforcer:

        def begin(value: bytes, *, is_shared: bool = False) -> None:
            number = hash_siphash(SECRET, value)
            block = Block(id="b", kind=BlockKind.CREDENTIAL, hash=number, key_id=1, left_ms=60_000)
            enforcer.take((block,), 1)
            see(enforcer, value, is_shared)

        yield begin


def see(enforcer: Enforcer, value: bytes, is_shared: bool) -> None:
    """A call of it was read; its socket is gone."""
    ends = Ends(1, Role.SERVER, 1, 0, "127.0.0.1", 1, "127.0.0.1", 0)
    who = Credentials(AuthenticationKind.BEARER_OPAQUE, 0, PrincipalKind.TOKEN, hash_siphash(SECRET, value), False)
    enforcer.see(ends, who, is_shared=is_shared, coded=encode_huffman(value))


def converse(server: Server, *parts: bytes) -> str:
    """`read` once the server has it all, or `reset`; each part is a segment of its own."""
    server.read = b""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, part in enumerate(parts):
                client.sendall(part)
                if not wait_for(server, client, b"".join(parts[: number + 1])):
                    return "hang"
        except ConnectionError:
            return "reset"
    return "read"


def wait_for(server: Server, client: socket.socket, wanted: bytes) -> bool:
    """Whether the server read it. Raises ConnectionError where the client is reset."""
    client.settimeout(0.02)
    for _ in range(int(DEADLINE_SECONDS / 0.02)):
        if server.read == wanted:
            return True
        try:
            if not client.recv(1 << 16):
                raise ConnectionResetError
        except TimeoutError:
            continue
    return False


def block_of(*pairs: Pair, is_huffman: bool, unindexed: frozenset[bytes] = frozenset(), stream: int = 1) -> bytes:
    return write_headers(stream, Encoder().encode([*FIXED, *pairs], is_huffman=is_huffman, unindexed=unindexed))


@pytest.mark.parametrize("is_huffman", [False, True])
@pytest.mark.parametrize("is_one_segment", [False, True])
@pytest.mark.parametrize(
    ("value", "unindexed"), [(STOLEN, frozenset()), (STOLEN, frozenset({b"authorization"})), (LONG, frozenset())]
)
def test_a_credential_that_is_written_out_is_never_read(
    server: Server, stop: Stop, is_huffman: bool, is_one_segment: bool, value: bytes, unindexed: frozenset[bytes]
) -> None:
    head = block_of((b"authorization", value), (b"x-other", b"1"), is_huffman=is_huffman, unindexed=unindexed)
    parts = (START + head,) if is_one_segment else (START, head)
    assert converse(server, *parts) == "read"
    stop(value)
    assert converse(server, *parts) == "reset"
    assert head not in server.read
    other = block_of((b"authorization", value + b"0"), is_huffman=is_huffman)
    assert converse(server, START, other) == "read"


@pytest.mark.parametrize("priority", [b"", bytes(5)])
def test_a_padded_block_with_a_name_written_out(server: Server, stop: Stop, priority: bytes) -> None:
    block = Encoder().encode([*FIXED, (b"x-api-key", STOLEN)])
    stop(STOLEN)
    assert converse(server, START, write_headers(1, block, padding=3, priority=priority)) == "reset"


def test_a_later_block_and_a_client_that_shares_are_left_to_user_space(server: Server, stop: Stop) -> None:
    first, second = (block_of((b"x-a", b"b"), is_huffman=True), block_of((b"x-a", STOLEN), is_huffman=True, stream=3))
    stop(STOLEN)
    assert converse(server, START, first, second) == "read"
    stop(STOLEN, is_shared=True)
    assert converse(server, START, block_of((b"x-a", STOLEN), is_huffman=True)) == "read"


def test_what_is_no_block_passes(server: Server, stop: Stop) -> None:
    stop(STOLEN)
    for garbage in (b"\xff" * 300, bytes(300), write_headers(1, b"\x7f\xff\xff\xff" * 20), write_headers(1, b"")):
        assert converse(server, START, garbage) == "read"

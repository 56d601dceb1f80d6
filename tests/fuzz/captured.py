"""What is fuzzed between the kernel and a call: what processes read and wrote (in the clear, by TLS), frames that the
kernel cut, heads that the kernel matches."""

from collections.abc import Callable, Iterator
from typing import Final

from sensor.capture.http2.assembler import StreamAssembler
from sensor.capture.syscalls.streams import Conversations
from sensor.capture.tls.reader import TlsReader
from sensor.core.calls import Exchange
from sensor.core.health import StageCounter
from sensor.ebpf.abi import FRAMES_EVENT, SYSCALL_EVENT, EventKind, Library, SyscallEvent, SyscallKind
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.http.http2.exchange import StreamExchange
from sensor.offload.name_table import read_plain_head
from tests.sensor.events import take_records

_SECOND: Final = 1_000_000_000
_LATER: Final = 1 << 60
_LOCAL, _REMOTE = bytes([127, 0, 0, 1]) + bytes(12), bytes([10, 0, 0, 2]) + bytes(12)
_KINDS: Final = (
    *(SyscallKind.READ, SyscallKind.WRITE) * 5,
    *(SyscallKind.EOF, SyscallKind.SHUT, SyscallKind.READ, SyscallKind.CLOSED, SyscallKind.CUT, SyscallKind.WRITE),
)


def _tell(data: bytes) -> Iterator[memoryview]:
    """Events of two sockets, two bytes and what was moved each: what happened (in its upper bits which socket, and
    whether the bytes were not copied), and how much."""
    positions, at, now_ns = [[0, 0], [0, 0]], 0, _SECOND
    while at + 2 <= len(data):
        act, length = data[at], data[at + 1]
        said = data[at + 2 : at + 2 + length]
        at += 2 + length
        now_ns += 1_000
        socket, kind = act >> 4 & 1, _KINDS[act & 15]
        way = int(kind is SyscallKind.WRITE)
        copied = said[: len(said) // 2] if act & 0x80 else said
        event = SyscallEvent(
            time_ns=now_ns, socket=7 + socket, cgroup_id=3, sequence=positions[socket][way],
            other=positions[socket][1 - way], size=len(said), length=len(copied), hash=0, local_port=443,
            remote_port=50_000 + socket, kind=kind, family=4, bound=1, library=Library.OPENSSL, process=10,
            local_address=_LOCAL, remote_address=_REMOTE,
        )  # fmt: skip
        if kind in (SyscallKind.READ, SyscallKind.WRITE):
            positions[socket][way] += len(said)
        yield memoryview(SYSCALL_EVENT.pack(*event) + copied)


def _check(told: list[Exchange | StreamExchange], said_bytes: int) -> None:
    for one in told:
        exchange = one.exchange if isinstance(one, StreamExchange) else one
        assert 0 <= exchange.figures.status_code <= 999
        # Of what nobody looked at the rest of a frame counts as sent: such calls are lossy.
        if not exchange.figures.is_lossy:
            assert (
                0 <= exchange.figures.request_bytes <= said_bytes and 0 <= exchange.figures.response_bytes <= said_bytes
            )


def fuzz_conversations(data: bytes) -> None:
    """What processes move: each call that was seen is told or dropped, and none that is whole has bytes nobody said."""
    stage = StageCounter("exchange")
    conversations = Conversations(to_unix_ns=int, stage=stage, refuse=lambda event, verdict: None)
    told = take_records(conversations, _tell(data))
    told += conversations.poll(_LATER)
    told += take_records(conversations, _tell(b"\x0d\0\x1d\0"))  # Both sockets are closed.
    _check(told, len(data))
    assert stage.held == 0


def fuzz_tls_reader(data: bytes) -> None:
    """The same of sessions of TLS; what is counted of their ports is what is told."""
    reader = TlsReader(to_unix_ns=int, refuse=lambda event, verdict: None)
    told = reader.take(_tell(data)) + reader.poll(_LATER)
    _check(told, len(data))
    assert all(port.calls >= 0 and port.connections <= 2 for port in reader.ports.values())


def fuzz_kernel_frames(data: bytes) -> None:
    """Events of frames, five bytes and a payload each: of any kind, anywhere, of any size, in any order."""
    stage = StageCounter("exchange")
    assembler = StreamAssembler(to_unix_ns=int, stage=stage)
    kinds = (EventKind.FRAMES, EventKind.FRAMES, EventKind.BYTES, EventKind.END)
    sequences, at, now_ns = [0, 0], 0, _SECOND
    told = list[StreamExchange]()
    while at + 5 <= len(data):
        act, more, left, flags, length = data[at : at + 5]
        payload = data[at + 5 : at + 5 + length]
        at += 5 + length
        now_ns += 1_000
        way = act & 1
        covered = len(payload) + (more if act & 0x10 else 0)
        head = FRAMES_EVENT.pack(
            *(now_ns, 7 + (act >> 5 & 1), sequences[way], covered, len(payload), more, left if act & 0x40 else 0),
            *(kinds[act >> 1 & 3], way, flags & 31, 4, 80, 5_000, 11, 13, _LOCAL, _REMOTE),
        )
        sequences[way] = sequences[way] + covered + (more if act & 0x80 else 0) & 0xFFFFFFFF
        told += assembler.take([memoryview(head + payload)])
    told += [one for one in assembler.poll(_LATER) if isinstance(one, StreamExchange)]
    assert len(assembler) <= 2
    assert stage.held >= 0
    assert all(0 <= one.exchange.figures.status_code <= 999 for one in told)


def fuzz_plain_head(data: bytes) -> None:
    """What is taught of a head is what is told of it."""
    plain, parsed = read_plain_head(data), parse_request_head(data, False)
    if plain is not None and isinstance(parsed, RequestHead):
        assert parsed.method.encode() == plain.method
        assert parsed.path == plain.path


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "conversations": fuzz_conversations,
    "tls_reader": fuzz_tls_reader,
    "kernel_frames": fuzz_kernel_frames,
    "plain_head": fuzz_plain_head,
}

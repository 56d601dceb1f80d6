"""Conversations of HTTP/1 drawn by chance: each way of capture tells each call once, with its status, its bytes and
whether it was aborted."""

import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.ebpf.abi import RecordFlag
from sensor.ebpf.tracepoints import ProbeSettings
from tests.bpf.http1_conversation import PATHS, Conversation
from tests.bpf.recognised import drain, own_cgroup_id
from tests.bpf.reference import Teacher
from tests.bpf.test_http2 import connect, play, whole
from tests.bpf.wire import receive_exactly, request, response
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.kernel, pytest.mark.full]

SEEDS, CALLS = 150, 14
Told = dict[int, tuple[int, int, int, bool]]  # By number of the call; its parts together.
GET, ANSWER = request("GET", "/orders"), response(200)


@pytest.fixture(scope="module")
def syscalls() -> Iterator[SyscallCapture]:
    """The way of system calls, attached."""
    settings = ProbeSettings(ring_bytes=RING_BYTES)
    capture = SyscallCapture.load(settings, clock=Clock(), cache_directory=find_images())
    yield capture
    capture.close()


def talk(said: Conversation, client: socket.socket, server: socket.socket) -> None:
    play(said.said, (client, server), whole)
    first, last = (client, server) if said.end.endswith("client") else (server, client)
    if said.end.startswith("reset"):
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()
    last.close()


def read(capture: PacketCapture | SyscallCapture, port: int, count: int) -> Told:
    """The calls of a port, once `count` are there and a moment longer."""
    told: Told = {}

    def add(call: int, status: int, sizes: tuple[int, int], *, is_aborted: bool) -> None:
        before = told.get(call, (0, 0, 0, False))
        told[call] = (status or before[0], before[1] + sizes[0], before[2] + sizes[1], is_aborted or before[3])

    deadline, is_last = time.monotonic() + DEADLINE_SECONDS, False
    while True:
        for one in capture.read_records(is_all=True):
            if one["local_port"] == port:
                sizes = int(one["request_bytes"]), int(one["response_bytes"])
                is_aborted = bool(int(one["flags"]) & RecordFlag.ABORTED)
                add(int(one["call"]), int(one["status"]), sizes, is_aborted=is_aborted)
        capture.release_records()
        for each in capture.read():
            if isinstance(each, Exchange) and each.ends.local_port == port:
                sizes = each.figures.request_bytes, each.figures.response_bytes
                add(each.call, each.figures.status_code, sizes, is_aborted=each.figures.is_aborted)
        if is_last:
            return told
        is_last = len(told) >= count or time.monotonic() > deadline
        time.sleep(0.01 if is_last else 0.001)


def compare(capture: PacketCapture | SyscallCapture, seed: int, teacher: Teacher | None = None) -> None:
    said = Conversation(seed, CALLS)
    with connect() as (client, server, port):
        if teacher is not None:
            for call in said.calls:
                if call.head.split(b" ")[1].split(b"?")[0].decode() in PATHS:
                    teacher.profile(call.head)
                    teacher.path(call.head, cgroup_id=own_cgroup_id(), port=port)
        talk(said, client, server)
    told = read(capture, port, len(said.calls))
    assert told == {number: call.told for number, call in enumerate(said.calls)}, (seed, said.end)


def test_by_packets(capture: PacketCapture) -> None:
    drain(capture)
    for seed in range(SEEDS):
        compare(capture, seed)


def test_by_records_and_heads(capture: PacketCapture, teacher: Teacher) -> None:
    drain(capture)
    for seed in range(SEEDS):
        compare(capture, seed, teacher)


def test_by_system_calls(syscalls: SyscallCapture) -> None:
    syscalls.read()
    for seed in range(SEEDS):
        compare(syscalls, seed)


def test_a_socket_may_have_the_number_of_one_that_is_left() -> None:
    """A client's connection is left to its server's end when its second call is read. On a busy node that is after its
    socket is closed and another one, in the middle of a head, has its number."""
    settings = ProbeSettings(ring_bytes=RING_BYTES, scope_id=own_cgroup_id())
    capture = SyscallCapture.load(settings, clock=Clock(), cache_directory=find_images())
    with contextlib.closing(capture), contextlib.ExitStack() as stack:
        for _ in range(8):
            with connect() as (client, server, _):
                for _ in range(2):
                    call(client, server, GET)
        pairs = [stack.enter_context(connect()) for _ in range(64)]
        for client, server, _ in pairs:
            client.sendall(GET[:2])
            receive_exactly(server, 2)
        capture.read()
        for client, server, _ in pairs:
            call(client, server, GET[2:])
        found, deadline = Counter[int](), time.monotonic() + DEADLINE_SECONDS
        ports = Counter(port for _, _, port in pairs)
        while found != ports and time.monotonic() < deadline:
            told = [one.ends.local_port for one in capture.read() if isinstance(one, Exchange)]
            found.update(port for port in told if port in ports)
    assert found == ports


def call(client: socket.socket, server: socket.socket, rest: bytes) -> None:
    client.sendall(rest)
    receive_exactly(server, len(rest))
    server.sendall(ANSWER)
    receive_exactly(client, len(ANSWER))

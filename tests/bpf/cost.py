"""What the kernel side takes of each call: `python -m tests.bpf.cost` (root), a line a case.

Both ends of a connection are this process, so that only the time inside the programs is measured, as the kernel itself
counts it (BPF_ENABLE_STATS). Programs behind tail calls count to the hook that was entered. The server end's two
packets, the client end's two and their bare ACKs are all in the figure, which is the least of the rounds.
"""

import functools
import os
import random
import socket
from collections.abc import Callable, Sequence

from sensor.capture.packets.capture import PacketCapture
from sensor.capture.tls.waits import Waits
from sensor.core.clock import Clock
from sensor.ebpf.abi import NameKind
from sensor.ebpf.loader import load_program
from sensor.ebpf.run_time import enable_statistics, read_run_time
from tests.bpf.cgroups import in_cgroup
from tests.bpf.recognised import own_cgroup_id
from tests.bpf.reference import Teacher
from tests.bpf.wire import request, response

CALLS = 2_000
ROUNDS = 9
PIECE_BYTES = 16_384
_BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\nConnection: keep-alive\r\n"
)
CASES = {
    "small, 70 B": ("/users/1234", "User-Agent: c\r\n"),
    "service, 250 B": (
        "/v1/users/1234567/orders",
        "User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
        "Connection: keep-alive\r\nX-Api-Key: 0123456789abcdef0123456789abcdef\r\nX-Request-Id: 0123456789\r\n",
    ),
    "uuid and token, 1.2 KB": (
        "/v1/users/6f1c2d3e-4a5b-6c7d-8e9f-0a1b2c3d4e5f/orders/991?page=2",
        _BROWSER + "Authorization: Bearer " + "e" * 700 + "\r\n",
    ),
    "browser with cookie, 1 KB": ("/api/items", _BROWSER + "Cookie: " + "c" * 500 + "\r\n"),
}


def _make_calls(sent: bytes, answer: bytes, count: int, ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    for _ in range(count):
        client.sendall(sent)
        server.recv(65536)
        server.sendall(answer)
        client.recv(65536)


def measure(capture: PacketCapture, programs: tuple[int, int], run: Callable[[], None]) -> tuple[float, float]:
    """Nanoseconds a call in ingress and in egress: the least of ROUNDS, each in a drained ring."""
    best = [1e9, 1e9]
    for _ in range(ROUNDS):
        before = [read_run_time(fd).nanoseconds for fd in programs]
        run()
        for index, fd in enumerate(programs):
            best[index] = min(best[index], (read_run_time(fd).nanoseconds - before[index]) / CALLS)
        capture.read()
        capture.read_records(is_all=True)
        capture.release_records()
    return best[0], best[1]


def _talk_first(client: socket.socket, server: socket.socket, first: tuple[bytes, bytes]) -> None:
    """The first words of a connection, which decide what it is."""
    for sender, receiver, data in ((client, server, first[0]), (server, client, first[1])):
        sender.sendall(data)
        receiver.recv(65536)


def _send_datagrams(payload: bytes, count: int, ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    for _ in range(count):
        client.send(payload)
        server.recv(65536)


def _make_long_calls(
    sent: bytes, pieces: Sequence[bytes], count: int, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Each piece of an answer is a segment."""
    client, server = ends
    for _ in range(count):
        client.sendall(sent)
        server.recv(65536)
        for piece in pieces:
            server.sendall(piece)
            client.recv(len(piece), socket.MSG_WAITALL)


def _make_different_calls(requests: Sequence[bytes], answer: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    for sent in requests:
        _make_calls(sent, answer, 1, ends)


def measure_values(capture: PacketCapture, programs: tuple[int, int], teacher: Teacher) -> None:
    """A known path whose value is another in each call."""
    source = random.Random(1)
    requests = [request("GET", f"/orders/items/{source.randrange(10**8, 10**9)}") for _ in range(CALLS)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        teacher.set(is_recognising=1)
        teacher.profile(requests[0])
        teacher.path(requests[0], cgroup_id=own_cgroup_id(), port=listener.getsockname()[1], values=(2,))
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer = response(200, b"x" * 200)
                run = functools.partial(_make_different_calls, requests, answer, (client, server))
                _print("another id each call", "known", measure(capture, programs, run))


def measure_long(capture: PacketCapture, programs: tuple[int, int]) -> None:
    """Answers of nine segments, seven of which are neither the first of their body nor its last."""
    sent = request("GET", "/files/1")
    pieces = [response(200, b"x" * 8 * PIECE_BYTES)[: -8 * PIECE_BYTES], *[b"x" * PIECE_BYTES] * 8]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            run = functools.partial(_make_long_calls, sent, pieces, CALLS, (client, server))
            _print("answer of 9 segments", "unknown", measure(capture, programs, run))


def measure_unread(capture: PacketCapture, programs: tuple[int, int]) -> None:
    """What is only counted: exchanges of connections that are not HTTP, and datagrams."""
    asked, answered = b"\x17\x03\x03\x00\x64" + b"x" * 100, b"\x17\x03\x03\x01\x2c" + b"x" * 300
    hellos = (b"\x16\x03\x01\x00\x28\x01" + b"x" * 39, b"\x16\x03\x03\x00\x28\x02" + b"x" * 39)
    waits = Waits(capture.maps["waits"], capture.maps["timed"])
    for case, first in (("encrypted", hellos), ("encrypted, timed", hellos), ("other", (b"\0" * 40, b"\0" * 40))):
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as client,
        ):
            server, _ = listener.accept()
            with server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waits.read([(own_cgroup_id(), listener.getsockname()[1])] if case.endswith("timed") else [])
                for _ in range(10):
                    _talk_first(client, server, first)
                run = functools.partial(_make_calls, asked, answered, CALLS, (client, server))
                _print(case, "", measure(capture, programs, run))
    datagrams = {"dns": b"\x12\x34\x01\x00" + b"d" * 40, "quic": b"\xc3\x00\x00\x00\x01" + b"q" * 1195}
    for case, payload in datagrams.items():
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            server.bind(("127.0.0.1", 0))
            client.connect(server.getsockname())
            run = functools.partial(_send_datagrams, payload, CALLS, (client, server))
            _print(case, "", measure(capture, programs, run))


def _print(case: str, name: str, spent: tuple[float, float]) -> None:
    print(f"{case:26} {name:8} ingress {spent[0]:5.0f} egress {spent[1]:5.0f} both {sum(spent):5.0f} ns")


def main() -> None:
    """Prints the table."""
    stats = enable_statistics()
    with in_cgroup("cost") as home:  # Only this process's packets are in the figures.
        program = load_program(home, 16 << 20, True)
        capture = PacketCapture(program=program, ring_bytes=16 << 20, clock=Clock())
        capture.attach()
        teacher = Teacher(capture)
        teacher.name(True, b"page", NameKind.QUERY_IGNORED)
        for field in (b"accept-language", b"connection"):
            teacher.name(False, field, NameKind.HEADER_IGNORED)
        for case, (target, headers) in CASES.items():
            sent, answer = request("GET", target, headers), response(200, b"x" * 200, "Server: nginx\r\nDate: x\r\n")
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
                for name, is_on, is_taught in (("off", 0, False), ("unknown", 1, False), ("known", 1, True)):
                    teacher.set(is_recognising=is_on)
                    if is_taught:
                        segments = target.partition("?")[0].split("/")[1:]
                        values = tuple(i for i, text in enumerate(segments) if text[:1].isdigit())
                        teacher.profile(sent)
                        teacher.path(sent, cgroup_id=own_cgroup_id(), port=port, values=values)
                    with socket.create_connection(("127.0.0.1", port)) as client:
                        server, _ = listener.accept()
                        with server:
                            for end in (client, server):
                                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                            ends = (client, server)
                            spent = measure(
                                capture,
                                tuple(program.programs.values()),
                                functools.partial(_make_calls, sent, answer, CALLS, ends),
                            )
                    _print(case, name, spent)
        measure_values(capture, tuple(program.programs.values()), teacher)
        teacher.set(is_recognising=0)
        measure_long(capture, tuple(program.programs.values()))
        measure_unread(capture, tuple(program.programs.values()))
        capture.close()
    os.close(stats)


if __name__ == "__main__":
    main()

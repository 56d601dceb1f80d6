"""The programs on packets, compiled in user space: calls behind a granted upgrade, tunnels, and more pipelined requests
than the tail calls of a packet reach."""

import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.vm.images import describe_build
from sensor.capture.packets.exchange import ExchangeAssembler
from sensor.core.calls import Exchange
from sensor.core.health import StageCounter
from sensor.ebpf.abi import PORT_COUNT, Counter
from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.http1_states import build_machine
from tests.bpf.test_upgraded import ANSWERED, ASKED, SIZES, converse, count
from tests.bpf.wire import NO_HTTP, chunked, request, response

CLIENT, SERVER = 0, 1  # enum direction of a server's end.
FIN = 1
WHOLE = 60_000  # As long as segments get that the network card joins.
TAIL_CALLS_MAX = 33
EVENTS, LAST = 0, 0xFFFFFFFF

Packet = tuple[int, int, bytes]  # Direction, TCP flags, payload.


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    exchanges: list[Exchange]
    counters: dict[Counter, int]
    lost: int  # Calls that the coverage counts as lost.
    tail_calls: int  # The most of a packet.

    @property
    def rows(self) -> list[tuple[str, int]]:
        """("METHOD /target", status) in the order of their ends."""
        return [
            (b" ".join(one.request_head.split(b" ")[:2]).decode(), one.figures.status_code) for one in self.exchanges
        ]


Play = Callable[[list[Packet]], Outcome]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Runs the packets of one connection through the programs."""
    compiler = shutil.which("cc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("packets")
    harness, table, header = directory / "harness", directory / "table", directory / "uapi" / "linux" / "bpf.h"
    table.write_bytes(build_machine().packed())
    header.parent.mkdir(parents=True)
    header.write_text("#include <linux/bpf.h>\n")
    source = Path(__file__).with_name("packet_harness.c")
    flags = ("-O1", "-w", "-fno-strict-aliasing", f"-I{directory}", f"-I{BPF_DIRECTORY}")
    build = describe_build()
    constants = [f"-D{name}={value}" for name, value in build.constants.items()]
    subprocess.run([compiler, *flags, *build.flags, *constants, "-o", harness, source], check=True)

    def run(packets: list[Packet]) -> Outcome:
        data = b"".join(struct.pack("<3I", way, flags, len(payload)) + payload for way, flags, payload in packets)
        return read_outcome(subprocess.run([harness, table], input=data, capture_output=True, check=True).stdout)

    return run


def read_outcome(output: bytes) -> Outcome:
    events, at = [], 0
    while (ring := struct.unpack_from("<I", output, at)[0]) != LAST:
        size = struct.unpack_from("<I", output, at + 4)[0]
        if ring == EVENTS:
            events.append(memoryview(output)[at + 8 : at + 8 + size])
        at += 8 + size
    tail_calls, *counters = struct.unpack_from("<I64Q", output, at + 4)
    lost = PORT_COUNT.unpack_from(output, at + 8 + 64 * 8)[4]
    assembler = ExchangeAssembler(
        to_unix_ns=lambda ns: ns, stage=StageCounter("exchange"), take_first_bytes=lambda event, data: None
    )
    return Outcome(
        exchanges=assembler.take(events),
        counters=dict(zip(Counter, counters, strict=False)),
        lost=lost,
        tail_calls=tail_calls,
    )


def cut(way: int, data: bytes, size: int) -> list[Packet]:
    return [(way, 0, data[at : at + size]) for at in range(0, len(data), size)]


GET, OK = request("GET", "/after"), response(200)
CONNECT, GRANTED = request("CONNECT", "example.org:443"), b"HTTP/1.1 200 Connection established\r\n\r\n"
UPGRADE = request("GET", "/up", "Connection: upgrade\r\nUpgrade: x\r\n")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
ENDS: list[Packet] = [(CLIENT, FIN, b""), (SERVER, FIN, b"")]


@pytest.mark.parametrize("size", [WHOLE, 11, 1])
@pytest.mark.parametrize(
    ("first", "granted"),
    [
        (CONNECT, GRANTED),
        (CONNECT, response(200)),
        (CONNECT, response(200, b"")),
        (CONNECT, chunked(200, b"ok")),
        (UPGRADE, SWITCHED),
    ],
    ids=["connect", "framed", "empty", "chunked", "upgrade"],
)
def test_calls_behind_a_granted_upgrade_are_calls(play: Play, first: bytes, granted: bytes, size: int) -> None:
    sent = [request("PURGE", "/odd"), GET, request("POST", "/body", body=b"b" * 40), CONNECT, GET]
    answers = [OK, OK, OK, GRANTED, OK]
    packets = [*cut(CLIENT, first, WHOLE), *cut(SERVER, granted, WHOLE)]
    for one, answer in zip(sent, answers, strict=True):
        packets += [*cut(CLIENT, one, size), *cut(SERVER, answer, size)]
    found = play([*packets, *ENDS])
    sizes = [(one.figures.request_bytes, one.figures.response_bytes) for one in found.exchanges]
    assert sizes == [(len(a), len(b)) for a, b in zip([first, *sent], [granted, *answers], strict=True)]
    assert found.rows[1:] == [
        ("PURGE /odd", 200),
        ("GET /after", 200),
        ("POST /body", 200),
        ("CONNECT example.org:443", 200),
        ("GET /after", 200),
    ]
    assert found.lost == 0


@pytest.mark.parametrize("is_pipelined", [False, True])
@pytest.mark.parametrize(("sent", "received"), NO_HTTP.values(), ids=NO_HTTP)
def test_a_tunnel_is_no_call(play: Play, sent: bytes, received: bytes, is_pipelined: bool) -> None:
    begun = [CONNECT + sent, GRANTED + received] if is_pipelined else [CONNECT, GRANTED, sent, received]
    packets = [(number % 2, 0, data) for number, data in enumerate([*begun, sent, received])]
    found = play([*packets, *ENDS])
    assert found.rows == [("CONNECT example.org:443", 200)]
    assert (found.counters[Counter.CALLS], found.lost) == (1, 0)


@pytest.mark.parametrize("size", [WHOLE, 100, 7, 1])
def test_a_websocket_is_followed_from_its_first_byte(play: Play, size: int) -> None:
    sent, received = converse(3, SIZES, is_masked=True), converse(4, SIZES, is_masked=False)
    packets = [(CLIENT, 0, ASKED), (SERVER, 0, ANSWERED), *cut(CLIENT, sent, size), *cut(SERVER, received, size)]
    _, ended = play([*packets, *ENDS]).exchanges
    assert (ended.request_messages, ended.response_messages) == (count(sent), count(received))
    assert ended.figures.request_bytes == len(ASKED) + len(sent)
    assert ended.figures.response_bytes == len(ANSWERED) + len(received)


def test_a_websocket_that_says_nothing_ends_with_its_connection(play: Play) -> None:
    found = play([(CLIENT, 0, ASKED), (SERVER, 0, ANSWERED), *ENDS])
    assert [(one.figures.calls, one.figures.is_final) for one in found.exchanges] == [(1, False), (0, True)]


@pytest.mark.parametrize("answer", [OK, response(200, b"b" * 100), response(200, b"b" * 800)], ids=len)
@pytest.mark.parametrize(
    ("sent_size", "received_size"), [(WHOLE, WHOLE), (WHOLE, 16_000), (WHOLE, 1_400), (1_400, WHOLE), (1_400, 1_400)]
)
@pytest.mark.parametrize(("number", "turns"), [(100, 1), (300, 10), (900, 10)])
def test_pipelined_requests_are_read_or_counted_as_lost(
    play: Play, number: int, turns: int, sent_size: int, received_size: int, answer: bytes
) -> None:
    sent = b"".join(request("GET", f"/p/{one}") for one in range(number))
    packets = [*cut(CLIENT, sent, sent_size), *cut(SERVER, answer * number, received_size)] * turns
    found = play([*packets, (CLIENT, 0, GET), (SERVER, 0, OK), *ENDS])
    total, is_estimated = number * turns + 1, found.counters[Counter.TAIL_FAILED] > 0
    assert is_estimated or found.rows[-1] == ("GET /after", 200)
    assert found.rows[:20] == [(f"GET /p/{one}", 200) for one in range(20)]
    assert (
        len(found.rows) + found.lost == found.counters[Counter.CALLS] == pytest.approx(total, rel=0.02 * is_estimated)
    )
    assert found.counters[Counter.DROPPED_DEPTH] == found.lost
    assert found.tail_calls <= TAIL_CALLS_MAX


def test_pipelined_requests_of_all_kinds_are_counted(play: Play) -> None:
    chance, sent, answers = random.Random(3), [], []
    for _ in range(400):
        method = chance.choice(["GET", "HEAD", "POST"])
        body = b"z" * chance.randrange(40) if method == "POST" else b""
        sent.append(request(method, "/" + "p" * chance.randrange(80), body=body))
        answers.append(OK.removesuffix(b"ok") if method == "HEAD" else OK)
    for size in (WHOLE, 1_400):
        packets = [*cut(CLIENT, b"".join(sent), size), *cut(SERVER, b"".join(answers), 1_400)]
        found = play([*packets, (CLIENT, 0, GET), (SERVER, 0, OK), *ENDS])
        assert len(found.rows) + found.lost == pytest.approx(401, rel=0.03)


@pytest.mark.parametrize("size", [WHOLE, 10])
def test_answers_to_what_an_ambiguous_request_hides_are_counted(play: Play, size: int) -> None:
    sent = b"GET /first HTTP/1.1\nHost: h\n\n" + GET * 8
    packets = [(CLIENT, 0, sent), *cut(SERVER, OK * 9, size), (CLIENT, 0, GET), (SERVER, 0, OK)]
    found = play([*packets, *ENDS])
    assert found.rows == [("GET /first", 200), ("GET /after", 200)]
    assert found.lost == 8


@pytest.mark.parametrize("size", [1, 200])
def test_an_answer_of_ninety_chunks_in_one_packet_is_followed_to_its_end(play: Play, size: int) -> None:
    answer = chunked(200, *[b"c" * size] * 90)
    found = play([(CLIENT, 0, GET), (SERVER, 0, answer), (CLIENT, 0, GET), (SERVER, 0, OK), *ENDS])
    assert [one.figures.response_bytes for one in found.exchanges] == [len(answer), len(OK)]
    assert found.counters[Counter.RESYNC] == 0 and found.tail_calls <= TAIL_CALLS_MAX


def test_an_answer_that_nobody_asked_for_is_not_lost(play: Play) -> None:
    found = play([(CLIENT, 0, GET), (SERVER, 0, OK), (SERVER, 0, response(408)), *ENDS])
    assert (found.rows, found.lost) == ([("GET /after", 200)], 0)

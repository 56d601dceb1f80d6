"""The kernel's message machine, compiled in user space: the same result however the bytes are cut."""

import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.http1_states import STATE, Action, ParseFlag, build_machine, defines


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a walk ended."""

    done: int
    state: int
    action: int
    status: int
    flags: int
    length: int


Walk = Callable[[str, bytes, int], Stop]


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """Runs the machine from a state over bytes, in windows of `size`."""
    compiler = shutil.which("cc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("machine")
    harness, table = directory / "harness", directory / "table"
    table.write_bytes(build_machine().packed())
    source = Path(__file__).with_name("machine_harness.c")
    command = [
        compiler,
        "-O1",
        "-g",
        "-Wall",
        "-Werror",
        f"-I{BPF_DIRECTORY}",
        *defines(),
        "-o",
        str(harness),
        str(source),
    ]
    subprocess.run(command, check=True)

    def run(state: str, data: bytes, size: int) -> Stop:
        case = struct.pack("<3I", STATE[state], size, len(data)) + data
        output = subprocess.run([harness, table], input=case, capture_output=True, check=True).stdout
        return Stop(*map(int, output.split()))

    return run


CODED = ParseFlag.CHUNKED | ParseFlag.CODING
UNKNOWN_CODING = ParseFlag.CODING | ParseFlag.AMBIGUOUS
REQUESTS = [
    # Head, flags, Content-Length.
    (b"GET / HTTP/1.1\r\n\r\n", 0, 0),
    (b"\r\nGET / HTTP/1.1\n\n", ParseFlag.AMBIGUOUS, 0),
    (b"GET / HTTP/1.1\r\nA: b\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"GET / HTTP/1.1\r\nA: b\r\n\n", ParseFlag.AMBIGUOUS, 0),
    (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"GET / HTTP/1.1\r\nA: b\r\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"HEAD /x?y=z HTTP/1.0\r\nHost: h\r\n\r\n", ParseFlag.HEAD | ParseFlag.OLD, 0),
    (b"HEADER / HTTP/1.1\r\n\r\n", 0, 0),
    (b"HEA / HTTP/1.1\r\n\r\n", 0, 0),
    (b"CONNECT a:1 HTTP/1.1\r\n\r\n", ParseFlag.CONNECT, 0),
    (b"M-SEARCH * HTTP/1.1\r\n\r\n", 0, 0),
    (b"GET /a b c HTTP/1.1\r\n\r\n", 0, 0),
    (b"GET   /a?" + b"q" * 300 + b"  HTTP/1.1\r\n\r\n", 0, 0),
    (b"GET\r/a\r \rb\rHTTP/1.1\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"GET\t/a\x0b \x0cHTTP/1.0\t\r\n\r\n", ParseFlag.OLD, 0),
    (b"POST / HTTP/1.1\r\ncontent-LENGTH:  0123 \r\n\r\n", ParseFlag.LENGTH, 123),
    (b"POST / HTTP/1.1\r\nX-Content-Length: 9\r\nContent-Lengthy: 8\r\nContent_Length: 7\r\n\r\n", 0, 0),
    (b"POST / HTTP/1.1\r\nContent-Length : 7\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"POST / HTTP/1.1\r\nContent-Length\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"POST / HTTP/1.1\r\nContent-Length: 5 6\r\n\r\n", ParseFlag.LENGTH | ParseFlag.AMBIGUOUS, 5),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n", ParseFlag.LENGTH | ParseFlag.AMBIGUOUS, 7),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, CHUNKED \r\n\r\n", CODED, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\n\r\n", CODED | ParseFlag.AMBIGUOUS, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", UNKNOWN_CODING, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: cchunked\r\n\r\n", UNKNOWN_CODING, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunkedx\r\n\r\n", UNKNOWN_CODING, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked x\r\n\r\n", UNKNOWN_CODING, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", UNKNOWN_CODING, 0),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", UNKNOWN_CODING, 0),
    (b"POST / HTTP/1.1\r\nTE: chunked\r\nX: Transfer-Encoding: chunked\r\n\r\n", 0, 0),
    (b"POST / HTTP/1.1\r\nX: a\r\n Content-Length: 4\r\n\r\n", ParseFlag.AMBIGUOUS, 0),
    (b"GET / HTTP/1.1\r\nX: \xff\x00\x80\r\nY:\r\n\r\n", 0, 0),
]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 64, 128])
@pytest.mark.parametrize(("head", "flags", "length"), REQUESTS)
def test_request_heads(walk: Walk, head: bytes, flags: int, length: int, size: int) -> None:
    stop = walk("REQUEST", head + b"trailing \r\n\r\n data", size)
    assert (stop.done, stop.action) == (len(head), Action.HEAD_END_BARE if head.endswith(b"\n\n") else Action.HEAD_END)
    assert (stop.flags, stop.length) == (flags | ParseFlag.CONFIRMED, length)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"EHLO mail.example\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET /\r\n",
        b"GET\r\n",
        b"HEAD\r/ HTTP/1.1\r\n",
        b"GET / HTTP/1.1x\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b" GET / HTTP/1.1\r\n",
    ],
)
def test_other_protocols_are_rejected(walk: Walk, data: bytes) -> None:
    assert walk("REQUEST", data, 128).action == Action.REJECT


@pytest.mark.parametrize("size", [1, 3, 8, 128])
@pytest.mark.parametrize("status", [100, 200, 404, 599, 999])
def test_status_lines(walk: Walk, status: int, size: int) -> None:
    for line in (b"HTTP/1.1 %d OK\r\n", b"HTTP/1.0 %d\r\n", b"HTTP/1.1 %d \n"):
        head = line % status + b"Content-Length: 12\r\n\r\n"
        stop = walk("RESPONSE", head + b"HTTP/1.1 200", size)
        assert (stop.done, stop.action, stop.status, stop.length) == (len(head), Action.HEAD_END, status, 12)


@pytest.mark.parametrize(
    "data", [b"HTTP/2 200 OK\r\n", b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 2000 OK\r\n", b"ICY 200 OK\r\n"]
)
def test_other_status_lines_are_rejected(walk: Walk, data: bytes) -> None:
    assert walk("RESPONSE", data, 128).action == Action.REJECT


@pytest.mark.parametrize("size", [1, 2, 8, 128])
@pytest.mark.parametrize(
    ("line", "length"),
    [(b"\r\n5\r\n", 5), (b'\r\n00aF;name="v"\r\n', 0xAF), (b"\r\n0\r\n", 0), (b"\r\n1000000\r\n", 0x1000000)],
)
def test_chunk_sizes(walk: Walk, line: bytes, length: int, size: int) -> None:
    for state, data in (("CHUNK_AFTER", line), ("CHUNK_SIZE", line[2:])):
        stop = walk(state, data + b"abc", size)
        assert (stop.done, stop.action, stop.length, stop.flags) == (len(data), Action.CHUNK_END, length, 0)


@pytest.mark.parametrize(
    ("data", "length"),
    [(b"\n5\r\n", 5), (b"\r\n5\n", 5), (b"\r\n10 \r\n", 16), (b"\r\n 7;x\r\n", 7), (b"\r\n3;a=\x00\r\n", 3),
     (b"\r\n3; a\r\n", 3), (b"\r\n3\rx\r\n", 3)],
)  # fmt: skip
def test_odd_chunk_sizes_are_ambiguous(walk: Walk, data: bytes, length: int) -> None:
    stop = walk("CHUNK_AFTER", data + b"abc", 128)
    assert (stop.done, stop.length, stop.flags) == (len(data), length, ParseFlag.AMBIGUOUS)
    assert stop.action in (Action.CHUNK_END, Action.CHUNK_END_BARE)


@pytest.mark.parametrize("data", [b"5\r\n", b"\r5\r\n", b"\r\n\r\n", b"\r\n0x5\r\n", b"\r\nX\r\n", b"\r\n5 6\r\n"])
def test_what_is_no_chunk_size(walk: Walk, data: bytes) -> None:
    assert walk("CHUNK_AFTER", data, 128).action == Action.REJECT


def test_nonsense_lengths_saturate(walk: Walk) -> None:
    for digits in (b"18446744073709551616", b"99999999999999999999999999", b"18446744073709551615"):
        stop = walk("REQUEST", b"POST / HTTP/1.1\r\nContent-Length: " + digits + b"\r\n\r\n", 128)
        assert stop.length >= 1 << 60


def test_trailers(walk: Walk) -> None:
    for trailer in (b"\r\n", b"X: y\r\nZ: 3\r\n\r\n"):
        stop = walk("LINE", trailer + b"GET", 128)
        assert (stop.done, stop.action, stop.flags) == (len(trailer), Action.HEAD_END, 0)


@settings(max_examples=200, deadline=None)
@given(
    data=st.lists(
        st.sampled_from(
            [
                b"GET ",
                b"/x",
                b" HTTP/1.1",
                b"\r\n",
                b"\n",
                b"\r",
                b"Content-Length: ",
                b"12",
                b"Transfer-Encoding:",
                b"chunked",
            ]
        )
        | st.binary(max_size=12),
        max_size=40,
    ).map(b"".join),
    state=st.sampled_from(["REQUEST", "RESPONSE", "LINE", "CHUNK_SIZE", "CHUNK_AFTER"]),
    size=st.integers(1, 128),
)
def test_any_cut_gives_the_same(walk: Walk, data: bytes, state: str, size: int) -> None:
    assert walk(state, data, size) == walk(state, data, 1)

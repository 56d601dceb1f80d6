"""Calls of HTTP/2 that the kernel matches with blocks it was taught are the very calls that their frames would give,
and whatever is odd about a stream that waits there comes up."""

import itertools
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import RawValue
from typing import Any

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.ebpf.abi import BLOCK_ENTRY, BLOCK_KEY, Counter
from sensor.ebpf.bpf_syscall import read_batch
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import StreamRequest
from sensor.http.reassembly import Direction
from tests.bpf.recognised import drain
from tests.bpf.test_http2 import COUNTED, collect, connect, play, whole
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import (
    write_data,
    write_goaway,
    write_headers,
    write_ping,
    write_reset,
    write_settings,
    write_window_update,
)
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel

FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD
OPEN_CALLS = 12
AHEAD_CALLS = 2_000  # Of what was read; three times as many frames, were all to come up, fill a third of the ring.
MESSAGE = b"\0\0\0\0\x08" + b"m" * 8
Said = list[tuple[Direction, bytes]]
Told = list[StreamExchange]


class Talk:
    """Writes unary RPCs of one connection whose encoders put all they can into their tables."""

    def __init__(self) -> None:
        self.request, self.response = Encoder(), Encoder()
        self.stream = -1

    def begin(self) -> Said:
        return [(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())]

    def ask(self, path: bytes, *messages: bytes, is_end: bool = True) -> bytes:
        self.stream += 2
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"h")]
        head = write_headers(self.stream, self.request.encode([*fields, (b"content-type", b"application/grpc")]))
        last = len(messages) - 1
        parts = [write_data(self.stream, one, is_end=is_end and at == last) for at, one in enumerate(messages)]
        return head + b"".join(parts)

    def answer(self, *messages: bytes, status: bytes = b"0", stream: int = 0) -> bytes:
        stream = stream or self.stream
        head = [(b":status", b"200"), (b"content-type", b"application/grpc")]
        parts = [write_headers(stream, self.response.encode(head))]
        parts += [write_data(stream, one) for one in messages]
        return b"".join([*parts, write_headers(stream, self.response.encode([(b"grpc-status", status)]), is_end=True)])

    def call(self, path: bytes, status: bytes = b"0") -> Said:
        return [(FORWARD, self.ask(path, MESSAGE)), (BACKWARD, self.answer(MESSAGE, status=status))]


def rows(told: Told) -> list[tuple[object, ...]]:
    """All of a call but its times, in order of its stream."""
    return sorted(
        (
            *(one.call.stream, one.call.request.head.path, one.exchange.figures.status_code, one.call.grpc_status),
            *(
                one.exchange.figures.request_bytes,
                one.exchange.figures.response_bytes,
                one.exchange.figures.is_aborted,
                one.exchange.figures.is_lossy,
            ),
            *(
                one.call.request_messages,
                one.call.response_messages,
                one.exchange.figures.calls,
                one.exchange.figures.is_final,
            ),
        )
        for one in told
        if isinstance(one.call.request, StreamRequest)
    )


def run(
    capture: PacketCapture, said: Said, count: int, *, read_every: int, is_closing: bool = False
) -> tuple[Told, int]:
    """The calls of a conversation, and how many of them were matched. `read_every`: parts between two readings, so that
    blocks are taught; 0: all is read in the end, when it is too late for that."""
    found: Told = []
    before = capture.counters()[Counter.MATCHED]
    with connect() as (client, server, port):
        for at in range(0, len(said), read_every or len(said)):
            play(said[at : at + (read_every or len(said))], (client, server), whole)
            if read_every:
                read = capture.read()
                found += [
                    one for one in read if isinstance(one, StreamExchange) and one.exchange.ends.local_port == port
                ]
        if is_closing:
            server.close()
        found += collect(capture, port, count - len(found))
    return found, capture.counters()[Counter.MATCHED] - before


@pytest.fixture(autouse=True)
def counted(capture: PacketCapture) -> Iterator[None]:
    """Nothing may be lost, and nothing stays taught."""
    drain(capture)
    before = capture.counters()
    yield
    after = capture.counters()
    assert {name: after[name] - before[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0)
    drain(capture)
    assert read_batch(capture.maps["blocks"], BLOCK_KEY.size, BLOCK_ENTRY.size, 16_384) == []


def test_what_repeats_is_matched(capture: PacketCapture) -> None:
    talk = Talk()
    said = talk.begin()
    for number in range(611):
        said += talk.call(b"/pkg.Service/Method%d" % (number % 3), b"5" if number % 7 == 0 else b"0")
    expected, none = run(capture, said, 611, read_every=0)
    found, matched = run(capture, said, 611, read_every=10)
    assert none == 0
    # All but the first: what is taught holds from 20 ms later on, and some calls come within them.
    assert matched > 400
    assert len(found) == 611
    assert rows(found) == rows(expected)
    assert {one.call.request_messages for one in found} == {1}


def test_blocks_of_indexes_alone_outdate_no_entry(capture: PacketCapture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy connection goes on while it is read, by kinds of calls that are not taught yet; where these change no
    table, what is taught then holds."""
    talk, paths, readings = Talk(), [b"/bench.Echo/Say%d" % number for number in range(30)], 24
    install, late = capture._install_blocks, iter(paths[1:])
    with connect() as (client, server, port):
        ends = client, server
        play(talk.begin() + [part for path in paths for part in talk.call(path)], ends, whole)
        told = len(collect(capture, port, len(paths)))

        def go_on_and_install() -> None:
            play(talk.call(next(late)), ends, whole)
            install()

        before = capture.counters()[Counter.MATCHED]
        with monkeypatch.context() as patched:
            patched.setattr(capture, "_install_blocks", go_on_and_install)
            for _ in range(readings):
                play([part for _ in range(4) for part in talk.call(paths[0])], ends, whole)
                told += sum(isinstance(one, StreamExchange) for one in capture.read())
        matched = capture.counters()[Counter.MATCHED] - before
        told += len(collect(capture, port, len(paths) + 5 * readings - told))
    assert told == len(paths) + 5 * readings
    assert matched >= 3 * readings


def test_a_table_that_changes_meanwhile(capture: PacketCapture) -> None:
    """A new path moves the others, so the bytes that meant one then mean another. How much is matched between two of
    them is a matter of milliseconds: nothing is, in one of four runs of some seeds."""
    all_matched = 0
    for seed in range(6):
        chance, talk = random.Random(seed), Talk()
        said, paths = talk.begin(), [b"/a", b"/b"]
        for _ in range(307):
            if chance.random() < 0.04:
                paths.append(b"/new/%d" % len(paths))
            path = paths[-1] if chance.random() < 0.3 else chance.choice(paths)
            said += talk.call(path, chance.choice([b"0", b"0", b"0", b"13"]))
        expected, _ = run(capture, said, 307, read_every=0)
        found, matched = run(capture, said, 307, read_every=20)
        all_matched += matched
        assert len(found) == 307
        assert rows(found) == rows(expected)
    assert all_matched > 0


def learn(talk: Talk) -> Said:
    """So much that the next call is matched, with readings of each ten parts."""
    said = talk.begin()
    for _ in range(60):
        said += talk.call(b"/pkg.Service/Method")
    return said


@pytest.mark.parametrize(
    "how",
    ["reset", "goaway", "parts", "several", "no end", "early answer", "trailers only", "new block", "padded", "ping"],
)
def test_what_is_odd_is_copied(capture: PacketCapture, how: str) -> None:
    talk = Talk()
    said = learn(talk)
    path, count = b"/pkg.Service/Method", 61
    if how == "reset":
        said += [(FORWARD, talk.ask(path, MESSAGE)), (FORWARD, write_reset(talk.stream))]
    elif how == "goaway":
        said += [(FORWARD, talk.ask(path, MESSAGE)), (BACKWARD, write_goaway(talk.stream - 2))]
    elif how == "parts":
        said.append((FORWARD, talk.ask(path, MESSAGE)))
        said += [(BACKWARD, part) for part in _halve(talk.answer(MESSAGE, MESSAGE))]
    elif how == "several":
        said.append((FORWARD, b"".join(talk.ask(path, MESSAGE) for _ in range(5))))
        said.append((BACKWARD, b"".join(talk.answer(MESSAGE, stream=talk.stream - back) for back in (0, 4, 2, 8, 6))))
        count = 65
    elif how == "no end":
        said += [(FORWARD, talk.ask(path, MESSAGE, is_end=False)), (BACKWARD, talk.answer(MESSAGE))]
        said.append((FORWARD, write_data(talk.stream, b"", is_end=True)))
    elif how == "early answer":
        said += [(FORWARD, talk.ask(path, MESSAGE, is_end=False)), (BACKWARD, talk.answer(MESSAGE))]
        said.append((FORWARD, write_data(talk.stream, MESSAGE, is_end=True)))
    elif how == "trailers only":
        said.append((FORWARD, talk.ask(path, MESSAGE)))
        block = talk.response.encode(
            [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"0")]
        )
        said.append((BACKWARD, write_headers(talk.stream, block, is_end=True)))
    elif how == "new block":
        said += [(FORWARD, talk.ask(path, MESSAGE)), (BACKWARD, talk.answer(MESSAGE, status=b"9"))]
    elif how == "padded":
        said.append((FORWARD, talk.ask(path, is_end=False) + write_data(talk.stream, MESSAGE, is_end=True, padding=9)))
        said.append((BACKWARD, talk.answer(MESSAGE)))
    elif how == "ping":
        said.append((FORWARD, write_ping() + talk.ask(path, MESSAGE) + write_window_update(0)))
        said.append((BACKWARD, write_window_update(talk.stream) + talk.answer(MESSAGE) + write_ping()))
    expected, _ = run(capture, said, count, read_every=0)
    found, matched = run(capture, said, count, read_every=10)
    assert matched > 20
    assert len(found) == count
    assert rows(found) == rows(expected)


def _halve(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[len(data) // 2 :]]


def test_what_waits_when_its_connection_ends_is_copied(capture: PacketCapture) -> None:
    talk = Talk()
    said = [*learn(talk), (FORWARD, talk.ask(b"/pkg.Service/Method", MESSAGE))]
    found, matched = run(capture, said, 61, read_every=10, is_closing=True)
    assert matched > 20
    assert [one.exchange.figures.is_aborted for one in sorted(found, key=lambda one: one.call.stream)] == [
        False
    ] * 60 + [True]


@pytest.mark.parametrize(("who", "is_closing"), [(FORWARD, False), (FORWARD, True), (BACKWARD, False)])
def test_what_was_sent_before_the_other_side_reset_its_stream_counts(
    capture: PacketCapture, who: Direction, is_closing: bool
) -> None:
    """It comes up with what its direction sends next, or with the connection's end."""
    talk = Talk()
    asked = talk.ask(b"/pkg.Service/Method", MESSAGE, is_end=False)
    answered = write_headers(talk.stream, talk.response.encode([(b":status", b"200")]))
    other = BACKWARD if who is FORWARD else FORWARD
    sent = [(other, write_data(talk.stream, MESSAGE))] * 50
    said = [*talk.begin(), (FORWARD, asked), (BACKWARD, answered), *sent, (who, write_reset(talk.stream))]
    if not is_closing:
        said += talk.call(b"/pkg.Service/Other")
    found, _ = run(capture, said, 1 if is_closing else 2, read_every=0, is_closing=is_closing)
    first = next(one for one in found if one.call.stream == 1)
    sizes, more = [len(asked), len(answered)], sum(len(data) for _, data in sent)
    sizes[other is BACKWARD] += more
    assert [first.exchange.figures.request_bytes, first.exchange.figures.response_bytes] == sizes
    assert first.exchange.figures.is_aborted and first.exchange.figures.calls == 1


def test_both_directions_at_once(capture: PacketCapture) -> None:
    """While one processor looks at a request another does at a response, and requests come in two packets each."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        pytest.skip("there is one processor only")
    talk, calls = Talk(), 11_000
    opening = PREFACE + write_settings()
    asked = [talk.ask(b"/pkg.Service/Method", MESSAGE) for _ in range(calls)]
    answers = [talk.answer(MESSAGE, stream=2 * number + 1) for number in range(calls)]
    before = capture.counters()
    found: Told = []
    with connect() as (client, server, port):
        seen = RawValue("Q")  # The newest call that was read: a slow reader is waited for, or the ring would be full.
        ends = list(itertools.accumulate(map(len, asked), initial=len(opening)))[1:]
        answered = list(itertools.accumulate(map(len, answers)))
        children = [
            _run_apart(processors[0], lambda: _answer_all(server, answers, ends)),
            _run_apart(processors[1], lambda: _ask_all(client, opening, asked, answered, seen)),
        ]
        until = time.monotonic() + DEADLINE_SECONDS
        while len(found) < calls and time.monotonic() < until:
            read = capture.read()
            found += [one for one in read if isinstance(one, StreamExchange) and one.exchange.ends.local_port == port]
            seen.value = max((one.call.stream // 2 for one in found[-AHEAD_CALLS:]), default=0)
        seen.value = calls
        for child in children:
            os.waitpid(child, 0)
    whole = {2 * number + 1: (len(answer), 200, 0, False) for number, answer in enumerate(answers)}
    told = {
        one.call.stream: (
            *(one.exchange.figures.response_bytes, one.exchange.figures.status_code),
            *(one.call.grpc_status, one.exchange.figures.is_aborted),
        )
        for one in found
    }
    other = {stream: one for stream, one in told.items() if one != whole[stream]}
    after = capture.counters()
    contended = after[Counter.CONTENDED] - before[Counter.CONTENDED]
    assert contended < calls / 100
    # If one processor waits for the other in vain, open calls may be missing (docs/internals/http2.md).
    assert len(found) == len(told)
    assert calls - len(told) + len(other) <= OPEN_CALLS * contended, other


def _run_apart(processor: int, work: Callable[[], None]) -> int:
    """In a process of its own, which ends with it; gives its number."""
    child = os.fork()
    if not child:
        try:
            os.sched_setaffinity(0, {processor})
            work()
        finally:
            os._exit(0)
    return child


def _answer_all(server: socket.socket, answers: list[bytes], ends: list[int]) -> None:
    """Each once its request has come."""
    received = done = 0
    while done < len(answers):
        received += len(server.recv(1 << 16))
        while done < len(answers) and ends[done] <= received:
            server.sendall(answers[done])
            done += 1


def _ask_all(client: socket.socket, opening: bytes, asked: list[bytes], ends: list[int], seen: Any) -> None:
    """Head and message apart, with a dozen calls open; never far ahead of what was `seen`."""
    client.sendall(opening)
    received = done = 0
    for number, one in enumerate(asked):
        while number - seen.value > AHEAD_CALLS:
            time.sleep(0.001)
        while number - done >= OPEN_CALLS:
            received += len(client.recv(1 << 16))
            while done < number and ends[done] <= received:
                done += 1
        client.sendall(one[: -len(MESSAGE) - 9])
        client.sendall(one[-len(MESSAGE) - 9 :])
    while received < ends[-1]:
        received += len(client.recv(1 << 16))

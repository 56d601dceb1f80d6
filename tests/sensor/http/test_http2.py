"""HTTP/2 connections as calls: whole conversations told exactly, joined late, with losses, as the kernel cuts them."""

import itertools
import random

import pytest

from sensor.capture.http2.flow import PieceOrder
from sensor.http.http2.frames import PASSED_OVER, PREFACE, Frame, FrameKind, unpack_header
from sensor.http.http2.heads import UNKNOWN_METHOD, UNKNOWN_PATH
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Chunk, Direction
from tests.sensor.http.http2_conversation import converse
from tests.sensor.http.http2_talk import (
    CLIENT,
    Transcript,
    check_call,
    get_head,
    replay,
)


@pytest.mark.parametrize(("seed", "table_bytes"), list(itertools.product(range(5), (4_096, 0, 256, 65_536))))
def test_conversations_are_told_exactly(seed, table_bytes):
    conversation = converse(seed, 120, table_bytes=table_bytes)
    transcript = Transcript(client=None if seed % 2 else CLIENT)
    replay(transcript, conversation, random.Random(seed) if seed % 3 else None)
    calls = transcript.close()
    assert transcript.connection.counts.losses == transcript.connection.counts.broken_blocks == 0
    assert sorted(call.stream for call in calls) == sorted(truth.stream for truth in conversation.ended)
    by_stream = {truth.stream: truth for truth in conversation.ended}
    for call in calls:
        check_call(call, by_stream[call.stream])
        assert not call.is_lossy and call.is_final and call.calls == 1
        assert call.started_ns <= (call.answered_ns or call.ended_ns) <= call.ended_ns
    assert len(calls) > 20


def test_byte_by_byte_is_the_same():
    conversation = converse(3, 60)
    whole, bytewise = Transcript(), Transcript()
    replay(whole, conversation)
    for direction, data in conversation.sent:
        bytewise.say(direction, data, cuts=tuple(range(len(data))))

    def flatten(call: StreamCall) -> tuple[object, ...]:
        head = get_head(call)
        values = [getattr(call, name) for name in call.__struct_fields__ if name != "request"]
        return (*values, head.method, head.path, head.query, [(header.name, header.value) for header in head.headers])

    assert [flatten(call) for call in whole.close()] == [flatten(call) for call in bytewise.close()]


def walk(data: bytes, position: int, time_ns: int) -> list[Frame]:
    """What the kernel tells of a segment of whole frames: all but DATA whole, DATA counted, one for a run of them."""
    frames: list[Frame] = []
    at = len(PREFACE) if data.startswith(PREFACE) else 0
    while at < len(data):
        length, kind, flags, stream = unpack_header(data, at)
        size = 9 + length
        last = frames[-1] if frames else None
        if kind in (FrameKind.WINDOW_UPDATE, FrameKind.PING):
            kind, flags, stream, payload, body = PASSED_OVER, 0, 0, None, 0
        elif kind != FrameKind.DATA:
            payload, body = data[at + 9 : at + size], 0
        else:
            payload, body = None, length
            is_run = last is not None and last.kind == kind and last.stream == stream and not last.flags & 1
            if is_run and last is not None and last.position + last.wire_bytes == position + at:
                frames.pop()
                at, size, body = at - last.wire_bytes, size + last.wire_bytes, body + last.payload_bytes
        frames.append(Frame(position + at, size, time_ns, kind, flags, stream, payload, body))
        at += size
    return frames


@pytest.mark.parametrize("seed", range(8))
def test_what_the_kernel_cuts_and_hands_up_tells_the_same(seed):
    """Frames whole, DATA counted, some segments as bytes and those out of order."""
    conversation, chance = converse(300 + seed, 120), random.Random(seed)
    whole = Transcript()
    replay(whole, conversation)
    kernel = Transcript()
    orders = [PieceOrder(), PieceOrder()]
    late: list[tuple[Direction, Chunk]] = []
    filled = 0
    for direction, data in conversation.sent:
        kernel.time_ns += 1_000_000
        position = kernel.positions[direction]
        kernel.positions[direction] += len(data)
        pieces: list[Chunk | Frame] = list(walk(data, position, kernel.time_ns))
        if chance.random() < 0.2 or position == 0:
            cut = chance.randrange(len(data)) if len(data) > 1 else 0
            pieces = [Chunk(position, data[:cut], kernel.time_ns), Chunk(position + cut, data[cut:], kernel.time_ns)]
            if cut and position and chance.random() < 0.5:
                late.append((direction, pieces.pop(0)))
        if chance.random() < 0.5:
            pieces += [piece for way, piece in late if way == direction]
            late = [(way, piece) for way, piece in late if way != direction]
        for piece in pieces:
            has_hole, found = bool(orders[direction].holes), orders[direction].add_piece(piece)
            filled += has_hole and bool(found)
            for ready in found:
                kernel.connection.take_piece(direction, ready, kernel.calls)
    for direction, piece in late:
        for ready in orders[direction].add_piece(piece):
            filled += 1
            kernel.connection.take_piece(direction, ready, kernel.calls)
    assert filled >= 1
    assert kernel.connection.counts.losses == 0
    by_stream = {call.stream: call for call in whole.close()}
    assert len(kernel.close()) == len(by_stream)
    for call in kernel.calls:
        expected = by_stream[call.stream]
        assert (get_head(call).path, call.grpc_status) == (get_head(expected).path, expected.grpc_status)
        if expected.is_aborted:  # The reset of one side may be read before what the other had said.
            assert call.status_code in (expected.status_code, 0)
            assert call.response_bytes <= expected.response_bytes and call.request_bytes <= expected.request_bytes
        else:
            assert (call.status_code, call.response_bytes) == (expected.status_code, expected.response_bytes)
            assert call.request_bytes == expected.request_bytes
            assert call.request_messages in (expected.request_messages, None)
            assert call.response_messages in (expected.response_messages, None)
        assert (call.is_aborted, call.is_lossy, call.calls) == (expected.is_aborted, False, 1)


@pytest.mark.parametrize("seed", range(5))
def test_joined_in_the_middle_nothing_is_wrong(seed):
    conversation = converse(100 + seed, 160)
    by_stream = {truth.stream: truth for truth in conversation.ended}
    for cut in range(3, len(conversation.sent) - 10, 11):
        transcript = Transcript(is_joined=True, client=None)
        transcript.positions = [1 << 40, 77]
        for direction, data in conversation.sent[cut:]:
            transcript.say(direction, data)
        for call in transcript.close():
            check_call(call, by_stream[call.stream])
        # Whatever the client began after the join is told; once its direction was found and known.
        assert transcript.connection.counts.broken_blocks == 0
        assert len(transcript.calls) >= 0.6 * transcript.connection.counts.requests
        assert transcript.connection.counts.requests == transcript.connection.counts.told


@pytest.mark.parametrize("seed", range(6))
def test_losses_are_counted_and_nothing_is_wrong(seed):
    conversation = converse(200 + seed, 250)
    by_stream = {truth.stream: truth for truth in conversation.ended}
    chance = random.Random(seed)
    transcript = Transcript()
    lost = 0
    for place, (direction, data) in enumerate(conversation.sent):
        if place > 4 and chance.random() < 0.04:
            first = chance.randrange(len(data))
            last = chance.randrange(first, len(data)) + 1
            transcript.say(direction, data[:first]).lose(direction, last - first).say(direction, data[last:])
            lost += last - first
        else:
            transcript.say(direction, data)
    assert 0 < transcript.connection.counts.gap_bytes <= lost
    for call in transcript.close():
        truth = by_stream[call.stream]
        head = get_head(call)
        assert head.path in (truth.path, UNKNOWN_PATH)
        assert head.method in (truth.method, UNKNOWN_METHOD)
        assert call.status_code in (truth.status, 0)
        assert call.grpc_status in (truth.grpc_status, None)
        assert head.get(b"authorization") in (truth.token, b"")
        if not (call.is_lossy or call.has_unknown_fields):
            assert (head.path, call.status_code, call.is_aborted) == (truth.path, truth.status, truth.is_aborted)
    assert transcript.connection.counts.told > 30

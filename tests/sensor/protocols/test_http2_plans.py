"""Events that were met before mean the same as when they are read: conversations told with plans and without."""

import random

import pytest

from scripts.bench_cases.http2 import converse as repeat
from scripts.bench_cases.http2 import write_events, write_rest, write_rpc
from sensor.health import StageCounter
from sensor.protocols import http2_plans
from sensor.protocols.hpack.decoder import HpackDecoder
from sensor.protocols.hpack.huffman import HuffmanStrings
from sensor.protocols.http2_frames import Frame, FrameFlag, FrameKind
from sensor.protocols.http2_heads import StreamRequest
from sensor.protocols.http2_plans import Plan, find_plan, keep_plan
from sensor.streams.assembler import StreamAssembler
from tests.sensor.protocols.http2_conversation import converse
from tests.sensor.protocols.http2_wire import write_frame


def tell(events: list[bytes]):
    """Every call, heads included, and how many events were taken by a plan."""
    assembler = StreamAssembler(to_unix_ns=int, stage=StageCounter("exchange"))
    told = assembler.take(map(memoryview, events))
    connection = assembler._streams.find(1)
    assert connection is not None
    calls = []
    for one in told:
        request = one.call.request
        assert isinstance(request, StreamRequest)
        headers = [(header.name, header.value) for header in request.head.headers]
        fields = [getattr(one.call, name) for name in one.call.__struct_fields__ if name not in ("request", "rpc")]
        calls.append((one.exchange, request.head.method, request.head.path, headers, fields))
    return calls, connection.counts, sum(map(len, connection._plans))


@pytest.mark.parametrize("write", [write_rpc, write_rest])
def test_repeated_calls(write, monkeypatch):
    events = write_events(repeat(write, 300))
    with_plans, counts, plans = tell(events)
    assert plans > 0 or write is write_rest
    monkeypatch.setattr(http2_plans, "MAX_EVENT_BYTES", 0)
    without, counts_without, none = tell(events)
    assert none == 0
    assert len(without) == 300
    assert with_plans == without
    assert counts == counts_without


@pytest.mark.parametrize("seed", range(12))
def test_conversations(seed, monkeypatch):
    events = write_events(converse(seed, 200).sent)
    with_plans = tell(events)
    monkeypatch.setattr(http2_plans, "MAX_EVENT_BYTES", 0)
    without = tell(events)
    assert with_plans[:2] == without[:2]


def make_request(stream: int, block: bytes, body: int = 5) -> tuple[bytes, list[Frame]]:
    flags = FrameFlag.END_HEADERS
    data = write_frame(FrameKind.HEADERS, flags, stream, block)
    frames = [Frame(0, len(data), 0, FrameKind.HEADERS, flags, stream, block, 0)]
    data += write_frame(FrameKind.DATA, FrameFlag.END_STREAM, stream, b"x" * body)[:9]
    frames.append(Frame(len(data) - 9, 9 + body, 0, FrameKind.DATA, FrameFlag.END_STREAM, stream, None, body))
    return data, frames


def keep(data: bytes, frames: list[Frame]) -> tuple[dict[bytes, Plan], HpackDecoder]:
    plans: dict[bytes, Plan] = {}
    decoder = HpackDecoder(HuffmanStrings(), is_complete=True)
    keep_plan(plans, data, frames, decoder, is_request=True)
    return plans, decoder


def test_only_the_number_of_the_stream_may_differ() -> None:
    """Whatever bytes of an event are changed otherwise, its plan is not found, or it is the event itself."""
    source = random.Random(3)
    block = b"\x82\x84\x86\x01\x04" + bytes([0, 0, 0, 5])  # A literal whose value is the number of a stream.
    data, frames = make_request(0x01010101, block)
    plans, decoder = keep(data, frames)
    assert len(plans) == 1
    for stream in (1, 3, 5, 0x7FFFFFFF, 0x01010103, 0x00010101, 0x01000101):
        again, _ = make_request(stream, block)
        found = find_plan(plans, again, decoder.revision)
        assert (found is not None) == (stream != 5)  # Of stream 5 the block has the number in it.
        for _ in range(300):
            changed = bytearray(again)
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
            other = bytes(changed)
            # The number itself, changed at one of its places only, is another event too.
            if find_plan(plans, other, decoder.revision) is not None:
                numbers = {other[5:9], other[len(block) + 14 : len(block) + 18]}
                assert len(numbers) == 1


def test_a_plan_ends_with_its_table() -> None:
    data, frames = make_request(1, b"\x82\x84\x86")
    plans, decoder = keep(data, frames)
    assert find_plan(plans, data, decoder.revision) is not None
    decoder.decode(b"\x40\x01a\x01b")
    assert find_plan(plans, data, decoder.revision) is None
    assert not plans


def test_plans_are_bounded() -> None:
    plans: dict[bytes, Plan] = {}
    decoder = HpackDecoder(HuffmanStrings(), is_complete=True)
    for number in range(1_000):
        data, frames = make_request(1, b"\x82\x84\x86\x01\x02" + number.to_bytes(2))
        keep_plan(plans, data, frames, decoder, is_request=True)
        assert len(plans) <= http2_plans.MAX_PLANS

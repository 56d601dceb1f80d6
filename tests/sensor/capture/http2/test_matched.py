"""Calls that come as records of taught blocks become the very rows that their frames would give."""

import random

import numpy as np
import numpy.typing as npt
import pytest

from scripts.bench_cases._http2_matching import MatchingKernel, is_asking
from scripts.bench_cases.http2 import Headers, converse, write_events, write_rpc
from sensor.capture.http2 import matched
from sensor.capture.http2.matched import RENEW_BYTES
from sensor.core.calls import CALL, CallFlag
from sensor.ebpf.abi import BLOCK_ENTRY, FRAMES_EVENT, WAITING_STREAM, BlockUse, EventKind
from sensor.http.http2.streams import AlikeCalls
from tests.sensor.capture.http2.test_alike import Sensor

CALLS, TAUGHT = 400, 60  # Calls in all, and of them those that come up first.
EVENTS = write_events(converse(write_rpc, CALLS))


def learn(sensor: Sensor) -> tuple[MatchingKernel, list[bytes]]:
    """The kernel once it was taught, and the events of the calls that are left."""
    first = next(at for at, event in enumerate(EVENTS) if is_asking(event))
    come_up = first + 2 * TAUGHT
    sensor.read(EVENTS[:come_up])
    taught, untaught = sensor.assembler.matched.pop_entries()
    assert not untaught
    return MatchingKernel(taught), EVENTS[come_up:]


def take(sensor: Sensor, records: npt.NDArray[np.void]) -> None:
    sensor.pipeline.take(sensor.assembler.take((), records))
    while sensor.assembler.matched.has_rest:
        sensor.pipeline.take(sensor.assembler.take(()))
    sensor.counted += sum(count for _, count in sensor.assembler.pop_alike_counts())
    sensor.pipeline.take(())


@pytest.mark.parametrize("batch", [1, 7, CALLS])
@pytest.mark.parametrize("is_folded_alike", [False, True])
def test_rows_are_the_same(batch: int, is_folded_alike: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_folded_alike:  # Every two keys fold into the same word.
        monkeypatch.setattr(matched, "_FOLD", np.zeros(5, np.uint64))
    whole, matching = Sensor(None), Sensor(AlikeCalls())
    expected = whole.read(EVENTS)
    kernel, rest = learn(matching)
    records = kernel.match(rest)
    for at in range(0, len(records), batch):
        take(matching, records[at : at + batch])
    found = matching.read([])
    assert len(found) == CALLS
    assert (found == expected).all()
    assert matching.stage.count() == whole.stage.count()
    assert matching.pipeline.counts() == whole.pipeline.counts()
    assert matching.assembler.calls == whole.assembler.calls == CALLS
    connection = matching.assembler._streams.find(1)
    assert connection is not None
    counts = connection.counts
    assert counts.told == counts.requests == CALLS
    assert counts.blocks == 3 * CALLS


def test_what_repeats_is_taught_with_its_uses() -> None:
    sensor = Sensor(AlikeCalls())
    kernel, _ = learn(sensor)
    uses = sorted((direction, use) for (direction, _), (_, use) in kernel.numbers.items())
    assert uses == [(0, BlockUse.REQUEST)] * 8 + [(1, 0), (1, BlockUse.ANSWER)]
    assert len({number for number, _ in kernel.numbers.values()}) == 10


def write_waiting(kernel: MatchingKernel, request: bytes) -> bytes:
    """The event with which the stream of a request comes up that waited alone."""
    started_ns, stream, (block,), size, messages = kernel.read(request)
    waiting = np.zeros(32, WAITING_STREAM)
    waiting[5]["stream"], waiting[5]["request"], waiting[5]["request_bytes"] = stream, block, size
    waiting[5]["started_ns"] = waiting[5]["last_ns"] = started_ns
    waiting[5]["request_messages"], waiting[5]["is_request_ended"] = messages, 1
    head = bytearray(request[: FRAMES_EVENT.size])
    head[32] = EventKind.WAITING
    return bytes(head) + waiting.tobytes()


def cover(sensor: Sensor, events: list[bytes]) -> bytes:
    """The last of these events of one direction, as it comes where the others were matched: it covers them."""
    way = FRAMES_EVENT.unpack_from(events[-1])[8]
    reached = sensor.assembler._connections[1].flows[way].end
    assert reached is not None
    covered = sum(FRAMES_EVENT.unpack_from(event)[3] for event in events)
    last = bytearray(events[-1])
    last[16:24] = (reached & 0xFFFFFFFF).to_bytes(4, "little") + covered.to_bytes(4, "little")
    return bytes(last)


def test_a_stream_that_waited_goes_on_by_its_frames() -> None:
    whole, matching = Sensor(None), Sensor(AlikeCalls())
    expected = whole.read(EVENTS)
    kernel, rest = learn(matching)
    take(matching, kernel.match(rest[:-2]))
    found = matching.read([write_waiting(kernel, rest[-2]), cover(matching, rest[1::2])])
    assert len(found) == CALLS
    assert (found == expected).all()


def test_an_answer_may_come_up_before_its_stream_that_waits_and_after_a_later_one() -> None:
    """Two processors wait for each other in vain, one after the other: a request comes up past streams that wait, and
    so does the answer of one of those."""
    whole, matching = Sensor(None), Sensor(AlikeCalls())
    expected = whole.read(EVENTS)
    kernel, rest = learn(matching)
    take(matching, kernel.match(rest[:-4]))
    later, answer = cover(matching, rest[::2]), cover(matching, rest[1:-1:2])
    found = matching.read([later, answer, write_waiting(kernel, rest[-4]), rest[-1]])
    assert len(found) == CALLS
    differing = {name for name in CALL.names or () if (found[name] != expected[name]).any()}
    assert differing == {"response_messages", "flags"}  # Messages are not counted before the request is known.
    assert sorted(set(found["flags"] ^ expected["flags"])) == [0, CallFlag.COUNTED]


def test_a_number_that_means_nothing_is_a_counted_loss() -> None:
    sensor = Sensor(AlikeCalls())
    learn(sensor)
    before = sensor.stage.count()
    waiting = np.zeros(32, WAITING_STREAM)
    waiting[0]["stream"], waiting[0]["request"] = 9_001, 999
    head = bytearray(EVENTS[0][: FRAMES_EVENT.size])
    head[32] = EventKind.WAITING
    assert sensor.assembler.take([memoryview(bytes(head) + waiting.tobytes())]) == []
    after = sensor.stage.count()
    assert (after.seen - before.seen, after.used - before.used, after.dropped_total) == (1, 0, 1)


def test_records_may_come_after_the_end_of_their_connection() -> None:
    whole, matching = Sensor(None), Sensor(AlikeCalls())
    expected = whole.read(EVENTS)
    kernel, rest = learn(matching)
    head = bytearray(rest[-1][: FRAMES_EVENT.size])
    head[32] = EventKind.LEAVE
    matching.assembler.take([memoryview(bytes(head))])
    taught, untaught = matching.assembler.matched.pop_entries()
    assert (len(taught), len(untaught)) == (0, 10)
    take(matching, kernel.match(rest))
    assert (matching.read([]) == expected).all()
    for _ in range(matched.RETIRED_READS):
        matching.assembler.take(())
    assert matching.assembler.matched._blocks == {}
    assert not matching.assembler._gone


def test_it_is_taught_anew_before_sequence_numbers_wrap() -> None:
    sensor = Sensor(AlikeCalls())
    learn(sensor)
    streams = sensor.assembler.matched
    read_to = streams._installed[1].read_to
    assert not streams.is_due(1, 0, read_to)
    assert streams.is_due(1, 0, (read_to[0], read_to[1] + RENEW_BYTES + 1))


def write_moving(source: random.Random, number: int) -> Headers:
    """A method after the other: with each the table moves."""
    return [
        (name, b"/shop.v1.Orders/Method%d" % (number // 20) if name == b":path" else value)
        for name, value in write_rpc(source, number)
    ]


def teach_moving(sensor: Sensor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many heads of requests were taught in each read of ten calls, all of which come up."""
    monkeypatch.setattr(matched, "CONNECTION_BLOCKS", 8)
    monkeypatch.setattr(matched, "FIRST_INSTALLS", CALLS)
    events = write_events(converse(write_moving, CALLS))
    lessons = [_read_lessons(sensor, events[at : at + 20]) for at in range(0, len(events), 20)]
    uses = [[BLOCK_ENTRY.unpack(value)[2] for value in taught.values()] for taught in lessons]
    return [one.count(BlockUse.REQUEST) for one in uses]


def test_a_connection_that_goes_on_may_change_its_table_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matched, "REMOVED_NS", 0)
    sensor = Sensor(AlikeCalls())
    taught = teach_moving(sensor, monkeypatch)
    assert min(taught[2:]) > 0
    blocks = sensor.assembler.matched._blocks
    assert len(blocks) <= 8 + 8  # Some of those that are over wait for records that may still come.


def test_a_block_is_known_as_long_as_a_stream_may_wait_that_began_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of this lasts for less than `REMOVED_NS`."""
    sensor = Sensor(AlikeCalls())
    teach_moving(sensor, monkeypatch)
    assert sorted(sensor.assembler.matched._blocks) == list(range(1, 9))


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matched, "CONNECTION_BLOCKS", 3)
    sensor = Sensor(AlikeCalls())
    sensor.read(EVENTS[:100])
    assert len(sensor.assembler.matched.pop_entries()[0]) == 3


def test_a_connection_of_which_little_is_matched_is_taught_rarely() -> None:
    sensor = Sensor(AlikeCalls())
    lessons = [bool(_read_lessons(sensor, EVENTS[at : at + 20])) for at in range(0, len(EVENTS), 20)]
    assert lessons[1:5] == [True] * 4
    assert sum(lessons) < 10


def test_what_came_up_before_a_lesson_was_there_says_nothing_of_it() -> None:
    """The ring may hold thousands of events of before; as many lessons in vain as above, and none of them counts."""
    sensor, lessons = Sensor(AlikeCalls()), []
    for at in range(0, len(EVENTS), 20):
        sensor.assembler.take(map(memoryview, EVENTS[at : at + 20]), now_ns=0)  # With INSTALL_NS newer than all.
        lessons.append(bool(sensor.assembler.matched.pop_entries()[0]))
    assert sum(lessons) == 1
    assert sensor.assembler.matched._installed[1].unused < matched.FIRST_INSTALLS


def _read_lessons(sensor: Sensor, events: list[bytes]) -> dict[bytes, bytes]:
    sensor.read(events)
    return sensor.assembler.matched.pop_entries()[0]


def test_blocks_that_never_make_a_whole_call_are_not_taught() -> None:
    """As those of clients of nginx, whose answers add to the table each time."""
    sensor = Sensor(AlikeCalls())
    sensor.read(EVENTS[:60])
    connection = sensor.assembler._streams.find(1)
    assert connection is not None
    assert connection.list_repeated(64)
    decoder = connection._decoders[1]
    assert decoder is not None
    decoder.known.clear()
    assert connection.list_repeated(64) == []

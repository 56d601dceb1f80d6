"""The Java agent's memory as the sensor reads it: records in order, nothing that is not complete, and no trust."""

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.java.ring import (
    CAME_WITH_JVM,
    COPY_BYTES_MAX,
    HEADER_BYTES,
    LATE_NS_MAX,
    MAGIC,
    READ_BYTES,
    RECORD_BYTES,
    STALL_NS,
    VERSION,
    AgentRing,
    RingError,
)
from sensor.capture.syscalls.streams import unpack_event
from sensor.ebpf.abi import Library, SyscallEvent, SyscallKind

SIZE = READ_BYTES
SECRET = 0x1234_5678_9ABC_DEF0
NOW = 10**15
HEAD_AT, TAIL_AT, REFUSAL_COUNT_AT, REFUSALS_AT = 64, 192, 216, 1_024


class Agent:
    """Writes as the agent does (sensor/capture/java/src/io/apidae/java/Ring.java)."""

    def __init__(self, *, position: int = 0) -> None:
        self.fd = os.memfd_create("ring")
        os.truncate(self.fd, HEADER_BYTES + SIZE)
        os.pwrite(self.fd, struct.pack("<8sIIQI", MAGIC, VERSION, SIZE, SECRET, CAME_WITH_JVM), 0)
        self.position = position
        self._publish()

    def open(self) -> AgentRing:
        return AgentRing(os.dup(self.fd), process=10, cgroup_id=3, serial=5)

    def put(self, data: bytes, *, kind: int = SyscallKind.READ, is_complete: bool = True, **fields: int) -> int:
        """Its position."""
        room = (RECORD_BYTES + len(data) + 7) & ~7
        left = SIZE - self.position % SIZE
        if left < room:
            filling = struct.pack("<QIB", self.position ^ SECRET, left, 0)
            os.pwrite(self.fd, filling[:left], HEADER_BYTES + self.position % SIZE)
            self.position += left
        at = HEADER_BYTES + self.position % SIZE
        record = struct.pack(
            "<QIBB2xQQ4I2H4x16s16s8x",
            self.position ^ SECRET if is_complete else 0,
            fields.get("room", room),
            kind,
            fields.get("family", 4),
            fields.get("time_ns", NOW - 5),
            fields.get("connection", 1),
            fields.get("sequence", 0),
            0,
            fields.get("size", len(data)),
            fields.get("length", len(data)),
            443,
            50_000,
            b"\x7f\0\0\1" + bytes(12),
            b"\x7f\0\0\2" + bytes(12),
        )
        os.pwrite(self.fd, record + data, at)
        began, self.position = self.position, self.position + room
        self._publish()
        return began

    def complete(self, position: int) -> None:
        os.pwrite(self.fd, struct.pack("<Q", position ^ SECRET), HEADER_BYTES + position % SIZE)

    def read_word(self, at: int) -> int:
        return int.from_bytes(os.pread(self.fd, 8, at), "little")

    def _publish(self) -> None:
        os.pwrite(self.fd, struct.pack("<Q", self.position), HEAD_AT)


@pytest.fixture
def agent() -> Iterator[Agent]:
    one = Agent()
    yield one
    os.close(one.fd)


def read(ring: AgentRing, limit: int = 1_000, now_ns: int = NOW) -> list[tuple[SyscallEvent, bytes]]:
    return [unpack_event(record) for record in ring.read(limit, now_ns)]


def test_a_record_is_an_event_of_its_process(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"GET / HTTP/1.1\r\n\r\n", sequence=7, size=5_000)
    ((event, data),) = read(ring)
    assert data == b"GET / HTTP/1.1\r\n\r\n"
    assert (event.process, event.cgroup_id, event.library, event.kind) == (10, 3, Library.JAVA, SyscallKind.READ)
    assert (event.sequence, event.size, event.length, event.time_ns) == (7, 5_000, 18, NOW - 5)
    assert (event.family, event.local_port, event.remote_port) == (4, 443, 50_000)
    assert ring.owns(event.socket) and not ring.owns(event.socket + (1 << 40))
    assert agent.read_word(TAIL_AT) == agent.position, "its room is free again"


def test_records_keep_their_order_around_the_end_of_the_ring(agent: Agent) -> None:
    ring = agent.open()
    found, put = [], []
    for number in range(400):
        put.append(bytes([number % 251]) * (1_500 + 37 * (number % 50)))
        agent.put(put[-1])
        if number % 60 == 59:
            found += [data for _, data in read(ring)]
    found += [data for _, data in read(ring)]
    assert found == put and agent.position > 2 * SIZE


@pytest.mark.parametrize("left", [8, 16, 24, 88, 96])
def test_a_short_end_of_the_ring_is_skipped(left: int) -> None:
    agent = Agent(position=SIZE - left)
    ring = agent.open()
    agent.put(b"one")
    agent.put(b"two")
    assert [data for _, data in read(ring)] == [b"one", b"two"]
    os.close(agent.fd)


def test_no_more_than_asked_for_is_read_and_the_rest_the_next_time(agent: Agent) -> None:
    ring = agent.open()
    for number in range(5):
        agent.put(b"%d" % number)
    assert [data for _, data in read(ring, 2)] == [b"0", b"1"]
    assert [data for _, data in read(ring)] == [b"2", b"3", b"4"]
    assert not ring.pending_bytes()


def test_a_record_that_is_being_written_holds_those_behind_it_back(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"one")
    second = agent.put(b"two", is_complete=False)
    agent.put(b"three")
    assert [data for _, data in read(ring)] == [b"one"]
    agent.complete(second)
    assert [data for _, data in read(ring)] == [b"two", b"three"]


def test_a_record_that_nobody_finishes_is_skipped(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"one", is_complete=False)
    assert read(ring) == [] and read(ring, now_ns=NOW + STALL_NS - 1) == []
    agent.put(b"two")
    assert [data for _, data in read(ring, now_ns=NOW + STALL_NS)] == [b"two"]
    assert ring.counts().stalls == 1


def test_payload_never_looks_like_a_record(agent: Agent) -> None:
    """It does not know the secret, wherever it lies."""
    ring = agent.open()
    forged = struct.pack("<QIB", RECORD_BYTES, RECORD_BYTES, SyscallKind.WRITE) + bytes(RECORD_BYTES - 13)
    agent.put(forged * 40)
    read(ring)
    # Behind it a record is reserved and not yet written: what lies there is earlier payload.
    os.pwrite(agent.fd, struct.pack("<Q", agent.position + RECORD_BYTES), HEAD_AT)
    os.pwrite(agent.fd, forged, HEADER_BYTES + agent.position)
    assert read(ring) == []


def test_a_clock_of_the_process_is_not_believed_beyond_a_minute(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"", time_ns=NOW + 1, kind=SyscallKind.CLOSED)
    agent.put(b"", time_ns=3, kind=SyscallKind.CLOSED)
    assert [event.time_ns for event, _ in read(ring)] == [NOW, NOW - LATE_NS_MAX]


def test_a_refused_session_is_named_to_the_agent(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"GET", connection=9)
    ((event, _),) = read(ring)
    ring.refuse(event.socket)
    assert (agent.read_word(REFUSALS_AT), agent.read_word(REFUSAL_COUNT_AT)) == (9, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 3},
        {"kind": 9},
        {"family": 7},
        {"length": 4_000, "size": 5_000},
        {"length": 20, "size": 10},
        {"room": 20},
        {"room": 24},
        {"room": RECORD_BYTES + COPY_BYTES_MAX + 16},
        {"room": 1 << 31},
        {"kind": 0, "room": 104},
    ],
)
def test_a_record_that_the_agent_never_writes_ends_the_reading(agent: Agent, fields: dict[str, int]) -> None:
    ring = agent.open()
    agent.put(b"GET", **fields)  # type: ignore[arg-type]
    with pytest.raises(RingError):
        ring.read(10, NOW)


@pytest.mark.parametrize("size", [0, 8, 23, HEADER_BYTES, HEADER_BYTES + 50])
def test_memory_that_is_cut_short_ends_the_reading(agent: Agent, size: int) -> None:
    ring = agent.open()
    agent.put(b"GET")
    os.truncate(agent.fd, size)
    with pytest.raises(RingError):
        ring.read(10, NOW)


def test_another_version_is_refused_with_its_number(agent: Agent) -> None:
    os.pwrite(agent.fd, struct.pack("<I", 9), 8)
    with pytest.raises(RingError, match="9"):
        agent.open()


@given(
    header=st.binary(min_size=HEADER_BYTES - 64, max_size=HEADER_BYTES - 64) | st.just(b""),
    positions=st.tuples(
        st.integers(0, 2**37).map(lambda n: 8 * n) | st.integers(0, 2**64 - 1), st.integers(0, 4 * SIZE)
    ),
    data=st.binary(max_size=600),
)
def test_whatever_is_there_it_ends_with_records_or_one_error(
    header: bytes, positions: tuple[int, int], data: bytes
) -> None:
    agent = Agent(position=positions[0] % (1 << 40))
    try:
        try:
            ring = agent.open()
        except RingError:
            return
        start = agent.position
        os.pwrite(agent.fd, struct.pack("<Q", start ^ SECRET) + data, HEADER_BYTES + start % SIZE)
        os.pwrite(agent.fd, header, 64)
        os.pwrite(agent.fd, struct.pack("<Q", (start + positions[1]) % 2**64), HEAD_AT)
        try:
            assert len(ring.read(50, NOW)) <= 50
            ring.counts()
        except RingError:
            pass
        ring.close()
    finally:
        os.close(agent.fd)


def test_a_position_within_a_word_ends_the_reading(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"GET")
    os.pwrite(agent.fd, struct.pack("<Q", agent.position + 4), HEAD_AT)
    with pytest.raises(RingError):
        ring.read(10, NOW)
    with pytest.raises(RingError):
        agent.open()

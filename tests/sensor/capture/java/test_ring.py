"""The Java agent's memory as the sensor reads it: records in order, nothing that is not complete, and no trust."""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.capture.java import ring as module
from sensor.capture.java.ring import (
    CAME_WITH_JVM,
    COPY_BYTES_MAX,
    HEADER_BYTES,
    JOIN_NS,
    LATE_NS_MAX,
    MAGIC,
    READ_BYTES,
    RECORD_BYTES,
    RECORDS_PER_REQUEST,
    RECORDS_PER_SECOND_MAX,
    SPENT_NS,
    STALL_NS,
    UNKNOWN_ENDS,
    VERSION,
    AgentRing,
    Ends,
    RingCounts,
    RingError,
)
from sensor.ebpf.abi import Binding, Library, SyscallEvent, SyscallKind

SIZE = READ_BYTES
BYTES_MAX = 1 << 23
SECRET = 0x1234_5678_9ABC_DEF0
NOW = 10**15
HEAD_AT, COUNTS_AT, TAIL_AT, REFUSAL_COUNT_AT, REFUSALS_AT = 64, 128, 192, 216, 1_024


class Agent:
    """Writes as the agent does (sensor/capture/java/src/io/apidae/java/Ring.java)."""

    def __init__(self, *, position: int = 0, bytes_of_ring: int = SIZE, way: int = CAME_WITH_JVM) -> None:
        self.size = bytes_of_ring
        self.fd = os.memfd_create("ring")
        os.truncate(self.fd, HEADER_BYTES + self.size)
        os.pwrite(self.fd, struct.pack("<8sIIQI", MAGIC, VERSION, self.size, SECRET, way), 0)
        self.position = position
        self._publish()

    def open(
        self, *, prove: Callable[[Ends], Ends] = lambda ends: ends, requests_per_second: int = 10_000
    ) -> AgentRing:
        return AgentRing(
            os.dup(self.fd),
            process=10,
            cgroup_id=3,
            serial=5,
            now_ns=NOW,
            prove=prove,
            requests_per_second=requests_per_second,
        )

    def put(self, data: bytes, *, kind: int = SyscallKind.READ, is_complete: bool = True, **fields: int) -> int:
        """Its position."""
        room = (RECORD_BYTES + len(data) + 7) & ~7
        left = self.size - self.position % self.size
        if left < room:
            filling = struct.pack("<QIB", self.position ^ SECRET, left, 0)
            os.pwrite(self.fd, filling[:left], HEADER_BYTES + self.position % self.size)
            self.position += left
        at = HEADER_BYTES + self.position % self.size
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
        os.pwrite(self.fd, struct.pack("<Q", position ^ SECRET), HEADER_BYTES + position % self.size)

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
    return ring.read(limit, BYTES_MAX, now_ns)


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


def test_what_is_written_in_pieces_at_once_is_one_event(agent: Agent) -> None:
    ring = agent.open()
    head, body = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"
    agent.put(head, kind=SyscallKind.WRITE, sequence=7)
    agent.put(b"GET", connection=2)  # Of another one.
    agent.put(body, kind=SyscallKind.WRITE, sequence=7 + len(head), size=5)
    (event, data), (other, _) = read(ring)
    assert data == head + body and (event.length, event.size) == (len(data), len(head) + 5)
    assert (event.sequence, event.time_ns, other.size) == (7, NOW - 5, 3)
    assert ring.events == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"time_ns": NOW - 5 + JOIN_NS},
        {"sequence": 4},
        {"kind": SyscallKind.READ},
        {"kind": SyscallKind.CLOSED},
        {"connection": 2},
    ],
)
def test_what_does_not_follow_at_once_is_an_event_of_its_own(agent: Agent, fields: dict[str, int]) -> None:
    ring = agent.open()
    agent.put(b"one", kind=SyscallKind.WRITE)
    agent.put(b"", **{"kind": SyscallKind.WRITE, "sequence": 3, **fields})  # type: ignore[arg-type]
    assert len(read(ring, now_ns=NOW + JOIN_NS)) == 2


def test_pieces_are_joined_up_to_the_size_of_a_record(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"1" * 16_000, kind=SyscallKind.WRITE)
    agent.put(b"2" * 384, kind=SyscallKind.WRITE, sequence=16_000)
    agent.put(b"3", kind=SyscallKind.WRITE, sequence=16_384)
    assert [len(data) for _, data in read(ring)] == [16_384, 1]


def test_bytes_that_were_not_copied_end_an_event(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"one", kind=SyscallKind.WRITE, size=9)
    agent.put(b"two", kind=SyscallKind.WRITE, sequence=9)
    assert [data for _, data in read(ring)] == [b"one", b"two"]


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
    assert not ring.pending_bytes(NOW)


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
    assert ring.take_counts(NOW).stalls == 1


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
        ring.read(10, BYTES_MAX, NOW)


@pytest.mark.parametrize("size", [0, 8, 23, HEADER_BYTES, HEADER_BYTES + 50])
def test_memory_that_is_cut_short_ends_the_reading(agent: Agent, size: int) -> None:
    ring = agent.open()
    agent.put(b"GET")
    os.truncate(agent.fd, size)
    with pytest.raises(RingError):
        ring.read(10, BYTES_MAX, NOW)


def test_memory_that_is_not_filled_yet_is_no_error(agent: Agent) -> None:
    """The agent writes its first word last."""
    os.pwrite(agent.fd, bytes(8), 0)
    with pytest.raises(BlockingIOError):
        agent.open()


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
            assert len(ring.read(50, BYTES_MAX, NOW)) <= 50
            ring.take_counts(NOW)
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
        ring.read(10, BYTES_MAX, NOW)
    with pytest.raises(RingError):
        agent.open()


def test_filling_across_the_end_of_a_window_loses_nothing_behind_it() -> None:
    """A backlog is read in windows, and one may end within what fills up the end of the ring."""
    agent = Agent(bytes_of_ring=2 * SIZE, position=2 * SIZE - READ_BYTES - 8_000)
    ring = agent.open()
    put: list[bytes] = [bytes([number]) * 8_000 for number in range(32)]
    put += [b"behind it" * 1_700, b"more"]
    for data in put[:32]:
        agent.put(data)
    assert 8_000 < 2 * SIZE - agent.position < len(put[32])
    for data in put[32:]:
        agent.put(data)
    assert [data for _, data in read(ring)] == put
    assert ring.take_counts(NOW).lost_records == 0
    os.close(agent.fd)


def test_what_is_skipped_counts_as_lost(agent: Agent) -> None:
    ring = agent.open()
    for _ in range(4):
        agent.put(b"x" * 904)
    read(ring)
    agent.put(b"never done", is_complete=False)
    for _ in range(5):
        agent.put(b"x" * 904)
    read(ring)
    read(ring, now_ns=NOW + STALL_NS)
    counts = ring.take_counts(NOW + STALL_NS)
    assert (counts.stalls, counts.lost_records, counts.lost_bytes) == (1, 5, 5 * 1_000 + 112)


def set_counts(agent: Agent, *counts: int) -> None:
    """Records and bytes dropped, state, ambiguous, failures, over the budget."""
    os.pwrite(agent.fd, struct.pack("<6Q", *counts), COUNTS_AT)


def test_counts_are_those_since_the_ring_was_opened(agent: Agent) -> None:
    set_counts(agent, 2**63, 2**63, 1, 7, 7, 7)
    ring = agent.open()
    assert ring.take_counts(NOW) == RingCounts()
    set_counts(agent, 2**63 + 5, 2**63 + 6, 1, 8, 9, 10)
    wanted = RingCounts(lost_records=5, lost_bytes=6, ambiguous=1, failures=2, over_budget=3)
    assert (ring.take_counts(NOW), ring.take_counts(NOW)) == (wanted, RingCounts())


@pytest.mark.parametrize(
    "counts",
    [
        (2**45, 0, 0, 0, 0, 0),
        (2**64 - 1, 0, 0, 0, 0, 0),
        (0, 2**63, 0, 0, 0, 0),
        (0, 0, 0, 2**45, 0, 0),
        (0, 0, 0, 0, 2**45, 0),
        (0, 0, 2, 0, 0, 0),
    ],
)
def test_counts_that_no_process_reaches_end_the_reading(agent: Agent, counts: tuple[int, ...]) -> None:
    ring = agent.open()
    set_counts(agent, *counts)
    with pytest.raises(RingError):
        ring.take_counts(NOW + 1_000_000_000)


def test_requests_beyond_the_budget_count_up_to_what_a_process_can_do(agent: Agent) -> None:
    ring = agent.open()
    set_counts(agent, 0, 0, 1, 0, 0, 2**45)
    assert ring.take_counts(NOW + 1_000_000_000).over_budget == 2 * RECORDS_PER_SECOND_MAX


def test_counts_that_fall_end_the_reading(agent: Agent) -> None:
    set_counts(agent, 5, 5, 0, 0, 0, 0)
    ring = agent.open()
    set_counts(agent, 4, 5, 0, 0, 0, 0)
    with pytest.raises(RingError):
        ring.take_counts(NOW)


def test_a_ring_that_is_stopped_ends_where_it_was_however_it_goes_on(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"before")
    ring.stop()
    for _ in range(3):
        agent.put(b"behind")
    assert [data for _, data in read(ring)] == [b"before"]
    assert ring.pending_bytes(NOW) == 0
    ring.resume()
    agent.put(b"again")
    assert [data for _, data in read(ring)] == [b"again"]


def test_nothing_waits_for_a_second_after_a_record_that_was_not_complete(agent: Agent) -> None:
    """Whoever moves the head on does not keep the sensor awake."""
    ring = agent.open()
    agent.put(b"never done", is_complete=False)
    assert ring.pending_bytes(NOW) and read(ring) == []
    agent.put(b"more")
    assert ring.pending_bytes(NOW + 999_999_999) == 0
    assert ring.pending_bytes(NOW + 1_000_000_000) > 0


def test_a_process_beyond_its_budget_waits(agent: Agent) -> None:
    ring = agent.open(requests_per_second=1)
    for _ in range(3 * RECORDS_PER_REQUEST):
        agent.put(b"")
    assert len(read(ring)) == RECORDS_PER_REQUEST
    assert (len(read(ring)), ring.pending_bytes(NOW)) == (0, 0)
    # Not for each record that it may have.
    assert ring.pending_bytes(NOW + SPENT_NS - 1) == 0 < ring.pending_bytes(NOW + SPENT_NS)
    assert len(read(ring, now_ns=NOW + 1_000_000_000)) == RECORDS_PER_REQUEST


def test_no_more_bytes_than_asked_for_are_read_at_once(agent: Agent) -> None:
    ring = agent.open()
    for _ in range(12):
        agent.put(bytes(COPY_BYTES_MAX))
    assert len(ring.read(1_000, 3 * COPY_BYTES_MAX, NOW)) <= 4
    assert len(ring.read(1_000, 0, NOW)) == 0


def test_addresses_that_the_kernel_does_not_confirm_are_not_taken(agent: Agent) -> None:
    asked: list[Ends] = []

    def refuse(ends: Ends) -> Ends:
        asked.append(ends)
        return UNKNOWN_ENDS

    ring = agent.open(prove=refuse)
    for _ in range(5):
        agent.put(b"GET / HTTP/1.1\r\n\r\n")
    for event, _ in read(ring):
        assert (event.family, event.local_port, event.remote_port, event.bound) == (0, 0, 0, 0)
        assert not any(event.remote_address) and not any(event.local_address)
    assert len(asked) == 3 and ring.take_counts(NOW).unproven == 1


def test_an_end_at_which_nobody_listens_is_reported_as_the_clients(agent: Agent) -> None:
    ring = agent.open(prove=lambda ends: replace(ends, is_client=True))
    agent.put(b"GET")
    ((event, _),) = read(ring)
    assert event.bound == Binding.LAST | Binding.CLIENT and event.remote_port == 50_000


def test_addresses_that_are_confirmed_stay_those_of_their_connection(agent: Agent) -> None:
    asked: list[Ends] = []

    def confirm(ends: Ends) -> Ends:
        asked.append(ends)
        return ends

    ring = agent.open(prove=confirm)
    agent.put(b"GET", connection=1)
    agent.put(b"GET", connection=2, family=0)
    agent.put(b"GET", connection=1, family=6)
    events = [event for event, _ in read(ring)]
    assert [event.family for event in events] == [4, 0, 4] and len(asked) == 1


def test_a_connection_that_is_used_is_remembered(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSIONS_MAX", 2)
    asked: list[Ends] = []

    def confirm(ends: Ends) -> Ends:
        asked.append(ends)
        return ends

    ring = agent.open(prove=confirm)
    for connection in (1, 2, 1, 3, 1):
        agent.put(b"GET", connection=connection)
    assert len(read(ring)) == 5 and len(asked) == 3


def test_connections_that_are_open_end_once(agent: Agent) -> None:
    ring = agent.open()
    agent.put(b"GET", connection=1, sequence=10)
    agent.put(b"GET", connection=2)
    agent.put(b"", connection=2, kind=SyscallKind.CLOSED)
    ((first, _), *_) = read(ring)
    ended = [event for event, _ in ring.end_sessions((SyscallKind.CUT, SyscallKind.CLOSED))]
    assert [(one.socket, one.kind) for one in ended] == [
        (first.socket, SyscallKind.CUT),
        (first.socket, SyscallKind.CLOSED),
    ]
    assert {(one.other, one.sequence, one.local_port) for one in ended} == {(13, 0, 443)}
    assert list(ring.end_sessions((SyscallKind.CLOSED,))) == []

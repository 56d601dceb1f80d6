"""Capture by packets as the rest of the sensor sees it: exchanges and records out, counts, attach and detach.

Composes the loaded program, its rings and maps, and the assemblers.
"""

import contextlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from common.figures import Figure, make_gauges, make_totals
from sensor.capture.http2.assembler import StreamAssembler
from sensor.capture.packets.exchange import ExchangeAssembler
from sensor.capture.packets.port_counts import StreamCalls, read_port_counts, take_first_bytes
from sensor.capture.packets.table_file import TableFile
from sensor.capture.source import NO_RECORDS, Capture
from sensor.core.addresses import name_address
from sensor.core.calls import Exchange, Handshake
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount, StageCounter
from sensor.coverage.handshakes import HandshakeTable
from sensor.coverage.row import PortCount
from sensor.coverage.unread import Unread, UnreadCount, UnreadEnd, UnreadReason
from sensor.ebpf.abi import (
    CLIENT_END,
    COUNTERS_SIZE,
    OVERFLOW_COUNT,
    OVERFLOW_KEY,
    OVERFLOW_SIZE,
    RECORD,
    STREAM_RECORD,
    STREAM_RECORDS_BYTES,
    UNREAD_COUNT,
    UNREAD_KEY,
    UNREAD_SIZE,
    Counter,
    OverflowTotals,
    Records,
)
from sensor.ebpf.bpf_syscall import (
    delete_elements,
    read_batch,
    read_counts,
    read_element,
    update_batch,
    update_map,
)
from sensor.ebpf.compile import FRAMES_BYTES
from sensor.ebpf.hashes import hash_connection
from sensor.ebpf.loader import RECORDS_BYTES, LoadedProgram, load_program
from sensor.ebpf.pieces import Pieces
from sensor.ebpf.ring import Bell, Filling, RecordRing, Ring
from sensor.ebpf.run_time import RunTimeMeter
from sensor.http.http2.exchange import OpenCall, StreamExchange
from sensor.http.http2.streams import AlikeCalls

# Events of one read, some 10 ms of work, 100 with bodies: their cache entries are installed before the next read.
READ_LIMIT: Final = 250
# The same of HTTP/2's, which take less.
FRAMES_LIMIT: Final = 1_000
# Records of one read: some 10 ms too.
RECORDS_LIMIT: Final = 20_000
# A ring of events that is so full is read at once: a burst of heads may have begun.
PRESSING_PART: Final = 16
# The same of the ring of matched calls, which is read each second: past half of it nothing is matched.
MATCHED_PART: Final = 4
# No port: its entry says that the others are of those that are listened on.
LISTENING_KNOWN: Final = 0
# A turn of the loop that reads events looks at the records each time (sensor.agent.capture_session).
_TURN_SECONDS: Final = 0.1

_COUNTERS: Final = tuple(Counter)  # In the order of the map; to go through the enum takes longer than to read it.


class PacketCapture(Capture):
    """The kernel side, attached to a cgroup. Not thread-safe."""

    def __init__(
        self,
        *,
        program: LoadedProgram,
        ring_bytes: int,
        clock: Clock,
        pieces: Pieces | None = None,
        alike: AlikeCalls | None = None,
        table_file: TableFile | None = None,
    ) -> None:
        self._program = program
        self._ring = Ring(program.maps["events"], ring_bytes)
        self._records = RecordRing(program.maps["records"], RECORDS_BYTES, RECORD)
        self._filling = Filling(RECORDS_BYTES)
        self._frames = Ring(program.maps["frames"], FRAMES_BYTES)
        self._matched = RecordRing(program.maps["stream_records"], STREAM_RECORDS_BYTES, STREAM_RECORD)
        self.maps = program.maps
        self.bell: Bell = Bell((program.maps["events"], program.maps["frames"]), program.maps["records"])
        self._clock = clock
        self._meter = RunTimeMeter(tuple(program.programs.values()))
        self._stage = StageCounter("exchange")
        self.pieces = pieces or Pieces()
        self._streams = StreamAssembler(to_unix_ns=clock.to_unix_ns, stage=self._stage, alike=alike)
        self._table_file = table_file
        if table_file is not None:
            self._streams.load(table_file.read(), clock.monotonic_ns())
        self._handshakes = HandshakeTable()
        self._opened: list[Handshake] = []  # Since they were taken last.
        self._stream_calls = StreamCalls()
        self._assembler = ExchangeAssembler(
            to_unix_ns=clock.to_unix_ns,
            stage=self._stage,
            take_first_bytes=partial(take_first_bytes, self._handshakes, self._opened, clock.to_unix_ns),
            pieces=self.pieces,
        )
        self._lost_events = 0
        self._read_unread = 0  # Counter.UNREAD when the map was read last.
        self._listening: set[int] = set()
        self._last_counters: dict[Counter, int] = {}
        self._last_counts: tuple[StageCount, ...] = ()
        self._last_coverage: list[PortCount] = []
        self._is_closed = False

    @classmethod
    def load(
        cls,
        *,
        cgroup_path: Path,
        ring_bytes: int,
        is_root_cgroup: bool,
        clock: Clock,
        cache_directory: Path | None = None,
        pieces: Pieces | None = None,
        alike: AlikeCalls | None = None,
        program: LoadedProgram | None = None,
        is_enforcing: bool = True,
        table_file: TableFile | None = None,
    ) -> "PacketCapture":
        """Compiles (or finds in the cache), loads and attaches. Raises sensor.ebpf.loader.LoadError.

        `pieces`: where the bodies of recognised calls wait for their records; `alike`: takes calls of HTTP/2 that are
        like one that was numbered, which `read` then does not give; `program`: loaded before with the same
        arguments; `is_enforcing`: whether anything may ever be blocked; `table_file`: header tables of HTTP/2 from
        the previous sensor, and for the next one."""
        if program is None:
            program = load_program(
                cgroup_path, ring_bytes, is_root_cgroup, cache_directory=cache_directory, is_enforcing=is_enforcing
            )
        capture = cls(
            program=program, ring_bytes=ring_bytes, clock=clock, pieces=pieces, alike=alike, table_file=table_file
        )
        capture.attach()
        return capture

    way = CaptureWay.CGROUP_SKB

    def read(self) -> list[Exchange | StreamExchange]:
        """Exchanges that ended, or lasted over a second, since the last read; does not wait."""
        now_ns = self._clock.monotonic_ns()
        self._note_losses()
        exchanges = self._assembler.take(self._ring.read(READ_LIMIT)) + self._assembler.poll(now_ns)
        plain = [exchange for exchange in exchanges if not self._streams.upgrade(exchange, now_ns)]
        matched = self._matched.read(RECORDS_LIMIT)
        ended = self._streams.take(self._frames.read(FRAMES_LIMIT), matched, now_ns=now_ns)
        streams = [*ended, *self._streams.poll(now_ns)]
        self._matched.release()
        self._install_blocks()
        self._stream_calls.add(streams)
        self._stream_calls.add_alike(self._streams.pop_alike_counts())
        return [*plain, *streams]

    def _note_losses(self) -> None:
        """Whether ends of calls may be among the events that were lost since the last time. The ring was full then, and
        a reading takes little of it, so it is filled still."""
        if self._ring.pending_bytes() < self._ring.size_bytes // PRESSING_PART:
            return
        lost = read_counts(self._program.maps["counters"], COUNTERS_SIZE)[Counter.EVENTS_LOST]
        if lost != self._lost_events:
            self._lost_events = lost
            self._assembler.doubt(self._clock.monotonic_ns())

    def _install_blocks(self) -> None:
        """Header blocks of HTTP/2 that repeat; what the kernel refuses goes on being copied to user space."""
        installed, removed = self._streams.matched.pop_entries()
        if removed:
            self.delete("blocks", removed)
        if installed:
            with contextlib.suppress(OSError):
                self.update("blocks", installed)

    def list_open_calls(self, connection: int | None = None) -> list[OpenCall]:
        return self._streams.list_open(connection)

    def pop_handshakes(self) -> list[Handshake]:
        opened = self._opened.copy()
        self._opened.clear()
        return opened

    def find_client_socket(self, local_address: str, local_port: int, remote_address: str, remote_port: int) -> int:
        """The cookie of the client's socket of a connection to a server of this node; 0 where it is not known. 5 us."""
        if self._is_closed:
            return 0
        key = hash_connection(local_address, local_port, remote_address, remote_port).to_bytes(8, "little")
        value = read_element(self._program.maps["clients"], key, CLIENT_END.size)
        return CLIENT_END.unpack(value)[1] if value is not None else 0

    def has_events(self) -> bool:
        return any(ring.pending_bytes() for ring in (self._ring, self._frames)) or self._streams.matched.has_rest

    def is_pressing(self) -> bool:
        """Whether so many events, or calls that the kernel matched, wait that they are to be read soon."""
        is_filling = any(ring.pending_bytes() > ring.size_bytes // PRESSING_PART for ring in (self._ring, self._frames))
        return is_filling or self._matched.pending_bytes() > self._matched.size_bytes // MATCHED_PART

    def has_records(self) -> bool:
        return self._records.pending_bytes() > 0

    def is_due(self, ahead_seconds: float) -> bool:
        pending_bytes = self._records.pending_bytes()
        return self._filling.is_due(pending_bytes, self._clock.monotonic_ns(), int(ahead_seconds * 1e9))

    def read_records(self, *, is_all: bool = False) -> Records:
        """Records of calls that the kernel recognised or could not send up, where they are due or `is_all` asks for
        what there is: a batch costs little more than a record.

        They lie in the ring: call `release_records` when they are read, and keep none.
        """
        if not is_all and not self.is_due(_TURN_SECONDS):
            return NO_RECORDS
        return self._records.read(RECORDS_LIMIT)

    def release_records(self) -> None:
        self._records.release()
        self._filling.note_read(self._records.pending_bytes())

    def pending_bytes(self) -> int:
        """Bytes in the rings that the next read will find."""
        return sum(ring.pending_bytes() for ring in (self._ring, self._records, self._frames, self._matched))

    def counters(self) -> dict[Counter, int]:
        """The kernel's totals since the load; after `close` the last ones."""
        if self._is_closed:
            return self._last_counters
        totals = read_counts(self._program.maps["counters"], COUNTERS_SIZE)
        return dict(zip(_COUNTERS, totals, strict=False))

    def program_ns(self, *, calls: int) -> int:
        """Time in the kernel's programs so far: one second of each minute is counted, the others are estimated."""
        return self._meter.observe(now_ns=self._clock.monotonic_ns(), calls=calls)

    def counts(self) -> tuple[StageCount, ...]:
        """The accounts of the two stages here, in calls: `kernel` (ended calls against the ring) and `exchange`.

        After `close` the last ones: a stopping sensor still reports them.
        """
        if self._is_closed:
            return self._last_counts
        counters = self.counters()
        dropped = {
            "ring_full": counters[Counter.DROPPED_RING] + counters[Counter.STREAMS_LOST],
            "pipeline_too_deep": counters[Counter.DROPPED_DEPTH],
        }
        # Streams are calls that the kernel does not count, but for those that its ring had no room for.
        seen = counters[Counter.CALLS] + self._streams.calls + counters[Counter.STREAMS_LOST]
        kernel = StageCount(
            stage="kernel", seen=seen, used=seen - sum(dropped.values()), dropped=tuple(sorted(dropped.items()))
        )
        return (kernel, self._stage.count())

    def coverage(self) -> list[PortCount]:
        """What was seen of each listening port, and of each host that is called encrypted; after `close` the last
        totals.
        """
        if self._is_closed:
            return self._last_coverage
        maps = self._program.maps
        return read_port_counts(
            maps["ports"],
            maps["peers"],
            self._handshakes,
            self._stream_calls,
            self._clock.monotonic_ns(),
        )

    def unread(self) -> Unread:
        """What clients sent that no call explains, since the load; after `close` the last totals."""
        totals = self._assembler.unread
        if not self._is_closed and self._read_unread != (count := self.counters()[Counter.UNREAD]):
            self._read_unread = count
            fd = self._program.maps["unread"]
            for key, value in read_batch(fd, UNREAD_KEY.size, UNREAD_COUNT.size, UNREAD_SIZE):
                cgroup_id, address, port, family, reason = UNREAD_KEY.unpack(key)
                end = UnreadEnd(cgroup_id, port, name_address(family, address), UnreadReason(reason))
                totals.observe(end, UnreadCount(*UNREAD_COUNT.unpack(value)))
        return totals.totals

    def figures(self) -> tuple[Figure, ...]:
        per_call = (
            "program_ns_per_call",
            "Time that the kernel's programs take for a call, as measured last.",
            round(self._meter.ns_per_call),
        )
        totals = (
            (
                "forgotten_websockets",
                "WebSockets forgotten for room before they ended: reported without bytes, messages and duration.",
                self._assembler.upgrades.forgotten_count,
            ),
            ("handshakes_unreadable", "TLS handshakes that could not be parsed.", self._handshakes.unreadable),
            (
                "handshakes_unlisted",
                "TLS handshakes not described: their port or host is beyond the most that are kept.",
                self._handshakes.refused,
            ),
        )
        return (*make_gauges([per_call]), *make_totals(totals), *self._streams.figures())

    def update(self, name: str, elements: Mapping[bytes, bytes]) -> None:
        if not self._is_closed:
            update_batch(self._program.maps[name], elements)

    def delete(self, name: str, keys: Iterable[bytes]) -> None:
        if not self._is_closed:
            delete_elements(self._program.maps[name], keys)

    def overflow(self) -> dict[bytes, OverflowTotals]:
        """Sums since the load of the calls that found a ring full: by OVERFLOW_KEY, as OVERFLOW_COUNT."""
        if self._is_closed or not self.counters()[Counter.OVERFLOW]:
            return {}
        rows = read_batch(self._program.maps["overflow"], OVERFLOW_KEY.size, OVERFLOW_COUNT.size, OVERFLOW_SIZE)
        return {key: OVERFLOW_COUNT.unpack(value) for key, value in rows}

    def set_listening(self, ports: Iterable[int]) -> None:
        """Gives the kernel the ports that are worth counting; others are client ends. Before the first time it does not
        know, and so decides nothing of connections over TLS that are older than the sensor."""
        if self._is_closed:
            return
        wanted = {LISTENING_KNOWN, *ports}
        for port in wanted ^ self._listening:
            update_map(self._program.maps["listening"], port.to_bytes(4, "little"), bytes([port in wanted]))
        self._listening = wanted

    def attach(self) -> None:
        self._program.attach()

    def detach(self) -> None:
        self._program.detach()

    def close(self) -> None:
        """Detaches, leaves header tables of HTTP/2 to the next sensor and frees everything. Read what is in the rings
        before."""
        if not self._is_closed:
            self._last_counters = self.counters()
            self._last_counts, self._last_coverage = self.counts(), self.coverage()
            self._is_closed = True
            if self._table_file is not None:
                self._table_file.write(self._streams.save(self._clock.monotonic_ns()))
        self._meter.stop()
        self.bell.close()
        self._program.close()
        for ring in (self._ring, self._frames, self._records, self._matched):
            ring.close()

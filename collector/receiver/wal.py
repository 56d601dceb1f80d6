"""The write-ahead log: what is in it is acknowledged, survives kill -9 and power loss, and stays until all have read
it.

Its directory holds numbered segments (collector/receiver/segment.py), one cursor a reader, `id` and `sequences.json`.
`id` is random, so that insert tokens of a new log never equal those of an old one. `sequences.json` is the ledger of
batches seen, as of the start of the newest segment, and the number of its first batch. At a start, the segments after
that are scanned to update both. `Wal` blocks and is used by one thread at a time.

`SequenceLedger` knows which batches came already: per (node, boot id), ranges of sequences. A sensor sends its oldest
first, so one range is normal. A gap is a batch that was refused, or that a full spool dropped. Past the limit of
ranges, the lowest gap closes, and a batch that late would count as a duplicate. A sensor that sends its oldest first
cannot cause that. Nodes, and processes of each, are bounded too: the least recent one is dropped, and what it sends
again counts twice. One node cannot push out another's.
"""

import contextlib
import os
import secrets
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from threading import Lock
from typing import Any

from apidae.v1 import data_pb2
from google.protobuf.message import DecodeError

from collector.core.limits import Limit
from collector.receiver.reader import load_cursor, locate_cursor
from collector.receiver.segment import Position, decode_frames, encode_frame, find_segments, locate_segment
from common.bounded import BoundedDict
from common.durable import check_seal, read_json, seal, sync_directory, write_durably

NODE_LIMIT = 20_000
PROCESS_LIMIT = 64  # Of one node; each restart of its sensor makes one.
RANGE_LIMIT = 1_024  # Ranges of one pair.


class SequenceLedger:
    """Remembers sequences. Thread-safe: the event loop asks while the log's writing thread adds."""

    def __init__(
        self, node_limit: int = NODE_LIMIT, process_limit: int = PROCESS_LIMIT, range_limit: int = RANGE_LIMIT
    ) -> None:
        """Empty; the limits are counts."""
        # By node, then by boot id. Ranges are [first, last], ascending, never touching.
        self._nodes: BoundedDict[str, BoundedDict[str, list[list[int]]]] = BoundedDict(node_limit)
        self._node_limit = node_limit
        self._process_limit = process_limit
        self._range_limit = range_limit
        self._lock = Lock()

    def __len__(self) -> int:
        """Processes of sensors that are known."""
        return sum(map(len, self._nodes.values()))

    @property
    def limit(self) -> Limit:
        """Of nodes."""
        then = "A batch that one of the nodes past it sends twice would count twice."
        return Limit(name="ledger_nodes", used=len(self._nodes), maximum=self._node_limit, then=then)

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        with self._lock:
            processes = self._nodes.get(node)
            ranges = processes.get(boot_id, []) if processes is not None else []
            index = bisect_right(ranges, [sequence, 2**64]) - 1
            return index >= 0 and sequence <= ranges[index][1]

    def add(self, node: str, boot_id: str, sequence: int) -> None:
        with self._lock:
            processes = self._open(node)
            ranges = processes.use(boot_id)
            if ranges is None:
                ranges = processes[boot_id] = []
            index = bisect_right(ranges, [sequence, 2**64])
            if index and sequence <= ranges[index - 1][1]:
                return
            ranges.insert(index, [sequence, sequence])
            self._join(ranges, index)
            self._join(ranges, index - 1)
            if len(ranges) > self._range_limit:
                ranges[0:2] = [[ranges[0][0], ranges[1][1]]]

    def dump(self) -> list[list[Any]]:
        """JSON-ready state, the node, and of each the process, heard of longest ago first."""
        return [
            [node, boot_id, [list(pair) for pair in ranges]]
            for node, processes in self._nodes.items()
            for boot_id, ranges in processes.items()
        ]

    def load(self, state: list[list[Any]]) -> None:
        for node, boot_id, ranges in state:
            self._open(node)[boot_id] = [list(pair) for pair in ranges]

    def _open(self, node: str) -> BoundedDict[str, list[list[int]]]:
        processes = self._nodes.use(node)
        if processes is None:
            processes = self._nodes[node] = BoundedDict(self._process_limit)
        return processes

    @staticmethod
    def _join(ranges: list[list[int]], index: int) -> None:
        """Make one of the ranges at `index` and `index + 1` where they touch."""
        if 0 <= index < len(ranges) - 1 and ranges[index][1] + 1 == ranges[index + 1][0]:
            ranges[index : index + 2] = [[ranges[index][0], ranges[index + 1][1]]]


SEQUENCES_FILE = "sequences.json"
FORMAT = 2  # Of the segments; those before had no magic word.
SEGMENT_BYTES = 16 * 1024 * 1024
# Room for a store outage: about half an hour of 100 nodes at 1,000 rows each 10 s, of 100 to 143 bytes.
LOG_LIMIT_BYTES = 2 * 1024 * 1024 * 1024


class LogFullError(OSError):
    """The log takes nothing: it reached its limit, for the store does not keep up, or the disk is nearly full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One batch to make durable: its key and its serialised form."""

    node: str
    boot_id: str
    sequence: int
    received_unix_ns: int
    payload: bytes


class Wal:
    """Writer and owner of the directory."""

    def __init__(
        self,
        directory: Path,
        *,
        readers: Sequence[str],
        essential: str,
        segment_bytes: int = SEGMENT_BYTES,
        limit_bytes: int = LOG_LIMIT_BYTES,
        find_shortage: Callable[[], str] = lambda: "",
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        """Open or create.

        A segment is deleted once all `readers` have passed it. Past half of `limit_bytes` only the `essential` one (the
        store) holds segments back: the others lose the oldest, and their readers count it. While `find_shortage` has a
        sentence, the disk is nearly full and nothing is written. `sync` is fsync, by file descriptor. Raises OSError
        when the directory cannot be written, ValueError when another version wrote it and it cannot be brought up to
        date.
        """
        self._directory = directory
        self._readers = tuple(readers)
        self._essential = essential
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._find_shortage = find_shortage
        self._sync = sync
        self._file: RawIOBase | None = None
        self._lock = threading.RLock()  # Held while the files change.
        self._number = 0
        self._offset = 0
        self._next_batch = 1
        self._covered = 0  # The ledger on disk knows everything up to this segment.
        self._size_bytes = 0
        self.ledger = SequenceLedger()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = self._load_id()
        self._recover()
        self._begin_segment()

    @property
    def position(self) -> Position:
        """The durable end: where the next frame begins."""
        return Position(self._number, self._offset)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def append(self, appends: Sequence[Append]) -> None:
        """Write and sync all, then remember their keys.

        After an OSError (LogFullError, disk full, I/O error) none of them is in the log.
        """
        with self._lock:
            if self._offset >= self._segment_bytes:
                self._begin_segment()
                self.collect()
            if self._size_bytes >= self._limit_bytes:
                self.collect()
            if self._size_bytes >= self._limit_bytes:
                raise LogFullError(
                    f"The write-ahead log holds {self._size_bytes} bytes; its limit is {self._limit_bytes}."
                )
            if shortage := self._find_shortage():
                raise LogFullError(shortage)
            buffer = self._encode(appends)
            assert self._file is not None
            try:
                _write_all(self._file, buffer)
                self._sync(self._file.fileno())
            except OSError:
                self._withdraw()
                raise
            self._offset += len(buffer)
            self._size_bytes += len(buffer)
            self._next_batch += len(appends)
            for append in appends:
                self.ledger.add(append.node, append.boot_id, append.sequence)

    @contextmanager
    def hold(self) -> Iterator[Path]:
        """Gives the directory, whose segments nobody writes or deletes meanwhile; each may be replaced by one of the
        same lengths. What arrives waits. Raises OSError.
        """
        with self._lock:
            if self._offset:
                self._begin_segment()
            yield self._directory

    def collect(self) -> int:
        """Delete the segments that are passed, and past the limit those that only lesser readers still want. Returns
        how many.
        """
        with self._lock:
            passed, stored = self._find_passed(self._readers), self._find_passed((self._essential,))
            sizes = {n: locate_segment(self._directory, n).stat().st_size for n in find_segments(self._directory)}
            self._size_bytes = sum(sizes.values())
            deleted = 0
            for number, size in sizes.items():
                is_over = self._size_bytes > self._limit_bytes // 2
                if number >= self._number or not (number < passed or (is_over and number < stored)):
                    break
                locate_segment(self._directory, number).unlink()
                self._size_bytes -= size
                deleted += 1
            if deleted:
                sync_directory(self._directory)
            return deleted

    def _encode(self, appends: Sequence[Append]) -> bytes:
        buffer = bytearray()
        for number, append in enumerate(appends, self._next_batch):
            buffer += encode_frame(
                append.payload,
                number=number,
                received_unix_ns=append.received_unix_ns,
                position=Position(self._number, self._offset + len(buffer)),
            )
        return bytes(buffer)

    def close(self) -> None:
        """Close the segment; everything acknowledged is on disk already."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _find_passed(self, readers: Sequence[str]) -> int:
        """The lowest segment that one of the readers still stands in; 0 where one has not begun."""
        cursors = [load_cursor(self._directory, name) for name in readers]
        return min((cursor.position.segment if cursor else 0 for cursor in cursors), default=0)

    def _load_id(self) -> str:
        path = self._directory / "id"
        if not path.exists():
            write_durably(path, secrets.token_hex(8).encode())
        return path.read_text()

    def _begin_segment(self) -> None:
        """Close the newest segment and open the next; the ledger on disk then covers everything before it."""
        self.close()
        segments = find_segments(self._directory)
        self._number = max(segments[-1] if segments else 0, self._covered) + 1
        state = {
            "format": FORMAT,
            "before_segment": self._number,
            "next_batch": self._next_batch,
            "pairs": self.ledger.dump(),
        }
        write_durably(self._directory / SEQUENCES_FILE, seal(state))
        self._covered = self._number - 1
        # Unbuffered: a frame is in the file or the write failed, never in between.
        self._file = locate_segment(self._directory, self._number).open("xb", buffering=0)
        self._offset = 0
        sync_directory(self._directory)

    def _recover(self) -> None:
        """Load the ledger and add what was written after it was saved."""
        path = self._directory / SEQUENCES_FILE
        damaged = ValueError(f"{path} is damaged; remove it: batches that are sent again may then count twice.")
        state_format = read_json(path, self._load_sequences, damaged)
        if state_format is not None and state_format != FORMAT:
            self._drop_old_segments()
        for number in find_segments(self._directory):
            if number > self._covered:
                self._scan(number)
            else:
                self._size_bytes += locate_segment(self._directory, number).stat().st_size

    def _load_sequences(self, state: Any) -> int:
        """Takes up the ledger; gives the format of the segments."""
        self._covered = check_seal(state)["before_segment"] - 1
        self.ledger.load(state["pairs"])
        self._next_batch = state.get("next_batch", 1)
        return int(state.get("format", 0))

    def _scan(self, number: int) -> None:
        content = locate_segment(self._directory, number).read_bytes()
        decoded = decode_frames(content, Position(number, 0), is_complete=True)
        for entry in decoded.entries:
            try:
                batch = data_pb2.Batch.FromString(entry.payload)
            except DecodeError:  # Its checksum is right, so it was written so: the store's writer will count it.
                continue
            self.ledger.add(batch.node, batch.boot_id, batch.sequence)
        self._next_batch = max(self._next_batch, decoded.next_number)
        self._size_bytes += len(content)

    def _drop_old_segments(self) -> None:
        """Segments of another format go where the store has all of them. Raises ValueError where it has not."""
        segments = find_segments(self._directory)
        ends = [Position(number, locate_segment(self._directory, number).stat().st_size) for number in segments]
        cursor = load_cursor(self._directory, self._essential)
        if any(end.offset and (cursor is None or cursor.position < end) for end in ends):
            raise ValueError(
                f"The log in {self._directory} was written by an earlier build and holds batches that are not in the "
                "tables; start that build once more, stop it with SIGTERM, then start this one."
            )
        for number in segments:
            locate_segment(self._directory, number).unlink()
        for name in self._readers:
            locate_cursor(self._directory, name).unlink(missing_ok=True)
        self._covered = max([self._covered, *segments])

    def _withdraw(self) -> None:
        """Take back a write that failed half-way, and go on in a new segment, so that no position is used twice. Where
        the former fails, readers stop at the torn frame.
        """
        assert self._file is not None
        with contextlib.suppress(OSError):
            self._file.truncate(self._offset)
        self._offset = self._segment_bytes


def _write_all(file: RawIOBase, buffer: bytes) -> None:
    """Write everything: a nearly full disk takes a part and refuses the rest at the next call. Raises OSError."""
    rest = memoryview(buffer)
    while rest:
        rest = rest[file.write(rest) or 0 :]

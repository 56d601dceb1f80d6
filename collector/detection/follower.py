"""The detectors' work without their process: one step reads the log, evaluates what came, and gives signals.

Nothing is lost or reported twice. A checkpoint holds the state, the position in the log and the number of the next
signal. It is written only when every earlier signal was acknowledged. After a crash the batches since the checkpoint
are read again in the same groups (collector/detection/read_boundaries.py). They give the same signals with the same
numbers, and the state drops the numbers it has (collector/alerting/pending.py).

What came between two steps is processed together. While sensors send a backlog, batches wait for one another
(collector/detection/catch_up.py). Before a jump of time, the state is written beside the checkpoint. It is restored
where the clocks prove to have been wrong.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from collector.detection.catch_up import SILENT_SECONDS, CatchUp, Place, Sent
from collector.detection.checkpoint import Checkpoint, CheckpointError, CheckpointVersionError
from collector.detection.engine import Engine
from collector.detection.memory import Memory
from collector.detection.messages import (
    ORDERS,
    Counts,
    DetectorTotals,
    Done,
    Erase,
    Expect,
    Mapped,
    Order,
    SignalBatch,
)
from collector.detection.read_boundaries import (
    JUMP_SECONDS,
    Group,
    Jump,
    Jumps,
    list_newest,
    split_group,
)
from collector.log.base import Entry, LogReader, Position
from collector.receiver.convert import CheckedRoutes, convert_payloads
from collector.storage.row_group import RowGroup

if TYPE_CHECKING:  # SQL takes 15 MB, and only a shared state needs it.
    from collector.detection.shared_memory import StateMemory
    from collector.storage.state.leases import Fence

# From one checkpoint to the next, while something is evaluated: the larger a state, the longer, so that a small
# installation writes less than 100 MB a day. What came since is evaluated again after a crash. To write a checkpoint
# takes 150 ms however little came. Where that little is evaluated again sooner, the longest time passes.
CHECKPOINT_SECONDS = (30.0, 300.0)
CHECKPOINT_BYTES_PER_SECOND = 1_000
FEW_BYTES = 256 * 1024  # Of batches: some 2,000 rows.
ROUTES_CACHED = 30_000  # Routes of earlier batches, which need not be converted again: 30 MB at most.
_BEHIND_BYTES = 1024 * 1024  # Of batches in one read: as much as all sensors of a large installation send meanwhile.
_PLACES_MAX = 1_000  # Batches that waited, converted together.
_NANOSECONDS = 1_000_000_000

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Follower:
    """The child's work without its process: one step reads, evaluates and reports. Tests drive it by hand."""

    reader: LogReader
    engine: Engine
    memory: Memory
    mapping: dict[int, str] = field(default_factory=dict)  # The engine's `endpoint_of_route`.
    report: Callable[[SignalBatch], None]
    monotonic: Callable[[], float] = time.monotonic
    next_signal: int = 1
    taken: int = 1
    learnt_from: Position = field(init=False)
    refused_batches: int = 0
    lost_batches: int = 0  # That waited in the log.
    done: list[Done] = field(default_factory=list)  # Requests that no checkpoint holds yet.
    position: Position = field(default_factory=lambda: Position(0, 0))
    is_behind: bool = False  # There may be more to read at once.
    jumps: Jumps = field(default_factory=Jumps)
    undone_jumps: int = 0
    catch_up: CatchUp = field(default_factory=CatchUp)
    sentences: list[str] = field(default_factory=list)  # That were not logged yet.
    disk_errors: int = 0
    has_news: bool = False  # Something was evaluated that no checkpoint holds.
    saved_bytes: int = 0  # Of the newest checkpoint.
    unsaved_bytes: int = 0  # Of batches that were judged since.
    _disk_fault: str = field(init=False, default="")  # Since the newest checkpoint.
    _read_at: float = field(init=False)  # Something, the last time.
    _under_way: set[Position] = field(init=False, default_factory=set)  # Ends of batches that are evaluated now.
    is_leading: bool = True  # Else it follows the holder of the lease, and reports nothing.
    _unreported: list[SignalBatch] = field(
        default_factory=list
    )  # While it follows: signals that the holder may not have reported.
    _obeyed: list[Order] = field(default_factory=list)  # Since the last end of a read.
    _waiting: list[Expect | Erase] = field(default_factory=list)  # Asked for while it follows.
    _mapped: dict[int, str] = field(default_factory=dict)  # What came while earlier reads are repeated, and is newer.
    _is_mapped: bool = False
    _fence: "Fence | None" = None  # Of the lease that came.
    _erased_subjects: int = 0
    _routes: CheckedRoutes = field(default_factory=lambda: CheckedRoutes(ROUTES_CACHED))
    _failed: frozenset[Position] = frozenset()  # Ends of batches on which a detector failed.

    def __post_init__(self) -> None:
        self._read_at = self.monotonic()
        self.learnt_from = self.reader.position

    def resume(self) -> str:
        """Load the checkpoint; without one the log is read from its oldest batch, and so it is where the state cannot
        be read: it is moved aside and the sentence says so (else empty). Raises OSError."""
        sentence = ""
        try:
            checkpoint = self.memory.load(self.engine)
        except CheckpointError as error:
            suffix = f"v{error.version}" if isinstance(error, CheckpointVersionError) else "damaged"
            aside = self.memory.move_aside(suffix)
            sentence = f"Detectors learn anew, their state was moved to {aside}: {error}."
            checkpoint, self.engine = None, self.engine.make_new()  # Of a state without one of its parts it holds some.
        if checkpoint is not None:
            self.position = checkpoint.position
            self.next_signal = self.taken = checkpoint.next_signal
            self.learnt_from = checkpoint.learnt_from
            self.jumps, self.catch_up = checkpoint.jumps, checkpoint.catch_up
            # The cursor is before what waits.
            while self.reader.position < self.position and self.reader.read(until=self.position):
                pass
        if self.is_leading:
            self._try_disk(lambda: self.memory.cuts.resume(self.position))
        self._failed = self.memory.load_failed()
        return sentence

    def obey(self, message: Order) -> None:
        """Do what the parent asks for; done with the next checkpoint. Raises OSError."""
        if isinstance(message, Mapped):
            is_replayed = self.memory.cuts.find_next(self.position) is not None
            if self._is_mapped and (is_replayed or not self.is_leading):
                self._mapped |= message.endpoint_of_route  # Newer than what was asked for before.
            if self.is_leading or not self._is_mapped:
                self._apply(message)
            self._is_mapped = True
        elif self.is_leading:
            self._apply(message)
            self.done.append(Done(message.number, self._erased_subjects))
            if isinstance(message, Erase):
                self.memory.erase(message.consumer)
        else:
            self._waiting.append(message)
        if self.memory.is_shared and self.is_leading:
            self._obeyed.append(message)

    def _apply(self, message: Order) -> None:
        match message:
            case Mapped():
                new = message.endpoint_of_route
                changed = {route for route, endpoint_id in new.items() if self.mapping.get(route) != endpoint_id}
                self.mapping.update(new)
                self.engine.remap(changed)
            case Expect():
                self.engine.expect(message.kind, message.endpoint_id, message.consumer, message.rate)
            case Erase():
                self._erased_subjects = self.engine.erase(message.consumer)

    @property
    def _shared(self) -> "StateMemory":
        from collector.detection.shared_memory import StateMemory

        assert isinstance(self.memory, StateMemory)
        return self.memory

    def lead_from(self, epoch: int) -> None:
        """As `lead`, with the lease of this epoch."""
        self.lead(self._shared.make_fence(epoch))

    def lead(self, fence: "Fence") -> None:
        """The lease came: report what is found, once all is read that the previous holder read."""
        self._fence = fence
        if self.is_leading and self.memory.is_shared:
            self._shared.lead(fence)

    def _follow(self) -> bool:
        """Whether there is something to read, as one that follows. Raises LostTrackError, OSError."""
        cuts = self._shared.cuts
        if cuts.find_next(self.position) is not None:
            return True
        cuts.follow(self.position)
        is_known = cuts.find_next(self.position) is not None
        if cuts.has_passed_checkpoint():
            self._unreported.clear()
            self.taken = self.next_signal
            self.reader.settle(self.catch_up.first or self.position)
        return is_known

    def _begin_to_lead(self) -> None:
        assert self._fence is not None
        memory = self._shared
        memory.lead(self._fence)
        if not memory.cuts.is_begun:
            memory.cuts.resume(self.position)
        self.is_leading = True
        # What the previous holder found may differ by a signal, for names of endpoints reach each collector at another
        # moment. Numbers go on after those that came, or the next signals would be taken for them.
        came = memory.find_next_signal(str(self.learnt_from))
        if came >= self.next_signal:
            self._unreported.clear()
            self.next_signal = self.taken = came
        for batch in self._unreported:
            self.report(batch)
        self._unreported.clear()
        for message in self._waiting:
            self.obey(message)
        self._waiting.clear()
        self.has_news = True  # A checkpoint soon, so that those that follow have little to read.

    @property
    def pause_seconds(self) -> float:
        """From the newest checkpoint to the next, by its size and by what came since."""
        shortest, longest = CHECKPOINT_SECONDS
        if self.saved_bytes and self.unsaved_bytes < FEW_BYTES:
            return longest
        return min(max(self.saved_bytes / CHECKPOINT_BYTES_PER_SECOND, shortest), longest)

    def step(self) -> bool:
        """Read and judge what is there; False where there was nothing, or where it cannot be read now."""
        if not self.is_leading:
            found: list[bool] = []
            if not self._try_disk(lambda: found.append(self._follow())):
                return False
            if not found[0]:
                if self._fence is not None and self._try_disk(self._begin_to_lead):
                    self.is_behind = True
                return self.is_leading
        until = self.memory.cuts.find_next(self.position)
        if until == self.position:  # Before the crash nothing came here for long.
            self._evaluate([])
            return True
        entries: list[Entry] = []
        if not self._try_disk(lambda: self._read(until, entries)):
            self.reader.rewind(self.position)
            self.is_behind = False
            return False
        if not entries:
            self.is_behind = until is not None
            if until is not None:
                self.memory.cuts.drop_next()
            elif self.catch_up.is_active and self.monotonic() - self._read_at >= SILENT_SECONDS:
                self._evaluate([])
            return self.is_behind
        self._read_at = self.monotonic()
        size = sum(len(entry.payload) for entry in entries)
        self.is_behind = until is not None or size > _BEHIND_BYTES
        self.unsaved_bytes += size
        self._evaluate(entries)
        return True

    def _evaluate(self, entries: Sequence[Entry]) -> None:
        """What was read, or what waited for more where nothing came."""
        end = entries[-1].end if entries else self.position
        if not self._begin_read(end):
            return
        self.has_news = True
        self._under_way.clear()
        try:
            new = [entry for entry in entries if entry.end > self.position]
            self._feed(self._order(new) if entries else self._read_places(self.catch_up.end(), {}))
        except (OSError, EOFError):
            raise  # The disk, or the parent is gone.
        except Exception:
            # Half of them may be in the state. So this process ends, and the next one goes on from the checkpoint
            # without what was read here.
            ends = self._failed | self._under_way
            if self.is_leading:
                self.memory.save_failed([end for end in ends if end > self.reader.cursor.position])
            raise
        self.position = max(self.position, end)

    def _begin_read(self, end: Position) -> bool:
        """Keep where a read ends, with what was asked for before it, or do what was asked for before it then. False
        where it cannot be kept and others follow."""
        messages = self.memory.cuts.list_messages(self.position)
        if self.memory.cuts.reach(end):
            for message in ORDERS.decode(messages) if messages else ():
                self._apply(message)
            return True
        if self._mapped:
            mapped, self._mapped = Mapped(self._mapped), {}
            self.obey(mapped)
        content = msgspec.msgpack.encode(self._obeyed) if self._obeyed else b""
        if self._try_disk(lambda: self.memory.cuts.add(end, content)):
            self._obeyed.clear()
            return True
        if not self.memory.is_shared:  # After a crash these batches may come in other groups.
            return True
        self.reader.rewind(self.position)
        self.is_behind = False
        return False

    def _order(self, entries: Sequence[Entry]) -> Iterator[Group]:
        """What was read and need not wait, as groups."""
        rows, kept = self._convert(entries)
        if rows is None:
            return
        times = [entry.received_unix_ns // _NANOSECONDS for entry in kept]
        newest = list_newest(rows).tolist()
        passing = self.catch_up.take(
            [Sent(head.node, *arguments) for head, *arguments in zip(rows.heads, newest, times, kept, strict=True)],
            self.engine.watermark,
            self.engine.list_nodes,
        )
        if passing:
            yield from split_group(rows.select(0, passing), times[:passing])
        if passing < len(kept):
            yield from self._read_places(self.catch_up.take_due(), {entry.start: entry for entry in kept})

    def _read_places(self, places: Iterable[Place], fresh: Mapping[Position, Entry]) -> Iterator[Group]:
        """What waited in the log; `fresh` was read just now."""
        left = iter(places)
        while chunk := list(islice(left, _PLACES_MAX)):
            found = [fresh.get(one.start) or self.reader.read_again(one.start, one.end) for one in chunk]
            entries = [entry for entry in found if entry is not None]
            self.lost_batches += len(found) - len(entries)
            rows, kept = self._convert(entries)
            if rows is not None:
                yield from split_group(rows, [entry.received_unix_ns // _NANOSECONDS for entry in kept])

    def _feed(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._mind_time(group)
            signals = self.engine.feed(group.rows, group.received_of_rows)
            if signals:
                batch = SignalBatch(self.next_signal, tuple(signals), str(self.learnt_from))
                self.next_signal += len(signals)
                if self.is_leading:
                    self.report(batch)
                else:
                    self._unreported.append(batch)

    def save(self) -> bool:
        """Write a checkpoint and move the log's cursor, if every reported signal was taken and the disk takes it."""
        return self.is_leading and self.taken >= self.next_signal and self._try_disk(self._save)

    def _save(self) -> None:
        self.saved_bytes = self.memory.save(self.engine, self._stand())
        self.memory.begin_cuts(self.position, {jump.name for jump in self.jumps.kept})
        self.reader.commit(self.catch_up.first or self.position)
        self.has_news, self.unsaved_bytes = False, 0
        self._disk_fault = ""

    def _read(self, until: Position | None, entries: list[Entry]) -> None:
        """The next batches; all of what was read together before a crash. Raises OSError."""
        entries += self.reader.read(until=until)
        while until is not None and entries and entries[-1].end < until:
            more = self.reader.read(until=until)
            if not more:
                break
            entries += more

    def _try_disk(self, work: Callable[[], object]) -> bool:
        """Do what needs the disk; False where it refuses, which is counted: a full disk ends nothing."""
        try:
            work()
        except OSError as error:
            self.disk_errors += 1
            if not self._disk_fault:
                self.sentences.append(f"The disk or the log fails the detectors ({error}); they go on without it.")
            self._disk_fault = str(error)
            return False
        return True

    def _mind_time(self, group: Group) -> None:
        """Undo a jump of time that the next batches show to be none; keep what is known before one."""
        received_at = int(np.max(group.received_at))
        undone = self.jumps.look(received_at, self.engine.watermark)
        if undone is not None:
            self._turn_back(undone if isinstance(undone, Jump) else None, received_at)
        watermark = self.engine.watermark
        if group.newest - watermark < JUMP_SECONDS:
            return
        newest = self.engine.find_newest(group.rows.rows, group.received_of_rows)
        if newest - watermark < JUMP_SECONDS:
            return
        jump = Jump(left=watermark, landed=newest)
        if watermark and self.is_leading:
            self._try_disk(lambda: self.memory.save(self.engine, self._stand(), jump.name))
        self.jumps.note(jump)

    def _turn_back(self, jump: Jump | None, time: int) -> None:
        """Take up the state of before a jump; without one the detectors wait."""
        behind = f"The clock went back by {_name_span(self.engine.watermark - time)}"
        before = self._read_before(jump) if jump is not None else None
        if jump is None or before is None:
            self.sentences.append(
                f"{behind}, and nothing is kept of before: detectors judge nothing until "
                f"{_name_time(self.engine.watermark)}. If the clock is right now, stop the collector, move "
                f"{self.memory.place} away and start it: they learn anew."
            )
            return
        before.resume(time, self.engine)
        before.remap(before.subjects.list_routes())  # The mapping may have changed since.
        self.engine = before
        self.jumps.undo(jump)
        self.undone_jumps += 1
        known = f"what they knew at {_name_time(jump.left)}" if jump.left else "nothing"
        self.sentences.append(f"{behind}: detectors go on from {known}, without what came since.")

    def _read_before(self, jump: Jump) -> Engine | None:
        """What was known before it; None where that is gone (somebody in it was erased) or damaged."""
        engine = self.engine.make_new()
        try:
            is_there = not jump.left or self.memory.load(engine, jump.name) is not None
        except CheckpointError:
            return None
        return engine if is_there else None

    def _stand(self) -> Checkpoint:
        return Checkpoint(
            position=self.position,
            next_signal=self.next_signal,
            learnt_from=self.learnt_from,
            jumps=self.jumps,
            catch_up=self.catch_up,
        )

    def _convert(self, entries: Sequence[Entry]) -> tuple[RowGroup | None, list[Entry]]:
        """The rows of batches, and which they are of. A batch that is refused (it was not when it came: another version
        wrote it), or on which a detector failed, is counted."""
        self._under_way |= {entry.end for entry in entries}
        left = [entry for entry in entries if entry.end not in self._failed]
        payloads = [entry.payload for entry in left]
        converted = convert_payloads(payloads, [one.received_unix_ns / _NANOSECONDS for one in left], self._routes)
        self.refused_batches += len(entries) - len(left) + len(converted.refusals)
        return converted.group, [entry for place, entry in enumerate(left) if place not in converted.refusals]

    def count(self) -> Counts:
        """Totals for metrics."""
        engine, log = self.engine, self.reader.counts
        totals = DetectorTotals(
            calls_used=engine.used_calls,
            subjects_evicted=engine.evicted_count,
            signals_held_back=engine.held_back_count,
            batches_refused=self.refused_batches,
            batches_lost=log.lost_batches + self.lost_batches,
            batches_skipped=log.skipped_batches,
            jumps_undone=self.undone_jumps,
            disk_errors=self.disk_errors,
        )
        return Counts(
            totals=totals,
            dropped_calls=engine.dropped_calls,
            waiting_batches=self.catch_up.waiting_count,
            limits=engine.count_subjects(),
            disk_fault=self._disk_fault,
        )


def _name_span(seconds: int) -> str:
    """In words, for people."""
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds // 60} minutes"


def _name_time(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"

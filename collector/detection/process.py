"""The detectors' own process: follows the log, keeps its state on disk, and sends signals until they are acknowledged.

EDGE: processes and files. The child is a program of its own, because the embedded store's threads do not survive a
fork. `multiprocessing` would start one with all modules of its parent's command, and a second one of 15 MB that tracks
resources which nobody shares here. It ends with its parent, because its pipe ends then. The parent starts it again
after a crash (`DetectorProcess.restart_count`).

Nothing is lost or reported twice. A checkpoint holds the state, the position in the log and the number of the next
signal. It is written only when every earlier signal was acknowledged. After a crash the batches since the checkpoint
are read again in the same groups (collector/detection/read_boundaries.py). They give the same signals with the same
numbers, and the state drops the numbers it has (collector/alerting/pending.py).

The log is read each half second, and what came meanwhile is processed together. While sensors send a backlog, batches
wait for one another (collector/detection/catch_up.py). Before a jump of time, the state is
written beside the checkpoint. It is restored where the clocks prove to have been wrong.
"""

import logging
import os
import signal as os_signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import count, islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from collector.alerting.alert import Alert
from collector.core.feature import Feature, Role, Worker
from collector.core.limits import DetectionProgress, Limit
from collector.core.memory import release_free_memory, release_library_pages
from collector.core.rates import UTC_NAME, compute_rate
from collector.detection.catch_up import SILENT_SECONDS, CatchUp, Place, Sent
from collector.detection.checkpoint import Checkpoint, CheckpointError, CheckpointVersionError
from collector.detection.engine import Engine
from collector.detection.memory import FileMemory, LostTrackError, Memory
from collector.detection.messages import (
    ORDERS,
    TO_CHILD,
    TO_PARENT,
    Counts,
    DetectorTotals,
    Done,
    Erase,
    Expect,
    Lead,
    Mapped,
    Order,
    Outbox,
    Renewed,
    Stop,
    Taken,
    ToChild,
    Told,
    ToParent,
    UnsentRoutes,
)
from collector.detection.read_boundaries import (
    JUMP_SECONDS,
    Group,
    Jump,
    Jumps,
    list_newest,
    split_group,
)
from collector.log.base import DETECTORS, Entry, LogReader, Position
from collector.log.open import LogPlace, open_reader
from collector.receiver.convert import CheckedRoutes, convert_payloads
from collector.storage.base import LeaseLostError, StoreError
from collector.storage.row_group import RowGroup
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from common.figures import Figure, list_figures, make_gauges, make_labelled, make_totals

if TYPE_CHECKING:  # SQL takes 15 MB, and only a shared state needs it.
    from collector.detection.shared_memory import StateMemory
    from collector.storage.state.leases import Fence

LOOK_SECONDS = 0.5  # From one look at the log to the next: what came meanwhile costs as much alone as together.
_TOLD_SECONDS = 0.5  # Of the parent, from one look at the mapping to the next while the child says nothing.
_POLL_SECONDS = 0.25  # Of the parent, while the child is gone or ends.
# From one checkpoint to the next, while something is judged: the larger a state, the longer, so that a small
# installation writes less than 100 MB a day. What came since is judged again after a crash.
CHECKPOINT_SECONDS = (30.0, 300.0)
CHECKPOINT_BYTES_PER_SECOND = 1_000
UNSAVED_BYTES_MAX = 128 * 1024 * 1024  # Of the log, which holds them until then: past it one is due at once.
COUNT_SECONDS = 2.0  # From one account for the metrics to the next.
ROUTES_CACHED = 30_000  # Routes of earlier batches, which need not be converted again: 30 MB at most.
_BEHIND_BYTES = 1024 * 1024  # Of batches in one read: as much as all sensors of a large installation send meanwhile.
RESTART_WAIT_SECONDS = 1.0  # Between a crash and the next start.
# For so long no child runs, and none is started: nobody waits for it any more. Another collector takes over sooner.
AWAY_SECONDS = 15.0
AWAY_ENDS = 3  # Children that ended one after the other, and reported nothing: the next one will not, either.
_AWAY_LOOK_SECONDS = 0.5
_STOP_SECONDS = 10.0
_PLACES_MAX = 1_000  # Batches that waited, converted together.
_NANOSECONDS = 1_000_000_000

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Follower:
    """The child's work without its process: one step reads, judges and tells. Tests drive it by hand."""

    reader: LogReader
    engine: Engine
    memory: Memory
    mapping: dict[int, str] = field(default_factory=dict)  # The engine's `endpoint_of_route`.
    tell: Callable[[Told], None]
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
    sentences: list[str] = field(default_factory=list)  # That nobody was told yet.
    disk_errors: int = 0
    has_news: bool = False  # Something was evaluated that no checkpoint holds.
    saved_bytes: int = 0  # Of the newest checkpoint.
    unsaved_bytes: int = 0  # Of batches that were judged since.
    _disk_fault: str = field(init=False, default="")  # Since the newest checkpoint.
    _read_at: float = field(init=False)  # Something, the last time.
    _under_way: set[Position] = field(init=False, default_factory=set)  # Ends of batches that are evaluated now.
    is_leading: bool = True  # Else it follows the holder of the lease, and reports nothing.
    _untold: list[Told] = field(
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
            self._untold.clear()
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
            self._untold.clear()
            self.next_signal = self.taken = came
        for told in self._untold:
            self.tell(told)
        self._untold.clear()
        for message in self._waiting:
            self.obey(message)
        self._waiting.clear()
        self.has_news = True  # A checkpoint soon, so that those that follow have little to read.

    @property
    def pause_seconds(self) -> float:
        """From the newest checkpoint to the next, by its size."""
        shortest, longest = CHECKPOINT_SECONDS
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
                told = Told(self.next_signal, tuple(signals), str(self.learnt_from))
                self.next_signal += len(signals)
                if self.is_leading:
                    self.tell(told)
                else:
                    self._untold.append(told)

    def save(self) -> bool:
        """Write a checkpoint and move the log's cursor, if every signal told was taken and the disk takes it."""
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


@dataclass(slots=True, kw_only=True)
class _Request:
    """What a person asked for, and who waits for it."""

    message: Expect | Erase
    subjects: int = 0
    is_done: threading.Event = field(default_factory=threading.Event)


class DetectorsAwayError(TimeoutError):
    """Nobody does what is asked for, which is known before the time is over."""

    def __init__(self) -> None:
        super().__init__("The detectors do not run (the collector's log says why)")


class DetectorProcess:
    """The parent's side: starts the child, takes its signals, starts it again. One thread calls `poll`."""

    def __init__(
        self,
        *,
        log: LogPlace,
        checkpoint_path: Path,
        take: Callable[[Told], None],
        consumer_order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER,
        time_zone: str = UTC_NAME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`take` makes signals durable, each number of a series once (PendingReports.add_signals). StoreError leaves
        them unacknowledged, and the next `poll` begins with them; what else it raises is a fault of ours, and they are
        given up."""
        self.is_shared = bool(log.url)
        self._arguments = (log, str(checkpoint_path), consumer_order, time_zone)
        self._take = take
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._outbox: Outbox | None = None
        self._untaken: Told | None = None  # What `take` did not take; nothing that comes later is read before.
        self._mapping: dict[int, str] = {}
        self._unsent = UnsentRoutes()
        self._requests: dict[int, _Request] = {}  # Those no checkpoint holds yet, by number.
        self._numbers = count(1)
        self._start_after = 0.0
        self.restart_count = 0
        self._silent_ends = 0  # Since a child reported anything.
        self._dropped_messages = 0
        self._lead: Lead | None = None  # Once the lease came.
        self.counts: Counts | None = None

    @property
    def pid(self) -> int | None:
        """Of the child."""
        return self._child.pid if self._child is not None else None

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: of the detectors as of half a minute ago at most, since the child began."""
        own = make_totals(
            (
                (
                    "detector_restarts",
                    "Times that the process of the detectors ended and was started again.",
                    self.restart_count,
                ),
                (
                    "detector_messages_dropped",
                    "Messages to the detectors, such as a person's decisions, dropped because their queue was full.",
                    self._dropped_messages,
                ),
            )
        )
        counts = self.counts
        if counts is None:
            return own
        text = "Calls that the detectors did not evaluate, by reason."
        dropped = make_labelled("detector_calls_dropped", text, "reason", counts.dropped_calls.items())
        text = "Batches of nodes that are ahead of others that catch up after an outage, and wait for them."
        waiting = make_gauges([("detector_batches_waiting", text, counts.waiting_batches)])
        return (*own, *list_figures(counts.totals, "detector_"), *dropped, *waiting)

    def make_feature(
        self, take_changed: Callable[[], Mapping[int, str]], on_error: Callable[[Exception], None]
    ) -> Feature:
        """What the collector starts and shows: of a shared log in each process that may detect, which follows the one
        that does until `lead`. `take_changed` gives what changed of the inventory's mapping."""
        worker = Worker("detectors", partial(self.follow, take_changed=take_changed, on_error=on_error))
        return Feature(
            name="detectors",
            role=None if self.is_shared else Role.DETECT,
            start=worker.start,
            stop=worker.stop,
            figures=self.figures,
            limits=self.list_limits,
        )

    def lead(self, epoch: int) -> None:
        """Of a shared state: the lease came, with this epoch."""
        self._lead = Lead(epoch)
        self._send("lead", self._lead)

    def follow(
        self,
        is_stopping: threading.Event,
        *,
        take_changed: Callable[[], Mapping[int, str]],
        on_error: Callable[[Exception], None],
    ) -> None:
        """The thread: take signals, and hand over what changed of the mapping."""
        while not is_stopping.is_set():
            try:
                self.map_routes(take_changed())  # Before the first start, too.
                self.poll(_TOLD_SECONDS)
            except Exception as error:
                on_error(error)
                is_stopping.wait(_TOLD_SECONDS)
        self.stop()

    @property
    def disk_fault(self) -> str:
        """Why the disk refused their state the last time; empty where it took it."""
        return self.counts.disk_fault if self.counts is not None else ""

    def read_progress(self) -> DetectionProgress:
        """What was evaluated since the child began, as of half a minute ago."""
        counts = self.counts
        if counts is None:
            return DetectionProgress()
        return DetectionProgress(
            evaluated_calls=counts.totals.calls_used,
            late_calls=counts.dropped_calls.get("late", 0),
            waiting_batches=counts.waiting_batches,
        )

    def list_limits(self) -> list[Limit]:
        """Subjects that the detectors know, as of half a minute ago."""
        then = "Those that made no calls for longest are forgotten, and evaluated as new when they come back."
        limits = self.counts.limits.items() if self.counts is not None else ()
        return [
            Limit(name=f"detected_{name}", used=used, maximum=maximum, then=then) for name, (used, maximum) in limits
        ]

    def _count_dropped(self) -> None:
        self._dropped_messages += 1

    def start(self) -> None:
        """Start the child."""
        self._pipe, theirs = Pipe()
        with theirs:  # Else the child's end would stay open here and its death would go unseen.
            begin = run_program.__name__
            program = f"from {__name__} import {begin}; {begin}({theirs.fileno()})"
            self._child = subprocess.Popen([sys.executable, "-P", "-c", program], pass_fds=(theirs.fileno(),))
        with suppress(ConnectionError):  # A child that is gone is noticed by `poll`.
            self._pipe.send(self._arguments)
        self._outbox = Outbox(self._pipe.send_bytes, self._count_dropped)
        self._unsent = UnsentRoutes()
        self._send_routes(self._mapping)
        if self._lead is not None:
            self._send("lead", self._lead)
        for request in list(self._requests.values()):
            self._send(f"request {request.message.number}", request.message)

    def poll(self, timeout_seconds: float) -> None:
        """Wait for and take what the child tells; restart it where it died. Raises what `take` raises."""
        if self._child is None or self._pipe is None:
            if self._clock() >= self._start_after:
                self.start()
            else:
                time.sleep(min(timeout_seconds, _POLL_SECONDS))
            return
        if self._untaken is not None:
            self._take_told(self._untaken)
        try:
            if self._pipe.poll(timeout_seconds):
                self._receive(TO_PARENT.decode(self._pipe.recv_bytes()))
        except (EOFError, ConnectionError):
            self._bury()

    def expect(self, alert: Alert) -> None:
        """Teach the detectors that an alert's level is ordinary: its calls over the whole window, for what a burst of
        some seconds would make of it was never seen. A child that dies before its checkpoint holds it is told again."""
        self._request(describe_level(next(self._numbers), alert))

    def erase(self, consumer: str, timeout_seconds: float) -> int:
        """Have the detectors forget a consumer, and wait for it: every signal of before was taken then. Gives how many
        subjects were its. Raises TimeoutError; it is done nevertheless as soon as the detectors can.
        """
        return self.ask(Erase(0, consumer), timeout_seconds)

    def ask(self, message: Expect | Erase, timeout_seconds: float) -> int:
        """Have the detectors do it, and wait until a checkpoint holds it. Gives how many subjects an erased consumer
        had. Raises TimeoutError, DetectorsAwayError; it is done nevertheless as soon as the detectors can."""
        request = self._request(msgspec.structs.replace(message, number=next(self._numbers)))
        until = self._clock() + timeout_seconds
        while not request.is_done.is_set():
            left = until - self._clock()
            if self.is_away:
                raise DetectorsAwayError
            if left <= 0:
                raise TimeoutError(
                    f"The detectors did not do what they were asked for within {timeout_seconds:.0f} s; ask again."
                )
            request.is_done.wait(min(left, _AWAY_LOOK_SECONDS))
        return request.subjects

    @property
    def is_away(self) -> bool:
        """Whether no child will answer: nobody starts one, or they end before they report anything."""
        is_gone = self._child is None and self._clock() - self._start_after >= AWAY_SECONDS
        return is_gone or self._silent_ends >= AWAY_ENDS

    def _request(self, message: Expect | Erase) -> "_Request":
        request = self._requests[message.number] = _Request(message=message)
        self._send(f"request {message.number}", message)
        return request

    def map_routes(self, changed: Mapping[int, str]) -> None:
        """Give the child what changed of the inventory's mapping, of any size, without waiting; a restarted child gets
        all of it."""
        if not changed:
            return
        self._mapping |= changed
        self._send_routes(changed)

    def _send_routes(self, changed: Mapping[int, str]) -> None:
        if self._outbox is not None:
            self._unsent.add(changed)
            self._outbox.put("mapped", self._unsent.encode)

    def stop(self) -> None:
        """Let the child write its checkpoint and end; kill it when it does not."""
        if self._child is None:
            return
        self._send("stop", Stop())
        self._drain(self._clock() + _STOP_SECONDS)
        self._end_child()
        self._hang_up()

    def _end_child(self) -> None:
        """Wait for it; kill it when it does not end."""
        if self._child is None:
            return
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _drain(self, until: float) -> None:
        """Read what the child still tells, unacknowledged, until it ends: a child that waits to write would not see
        the stop."""
        if self._pipe is None or self._child is None:
            return
        try:
            while self._child.poll() is None and self._clock() < until:
                if self._pipe.poll(_POLL_SECONDS):
                    self._pipe.recv_bytes()
        except (EOFError, ConnectionError):
            return

    def _hang_up(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        if self._pipe is not None:
            self._pipe.close()
        self._child = self._pipe = self._outbox = None

    def _receive(self, message: ToParent) -> None:
        self._silent_ends = 0
        match message:
            case Done():
                request = self._requests.pop(message.number, None)
                if request is not None:
                    request.subjects = message.subjects
                    request.is_done.set()
            case Counts():
                self.counts = message
            case Renewed():
                logger.warning("%s", message.sentence)
            case Told():
                self._take_told(message)

    def _take_told(self, message: Told) -> None:
        self._untaken = message
        try:
            self._take(message)
        except Exception as error:
            if not isinstance(error, StoreError):
                self._untaken = None
            raise
        self._untaken = None
        self._send("taken", Taken(message.first + len(message.signals)))

    def _send(self, key: str, message: ToChild) -> None:
        """Queue for the child; a child that is gone is noticed by `poll`."""
        if self._outbox is not None:
            self._outbox.put(key, partial(msgspec.msgpack.encode, message))

    def _bury(self) -> None:
        self._end_child()
        self._hang_up()
        self._untaken = None  # It comes again.
        self.restart_count += 1
        self._silent_ends += 1
        self._start_after = self._clock() + RESTART_WAIT_SECONDS


def describe_level(number: int, alert: Alert) -> Expect:
    """The level of an alert, as what is expected from now on."""
    rate = compute_rate(alert.calls, alert.window_end - alert.window_start)
    return Expect(number, alert.kind, alert.endpoint_id, alert.consumer, rate)


def run_program(descriptor: int) -> None:
    """What the child begins with: the arguments come first."""
    pipe = Connection(descriptor)
    try:
        arguments = pipe.recv()
    except EOFError:  # The parent is gone.
        return
    run_detectors(pipe, *arguments)


def run_detectors(
    pipe: Connection, log: LogPlace, checkpoint: str, consumer_order: tuple[ConsumerColumn, ...], time_zone: str
) -> None:
    """The child's main function: until told to stop, or the parent is gone."""
    # Ctrl-C reaches the whole group; the parent says when to stop.
    os_signal.signal(os_signal.SIGINT, os_signal.SIG_IGN)
    mapping: dict[int, str] = {}
    if log.url:
        # What the state takes, 15 MB, others do without.
        from collector.detection.shared_memory import StateMemory
        from collector.storage.state.store import open_state

        state = open_state(log.directory, log.state_url)
        shared = StateMemory(state)
        memory: Memory = shared
        reader = open_reader(log, DETECTORS, state, shared.write)
    else:
        memory = FileMemory(Path(checkpoint))
        reader = open_reader(log, DETECTORS)
    follower = Follower(
        reader=reader,
        engine=Engine(endpoint_of_route=mapping, consumer_order=consumer_order, time_zone=time_zone),
        memory=memory,
        mapping=mapping,
        is_leading=not memory.is_shared,
        tell=lambda told: pipe.send_bytes(msgspec.msgpack.encode(told)),
    )
    try:
        sentence = follower.resume()
        if sentence:
            pipe.send_bytes(msgspec.msgpack.encode(Renewed(sentence)))
        # What comes before the mapping would be of other endpoints.
        is_mapped = False
        while not is_mapped:
            message = TO_CHILD.decode(pipe.recv_bytes())
            is_mapped = isinstance(message, Mapped)
            if not _obey(follower, message):
                return
        release_free_memory()
        release_library_pages()
        save_at, count_at = time.monotonic() + CHECKPOINT_SECONDS[0], 0.0
        again_at = 0.0  # After a disk that refused.
        while True:
            looked_at = time.monotonic()
            follower.step()
            while follower.sentences:
                pipe.send_bytes(msgspec.msgpack.encode(Renewed(follower.sentences.pop(0))))
            look_at = time.monotonic() if follower.is_behind else looked_at + LOOK_SECONDS
            while pipe.poll(max(0.0, look_at - time.monotonic())):
                if not _obey(follower, TO_CHILD.decode(pipe.recv_bytes())):
                    follower.save()
                    return
            now, errors = time.monotonic(), follower.disk_errors
            if now >= count_at:
                count_at = now + COUNT_SECONDS
                pipe.send_bytes(msgspec.msgpack.encode(follower.count()))
            is_due = now >= save_at or follower.unsaved_bytes >= UNSAVED_BYTES_MAX
            if now < again_at or not (follower.done or (follower.has_news and is_due)):
                continue
            if follower.save():
                save_at = now + follower.pause_seconds
                while follower.done:
                    pipe.send_bytes(msgspec.msgpack.encode(follower.done.pop(0)))
            elif follower.disk_errors > errors:
                again_at = now + CHECKPOINT_SECONDS[0]
    except (LeaseLostError, LostTrackError) as error:  # The parent starts it again.
        pipe.send_bytes(msgspec.msgpack.encode(Renewed(str(error))))
    except (EOFError, ConnectionError):
        os._exit(0)  # The parent is gone: nobody is left to take signals; the log keeps the batches.


def _obey(follower: Follower, message: ToChild) -> bool:
    """False when the child is to stop."""
    match message:
        case Taken():
            follower.taken = max(follower.taken, message.next)
        case Expect() | Erase() | Mapped():
            follower.obey(message)
        case Lead():
            follower.lead_from(message.epoch)
        case Stop():
            return False
    return True


def _name_span(seconds: int) -> str:
    """In words, for people."""
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds // 60} minutes"


def _name_time(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"

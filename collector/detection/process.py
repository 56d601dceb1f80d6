"""The detectors' own process: follows the log, keeps its state on disk, and sends signals until they are acknowledged.

EDGE: processes and files. The child is a program of its own, because the embedded store's threads do not survive a
fork. `multiprocessing` would start one with all modules of its parent's command, and a second one of 15 MB that tracks
resources which nobody shares here. It ends with its parent, because its pipe ends then. The parent starts it again
after a crash (`DetectorProcess.restart_count`).

What it does between two messages is in collector/detection/follower.py. It looks at the log each half second.
"""

import logging
import os
import signal as os_signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from collector.alerting.alert import Alert
from collector.core.feature import Feature, Role, Worker
from collector.core.limits import DetectionProgress, Limit
from collector.core.memory import release_free_memory, release_library_pages
from collector.core.rates import UTC_NAME, compute_rate
from collector.detection.engine import Engine
from collector.detection.follower import CHECKPOINT_SECONDS, Follower
from collector.detection.memory import FileMemory, LostTrackError, Memory
from collector.detection.messages import (
    TO_CHILD,
    TO_PARENT,
    Counts,
    Done,
    Erase,
    Expect,
    Lead,
    Mapped,
    Outbox,
    Renewed,
    SignalBatch,
    Stop,
    Taken,
    ToChild,
    ToParent,
    UnsentRoutes,
)
from collector.log.base import DETECTORS
from collector.log.open import LogPlace, open_reader
from collector.storage.base import LeaseLostError, StoreError
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from common.figures import Figure, list_figures, make_gauges, make_labelled, make_totals

if TYPE_CHECKING:  # SQL takes 15 MB, and only a shared state needs it.
    pass

LOOK_SECONDS = 0.5  # From one look at the log to the next: what came meanwhile costs as much alone as together.
_TOLD_SECONDS = 0.5  # Of the parent, from one look at the mapping to the next while the child says nothing.
_POLL_SECONDS = 0.25  # Of the parent, while the child is gone or ends.
UNSAVED_BYTES_MAX = 128 * 1024 * 1024  # Of the log, which holds them until then: past it one is due at once.
COUNT_SECONDS = 2.0  # From one account for the metrics to the next.
RESTART_WAIT_SECONDS = 1.0  # Between a crash and the next start.
# For so long no child runs, and none is started: nobody waits for it any more. Another collector takes over sooner.
AWAY_SECONDS = 15.0
AWAY_ENDS = 3  # Children that ended one after the other, and reported nothing: the next one will not, either.
_AWAY_LOOK_SECONDS = 0.5
_STOP_SECONDS = 10.0

logger = logging.getLogger(__name__)


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
        take: Callable[[SignalBatch], None],
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
        self._untaken: SignalBatch | None = None  # What `take` did not take; nothing that comes later is read before.
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

    @property
    def lost_batches(self) -> int:
        """At most, in damaged bytes of the log, since the child began."""
        return self.counts.totals.batches_lost if self.counts is not None else 0

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
        """Wait for and take what the child reports; restart it where it died. Raises what `take` raises."""
        if self._child is None or self._pipe is None:
            if self._clock() >= self._start_after:
                self.start()
            else:
                time.sleep(min(timeout_seconds, _POLL_SECONDS))
            return
        if self._untaken is not None:
            self._take_signals(self._untaken)
        try:
            if self._pipe.poll(timeout_seconds):
                self._receive(TO_PARENT.decode(self._pipe.recv_bytes()))
        except (EOFError, ConnectionError):
            self._bury()

    def expect(self, alert: Alert) -> None:
        """Have the detectors take an alert's level for normal: its calls over the whole window, for what a burst of
        some seconds would make of it was never seen. A child that dies before its checkpoint holds it is asked again.
        """
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
            case SignalBatch():
                self._take_signals(message)

    def _take_signals(self, message: SignalBatch) -> None:
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
    """The child's main function: until it is asked to stop, or the parent is gone."""
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
        report=lambda batch: pipe.send_bytes(msgspec.msgpack.encode(batch)),
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
        saved_at, count_at = time.monotonic(), 0.0
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
            is_due = now >= saved_at + follower.pause_seconds or follower.unsaved_bytes >= UNSAVED_BYTES_MAX
            if now < again_at or not (follower.done or (follower.has_news and is_due)):
                continue
            if follower.save():
                saved_at = now
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

"""The messages between the detectors' process and its parent, as MessagePack over a pipe. EDGE: a pipe and a thread.

`Outbox` writes the parent's messages in a thread of its own, so that the parent goes on reading. Two ends of a pipe
that both write more than it holds wait for each other for ever. The inventory's mapping can be megabytes, and so can a
burst of signals the other way. The writer may block, the reader never does. A message is made when it is written.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from collector.alerting.alert import AlertKind, Signal
from common.bounded import BoundedDict
from common.figures import total


class SignalBatch(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: signals numbered from `first`. `series` names what is numbered: another one where the detectors
    learned anew and numbers begin again."""

    first: int
    signals: tuple[Signal, ...]
    series: str = ""


@dataclass(slots=True)
class DetectorTotals:
    """Of the engine, and of what it read and kept."""

    calls_used: int = total("Calls that the detectors evaluated.")
    subjects_evicted: int = total("Endpoints, consumers and pairs that the detectors forgot for room.")
    signals_held_back: int = total("Values past a threshold that the level of sensitivity keeps unreported.")
    batches_refused: int = total("Batches that the detectors could not read.")
    batches_lost: int = total("Batches in damaged bytes of the log, at most, that the detectors did not see.")
    batches_skipped: int = total(
        "Batches deleted from the log, which was past its limit, before the detectors saw them."
    )
    jumps_undone: int = total("Times that the detectors went back to what they knew before the clock was wrong.")
    disk_errors: int = total("Checkpoints of the detectors that the disk refused; the previous one is kept.")


class Counts(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: what was counted since the child began, for metrics."""

    totals: DetectorTotals
    dropped_calls: dict[str, int]  # By reason.
    waiting_batches: int = 0  # For nodes that catch up.
    limits: dict[str, tuple[int, int]] = {}  # How many subjects are known, and the most.
    disk_fault: str = ""  # Why the disk refused the state the last time.


class Done(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: a checkpoint on disk holds what this request asked for. `subjects`: how many were the erased
    consumer's."""

    number: int
    subjects: int = 0


class Renewed(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: the detectors go on from another state, for a reason that is logged."""

    sentence: str


class Taken(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: every signal below `next` is safe."""

    next: int


class Expect(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: a person says this level is normal. Sent again until it is done."""

    number: int
    kind: AlertKind
    endpoint_id: str
    consumer: str
    rate: float


class Erase(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: forget a consumer. Sent again until it is done."""

    number: int
    consumer: str


class Mapped(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: which endpoints routes are of, as the inventory has it: first of all, then what changed."""

    endpoint_of_route: dict[int, str]


class Lead(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: the lease came, with this epoch: report what is found."""

    epoch: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: write a checkpoint and end."""


ToParent = SignalBatch | Counts | Done | Renewed
Order = Expect | Erase | Mapped  # What changes what is found.
ToChild = Taken | Order | Lead | Stop
TO_PARENT: Final = msgspec.msgpack.Decoder(ToParent)
TO_CHILD: Final = msgspec.msgpack.Decoder(ToChild)
ORDERS: Final = msgspec.msgpack.Decoder(list[Order])


class UnsentRoutes:
    """What changed of the mapping since one child got the last of it, for one message. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: dict[int, str] = {}

    def add(self, changed: Mapping[int, str]) -> None:
        """Take these up."""
        with self._lock:
            self._changed |= changed

    def encode(self) -> bytes:
        """The message; what is in it is sent."""
        with self._lock:
            changed, self._changed = self._changed, {}
        return msgspec.msgpack.encode(Mapped(changed))


_KEYED_MAX = 1_024  # Messages waiting; a person's decisions are few, the rest replace their older selves.


class Outbox:
    """Messages by key, in order; a newer message of the same key takes the place of one that was not written yet."""

    def __init__(self, write: Callable[[bytes], None], on_dropped: Callable[[], None] = lambda: None) -> None:
        """`write` may block; OSError or ValueError from it (the pipe is closed) ends the thread. `on_dropped` is called
        for each message that goes for room."""
        self._write = write
        self._waiting: BoundedDict[str, Callable[[], bytes]]
        self._waiting = BoundedDict(_KEYED_MAX, lambda key, message: on_dropped())
        self._changed = threading.Condition()
        self._is_ended = False
        self._thread = threading.Thread(target=self._run, name="detectors-outbox", daemon=True)
        self._thread.start()

    def put(self, key: str, message: Callable[[], bytes]) -> None:
        """Queue what makes a message; never blocks. When too many wait, the oldest goes."""
        with self._changed:
            self._waiting.renew(key, message)
            self._changed.notify()

    def close(self) -> None:
        """Write nothing more, except what is being written; does not wait."""
        with self._changed:
            self._is_ended = True
            self._waiting.clear()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_ended:
                    self._changed.wait()
                if self._is_ended:
                    return
                message = self._waiting.popitem(last=False)[1]
            try:
                self._write(message())
            except (OSError, ValueError):
                return

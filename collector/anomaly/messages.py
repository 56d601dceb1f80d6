"""What the detectors' process and its parent tell each other over their pipe, as MessagePack."""

from dataclasses import dataclass
from typing import Final

import msgspec

from collector.alerts.alert import AlertKind
from collector.alerts.signal import Signal
from common.figures import total


class Told(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: signals numbered from `first`."""

    first: int
    signals: tuple[Signal, ...]


@dataclass(slots=True)
class DetectorTotals:
    """Of the engine, and of what it read and kept."""

    calls_used: int = total("Calls that the detectors judged.")
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


class Saved(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: a checkpoint holds every expectation up to this number."""

    expect: int


class Renewed(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: the detectors go on from another state, for a reason that people are told."""

    sentence: str


class Taken(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: every signal below `next` is safe."""

    next: int


class Expect(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: a person says this level is ordinary. Told again until a checkpoint holds it."""

    number: int
    kind: AlertKind
    endpoint_id: str
    consumer: str
    rate: float


class Erased(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: a checkpoint without that consumer is on disk. `subjects`: how many were its."""

    number: int
    subjects: int


class Erase(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: forget a consumer. Told again until it is."""

    number: int
    consumer: str


class Mapped(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: the inventory's mapping of routes to endpoints, whole."""

    endpoint_of_route: dict[int, str]


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Parent to child: write a checkpoint and end."""


ToParent = Told | Counts | Saved | Renewed | Erased
ToChild = Taken | Expect | Erase | Mapped | Stop
TO_PARENT: Final = msgspec.msgpack.Decoder(ToParent)
TO_CHILD: Final = msgspec.msgpack.Decoder(ToChild)

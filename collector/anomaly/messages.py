"""What the detectors' process and its parent tell each other over their pipe, as MessagePack."""

from typing import Final

import msgspec

from collector.alerts.alert import AlertKind
from collector.alerts.signal import Signal


class Told(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: signals numbered from `first`."""

    first: int
    signals: tuple[Signal, ...]


class Counts(msgspec.Struct, frozen=True, tag=True):
    """Child to parent: totals of the engine, for metrics."""

    used_calls: int
    dropped_calls: dict[str, int]
    evicted: int
    held_back: int
    refused_batches: int
    undone_jumps: int  # Of time.
    lost_batches: int  # In damaged bytes of the log, at most.
    skipped_batches: int  # Deleted from the log before they were judged.
    disk_errors: int  # A full disk did not take a checkpoint or what else is kept.


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

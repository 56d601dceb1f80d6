"""The ladder: how far each kind of alert may act by itself, from observe over alert and propose to enforce.

It is kept in a file of the data directory. The default is `propose`, which stops nobody. `enforce` holds only where a
person set it. Even then it does not act on a client that was first seen within a day, unless the operator lists the
endpoint.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from collector.alerting.alert import AlertKind
from common.durable import read_json, write_durably

YOUNG_SECONDS: Final = 86_400.0
ENDPOINTS_MAX: Final = 1_000
DEFAULT_SECONDS: Final = 3_600
ANY_ENDPOINT: Final = "*"  # Listed by a person: a young client is stopped wherever it calls.


class LadderStep(StrEnum):
    """How far; each includes those before it."""

    OBSERVE = "observe"  # Alerts are kept, and nobody is notified.
    ALERT = "alert"  # Notifiers get them.
    PROPOSE = "propose"  # A block is proposed.
    ENFORCE = "enforce"  # A block begins.


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Of one kind of alert."""

    kind: AlertKind
    step: LadderStep
    seconds: int  # Of the blocks it leads to.
    endpoints: tuple[str, ...]  # Where even a young client is stopped; or ANY_ENDPOINT.
    set_by: str


class Ladder:
    """Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError where the file cannot be read."""
        self._path = path
        self._lock = threading.Lock()
        damaged = ValueError(f"{path} is damaged; remove it: every alert then stands at its default.")
        kept = read_json(path, lambda found: msgspec.convert(found, list[Rung]), damaged)
        self._rungs = {kind: _default(kind) for kind in AlertKind} | {rung.kind: rung for rung in kept or ()}

    def find(self, kind: AlertKind) -> Rung:
        """Where a kind stands."""
        return self._rungs[kind]

    def list_rungs(self) -> tuple[Rung, ...]:
        """All kinds."""
        return tuple(self._rungs.values())

    def put(self, rung: Rung) -> None:
        """A person's decision; durable when this returns. Raises OSError."""
        with self._lock:
            rungs = {**self._rungs, rung.kind: rung}
            decided = [one for one in rungs.values() if one.set_by]
            write_durably(self._path, msgspec.json.format(msgspec.json.encode(decided), indent=1))
            self._rungs = rungs


def _default(kind: AlertKind) -> Rung:
    step = LadderStep.PROPOSE if kind.row.can_block else LadderStep.ALERT
    return Rung(kind=kind, step=step, seconds=DEFAULT_SECONDS, endpoints=(), set_by="")

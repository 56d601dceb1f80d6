"""The ladder: how far each kind of alert may act by itself, from observe over alert and propose to enforce.

It is kept in the state. The default is `propose`, which stops nobody. `enforce` holds only where a person set it. Even
then it does not act on a client that was first seen within a day, unless the operator lists the endpoint.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, select

from collector.alerting.alert import AlertKind
from collector.storage.state.cache import StateCache
from collector.storage.state.imports import read_rows
from collector.storage.state.store import StateStore, read_row, upsert
from collector.storage.state.tables.response import LADDER

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
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._rungs = StateCache(state, (LADDER.name,), read_rungs)

    def find(self, kind: AlertKind) -> Rung:
        """Where a kind stands."""
        return self._rungs.read()[kind]

    def list_rungs(self) -> tuple[Rung, ...]:
        """All kinds."""
        return tuple(self._rungs.read().values())


def read_rungs(connection: Connection) -> Mapping[AlertKind, Rung]:
    """All kinds: as a person decided, or as it is by default."""
    known = frozenset(AlertKind)
    rows = [row for row in connection.execute(select(LADDER)) if row.kind in known]
    return {kind: _default(kind) for kind in AlertKind} | {
        rung.kind: rung for rung in (read_row(Rung, row) for row in rows)
    }


def save_rung(connection: Connection, rung: Rung) -> None:
    """A person's decision."""
    upsert(connection, LADDER, [asdict(rung)])


def import_ladder(connection: Connection, content: bytes) -> int:
    """The rungs in `ladder.json` of an earlier version. How many there were. Raises ValueError."""
    rungs = read_rows(content, Rung)
    upsert(connection, LADDER, [asdict(rung) for rung in rungs])
    return len(rungs)


def _default(kind: AlertKind) -> Rung:
    step = LadderStep.PROPOSE if kind.row.can_block else LadderStep.ALERT
    return Rung(kind=kind, step=step, seconds=DEFAULT_SECONDS, endpoints=(), set_by="")

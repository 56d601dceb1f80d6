"""Signals and reports on their way to the process that makes alerts, kept in the state.

Detectors may run in another process than alerts do. What they found is a row here as soon as `add_signals` returns;
`add_reports` is the same for what any process finds of itself. `AlertService.take_pending` makes alerts of the rows.
The transaction that keeps the alerts deletes the rows. So nothing is lost or counted twice, whichever process ends
when.

Detectors number their signals. After a crash they find the same signals with the same numbers again, and those that
came are skipped.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from collector.alerting.alert import AlertKind, Report, Signal
from collector.storage.base import StoreError
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.pending import PENDING_REPORTS, SIGNAL_SERIES

WriteAlso = Callable[[Connection], None]  # As part of a transaction.
Write = Callable[[], AbstractContextManager[Connection]]  # One transaction, as StateStore.write or Fence.write.
PENDING_MAX: Final = 100_000  # Past it detectors wait, and the log keeps what they did not evaluate.
TAKEN_MAX: Final = 1_000  # At once.
_DETECTORS: Final = "detectors"


class PendingKind(StrEnum):
    """What a row holds."""

    SIGNAL = "signal"
    REPORT = "report"
    SETTLED = "settled"


class Settled(msgspec.Struct, frozen=True):
    """What an alert of a node was about is over."""

    kind: AlertKind
    node: str


Content = Signal | Report | Settled
_DECODERS: Final[dict[PendingKind, Any]] = {
    PendingKind.SIGNAL: msgspec.msgpack.Decoder(Signal),
    PendingKind.REPORT: msgspec.msgpack.Decoder(Report),
    PendingKind.SETTLED: msgspec.msgpack.Decoder(Settled),
}


@dataclass(frozen=True, slots=True)
class Pending:
    """One row; `content` is None where this version cannot read it."""

    number: int
    content: Content | None


class PendingReports:
    """Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def add_signals(self, series: str, first: int, signals: Sequence[Signal], write: Write | None = None) -> bool:
        """Keep those of the detectors' signals, numbered from `first`, that did not come before; whether there were
        any. `write` is of the holder of the detectors' lease."""
        own = select(SIGNAL_SERIES).where(SIGNAL_SERIES.c.source == _DETECTORS)
        with (write or self._state.write)() as connection:
            known = connection.execute(own.with_for_update()).first()
            reached = known.next if known is not None and known.series == series else 0
            fresh = signals[max(0, reached - first) :]
            if not fresh:
                return False
            self._check_room(connection)
            _insert(connection, PendingKind.SIGNAL, fresh)
            upsert(
                connection,
                SIGNAL_SERIES,
                [{"source": _DETECTORS, "series": series, "next": first + len(signals)}],
            )
        return True

    def add_reports(self, reports: Sequence[Report], settled: Sequence[Settled] = ()) -> None:
        """Keep what a process found of itself, and what is over."""
        if not reports and not settled:
            return
        with self._state.write() as connection:
            self._check_room(connection)
            _insert(connection, PendingKind.REPORT, reports)
            _insert(connection, PendingKind.SETTLED, settled)

    def list(self) -> list[Pending]:
        """The oldest that wait, in order."""
        oldest = select(PENDING_REPORTS).order_by(PENDING_REPORTS.c.number).limit(TAKEN_MAX)
        with self._state.read() as connection:
            rows = connection.execute(oldest).all()
        return [Pending(row.number, _read(row.kind, row.content)) for row in rows]

    def count_writes(self) -> int:
        """Another number where something came, from any process."""
        return self._state.count_writes([PENDING_REPORTS.name])

    def _check_room(self, connection: Connection) -> None:
        numbers = func.min(PENDING_REPORTS.c.number), func.max(PENDING_REPORTS.c.number)
        lowest, highest = connection.execute(select(*numbers)).one()
        if lowest is not None and highest - lowest >= PENDING_MAX:
            raise StoreError(
                f"{PENDING_MAX:,} reports wait for the collector that makes alerts (role `jobs`); see that one runs."
            )


def delete_pending(connection: Connection, numbers: Collection[int]) -> None:
    """Alerts were made of these, in the same transaction."""
    if numbers:
        connection.execute(delete(PENDING_REPORTS).where(PENDING_REPORTS.c.number.in_(sorted(numbers))))


def _insert(connection: Connection, kind: PendingKind, contents: Sequence[Content]) -> None:
    if contents:
        rows = [{"kind": kind, "content": msgspec.msgpack.encode(content)} for content in contents]
        connection.execute(insert(PENDING_REPORTS), rows)


def _read(kind: str, content: bytes) -> Content | None:
    try:
        found: Content = _DECODERS[PendingKind(kind)].decode(content)
    except (ValueError, msgspec.MsgspecError):
        return None
    return found

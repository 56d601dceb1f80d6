"""The table `sensors` of the state, which all collectors that receive from sensors write and read.

A row is replaced by newer ones only, so a sensor that moved to another collector keeps the newer word. Writers of the
table wait for each other, and each write gets the next number. So a reader that asks for what came after a number
misses nothing.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from collector.receiver.sensor_status import SensorStatus
from collector.storage.records import read_record
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, number_write, read_row, upsert
from collector.storage.state.tables.sensors import SENSORS


class SensorTable:
    """Of one process. Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._own = uuid.uuid4().hex
        self._read = 0  # All writes up to this number were read.

    @property
    def is_shared(self) -> bool:
        """Whether other collectors may write it."""
        return self._state.is_shared

    def write(self, statuses: Sequence[SensorStatus]) -> None:
        """Keep these, each unless a newer one is kept."""
        with self._state.write() as connection:
            self._write(connection, statuses, number_write(connection, SENSORS))

    def read_new(self) -> list[SensorStatus]:
        """What other processes wrote since the last call; at the first call all that is kept."""
        is_first, count = self._read == 0, self._state.count_writes([SENSORS.name])
        if count == self._read:
            return []
        rows = select(SENSORS).order_by(SENSORS.c.node)
        if not is_first:
            rows = rows.where(SENSORS.c.written > self._read, SENSORS.c.heard_by != self._own)
        with self._state.read() as connection:
            found = [read_row(SensorStatus, row) for row in connection.execute(rows)]
        self._read = count
        return found

    def claim(self, names: Sequence[str], choose: Callable[[dict[str, SensorStatus]], SensorStatus]) -> SensorStatus:
        """Keep the status that `choose` makes of those that are kept under these names, and give it. Until then no
        other process chooses."""
        with self._state.write() as connection:
            number = number_write(connection, SENSORS)
            rows = connection.execute(select(SENSORS).where(SENSORS.c.node.in_(names)))
            known = {row.node: read_row(SensorStatus, row) for row in rows}
            chosen = choose(known)
            if known.get(chosen.node) != chosen:
                self._write(connection, [chosen], number)
        return chosen

    def _write(self, connection: Connection, statuses: Sequence[SensorStatus], number: int) -> None:
        more = {"heard_by": self._own, "written": number}
        upsert(connection, SENSORS, [asdict(status) | more for status in statuses], newer_by="updated_at")


def read_statuses(state: StateStore) -> tuple[SensorStatus, ...]:
    """All that are kept, by node. Raises StoreError."""
    with state.read() as connection:
        return tuple(
            read_row(SensorStatus, row) for row in connection.execute(select(SENSORS).order_by(SENSORS.c.node))
        )


def import_sensors(connection: Connection, rows: OldRows) -> None:
    """Of earlier versions."""

    def convert(row: dict[str, Any]) -> SensorStatus:
        return read_record(SensorStatus, row)

    for statuses in rows.read("sensors", convert):
        upsert(connection, SENSORS, [asdict(status) | {"heard_by": "", "written": 0} for status in statuses])

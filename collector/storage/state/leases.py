"""Leases: each name has one holder at a time among the processes that share a state.

A lease is a row: who holds it, until when by the database's clock, and an epoch that grows by one with each change of
holder. A holder renews its leases each second, and gives them back where it ends in order; one that was killed is
succeeded after `TTL_SECONDS`. The pattern is that
of Chubby and ZooKeeper: a holder can pause for long and not know that it was succeeded, so what it writes into the
state goes through a `Fence`. That is a transaction which is refused when the epoch is no longer the holder's own.

With a file as state there is one process: the lock on `data_dir` made sure of it. It takes over every lease at its
start and holds it until it ends.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from sqlalchemy import ColumnElement, Connection, Float, literal_column, select, update

from collector.storage.base import LeaseLostError, StoreError
from collector.storage.state.store import StateStore, read_row
from collector.storage.state.tables.leases import LEASES

TTL_SECONDS: Final = 3.0
RENEW_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.25  # Between two looks whether a lease that another process holds was given back: a read.
_FOREVER_SECONDS: Final = 1e10  # Of a holder that has no rival.

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One row: its holder as of the last look."""

    name: str
    holder: str
    address: str
    until: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write as the holder of a lease, for as long as its epoch lasts."""

    state: StateStore
    name: str
    epoch: int

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction of the holder. Raises LeaseLostError where it holds the lease no longer, and StoreError."""
        with self.state.write() as connection:
            self.check(connection)
            yield connection

    def check(self, connection: Connection) -> None:
        """Keep the lease with its holder until the transaction ends. Raises LeaseLostError."""
        mine = select(LEASES.c.epoch).where(LEASES.c.name == self.name, LEASES.c.epoch == self.epoch)
        # SQLite has one writer at a time and needs no lock of a row.
        if connection.execute(mine.with_for_update(read=True)).first() is None:
            raise LeaseLostError(f"Another collector does the work of '{self.name}' now.")


class Leases:
    """Those of one process. Thread-safe. Methods raise StoreError."""

    def __init__(
        self, state: StateStore, *, address: str = "", holder: str = "", ttl_seconds: float = TTL_SECONDS
    ) -> None:
        """`address`: where this process answers others. `holder` is unique to this process and its start."""
        self.holder = holder or uuid.uuid4().hex
        self._state = state
        self._address = address
        self.ttl_seconds = ttl_seconds if state.is_shared else _FOREVER_SECONDS

    @property
    def is_shared(self) -> bool:
        """Whether other processes may take them over."""
        return self._state.is_shared

    def take(self, names: Sequence[str]) -> Mapping[str, Lease]:
        """Renew what this process holds, take which of the names nobody holds, and give the leases of all names that
        somebody holds then."""
        with self._state.write() as connection:
            now = _read_clock(connection)
            mine = (LEASES.c.holder == self.holder) & (LEASES.c.until >= now) & LEASES.c.name.in_(names)
            connection.execute(update(LEASES).where(mine).values(until=now + self.ttl_seconds))
            held = _list_held(connection, now)
            # In one order, so that no two processes wait for each other.
            free = [name for name in sorted(names) if self._may_take(held.get(name))]
            for name in free:
                self._take_over(connection, name, now)
            return _list_held(connection, now) if free else held

    def is_any_free(self, names: Sequence[str]) -> bool:
        """Whether nobody holds one of these."""
        with self._state.read() as connection:
            return not set(names) <= _list_held(connection, _read_clock(connection)).keys()

    def release(self, names: Sequence[str]) -> None:
        """Let another process take these over at once."""
        with self._state.write() as connection:
            mine = (LEASES.c.holder == self.holder) & LEASES.c.name.in_(names)
            connection.execute(update(LEASES).where(mine).values(until=0.0))

    def find(self, name: str) -> Lease | None:
        """Who holds a lease now; None where nobody does."""
        with self._state.read() as connection:
            return _list_held(connection, _read_clock(connection)).get(name)

    def make_fence(self, lease: Lease) -> Fence:
        """Of a lease that this process holds."""
        return Fence(self._state, lease.name, lease.epoch)

    def _may_take(self, held: Lease | None) -> bool:
        """Of a file, the process that held a lease is gone: this one has the lock on the directory."""
        return held is None or (not self.is_shared and held.holder != self.holder)

    def _take_over(self, connection: Connection, name: str, now: ColumnElement[float]) -> None:
        """Unless another process was faster."""
        insert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(LEASES)
        row = {"holder": self.holder, "address": self._address, "until": now + self.ttl_seconds}
        is_free = LEASES.c.until < now if self.is_shared else LEASES.c.holder != self.holder
        connection.execute(
            insert.values(name=name, epoch=1, **row).on_conflict_do_update(
                index_elements=["name"], set_=row | {"epoch": LEASES.c.epoch + 1}, where=is_free
            )
        )


class LeaseKeeper:
    """Takes and renews leases in a thread, and says which this process holds. Thread-safe."""

    def __init__(
        self,
        leases: Leases,
        names: Sequence[str],
        *,
        on_change: Callable[[str, Fence | None], None] = lambda name, fence: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called with each lease that this process got, and with None for each that it lost. It must not
        block: the thread that renews calls it."""
        self._leases = leases
        self._names = tuple(names)
        self._on_change = on_change
        self._monotonic = monotonic
        self._known: Mapping[str, Lease] = {}
        self._held: dict[str, Fence] = {}
        self._ends_at = 0.0  # What is held, where it is not renewed until then.
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may take them over."""
        return self._leases.is_shared

    def is_own(self, lease: Lease) -> bool:
        """Whether this process took it."""
        return lease.holder == self._leases.holder

    def find_fence(self, name: str) -> Fence | None:
        """What this process may write with, as the holder of a lease; None where it is not the holder."""
        return self._held.get(name) if self._monotonic() < self._ends_at else None

    def find_lease(self, name: str) -> Lease | None:
        """Who held a lease at the last look; None where nobody did."""
        return self._known.get(name)

    def look(self) -> None:
        """One round: renew, take, and notify of what changed. Raises StoreError; leases whose time is over are lost
        then, too."""
        begun_at = self._monotonic()  # Before the database's clock is read: ours ends first.
        try:
            found = self._leases.take(self._names)
        except StoreError:
            if self._monotonic() >= self._ends_at:
                self._known = {}
                self._change({})
            raise
        self._known, self._ends_at = found, begun_at + self._leases.ttl_seconds
        mine = [lease for lease in found.values() if lease.holder == self._leases.holder]
        self._change({lease.name: self._leases.make_fence(lease) for lease in mine if lease.name in self._names})

    def start(self) -> None:
        """Begin with one round; raises StoreError where it fails."""
        self.look()
        if self._leases.is_shared:
            self._thread.start()

    def stop(self) -> None:
        """Give all leases up. Whatever is still done under them is refused once another process took them."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._held = {}
        try:
            self._leases.release(self._names)
        except StoreError as error:  # They end by themselves.
            logger.warning("leases were not released: %s", error)

    def _run(self) -> None:
        sentence = ""
        renew_at = self._monotonic() + RENEW_SECONDS
        while True:
            others = [name for name in self._names if name not in self._held]
            left = max(0.0, renew_at - self._monotonic())
            if self._stopping.wait(min(left, LOOK_SECONDS) if others else left):
                return
            try:
                if self._monotonic() < renew_at and not self._leases.is_any_free(others):
                    continue
                renew_at = self._monotonic() + RENEW_SECONDS
                self.look()
                sentence = ""
            except Exception as error:
                if str(error) != sentence:
                    logger.error("leases: %s", error)
                sentence = str(error)

    def _change(self, held: dict[str, Fence]) -> None:
        before, self._held = self._held, held
        for name, fence in before.items():
            if held.get(name) != fence:
                self._on_change(name, None)
        for name, fence in held.items():
            if before.get(name) != fence:
                self._on_change(name, fence)


def _list_held(connection: Connection, now: ColumnElement[float]) -> dict[str, Lease]:
    rows = connection.execute(select(LEASES).where(LEASES.c.until >= now))
    return {row.name: read_row(Lease, row) for row in rows}


def _read_clock(connection: Connection) -> ColumnElement[float]:
    """The database's own time at the statement, in unix seconds."""
    is_file = connection.dialect.name == "sqlite"
    text = "(julianday('now') - 2440587.5) * 86400.0" if is_file else "extract(epoch FROM clock_timestamp())::float8"
    return literal_column(f"({text})", Float)

"""Writes batches from the log into the tables, each exactly once.

Exactly once = claim, insert, commit. The writer claims a range of the log durably, inserts its rows under a token made
of the log's id and the range, then commits the range. After a crash in between, the same range comes with the same
token, and the engine drops what it has. Routes and endpoint mappings are idempotent and need no token. New routes come
first, so that no row is ever without its route.

The engine notes a token before it commits the part. So an insert that fails between the two would be dropped when it
comes again. That happens on a full disk, so nothing is inserted while the disk has less than its reserve. And of each
range that comes again it is seen that all tables have it (collector/storage/replay.py).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from collector.core.feature import Feature, Role, Worker
from collector.core.rows import Route
from collector.log.base import Entry, LogCounts, LogReader, Position
from collector.receiver.convert import CheckedRoutes, convert_payloads
from collector.storage.arrow import build_routes, build_rows
from collector.storage.base import Store
from collector.storage.columns import RowBatch
from collector.storage.row_group import RowGroup, join_groups
from common.figures import list_figures, total

LOOK_SECONDS = 0.25  # Between two looks whether anything waits: some 5 us each.
AGAIN_SECONDS = 1.0  # After an insert that failed.
# How long rows may wait. An insert takes some 50 ms of a processor however few rows it has, and 4 us for each row.
FULL_BYTES = 3 * 1024 * 1024  # Some 25,000 rows: from here on their number is what an insert costs.
HURRIED_SECONDS = 0.5  # With that many rows, or where an alert or a new route waits for them.
WATCHED_SECONDS = 1.0  # While somebody looks.
UNWATCHED_SECONDS = 30.0  # Half of the lag at which the tables count as behind.
LAST_SECONDS = 3.0  # After the stop: an hour's backlog must not keep the process.
# One claim: about 40,000 rows. Bounds what a replay repeats and what an insert holds in memory.
CLAIM_BYTES = 4 * 1024 * 1024
# Route ids known to be stored: 100 MB of Python at worst; past it the set starts anew and routes are stored again.
KNOWN_ROUTE_LIMIT = 1_000_000
ROUTES_CACHED = 30_000  # Routes of earlier claims, which need not be converted again: 30 MB at most.

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class WriterCounts:
    """The writer's account: batches seen = stored + refused."""

    batches_seen: int = total("Batches that the writer of the tables read from the log.")
    batches_stored: int = total("Batches whose rows are in the tables.")
    batches_refused: int = total("Batches that this version cannot read, which the writer of the tables skipped.")
    batches_read_alone: int = total(
        "Batches that were read one by one, at three times the cost: an older version wrote some, or one was damaged."
    )
    rows_stored: int = total("Rows that were written to the tables.")
    inserts_completed: int = total("Tables into which rows were put again, which had lost them in a failed insert.")
    routes_stored: int = total("Routes that were written to the tables, each once.")


class StoreWriter:
    """Drains one reader of the log into the store. Blocks; runs in one thread."""

    def __init__(
        self,
        *,
        store: Store,
        reader: LogReader | None = None,
        log_id: str,
        map_endpoints: Callable[[Sequence[Route]], None],
        find_shortage: Callable[[], str] = lambda: "",
        complete: Callable[[Any], int] = lambda _: 0,
        on_stored: Callable[[RowGroup], None] = lambda _: None,
    ) -> None:
        """Without a `reader` the writer waits for `take_up`. Nothing past the reader's durable end is stored, for its
        sensor will send it again. `map_endpoints` writes `endpoint_routes` for new routes
        (collector/inventory/templates/mapping.py). While `find_shortage` has a sentence, the disk is nearly full and
        nothing is stored. `complete` puts rows that were inserted again into each table that lost them, and gives into
        how many. `on_stored` is given what is in the tables from now on, once.
        """
        self._own_reader = reader
        self._store = store
        self._log_id = log_id
        self._map_endpoints = map_endpoints
        self._find_shortage = find_shortage
        self._complete = complete
        self._on_stored = on_stored
        self._oldest_unix_ns = 0  # When the oldest batch came that was read and is not stored; 0: all are.
        self._is_hurried = False
        self._empty_at: Position | None = None  # A durable end before which nothing is left to store.
        self._known: set[int] = set()
        self._routes = CheckedRoutes(ROUTES_CACHED)
        self._lock = threading.Lock()  # Held while batches are between the log and the tables.
        self.counts = WriterCounts()

    @property
    def _reader(self) -> LogReader:
        assert self._own_reader is not None, "take_up comes first"
        return self._own_reader

    @property
    def log_counts(self) -> LogCounts:
        return self._reader.counts if self._own_reader is not None else LogCounts()

    def take_up(self, reader: LogReader) -> None:
        """Go on from where this reader is: another process wrote the tables before."""
        with self._lock:
            self._own_reader = reader
            self._oldest_unix_ns, self._empty_at = 0, None

    def measure_lag(self, now_unix_seconds: float) -> float:
        """How long ago the oldest batch came that is not in the tables, in seconds; 0 where all are."""
        oldest = self._oldest_unix_ns
        return max(0.0, now_unix_seconds - oldest / 1e9) if oldest else 0.0

    def hurry(self) -> None:
        """What waits is wanted soon. Any thread."""
        self._is_hurried = True

    def measure_waiting(self) -> int:
        """Bytes of the log that are not stored, as far as that costs little; FULL_BYTES where a range is to be stored
        again. Raises OSError."""
        is_claimed = self._reader.cursor.claim_end is not None
        if not is_claimed and self._reader.find_end() == self._empty_at:
            return 0
        waiting = FULL_BYTES if is_claimed else self._reader.measure_waiting()
        if waiting and not self._oldest_unix_ns:
            self._oldest_unix_ns = time.time_ns()
        return waiting

    def find_wait(self, waiting_bytes: int, *, is_watched: bool) -> float:
        """How long rows may wait that take so many bytes of the log, in seconds."""
        if self._is_hurried or waiting_bytes >= FULL_BYTES:
            return HURRIED_SECONDS
        return WATCHED_SECONDS if is_watched else UNWATCHED_SECONDS

    def learn_routes(self) -> None:
        """Ask which routes are stored; to be called before `drain`. Raises StoreError."""
        rows = self._store.query(
            "SELECT route_id FROM routes INNER JOIN endpoint_routes USING (route_id) GROUP BY route_id"
        )
        self._known = {int(row[0]) for row in rows}

    def drain(self, has_to_end: Callable[[], bool] = lambda: False) -> int:
        """Store what the log holds now, in claims of bounded size, until `has_to_end`. Returns the batches stored or
        refused.

        Raises StoreError or OSError; the range that failed, or that a crash interrupted, stays claimed, and the next
        call begins with it.
        """
        with self._lock:
            self._is_hurried = False
            total, durable = 0, self._reader.find_end()
            end = self._reader.cursor.claim_end
            if end is None and durable == self._empty_at:
                return 0
            self._reader.rewind()
            if end is not None and not self._find_shortage():
                total = self._store_range(self._read_until(end), is_claimed=True)
                logger.info("Stored %d batches of a range that was interrupted.", total)
            while not has_to_end() and not self._find_shortage():
                entries = self._reader.read(CLAIM_BYTES, until=self._reader.find_end())
                if not entries:
                    self._empty_at, self._oldest_unix_ns = durable, 0
                    break
                total += self._store_range(entries, is_claimed=False)
            return total

    @contextmanager
    def pause(self) -> Iterator[bool]:
        """Nothing is between the log and the tables meanwhile: what was read is stored, or will be read again. Gives
        whether no range is claimed, of which tables may have a part."""
        with self._lock:
            yield self._own_reader is None or self._own_reader.cursor.claim_end is None

    def _read_until(self, end: Position) -> list[Entry]:
        entries: list[Entry] = []
        while found := self._reader.read(CLAIM_BYTES, until=end):
            entries += found
        return entries

    def _store_range(self, entries: list[Entry], *, is_claimed: bool) -> int:
        if not entries:
            return 0
        self._oldest_unix_ns = entries[0].received_unix_ns
        # Of a range that comes again the whole, should its last batch be damaged since: the token is made of it.
        start, end = self._reader.cursor.position, self._reader.cursor.claim_end or entries[-1].end
        if not is_claimed:
            self._reader.claim(end)
        converted = convert_payloads(
            # Times are judged as of the arrival, so that a replay judges alike.
            [entry.payload for entry in entries],
            [entry.received_unix_ns // 1_000_000_000 for entry in entries],
            self._routes,
        )
        group, rows = _keep_rows(converted.group)
        if group is not None:
            self._store_routes(group.rows)
        token = f"{self._log_id}:{start}-{end}"
        if rows is not None and rows.num_rows:
            self._store.insert_arrow("rows_minute", rows, token)
            if is_claimed:
                self.counts.inserts_completed += self._complete(rows)
        self._reader.commit(end)
        self._oldest_unix_ns = 0
        self.counts.batches_seen += len(entries)
        stored = len(group.heads) if group is not None else 0
        self.counts.batches_stored += stored
        self.counts.batches_refused += len(entries) - stored
        self.counts.batches_read_alone += converted.read_alone
        if group is not None:
            self.counts.rows_stored += len(group.rows)
            self._on_stored(group)
        return len(entries)

    def _store_routes(self, rows: RowBatch) -> None:
        if not len(rows):
            return
        new = [place for place, route in enumerate(rows.routes) if route.route_id not in self._known]
        if not new:
            return
        first_seen = np.full(len(rows.routes), np.min(rows.window_start), np.int64)
        first_seen[rows.route] = np.iinfo(np.int64).max
        np.minimum.at(first_seen, rows.route, rows.window_start)
        self._write_routes([(rows.routes[place], int(first_seen[place])) for place in new])

    def _write_routes(self, new: list[tuple[Route, int]]) -> None:
        """With the time of the first sight of each."""
        written, table = _keep_written(new, build_routes)
        if table is not None:
            self._store.insert_arrow("routes", table)
        self._map_endpoints([route for route, _ in written])
        if len(self._known) + len(new) > KNOWN_ROUTE_LIMIT:
            self._known.clear()
        self._known.update(route.route_id for route, _ in new)
        self.counts.routes_stored += len(new)


def _keep_rows(group: RowGroup | None) -> tuple[RowGroup | None, Any]:
    """The batches of which a table can be made, and the table; None of nothing."""
    if group is None:
        return None, None
    try:
        return group, build_rows(group)
    except Exception:
        alone = [group.select(place, place + 1) for place in range(len(group.heads))]
    kept, table = _keep_written(alone, lambda groups: build_rows(join_groups(groups)))
    return join_groups(kept) if kept else None, table


def _keep_written(items: list[T], build: Callable[[Sequence[T]], Any]) -> tuple[list[T], Any]:
    """Those of which a table can be made, and the table; None of nothing. One that a column cannot hold is a fault of
    ours, and keeps no other out."""
    if not items:
        return [], None
    try:
        return items, build(items)
    except Exception:
        if len(items) == 1:
            logger.exception("A batch or route of the log cannot be stored")
            return [], None
    middle = len(items) // 2
    kept = [*_keep_written(items[:middle], build)[0], *_keep_written(items[middle:], build)[0]]
    return kept, build(kept) if kept else None


def make_feature(
    writer: StoreWriter,
    open_reader: Callable[[], LogReader],
    *,
    on_error: Callable[[Exception], None],
    on_drained: Callable[[], None],
    is_watched: Callable[[], bool],
    hands_over: bool,
) -> Feature:
    """What the collector starts and shows; the named arguments are those of `run_writer`."""
    run = partial(
        run_writer, writer, on_error=on_error, on_drained=on_drained, is_watched=is_watched, hands_over=hands_over
    )
    worker = Worker("writer", run)

    def start() -> None:
        writer.take_up(open_reader())
        writer.learn_routes()
        worker.start()

    return Feature(
        name="writer",
        role=Role.WRITER,
        start=start,
        stop=worker.stop,
        figures=lambda: (*list_figures(writer.counts, "writer_"), *list_figures(writer.log_counts, "log_")),
    )


def run_writer(
    writer: StoreWriter,
    is_stopping: threading.Event,
    *,
    on_error: Callable[[Exception], None],
    on_drained: Callable[[], None] = lambda: None,
    is_watched: Callable[[], bool] = lambda: True,
    hands_over: bool = False,
) -> None:
    """The writer's thread: store what waits once it has waited for long enough (`StoreWriter.find_wait`); go on after
    errors. At the stop it goes on for `LAST_SECONDS`; the next start stores the rest.

    `on_error` is called with every failure (StoreError, OSError, or one of Arrow's), `on_drained` when something was
    stored, and when nothing fails any more. `is_watched`: whether somebody looks at what is stored. `hands_over`:
    another process goes on at once, so nothing is stored after the stop but what is under way.
    """
    has_failed = False
    begun_at: float | None = None  # To wait.
    ends_at: float | None = None

    def has_to_end() -> bool:
        nonlocal ends_at
        if is_stopping.is_set() and ends_at is None:
            ends_at = time.monotonic() + (0.0 if hands_over else LAST_SECONDS)
        return ends_at is not None and time.monotonic() > ends_at

    while True:
        is_last = is_stopping.wait(LOOK_SECONDS)
        if is_last and hands_over:
            return
        now = time.monotonic()
        try:
            waiting = writer.measure_waiting()
        except OSError:  # A log that is elsewhere cannot be reached, as `drain` will find.
            waiting = FULL_BYTES
        if not waiting and not has_failed and not is_last:
            begun_at = None
            continue
        begun_at = now if begun_at is None else begun_at
        wait = AGAIN_SECONDS if has_failed else writer.find_wait(waiting, is_watched=is_watched())
        if now - begun_at < wait and not is_last:
            continue
        try:
            if writer.drain(has_to_end) or has_failed:
                has_failed = False
                on_drained()
            begun_at = None
        except Exception as error:
            has_failed, begun_at = True, now
            on_error(error)
        if is_last:
            return

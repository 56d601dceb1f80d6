"""Call records to window rows: the sensor's sums, and when they leave the node.

Windows are 10 s on unix time. A row normally leaves when its window has ended. It leaves earlier, after a second, when
it is new to this sensor (its route, its consumer or its status class at the route) or crosses a trigger that policy
sets (calls or distinct objects within a second); what left is then no longer in the row, so the rows of a window always
add up to its calls. While the collector is away, windows merge to 60 s and nothing leaves early.

Bounds: rows per endpoint and window (`Window`), rows per window, open windows, and what is remembered across windows;
past them, calls go to `other`, and only past twice the rows of a window are they dropped, counted as `rows_full`. `add`
takes 2.0 us to 2.8 us a call (tests/sensor/test_aggregate.py says how that was measured); it is one function with
everything inlined for that reason.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from sensor.calls import CallRecord, Route
from sensor.config import ConsumerColumn
from sensor.health import StageCount
from sensor.sketches import OBJECTS_LIMIT, UPPER_BOUNDS
from sensor.window import NEVER, Actor, Key, OpenRow, Pair, RowFlag, Window, WindowRow

SECOND_NS: Final = 1_000_000_000
# A record comes when its response ends, and after a second in any case: so long after its end a window waits for
# stragglers.
WINDOW_GRACE_NS: Final = SECOND_NS
# Routes, consumers, status classes and pairs remembered (each some 100 bytes); the oldest is forgotten and then counts
# as new again.
REMEMBERED_LIMIT: Final = 65_536
# Open at once: the present one, the past one, and a few for responses that took long. More come only from wrong
# timestamps.
OPEN_WINDOWS_LIMIT: Final = 8
# A window that begins later than this after now can only come from a clock that was set back: it closes at once.
FUTURE_LIMIT_NS: Final = 60 * SECOND_NS


DEFAULT_CONSUMER_ORDER: Final = tuple(ConsumerColumn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """When a row leaves before its window ends; pushed by policy."""

    distinct_objects_per_second: int = 10
    calls_per_second: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """Lengths and bounds of the aggregation."""

    window_seconds: int = 10
    merged_window_seconds: int = 60
    # 1,000 live keys are what a dense node has in all; an endpoint with more consumers in 10 s keeps the most telling
    # ones.
    rows_per_endpoint: int = 1_000
    # An open row takes 1.5 KB: 30 MB at most in a window.
    rows_per_window: int = 20_000


class Aggregator:
    """Sums call records into windows. Pure: time comes in with the records and with `poll`."""

    def __init__(
        self,
        *,
        limits: WindowLimits = WindowLimits(),
        triggers: Triggers = Triggers(),
        consumer_order: Iterable[ConsumerColumn] = DEFAULT_CONSUMER_ORDER,
    ) -> None:
        self._limits = limits
        self._window_ns = limits.window_seconds * SECOND_NS
        self._merged_ns = limits.merged_window_seconds * SECOND_NS
        self._triggers = triggers
        self._find_consumer = _make_consumer_finder(tuple(consumer_order))
        self._windows: dict[int, Window] = {}
        self._overdue: list[Window] = []  # Closed by a bound; leave at the next poll.
        self._merging: dict[int, Window] = {}
        self._current = self._make_window(0, 0)  # Holds no time, so the first record looks its window up.
        self._due: list[tuple[int, int, Window, OpenRow]] = []
        self._due_count = 0  # Breaks ties in the heap.
        self._remembered: dict[object, None] = {}
        self._pairs: dict[tuple[int, object], Pair] = {}
        self._seen_count = 0
        self._dropped: dict[str, int] = {}
        self._is_connected = True
        self._step_flags = 0
        self._apply_triggers()

    def add(self, record: CallRecord) -> None:
        """Count one call, or the closing part of one already counted (`calls` = 0: bytes and times only). Cost: some 2
        us."""
        self._seen_count += 1
        time_ns = record.time_unix_ns
        window = self._current
        if not window.start_ns <= time_ns < window.end_ns:
            window = self._find_window(time_ns)
        route = record.route
        status_code = record.status_code
        key = (
            route.route_id,
            record.principal,
            record.credential,
            record.client_address,
            record.client_workload,
            record.protocol_version,
            # Enums are integers here on purpose: hashing an enum member is a Python call, five of them cost 0.5 us.
            status_code << 40
            | record.authentication << 16
            | record.principal_kind << 8
            | record.role << 4
            | record.hop,
        )
        row = window.rows.get(key)
        if row is None:
            row = self._open_row(window, key, route, time_ns)
            if row is None:
                self.drop("rows_full")
                return
        calls = record.calls
        if calls:
            objects = row.objects
            hashes = objects.hashes
            if time_ns >= row.slot_end_ns:
                self._begin_slot(row, time_ns)
            row.calls = row_calls = row.calls + calls
            row.time_to_first_byte_sum_us += record.time_to_first_byte_ns // 1000
            object_hash = record.object_hash
            if object_hash:
                if object_hash < objects.ceiling:
                    hashes.add(object_hash)
                    if len(hashes) > OBJECTS_LIMIT:
                        objects.cut()
                number = record.object_number
                if number is not None:
                    self._add_number(row, number, calls)
            if row_calls >= row.calls_limit or len(hashes) >= row.objects_limit:
                self._mark_due(window, row, row.slot_end_ns)
        row.request_bytes += record.request_bytes
        response_bytes = record.response_bytes
        row.response_bytes += response_bytes
        if record.is_final and status_code:
            duration_us = record.duration_ns // 1000
            row.duration_sum_us += duration_us
            if duration_us > row.duration_max_us:
                row.duration_max_us = duration_us
            row.duration.counts[bisect_left(UPPER_BOUNDS, duration_us)] += 1
            row.response_size.counts[bisect_left(UPPER_BOUNDS, response_bytes)] += 1
        content_type = record.request_content_type
        if content_type:
            row.request_content_type = content_type
        content_type = record.response_content_type
        if content_type:
            row.response_content_type = content_type
        if record.is_lossy or record.is_credential_truncated or record.is_aborted:
            row.flags |= _find_flags(record)

    def poll(self, now_unix_ns: int) -> list[WindowRow]:
        """Rows that leave now: those due early, and those of windows that ended. Call it every 20 ms to 1 s."""
        rows: list[WindowRow] = []
        while self._due and self._due[0][0] <= now_unix_ns:
            _, _, window, row = heappop(self._due)
            row.is_due = False
            if not row.is_closed and not row.is_empty:
                rows.append(_leave_early(window, row))
        for window in self._take_ended(now_unix_ns):
            self._close(window, rows)
        for start_ns, window in list(self._merging.items()):
            if start_ns + self._merged_ns + WINDOW_GRACE_NS <= now_unix_ns:
                del self._merging[start_ns]
                self._emit(window, rows)
        return rows

    def flush(self) -> list[WindowRow]:
        """Everything leaves: at a clock step, a change of the installation key, and at the end."""
        rows: list[WindowRow] = []
        windows = [*self._overdue, *self._windows.values(), *self._merging.values()]
        self._overdue.clear()
        self._windows.clear()
        self._merging.clear()
        self._due.clear()
        self._current = self._make_window(0, 0)
        for window in windows:
            self._emit(window, rows)
        return rows

    def mark_clock_step(self) -> None:
        """The clock was set (the caller flushed before): the next window says so."""
        self._step_flags = RowFlag.CLOCK_STEP

    def set_connected(self, is_connected: bool) -> list[WindowRow]:
        """Say whether the collector is there; returns the merged rows that leave because it is back."""
        self._is_connected = is_connected
        self._apply_triggers()
        rows: list[WindowRow] = []
        if is_connected:
            merging = list(self._merging.values())
            self._merging.clear()
            for window in merging:
                self._emit(window, rows)
        return rows

    def set_triggers(self, triggers: Triggers) -> None:
        """Apply the policy's triggers from the next call on."""
        self._triggers = triggers
        self._apply_triggers()

    def drop(self, reason: str) -> None:
        """The record last given to `add` was lost: a window was full, or `add` itself failed and its caller says so."""
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def count(self) -> StageCount:
        """Records taken and lost; a record is a call or the closing part of one."""
        dropped = tuple(sorted(self._dropped.items()))
        used_count = self._seen_count - sum(count for _, count in dropped)
        return StageCount(stage="aggregate", seen=self._seen_count, used=used_count, dropped=dropped)

    @property
    def open_rows_count(self) -> int:
        """Rows held in memory."""
        windows = (*self._windows.values(), *self._overdue, *self._merging.values())
        return sum(len(window.rows) for window in windows)

    def _apply_triggers(self) -> None:
        self._calls_trigger = self._triggers.calls_per_second if self._is_connected else NEVER
        self._objects_trigger = self._triggers.distinct_objects_per_second if self._is_connected else NEVER

    def _make_window(self, start_ns: int, end_ns: int, flags: int = 0) -> Window:
        return Window(start_ns=start_ns, end_ns=end_ns, rows_per_endpoint=self._limits.rows_per_endpoint, flags=flags)

    def _find_window(self, time_ns: int) -> Window:
        start_ns = time_ns - time_ns % self._window_ns
        window = self._windows.get(start_ns)
        if window is None:
            if len(self._windows) >= OPEN_WINDOWS_LIMIT:
                self._overdue.append(self._windows.pop(min(self._windows)))
            window = self._make_window(start_ns, start_ns + self._window_ns, self._step_flags)
            self._step_flags = 0
            self._windows[start_ns] = window
        self._current = window
        return window

    def _open_row(self, window: Window, key: Key, route: Route, time_ns: int) -> OpenRow | None:
        is_new = self._remember_key(key)
        rows_count = len(window.rows)
        if rows_count >= self._limits.rows_per_window:
            return window.find_other(key, route) if rows_count < 2 * self._limits.rows_per_window else None
        row = window.open_row(key, route)
        if is_new and self._is_connected:
            # A flood of new consumers must not double its own rows: an endpoint may send as many early ones as it may
            # keep.
            early_count = window.early_counts.get(key[0], 0)
            if early_count < self._limits.rows_per_endpoint:
                window.early_counts[key[0]] = early_count + 1
                self._mark_due(window, row, time_ns + SECOND_NS)
        return row

    def _remember_key(self, key: Key) -> bool:
        """Whether the route, the consumer, or the status class at the route is new; from now on they are not."""
        remembered = self._remembered
        size = len(remembered)
        for item in (key[0], self._find_consumer(key), (key[0], (key[6] >> 40) // 100)):
            remembered.setdefault(item)
        is_new = len(remembered) != size
        while len(remembered) > REMEMBERED_LIMIT:
            del remembered[next(iter(remembered))]
        return is_new

    def _begin_slot(self, row: OpenRow, time_ns: int) -> None:
        """A second begins in which the row's calls and new objects are held against the triggers."""
        row.slot_end_ns = time_ns + SECOND_NS
        if not row.is_due:
            row.calls_limit = row.calls + self._calls_trigger
            row.objects_limit = len(row.objects.hashes) + self._objects_trigger

    def _mark_due(self, window: Window, row: OpenRow, due_ns: int) -> None:
        row.is_due = True
        row.calls_limit = row.objects_limit = NEVER
        self._due_count += 1
        heappush(self._due, (due_ns, self._due_count, window, row))

    def _add_number(self, row: OpenRow, number: int, calls: int) -> None:
        pair = row.pair
        if pair is None:
            pair = row.pair = self._find_pair(row.key)
        step = number - pair.last_number
        if step == 1 or step == -1:
            row.object_monotonic_steps += calls
        pair.last_number = number
        if not row.object_numeric_calls:
            row.number_min = row.number_max = number
        elif number < row.number_min:
            row.number_min = number
        elif number > row.number_max:
            row.number_max = number
        row.object_numeric_calls += calls

    def _find_pair(self, key: Key) -> Pair:
        name = (key[0], self._find_consumer(key))
        pair = self._pairs.get(name)
        if pair is None:
            if len(self._pairs) >= REMEMBERED_LIMIT:
                del self._pairs[next(iter(self._pairs))]
            pair = self._pairs[name] = Pair()
        return pair

    def _take_ended(self, now_unix_ns: int) -> list[Window]:
        ended = self._overdue
        self._overdue = []
        for start_ns, window in list(self._windows.items()):
            if window.end_ns + WINDOW_GRACE_NS <= now_unix_ns or start_ns > now_unix_ns + FUTURE_LIMIT_NS:
                ended.append(self._windows.pop(start_ns))
        if any(window is self._current for window in ended):
            self._current = self._make_window(0, 0)
        return ended

    def _close(self, window: Window, rows: list[WindowRow]) -> None:
        """An ended window leaves, or joins the merged one while the collector is away."""
        if self._is_connected:
            self._emit(window, rows)
            return
        start_ns = window.start_ns - window.start_ns % self._merged_ns
        merged = self._merging.get(start_ns)
        if merged is None:
            merged = self._merging[start_ns] = self._make_window(window.start_ns, window.end_ns)
        merged.start_ns = min(merged.start_ns, window.start_ns)
        merged.end_ns = max(merged.end_ns, window.end_ns)
        merged.flags |= window.flags
        for row in window.close():
            merged.take(row, rows_limit=self._limits.rows_per_window)

    def _emit(self, window: Window, rows: list[WindowRow]) -> None:
        length_ns = window.end_ns - window.start_ns
        flags = window.flags | (RowFlag.MERGED if length_ns > self._window_ns else 0)
        start_seconds, length_seconds = window.start_ns // SECOND_NS, length_ns // SECOND_NS
        rows.extend(
            row.to_window_row(start_seconds=start_seconds, length_seconds=length_seconds, flags=flags)
            for row in window.close()
        )


def _leave_early(window: Window, row: OpenRow) -> WindowRow:
    left = row.to_window_row(
        start_seconds=window.start_ns // SECOND_NS,
        length_seconds=(window.end_ns - window.start_ns) // SECOND_NS,
        flags=window.flags | RowFlag.EARLY,
    )
    row.left_objects_count += left.objects.estimate()
    row.reset()
    return left


def _find_flags(record: CallRecord) -> int:
    flags = RowFlag.LOSSY if record.is_lossy else RowFlag.NONE
    if record.is_credential_truncated:
        flags |= RowFlag.CREDENTIAL_TRUNCATED
    if record.is_aborted and not record.status_code:
        flags |= RowFlag.ABORTED
    return int(flags)


def _make_consumer_finder(order: tuple[ConsumerColumn, ...]) -> Callable[[Key], object]:
    """A function from a key to its consumer: the first known column in the given order, named so that columns never
    mix."""
    places = tuple((column, 1 + Actor._fields.index(column.value)) for column in order)

    def find_consumer(key: Key) -> object:
        for column, place in places:
            if key[place]:
                return (column, key[place])
        return None

    return find_consumer

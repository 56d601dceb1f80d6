"""Sums calls into window rows, and decides when rows leave the node.

Windows are 10 s on unix time. A row normally leaves when its window has ended. Its part of one second leaves right
after that second in three cases:

- It is new to this sensor: its route, its consumer, or its status class at the route.
- It crosses a trigger of the policy (calls or distinct objects within the second), and has not done so for long
  (`Habits` of sensor.aggregate.window).
- It holds a payload of an attack.

What left is no longer in the window, so the rows of a window always add up to its calls. While the collector is away,
windows merge to 60 s and nothing leaves early.

Calls wait as columns until their second has ended. Then one pass makes them rows, which are added up at the window's
end (cost: `scripts/bench aggregate`). The order by time is kept beside the calls, because a call has 104 bytes.

Bounded are waiting calls, rows per endpoint and window, rows per window, open windows, and what is remembered across
windows. Past the bounds of rows, calls go to `other`. Past twice the rows of a window they are dropped, counted as
`rows_full`. `routes_full` counts those whose route had no room.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.consumer_order import ConsumerColumn
from sensor.aggregate.dictionary import (
    NO_ROUTE,
    ROUTES_LIMIT,
    ActorFacts,
    Facts,
    get_identities,
    get_media_types,
)
from sensor.aggregate.grouping import Novelty, NumberMemory, group_calls
from sensor.aggregate.rows import RowColumns, RowFlag, Rows, Sum, join_rows, make_no_rows
from sensor.aggregate.window import Bounds, Habits, WaitingCalls, Window, flag_other
from sensor.core.arrays import Index, find_order, find_runs
from sensor.core.calls import NO_NUMBER, RPC_STATUS_LIMIT, STATUS_CODE_LIMIT, CallRecord, Calls, make_flags
from sensor.core.health import StageCount

SECOND_NS: Final = 1_000_000_000
# Calls of earlier seconds, whose responses took long, go with those of the last one where they are at most this part.
_LATE_PART: Final = 8


@dataclass(frozen=True, slots=True)
class OrderedCalls:
    """Some of `calls`: those at `places`, which stand in order of time; `times_ns` has an element each."""

    calls: Calls
    places: Index
    times_ns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def split(self, length_ns: int) -> Iterator["OrderedCalls"]:
        starts = find_runs(self.times_ns // length_ns)
        if len(starts) == 1:
            yield self
            return
        for start, end in zip(starts, np.append(starts[1:], len(self)), strict=True):
            # Of several, each is small against the whole, which nobody should go through once for each.
            calls = self.calls.take(self.places[start:end])
            yield OrderedCalls(calls, np.arange(end - start), self.times_ns[start:end])

    def split_seconds(self) -> Iterator["OrderedCalls"]:
        """Calls of each second, in order; a few late ones are not worth a pass of their own."""
        last_ns = int(self.times_ns[-1]) // SECOND_NS * SECOND_NS
        if int(self.times_ns.searchsorted(last_ns)) * _LATE_PART <= len(self):
            yield self
        else:
            yield from self.split(SECOND_NS)


def order_calls(calls: Calls, places: Index) -> OrderedCalls:
    """Those at `places`, which ascend: by time, those of one time in the order in which they came."""
    times_ns = calls["time_unix_ns"].take(places)
    if not np.all(times_ns[1:] >= times_ns[:-1]):
        spans_ns = times_ns - times_ns.min()
        order = find_order(spans_ns, int(spans_ns.max()).bit_length())
        places, times_ns = places.take(order), times_ns.take(order)
    return OrderedCalls(calls, places, times_ns)


# A record comes when its response ends, and after a second in any case: so long after its end a window waits for
# stragglers.
WINDOW_GRACE_NS: Final = SECOND_NS
# Open at once: the present one, the past one, and a few for responses that took long. More come only from wrong
# timestamps.
OPEN_WINDOWS_LIMIT: Final = 8
# A window that begins later than this after now can only come from a clock that was set back: it closes at once.
FUTURE_LIMIT_NS: Final = 60 * SECOND_NS
# Calls that wait for their second to end, 104 bytes each. Past it they are made rows at once, and triggers then see
# that second in parts.
WAITING_CALLS_LIMIT: Final = 32_768
_LARGEST_U32: Final = (1 << 32) - 1
# Columns of calls and what their values stay below: places in the key of a row.
_BOUNDS: Final = {
    "route": ROUTES_LIMIT,
    "status": STATUS_CODE_LIMIT,
    "rpc_status": RPC_STATUS_LIMIT,
    "role": 4,
    "hop": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """When a row leaves before its window ends; pushed by policy."""

    distinct_objects_per_second: int = 10
    calls_per_second: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    window_seconds: int = 10
    merged_window_seconds: int = 60
    # 1,000 live keys are what a dense node has in all; an endpoint with more consumers in 10 s keeps the most telling
    # ones.
    rows_per_endpoint: int = 1_000
    rows_per_window: int = 20_000


class Aggregator:
    """Sums calls into windows. Pure: time comes in with the calls and with `poll`. Not thread-safe."""

    def __init__(
        self,
        *,
        limits: WindowLimits = WindowLimits(),
        triggers: Triggers = Triggers(),
    ) -> None:
        self.facts = Facts()
        self._bounds = Bounds(rows_per_endpoint=limits.rows_per_endpoint, rows_per_window=limits.rows_per_window)
        self._window_ns = limits.window_seconds * SECOND_NS
        self._merged_ns = limits.merged_window_seconds * SECOND_NS
        self._triggers = triggers
        self._novelty = Novelty(self.facts)
        self._habits = Habits()
        self._numbers = NumberMemory()
        self._waiting = WaitingCalls(WAITING_CALLS_LIMIT)
        self._windows: dict[int, Window] = {}
        self._merging: dict[int, Window] = {}
        self._leaving: list[tuple[Window, Rows, int]] = []  # With the flags that are not the window's.
        self._now_ns = 0
        self._polled_second = -1
        self._seen_count = 0
        self._dropped: dict[str, int] = {}
        self._is_connected = True
        self._step_flags = 0
        no_time = np.empty(0, np.int64)
        self._nothing = RowColumns(
            facts=self.facts, start_unix_seconds=no_time, length_seconds=no_time, rows=make_no_rows()
        )

    def add(self, record: CallRecord) -> tuple[int, ...]:
        """Count one call that was described in Python; gives its columns. Cost: 3 us."""
        self._seen_count += 1
        figures, ends, credentials, protocol = record.figures, record.ends, record.credentials, record.protocol
        contents, facts = record.contents, self.facts
        rpc_status = protocol.rpc_status
        if not 0 <= figures.status_code < STATUS_CODE_LIMIT:
            raise ValueError(f"status code is {figures.status_code}; it has three digits")
        if rpc_status is not None and not 0 <= rpc_status < RPC_STATUS_LIMIT - 1:
            raise ValueError(f"RPC status is {rpc_status}; it stays below {RPC_STATUS_LIMIT - 1}")
        number, body = record.target.object_number, contents.body
        call = (
            figures.time_unix_ns,
            figures.request_bytes,
            figures.response_bytes,
            figures.duration_ns // 1000,
            record.target.object_hash,
            NO_NUMBER if number is None else number,
            facts.route(record.target.route),
            facts.actor(
                ActorFacts(
                    credentials.principal,
                    credentials.principal_kind,
                    credentials.credential,
                    credentials.is_truncated,
                    ends.client_address,
                    ends.client_workload,
                    credentials.authentication,
                    ends.protocol_version,
                    contents.request_content_type,
                    protocol.kind,
                    ends.client_software,
                    credentials.carriers,
                )
            ),
            min(figures.time_to_first_byte_ns // 1000, _LARGEST_U32),
            figures.status_code,
            facts.media_type(contents.response_content_type),
            ends.role,
            ends.hop,
            make_flags(record),
            0 if rpc_status is None else rpc_status + 1,
            0 if body is None else body.flags.value,
            figures.calls,
            min(protocol.request_messages or 0, _LARGEST_U32),
            min(protocol.response_messages or 0, _LARGEST_U32),
            *((0, 0) if body is None else (min(body.records, _LARGEST_U32), facts.data(body.data))),
            contents.payload,
        )
        self._make_room()
        self._waiting.append(call)
        return call

    def add_row(self, call: tuple[int, ...]) -> None:
        """Count one call by its columns, which are those of one that `add` gave but for its times and sizes."""
        self._seen_count += 1
        self._make_room()
        self._waiting.append(call)

    def add_calls(self, calls: Calls) -> None:
        """Count calls; the array is copied. Raises ValueError, and takes none, where a column is out of its bounds."""
        self._seen_count += len(calls)
        for name, limit in _BOUNDS.items():
            largest = int(calls[name].max(initial=0))
            if largest >= limit:
                raise ValueError(f"column {name} of the calls has {largest}; it stays below {limit}")
        taken = 0
        while taken < len(calls):
            self._make_room()
            taken += self._waiting.extend(calls[taken:])

    def poll(self, now_unix_ns: int) -> RowColumns:
        """Rows that leave now: of seconds that ended, and of windows that did. Call it every 20 ms to 1 s; once a
        second it does something."""
        self._now_ns = now_unix_ns
        second = now_unix_ns // SECOND_NS
        if second != self._polled_second:
            self._polled_second = second
            self._sweep()
            self._take_waiting(second * SECOND_NS)
            for start_ns, window in list(self._windows.items()):
                if self._is_over(window):
                    self._close(self._windows.pop(start_ns))
            for start_ns in list(self._merging):
                if start_ns + self._merged_ns + WINDOW_GRACE_NS <= now_unix_ns:
                    self._emit(self._merging.pop(start_ns))
        return self._collect()

    def flush(self) -> RowColumns:
        """Everything leaves: at a clock step, a change of the installation key, and at the end."""
        self._take(self._waiting.take(), is_early=False)
        for window in (*self._windows.values(), *self._merging.values()):
            self._emit(window)
        self._windows.clear()
        self._merging.clear()
        return self._collect()

    def mark_clock_step(self) -> None:
        """The clock was set (the caller flushed before): the next window says so."""
        self._step_flags = RowFlag.CLOCK_STEP

    def set_connected(self, is_connected: bool) -> RowColumns:
        """Say whether the collector is there; returns the merged rows that leave because it is back."""
        self._is_connected = is_connected
        if is_connected:
            for window in self._merging.values():
                self._emit(window)
            self._merging.clear()
        return self._collect()

    def set_triggers(self, triggers: Triggers) -> None:
        self._triggers = triggers

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """Apply the policy's order; rows that left already keep the consumer they had."""
        self.facts.set_consumer_order(order)

    def drop(self, reason: str, count: int = 1) -> None:
        """Calls given to the aggregator were lost: there was no room, or it failed and its caller says so."""
        self._dropped[reason] = self._dropped.get(reason, 0) + count

    def count(self) -> StageCount:
        """Records taken and lost; a record is a call or the closing part of one."""
        dropped = tuple(sorted(self._dropped.items()))
        used_count = self._seen_count - sum(count for _, count in dropped)
        return StageCount(stage="aggregate", seen=self._seen_count, used=used_count, dropped=dropped)

    def _make_room(self) -> None:
        if self._waiting.is_full:
            self._take(self._waiting.take(), is_early=self._is_connected)

    def _take_waiting(self, end_ns: int) -> None:
        """Make rows of the calls before `end_ns`, and of those that come from a clock that was set back."""
        calls = self._waiting.calls
        times_ns = calls["time_unix_ns"]
        future_ns = self._now_ns + FUTURE_LIMIT_NS + self._window_ns
        is_taken = (times_ns < end_ns) | (times_ns >= future_ns - future_ns % self._window_ns)
        try:
            self._take(calls, is_early=self._is_connected, is_taken=is_taken)
        except Exception:
            self.drop("failed", int(np.count_nonzero(is_taken)))
            raise
        finally:
            self._waiting.keep_where(~is_taken)

    def _take(self, calls: Calls, *, is_early: bool, is_taken: NDArray[np.bool_] | None = None) -> None:
        """Make rows of calls (of those where `is_taken`), window by window; where rows may leave early, second by
        second."""
        places = self._leave_unknown(calls, np.arange(len(calls)) if is_taken is None else np.flatnonzero(is_taken))
        if not len(places):
            return
        tick = self.facts.begin_tick()
        for of_window in order_calls(calls, places).split(self._window_ns):
            window = self._find_window(int(of_window.times_ns[0]), tick)
            if not is_early or self._is_over(window):
                rows = self._group(of_window, tick)
                self._novelty.find_new(rows)  # What is seen while nothing may leave early is no news later.
                self._keep(window, rows)
                continue
            for of_second in of_window.split_seconds():
                second = int(of_second.times_ns[-1]) // SECOND_NS
                self._let_leave(window, self._group(of_second, tick), second)

    def _leave_unknown(self, calls: Calls, places: Index) -> Index:
        is_known = calls["route"].take(places) != NO_ROUTE
        if is_known.all():
            return places
        self.drop("routes_full", len(places) - int(np.count_nonzero(is_known)))
        return places.take(np.flatnonzero(is_known))

    def _group(self, calls: OrderedCalls, tick: int) -> Rows:
        rows = group_calls(calls.calls, calls.places, self.facts, self._numbers, tick)
        self.facts.mark_used(rows.routes, rows.identities, rows.request_types, rows.response_types)
        return rows

    def _let_leave(self, window: Window, rows: Rows, second: int) -> None:
        """Send those rows of one second that are new, or cross a trigger and have not long done so; keep the others in
        the window."""
        is_leaving = window.admit_early(self._novelty.find_new(rows), rows.routes)
        calls = rows.sums[Sum.CALLS].astype(np.int64)
        crossing = np.flatnonzero(
            (calls >= self._triggers.calls_per_second)
            | (rows.objects.lengths >= self._triggers.distinct_objects_per_second)
        )
        if len(crossing):
            is_leaving[crossing] |= self._habits.find_news(rows.keys[crossing], calls[crossing], second)
        is_leaving |= rows.payloads.lengths > 0  # Few, for heads that look like an attack come up within a budget.
        if not is_leaving.any():  # As it mostly is.
            self._keep(window, rows)
            return
        if is_leaving.all():
            left = rows
        else:
            left = rows.select(is_leaving)
            self._keep(window, rows.select(~is_leaving))
        window.leave(left)
        self._leaving.append((window, left, RowFlag.EARLY))

    def _keep(self, window: Window, rows: Rows) -> None:
        """Add rows to a window; where that takes too much memory, what is in it leaves. The rest of it follows."""
        window.add(rows)
        if window.is_heavy:
            self._emit(window, RowFlag.EARLY)

    def _find_window(self, time_ns: int, tick: int) -> Window:
        start_ns = time_ns - time_ns % self._window_ns
        window = self._windows.get(start_ns)
        if window is None:
            if len(self._windows) >= OPEN_WINDOWS_LIMIT:
                self._close(self._windows.pop(min(self._windows)))
            window = self._make_window(start_ns, start_ns + self._window_ns, tick, self._step_flags)
            self._step_flags = 0
            self._windows[start_ns] = window
        return window

    def _make_window(self, start_ns: int, end_ns: int, tick: int, flags: int) -> Window:
        return Window(start_ns=start_ns, end_ns=end_ns, facts=self.facts, bounds=self._bounds, tick=tick, flags=flags)

    def _is_over(self, window: Window) -> bool:
        is_past = window.end_ns + WINDOW_GRACE_NS <= self._now_ns
        return is_past or window.start_ns > self._now_ns + FUTURE_LIMIT_NS

    def _close(self, window: Window) -> None:
        """An ended window leaves, or joins the merged one while the collector is away."""
        if self._is_connected:
            self._emit(window)
            return
        rows = window.close()
        self._drop_full(window)
        if rows is None:
            return
        start_ns = window.start_ns - window.start_ns % self._merged_ns
        merged = self._merging.get(start_ns)
        if merged is None:
            merged = self._make_window(window.start_ns, window.end_ns, window.tick, window.flags)
            self._merging[start_ns] = merged
        merged.start_ns = min(merged.start_ns, window.start_ns)
        merged.end_ns = max(merged.end_ns, window.end_ns)
        merged.tick = min(merged.tick, window.tick)
        merged.flags |= window.flags
        self._keep(merged, rows)

    def _emit(self, window: Window, flags: int = 0) -> None:
        rows = window.close()
        self._drop_full(window)
        if rows is not None:
            self._leaving.append((window, rows, flags))

    def _drop_full(self, window: Window) -> None:
        if window.dropped_count:
            self.drop("rows_full", window.dropped_count)
            window.dropped_count = 0

    def _collect(self) -> RowColumns:
        """What leaves now, as one."""
        if not self._leaving:
            return self._nothing
        leaving, self._leaving = self._leaving, []
        starts, lengths, parts = [], [], []
        for window, rows, own_flags in leaving:
            length_ns = window.end_ns - window.start_ns
            flags = own_flags | window.flags | (RowFlag.MERGED if length_ns > self._window_ns else 0)
            starts.append(np.full(len(rows), window.start_ns // SECOND_NS))
            lengths.append(np.full(len(rows), length_ns // SECOND_NS))
            parts.append(replace(rows, flags=flag_other(rows, self.facts) | np.uint32(flags)))
        return RowColumns(
            facts=self.facts,
            start_unix_seconds=np.concatenate(starts),
            length_seconds=np.concatenate(lengths),
            rows=join_rows(parts),
        )

    def _sweep(self) -> None:
        """Forget facts that nothing holds, where there is little room left."""
        if not self.facts.is_crowded:
            return
        tick = self.facts.begin_tick()
        calls = self._waiting.calls
        self.facts.mark_used(
            calls["route"], get_identities(calls["actor"]), get_media_types(calls["actor"]), calls["response_type"]
        )
        leaving = (window for window, _, _ in self._leaving)
        windows = (*self._windows.values(), *self._merging.values(), *leaving)
        freed = self.facts.sweep(min((window.tick for window in windows), default=tick))
        self._novelty.forget(freed)
        self._habits.forget(freed)

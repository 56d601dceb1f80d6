"""Follows the calls of one port or service through the stages of the sensor, for `apidae trace`.

While a trace is on, the pipeline and the spool report to it what they decide about calls (`sensor.agent.pipeline`,
`sensor.export.spool`), and it compares the coverage report every second. Without one they compare a name with None. It
makes events as plain objects, whose `stage` and `reason` are the names of the stages' accounts (`sensor.core.health`)
and of the coverage report. They hold what may leave the node, and no more: no value of a path, a header or a body.

| Event | Says |
|---|---|
| `begin` | what the sensor does, and what it knows of the port |
| `call` | a call was read as HTTP, by which capture and as which route; or why it is not reported |
| `port` | connections that carry no calls for the sensor since the last event, and why |
| `sent` | the rows of these calls are in these batches |
| `settled` | the collector acknowledged these batches, or what else became of them |
| `lost` | what stages of this sensor lost meanwhile, of whichever port |
| `end` | why the trace ends, with its sums, and where to look if there was nothing |

A row is the sum of calls, so a call is followed by the key of its row. Rows that leave early hold the calls of one
second, other rows those that are left in the window (`sensor.aggregate.aggregator`). All events wait for their reader
in a bounded queue, and what is beyond its bound is counted.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, Final, ParamSpec

import numpy as np

from sensor.aggregate.dictionary import NO_ROUTE, Facts, get_identities
from sensor.aggregate.rows import RowColumns, RowFlag, pack_keys
from sensor.core.calls import (
    CALL,
    STATUS_NOT_READ,
    AuthenticationKind,
    CallFlag,
    Calls,
    Ends,
    Exchange,
    Role,
    Route,
    Service,
)
from sensor.core.clock import Clock, format_time
from sensor.core.config import CaptureWay
from sensor.core.health import StageCount
from sensor.core.state import SensorState
from sensor.coverage.limits import explain_limit
from sensor.coverage.remedies import OF_DROPS, OF_PROTOCOLS, READ_TLS_IS_OFF
from sensor.coverage.report import CLOSED
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol
from sensor.describe.describer import Undescribed
from sensor.describe.filter import Exclusion
from sensor.ebpf.abi import Counter as KernelCounter
from sensor.export.convert import SerialisedBatch
from sensor.export.spool import ACKNOWLEDGED
from sensor.http.http2.exchange import StreamExchange
from sensor.routes.host_names import OTHER
from sensor.routes.segments import format_template

CALLS_MAX: Final = 1_000
SECONDS_MAX: Final = 600
# Rows of the last calls leave with their window, which has 10 s and a second of grace, and are then acknowledged.
SETTLE_SECONDS: Final = 15
EVENTS_MAX: Final = 4_096
ROWS_MAX: Final = 32  # Of the coverage, that `begin` shows.
_SECOND_NS: Final = 1_000_000_000
_WINDOW_NS: Final = 10 * _SECOND_NS
_ROUTE, _CALLS = ((CALL.names or ()).index(name) for name in ("route", "calls"))
_WAYS: Final = {CaptureWay.CGROUP_SKB: "packets", CaptureWay.SYSCALLS: "system calls"}
TLS: Final = "TLS"
KERNEL_CACHE: Final = "kernel route cache"
ADDED_UP: Final = "added up in the kernel"
# Why calls of these sources may lack their path and caller.
_LIMITS: Final = {KERNEL_CACHE: KernelCounter.UNLEARNED, ADDED_UP: KernelCounter.OVERFLOW}
NOT_READ: Final = "estimated: TLS of this service is not read all the time"
NOT_READ_FIX: Final = "Set read_tls to full for it, if path and caller of each call matter."
_READ: Final = frozenset((PortProtocol.HTTP, PortProtocol.HTTP2, PortProtocol.HTTPS))
_CODES: Final = {0: "aborted", STATUS_NOT_READ: "not read"}

Event = dict[str, object]

logger = logging.getLogger(__name__)


class TraceRefusedError(Exception):
    """A trace cannot begin; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """Whose calls, and when the trace ends by itself."""

    port: int = 0  # 0: of every port of the service.
    service: str = ""  # `workload` or `namespace/workload`; empty: whoever it is.
    calls: int = 20
    seconds: int = 30

    @classmethod
    def parse(cls, asked: Mapping[str, object]) -> "TraceRequest":
        """Of a message of the control socket. Raises TraceRefusedError."""
        request = cls(
            port=_read_number(asked, "port", 0, 65_535, 0),
            service=str(asked.get("service") or ""),
            calls=_read_number(asked, "calls", 1, CALLS_MAX, 20),
            seconds=_read_number(asked, "seconds", 1, SECONDS_MAX, 30),
        )
        if not request.port and not request.service:
            raise TraceRefusedError("a trace is of a port or a service; name one with --port or --service")
        return request

    def includes(self, service: Service) -> bool:
        """Whether calls to this service are followed."""
        names = (service.workload, f"{service.namespace}/{service.workload}")
        return (not self.port or service.port == self.port) and (not self.service or self.service in names)


def _read_number(asked: Mapping[str, object], name: str, least: int, most: int, default: int) -> int:
    value = asked.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        raise TraceRefusedError(f"{name} is {value!r}; use a whole number from {least} to {most:,}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorView:
    """What the sensor does while a trace begins."""

    state: SensorState
    way: CaptureWay
    fallback_reason: str
    reads_tls: bool
    is_connected: bool


@dataclass(slots=True)
class _Followed:
    """A call whose row has not left."""

    number: int
    time_ns: int
    key: int
    route: int
    is_kept: bool = False  # Its second has ended, and its row stayed in the window.


@dataclass(slots=True)
class _Sent:
    """Calls whose rows are in batches that wait for their acknowledgement."""

    numbers: list[int]
    batches: set[int]
    outcomes: set[str] = field(default_factory=set)


_Given = ParamSpec("_Given")


def _ending_at_faults(
    method: Callable[Concatenate["Trace", _Given], None],
) -> Callable[Concatenate["Trace", _Given], None]:
    """The same, but a fault ends the trace and not the work that it follows."""

    @wraps(method)
    def call(trace: "Trace", /, *args: _Given.args, **named: _Given.kwargs) -> None:
        if trace.is_over:
            return
        try:
            method(trace, *args, **named)
        except Exception:
            logger.exception("a trace failed and ends")
            trace.fail()

    return call


class Trace:
    """One trace. All but `pop` is called in the sensor's loop."""

    def __init__(self, request: TraceRequest, view: SensorView, *, facts: Facts, clock: Clock) -> None:
        self.request = request
        self._view = view
        self._facts = facts
        self._monotonic_ns = clock.monotonic_ns
        # Records of the kernel are read each second: what ended before belongs to nobody's trace.
        self._begin_unix_ns = clock.unix_ns()
        self._events: deque[Event] = deque()
        self.lost_events = 0
        self._end_ns = clock.monotonic_ns() + request.seconds * _SECOND_NS
        self._settle_ns = 0
        self._look_ns = 0
        self._first: Mapping[object, PortCoverage] | None = None
        self._last: Mapping[object, PortCoverage] = {}
        self._stages: tuple[StageCount, ...] = ()
        self._ports: frozenset[int] = frozenset()
        self._second = -1
        self._followed: list[_Followed] = []
        self._sent: list[_Sent] = []
        self._named_exclusions: Counter[tuple[str, str]] = Counter()
        self._sums: Counter[str] = Counter()
        self._listed = 0
        self.is_over = False

    # What the reader takes, in a thread of its own

    def pop(self) -> Iterable[Event]:
        """Events since the last time."""
        while self._events:
            yield self._events.popleft()

    def _add(self, event: Event) -> None:
        if len(self._events) < EVENTS_MAX:
            self._events.append(event)
        else:
            self.lost_events += 1

    def fail(self) -> None:
        """End after a fault of this code."""
        self._add({"event": "end", "why": "a fault of the sensor, which its log describes", "sums": {}})
        self.is_over = True

    # What the pipeline reports

    @_ending_at_faults
    def see_exchange(self, exchange: Exchange | StreamExchange, result: Undescribed | Exclusion | None) -> None:
        """A call that was read and is not reported; None: describing it failed."""
        plain = exchange.exchange if isinstance(exchange, StreamExchange) else exchange
        ends = plain.ends
        if isinstance(result, Exclusion):
            if not self.request.includes(result.service) or not self._is_listed():
                return
            self._named_exclusions[result.service.workload, result.kind] += plain.figures.calls
            self._sums["excluded"] += 1
            stopped = {"reason": f"{result.kind}: {result.reason}", "fix": OF_PROTOCOLS[PortProtocol.LEFT_OUT]}
        else:
            port = ends.local_port if ends.role is Role.SERVER else ends.remote_port
            if port not in self._ports or not self._is_listed():
                return
            reason = "failed" if result is None else result.reason
            self._sums["dropped"] += 1
            stopped = {"reason": reason, "fix": OF_DROPS.get(reason, "")}
        self._add(
            {
                "event": "call",
                "number": self._number(),
                "time": format_time(plain.figures.time_unix_ns),
                "way": TLS if ends.is_encrypted else _WAYS[self._view.way],
                **_name_ends(ends),
                "stage": "describe",
                **stopped,
            }
        )

    @_ending_at_faults
    def see_row(self, exchange: Exchange | StreamExchange, row: Sequence[int]) -> None:
        """A call that was described, by its columns."""
        route = row[_ROUTE]
        if route == NO_ROUTE or not self.request.includes(self._facts.find_route(route).service):
            return  # Most calls of a busy node: half a microsecond each.
        if not self._is_listed():
            self._sums["more"] += row[_CALLS]
            return
        ends = (exchange.exchange if isinstance(exchange, StreamExchange) else exchange).ends
        self._see(np.array([tuple(row)], CALL), ends=ends)

    @_ending_at_faults
    def see_calls(
        self, calls: Calls, source: str = "", list_client_ports: Callable[[], Mapping[int, int]] | None = None
    ) -> None:
        """Calls that were not described one by one: of HTTP/2, like one that was; or from a `source` in the kernel.
        `list_client_ports`: by the time of the call."""
        self._see(calls, source=source, list_client_ports=list_client_ports)

    def _see(
        self,
        calls: Calls,
        *,
        source: str = "",
        list_client_ports: Callable[[], Mapping[int, int]] | None = None,
        ends: Ends | None = None,
    ) -> None:
        numbers = calls["route"]
        wanted = {
            number: route
            for number in np.unique(numbers).tolist()
            if number != NO_ROUTE and self.request.includes((route := self._facts.find_route(number)).service)
        }
        if not wanted:
            return
        ends_ns = calls["time_unix_ns"] + calls["duration_us"].astype(np.int64) * 1_000
        is_new = (ends_ns >= self._begin_unix_ns) & (calls["calls"] > 0)
        places = np.flatnonzero(np.isin(numbers, list(wanted)) & is_new)
        if not self._is_listed():
            self._sums["more"] += int(calls["calls"][places].sum())
            return
        identities = get_identities(calls["actor"])
        others = (calls[name] for name in ("status", "rpc_status", "role", "hop"))
        keys = pack_keys(numbers, identities, *others)
        client_ports = list_client_ports() if list_client_ports is not None and len(places) else {}
        for rank, place in enumerate(places.tolist()):
            if not self._is_listed():
                self._sums["more"] += int(calls["calls"][places[rank:]].sum())
                return
            call = calls[place]
            identity = int(identities[place])
            if ends is not None:
                known = _name_ends(ends)
            else:
                address = self._find_text("client_address", identity)
                port = client_ports.get(int(call["time_unix_ns"]), 0)
                role = Role.CLIENT if call["role"] == Role.CLIENT else Role.SERVER
                known = {"role": role.name.lower(), "client": address, "client_port": port}
            self._list_call(call, wanted[int(call["route"])], int(keys[place]), identity, known, source)

    def _list_call(
        self, call: np.void, route: Route, key: int, identity: int, known: Mapping[str, object], source: str
    ) -> None:
        flags, status = int(call["flags"]), int(call["status"])
        number = self._number()
        self._sums["read"] += 1
        way = TLS if flags & CallFlag.ENCRYPTED else _WAYS[self._view.way]
        event: Event = {
            "event": "call",
            "number": number,
            "time": format_time(int(call["time_unix_ns"])),
            "window": format_time(int(call["time_unix_ns"]) // _WINDOW_NS * _WINDOW_NS),
            "way": f"{way}, {source}" if source else way,
            **known,
            "service": _name_service(route.service),
            "version": self._find_text("protocol_version", identity),
            "method": route.method,
            "template": format_template(route),
            "status": _CODES.get(status, status),
            "calls": int(call["calls"]),
            "stage": "aggregate",
        }
        is_nameless = self._facts.identities.authentication[identity] == AuthenticationKind.UNKNOWN
        if flags & CallFlag.ESTIMATED:
            event |= {"reason": NOT_READ, "fix": NOT_READ_FIX}
        elif source in _LIMITS and (is_nameless or route.host == OTHER):
            reason, fix = explain_limit(_LIMITS[source])
            event |= {"reason": reason, "fix": fix}
        elif route.host == OTHER:
            event |= {"reason": "route other", "fix": OF_DROPS["routes_full"]}
        elif flags & CallFlag.LOSSY:
            event |= {"reason": "lossy", "fix": "A part of it was not seen: look for packet loss."}
        self._add(event)
        self._followed.append(_Followed(number, int(call["time_unix_ns"]), key, int(call["route"])))

    def _find_text(self, column: str, identity: int) -> str:
        number = int(getattr(self._facts.identities, column)[identity])
        return self._facts.find_texts([number])[0]

    @_ending_at_faults
    def see_batches(self, columns: RowColumns, batches: Sequence[SerialisedBatch], now_unix_ns: int) -> None:
        """Rows that leave the aggregator now, and the batches that were made of them; none where nothing leaves."""
        second = now_unix_ns // _SECOND_NS
        is_new_second, self._second = second != self._second, second
        if not self._followed or not (is_new_second or len(columns)):
            return  # Most turns of the sensor's loop.
        rows = columns.rows
        is_early = (rows.flags & RowFlag.EARLY.value) != 0
        is_other = ((rows.flags & RowFlag.OTHER.value) != 0) & ~is_early
        keys = np.array([one.key for one in self._followed], np.uint64)
        routes = np.array([one.route for one in self._followed])
        places = np.flatnonzero(np.isin(rows.keys, keys) | (is_other & np.isin(rows.routes, routes)))
        is_early, is_other, keys, routes = is_early[places], is_other[places], rows.keys[places], rows.routes[places]
        starts_ns = columns.start_unix_seconds[places] * _SECOND_NS
        ends_ns = starts_ns + columns.length_seconds[places] * _SECOND_NS
        numbers: list[int] = []
        staying: list[_Followed] = []
        for one in self._followed:
            in_time = (starts_ns <= one.time_ns) & (one.time_ns < ends_ns)
            is_over = one.time_ns < second * _SECOND_NS
            is_its = (keys == one.key) & (~is_early | (is_over and not one.is_kept))
            if (in_time & (is_its | (is_other & (routes == one.route)))).any():
                numbers.append(one.number)
            else:
                staying.append(one)
                one.is_kept |= is_new_second and is_over
        self._followed = staying
        if not numbers:
            return
        sequences = [batch.sequence for batch in batches]
        stopped = {} if sequences else {"reason": "unwritable", "fix": OF_DROPS["unwritable"]}
        self._add({"event": "sent", "numbers": numbers, "batches": sequences, "stage": "convert", **stopped})
        if sequences:
            self._sent.append(_Sent(numbers, set(sequences)))
            self._sums["sent"] += len(numbers)

    @_ending_at_faults
    def settle(self, sequence: int, outcome: str) -> None:
        """The spool has a batch no longer: `acknowledged`, or the reason of its account."""
        for one in list(self._sent):
            if sequence not in one.batches:
                continue
            one.batches.discard(sequence)
            one.outcomes.add(outcome)
            if one.batches:
                continue
            self._sent.remove(one)
            failures = sorted(one.outcomes - {ACKNOWLEDGED})
            reason = failures[0] if failures else ACKNOWLEDGED
            self._sums[reason] += len(one.numbers)
            event: Event = {"event": "settled", "numbers": one.numbers, "stage": "spool", "reason": reason}
            self._add(event | ({"fix": OF_DROPS[reason]} if failures else {}))

    # Once a second

    @_ending_at_faults
    def observe(
        self, read_coverage: Callable[[], Sequence[PortCoverage]], read_stages: Callable[[], Sequence[StageCount]]
    ) -> None:
        """Compare what is counted by port, and end where it is time."""
        now_ns = self._monotonic_ns()
        is_ending = not self._settle_ns and (now_ns >= self._end_ns or self._listed >= self.request.calls)
        if now_ns >= self._look_ns or is_ending:
            self._look_ns = now_ns + _SECOND_NS
            if self._first is None:
                self._stages = tuple(read_stages())
            self._compare(read_coverage())
        if is_ending:
            self._settle_ns = now_ns + SETTLE_SECONDS * _SECOND_NS
        if self._settle_ns and (now_ns >= self._settle_ns or not (self._followed or self._sent)):
            self._end(read_stages())

    def stop(self) -> None:
        """No more events: whoever traces has gone, or the sensor stops."""
        self.is_over = True

    def _compare(self, rows: Sequence[PortCoverage]) -> None:
        current: dict[object, PortCoverage] = {}
        for row in rows:
            is_node_wide = row.protocol is PortProtocol.MISSED and not row.service.port
            if self.request.includes(row.service) or is_node_wide:
                current[row.key] = row
        self._ports = frozenset({row.service.port for row in current.values()} | {self.request.port}) - {0}
        if self._first is None:
            self._first = self._last = current
            self._begin(list(current.values()))
            return
        for key, row in current.items():
            if row.service.port:
                self._report(row, self._last.get(key))
        self._last = current

    def _begin(self, rows: Sequence[PortCoverage]) -> None:
        known = [self._describe_row(row) for row in rows if row.role is not CoverageRole.NODE][:ROWS_MAX]
        view = self._view
        self._add(
            {
                "event": "begin",
                "state": view.state.name.lower(),
                "way": _WAYS[view.way],
                **({"reason": view.fallback_reason} if view.fallback_reason else {}),
                "read_tls": view.reads_tls,
                "connected": view.is_connected,
                "calls": self.request.calls,
                "seconds": self.request.seconds,
                "ports": known,
            }
        )

    def _report(self, row: PortCoverage, before: PortCoverage | None) -> None:
        """What came since the last look and is no call: calls have their own events."""
        connections = row.connections - (before.connections if before else 0)
        size = row.bytes - (before.bytes if before else 0)
        calls = row.calls - (before.calls if before else 0)
        lost = row.lost_calls - (before.lost_calls if before else 0)
        if row.protocol is PortProtocol.LEFT_OUT:
            named = (row.service.workload, row.address)
            calls -= min(calls, self._named_exclusions.pop(named, 0))
            connections = size = 0
        elif row.protocol in _READ:
            # Of what is read only connections count here, and calls that it lost.
            self._sums["connections"] += connections
            connections = size = calls = 0
        if not (connections or size or calls or lost):
            return
        if row.protocol is not PortProtocol.MISSED:  # Of which connections are how often.
            self._sums["connections"] += connections
            self._sums["unread"] += connections
        event = self._describe_row(row) | {"event": "port", "connections": connections, "bytes": size}
        event |= {"calls": calls, "lost_calls": lost, "stage": "kernel"}
        if lost:
            event |= {"reason": "pipeline_too_deep", "fix": OF_DROPS["pipeline_too_deep"]}
        self._add(event)

    def _describe_row(self, row: PortCoverage) -> Event:
        fix = OF_PROTOCOLS[row.protocol]
        if row.protocol is PortProtocol.ENCRYPTED and not self._view.reads_tls:
            fix = READ_TLS_IS_OFF
        return {
            "protocol": row.protocol.name.lower(),
            "role": row.role.name.lower(),
            "service": _name_service(row.service),
            "address": row.address,
            "connections": row.connections,
            "bytes": row.bytes,
            **({"reason": row.reason} if row.reason else {}),
            **({"fix": fix} if fix else {}),
        }

    def _end(self, stages: Sequence[StageCount]) -> None:
        for loss in self._list_losses(stages):
            self._add(loss)
        is_full = self._listed >= self.request.calls
        why = f"{self.request.calls} calls" if is_full else f"{self.request.seconds} s"
        waiting = sorted(one.number for one in self._followed)
        unanswered = sorted(number for one in self._sent for number in one.numbers)
        event: Event = {"event": "end", "why": why, "sums": dict(sorted((+self._sums).items()))}
        if waiting:
            event["waiting_rows"] = waiting
        if unanswered:
            event["unacknowledged"] = unanswered
        if self.lost_events:
            event["lost_events"] = self.lost_events
        if advice := self._advise(unanswered):
            event["advice"] = advice
        self._add(event)
        self.is_over = True

    def _list_losses(self, stages: Sequence[StageCount]) -> Iterable[Event]:
        before = {(one.stage, reason): count for one in self._stages for reason, count in one.dropped}
        for one in stages:
            for reason, count in one.dropped:
                if lost := count - before.get((one.stage, reason), 0):
                    fix = OF_DROPS.get(reason, "")
                    yield {"event": "lost", "stage": one.stage, "reason": reason, "calls": lost, "fix": fix}
        for key, row in self._last.items():
            if row.service.port:
                continue
            first = (self._first or {}).get(key)
            more = row.connections - (first.connections if first else 0)
            size = row.bytes - (first.bytes if first else 0)
            if more or size:
                yield {"event": "lost", "stage": "kernel", "name": row.address, "reason": row.reason, "calls": more}

    def _advise(self, unanswered: Sequence[int]) -> str:
        """Where to look, if what was asked for did not come."""
        if unanswered:
            return "The collector has not acknowledged these rows: see the sensor's log for why it is away."
        if self._view.state is SensorState.PAUSED:
            return "The sensor is paused, so it sees nothing: run `apidae resume`."
        if self._listed or self._sums["connections"] or self._sums["unread"]:
            return ""
        what = f"port {self.request.port}" if self.request.port else f"service {self.request.service}"
        listening = [row for row in self._last.values() if row.role is CoverageRole.LISTENING]
        if not any(row.service.port and CLOSED not in row.reason for row in listening):
            return (
                f"Nothing that this sensor watches listens on {what}. Check with `ss -ltnp` on this node whether the "
                "server is here, and whether cgroup_path includes it."
            )
        return (
            f"No connection to {what} came while this ran. Calls over connections that are open already would show: "
            "check with `ss -tn` that the client calls this node and this port, and not a unix socket."
        )

    def _is_listed(self) -> bool:
        return self._listed < self.request.calls and not self._settle_ns

    def _number(self) -> int:
        self._listed += 1
        return self._listed


def _name_ends(ends: Ends) -> Event:
    is_server = ends.role is Role.SERVER
    client = (ends.remote_address, ends.remote_port) if is_server else (ends.local_address, ends.local_port)
    return {"role": ends.role.name.lower(), "client": client[0], "client_port": client[1]}


def _name_service(service: Service) -> str:
    """`namespace/workload:port`, as pages name it."""
    name = "/".join(part for part in (service.namespace, service.workload) if part)
    return f"{name or 'unknown'}:{service.port}"

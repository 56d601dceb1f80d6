"""Calls, errors, classes of status and latency over time: of everything, or of a service, namespace, endpoint or
consumer.

Minutes, hours and days are read from the tables that answer other questions too. The finest answers whose rows of the
span are few enough to be summed while a person waits: of 100,000 endpoints the hours of a day, of a small installation
or of one service the minutes. A series starts with the first call where that is later than the start of the span, so
that a new installation does not show one bar at the right edge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from collector.core.kinds import is_client_error, is_error, is_success
from collector.core.scope import find_scope
from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX, parse_consumer
from collector.inventory.endpoints.endpoint import bucket_value
from collector.inventory.endpoints.hops import HopView, restrict_hops
from collector.inventory.endpoints.metrics import MICROSECONDS_TO_MILLISECONDS
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_CLIENT, ROLE_SERVER, find_hidden
from collector.inventory.endpoints.predicates import IN_SPAN, ConsumerSql
from collector.inventory.filters import Condition, Filter, Parameters, SpanParameters, Text
from collector.inventory.query import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS, Span, SpanError
from collector.storage.records import Reader, select
from collector.storage.tables.layout import HOUR_SUMMARY_RETENTION_DAYS, Retention

POINTS: Final = 90  # At most, unless a step is asked for.
POINTS_MAX: Final = 1_500
# Rows of calls that are summed at once; of more the next coarser table answers. Summaries of hours are narrower.
SUMMED_MAX: Final = 400_000
SUMMARIES_MAX: Final = 4_000_000
PIECE_ROWS: Final = 250  # The rows of one route and hour lie together: to find them costs as much as to sum so many.
KEPT_SECONDS: Final = 600.0  # A series of everything: what comes late shows after this time at the latest.
LATE_SECONDS: Final = 900  # Steps that ended later than this before are read anew each time.


class Step(StrEnum):
    """Seconds of one point, each a part of a day."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    TEN_MINUTES = "10m"
    HALF_HOUR = "30m"
    HOUR = "1h"
    THREE_HOURS = "3h"
    SIX_HOURS = "6h"
    TWELVE_HOURS = "12h"
    DAY = "1d"

    @property
    def seconds(self) -> int:
        return int(self[:-1]) * {"m": MINUTE_SECONDS, "h": HOUR_SECONDS, "d": DAY_SECONDS}[self[-1]]


class SeriesError(SpanError):
    """What was asked for cannot be answered; the sentence is for a person."""


class TrafficFilters(Parameters):
    """Of what the calls are; empty: of everything."""

    service: Annotated[Text, Filter("(n.service = {service:String} OR n.workload = {service:String})")] = Field(
        default="", max_length=300, description="A service as listed, or the name of a workload.", examples=["orders"]
    )
    namespace: Annotated[Text, Filter("n.namespace = {namespace:String}")] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    endpoint: Annotated[Text, Filter("n.endpoint_id = {endpoint:String}")] = Field(
        default="", max_length=300, description="An endpoint's id."
    )
    consumer: Text = Field(
        default="",
        max_length=CONSUMER_VALUE_CHARACTERS_MAX + 20,
        description="`kind:value`.",
        examples=["address:192.0.2.7"],
    )

    def build_names(self) -> list[Condition]:
        """The conditions on names of endpoints, alias `n`."""
        built = (
            one.build(name, getattr(self, name))
            for name, info in type(self).model_fields.items()
            for one in info.metadata
            if isinstance(one, Filter)
        )
        return [condition for condition in built if condition is not None]


class SeriesQuery(TrafficFilters, SpanParameters):
    """Of what, from when to when, and how fine."""

    step: Step | None = Field(default=None, description="Of one point; default: at most 90 points.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPoint:
    """One step. `errors` are server errors and aborted calls; `other` are 1xx, 3xx and calls that were not read.
    The classes add up to `calls`."""

    time: int
    calls: int = 0
    success: int = 0
    client_error: int = 0
    errors: int = 0
    other: int = 0
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSeries:
    """Every step from `start` to `end`, unix seconds, those without calls too."""

    start: int
    end: int
    step_seconds: int
    points: tuple[TrafficPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A table, how long its rows are and how long they are kept, and the sums over alias `r`."""

    table: str
    row_seconds: int
    kept_seconds: int
    success: str
    client_error: str
    errors: str
    has_consumers: bool
    summed_max: int


def _rows(table: str, row_seconds: int, kept_seconds: int) -> _Source:
    return _Source(
        table=table,
        row_seconds=row_seconds,
        kept_seconds=kept_seconds,
        success=f"sumIf(r.calls, {is_success('r')})",
        client_error=f"sumIf(r.calls, {is_client_error('r')})",
        errors=f"sumIf(r.calls, {is_error('r')})",
        has_consumers=True,
        summed_max=SUMMED_MAX,
    )


def _summary(table: str, row_seconds: int, kept_seconds: int) -> _Source:
    return _Source(
        table=table,
        row_seconds=row_seconds,
        kept_seconds=kept_seconds,
        success="sum(r.success_calls)",
        client_error="sum(r.client_error_calls)",
        errors="sum(r.error_calls)",
        has_consumers=False,
        summed_max=SUMMARIES_MAX,
    )


def _list_sources(retention: Retention) -> tuple[_Source, ...]:
    """Finest first."""
    return (
        _rows("rows_minute", MINUTE_SECONDS, retention.minute_seconds),
        _summary("routes_hour", HOUR_SECONDS, HOUR_SUMMARY_RETENTION_DAYS * DAY_SECONDS),
        _rows("rows_hour", HOUR_SECONDS, retention.hour_seconds),
        _summary("routes_day", DAY_SECONDS, retention.hour_seconds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Points of everything, and when they were read (unix seconds)."""

    start: int
    read_at: float
    points: Mapping[int, TrafficPoint]


class TrafficInventory:
    """Answers questions about calls over time from the store."""

    def __init__(self, *, reader: Reader, who: ConsumerSql, retention: Retention | None = None) -> None:
        self._reader = reader
        self._who = who
        self._retention = retention or Retention()
        self._kept: dict[tuple[str, int], _Kept] = {}  # Of those who see everything.

    def read_series(self, query: SeriesQuery, now: float) -> TrafficSeries:
        """The series of a query. Raises SpanError, ConsumerError and StoreError."""
        consumer = parse_consumer(query.consumer) if query.consumer else None
        names = query.build_names()
        where, parameters = "", dict[str, Any]()
        has_hops = consumer is not None or bool(query.endpoint)
        span = query.find_span(now)
        first, routes = self._find_routes(names)
        span = replace(span, start=max(span.start, first))
        if names:
            where, parameters = f" AND {_OF_ROUTES}", {"routes": routes}
        if consumer is not None:
            where += f" AND {self._who.is_named(consumer.kind)}"
            parameters |= consumer.parameters
        pieces = len(routes) * span.seconds // HOUR_SECONDS if names else None
        source = self._choose(span, query.step, pieces, now, needs_consumers=consumer is not None)
        step = query.step.seconds if query.step else _fit_step(span, source)
        start = span.start // step * step
        end = -(-span.end // step) * step
        hops = HopView.INCLUDE if has_hops else HopView.EXCLUDE
        without_hops = restrict_hops(self._reader, hops, "r.route_id", {"start": start, "end": end})
        asked = {**parameters, "start": start, "end": end, "step": step}
        if where:
            asked["hidden"] = self._find_hidden(source, where, asked)
            found: Mapping[int, TrafficPoint] = self._read(source, f"{_NOT_HIDDEN}{where}{without_hops}", asked)
        elif find_scope().is_all:
            found = self._read_everything(source, _COUNTED + without_hops, start, end, step, now)
        else:
            found = self._read(source, _COUNTED + without_hops, asked)
        times = range(start, end, step)
        return TrafficSeries(
            start=start,
            end=end,
            step_seconds=step,
            points=tuple(found.get(time, TrafficPoint(time=time)) for time in times),
        )

    def _read(self, source: _Source, where: str, asked: Mapping[str, Any]) -> dict[int, TrafficPoint]:
        rows = select(self._reader, _statement(source, where), asked)
        return {int(row["point"]): _read_point(row) for row in rows}

    def _read_everything(
        self, source: _Source, where: str, start: int, end: int, step: int, now: float
    ) -> Mapping[int, TrafficPoint]:
        """The overview asks for it all the time, so what is over is kept for a while."""
        kept = self._kept.get((source.table, step))
        if kept is None or kept.start > start or not 0 <= now - kept.read_at < KEPT_SECONDS or end <= now:
            points = self._read(source, where, {"start": start, "end": end, "step": step})
            self._kept[source.table, step] = _Kept(start=start, read_at=now, points=points)
            return points
        fresh = max(start, (int(kept.read_at) - LATE_SECONDS) // step * step)
        newer = self._read(source, where, {"start": fresh, "end": end, "step": step})
        return {time: point for time, point in kept.points.items() if time < fresh} | newer

    def _find_routes(self, names: list[Condition]) -> tuple[int, list[int]]:
        """When the first of the routes was first called, and which these are; of everything they are not listed."""
        parameters: dict[str, Any] = {}
        for one in names:
            parameters |= one.parameters
        listed = "groupUniqArray(r.route_id)" if names else "CAST([], 'Array(UInt64)')"
        where = f" WHERE {_of_names(names)}" if names else ""
        statement = f"SELECT toUnixTimestamp(min(r.first_seen)) AS first, {listed} AS routes FROM routes AS r{where}"
        (row,) = select(self._reader, statement, parameters)
        return int(row["first"]), list(map(int, row["routes"]))

    def _find_hidden(self, source: _Source, where: str, asked: Mapping[str, Any]) -> list[int]:
        """Routes whose client-side rows are excluded, of those with such rows."""
        statement = f"""
SELECT DISTINCT r.route_id AS route_id FROM {source.table} AS r
WHERE {IN_SPAN} AND r.role = {ROLE_CLIENT}{where}"""
        called = [int(row["route_id"]) for row in select(self._reader, statement, asked)]
        return find_hidden(self._reader, called, asked)

    def _choose(
        self,
        span: Span,
        step: Step | None,
        pieces: int | None,
        now: float,
        *,
        needs_consumers: bool,
    ) -> _Source:
        """The finest that is cheap enough. `pieces`: hours of routes, of a question about some routes; None: of all."""
        kept = [
            source
            for source in _list_sources(self._retention)
            if span.start >= now - source.kept_seconds - DAY_SECONDS * (source.row_seconds == DAY_SECONDS)
            and (step is None or source.row_seconds <= step.seconds)
        ]
        # Of two with rows as long the summary, unless it has not what is asked for.
        by_length = {
            source.row_seconds: source for source in reversed(kept) if source.has_consumers or not needs_consumers
        }
        fitting = [by_length[length] for length in sorted(by_length)]
        if step is not None and span.seconds / step.seconds > POINTS_MAX:
            raise SeriesError(f"A step of {step} gives more than {POINTS_MAX} points; ask for a longer step.")
        if not fitting:
            limits = self._retention
            raise SeriesError(
                f"No rows as fine as {step} are kept for that long: minutes are kept for {limits.minute_hours} h, "
                f"hours for {limits.hour_days} days. Ask for a longer step or a shorter time."
            )
        for source in fitting[:-1]:
            rows = self._count(source, span) if pieces is None else pieces * PIECE_ROWS
            if rows <= source.summed_max:
                return source
        return fitting[-1]

    def _count(self, source: _Source, span: Span) -> int:
        """What is read, which is what a question costs. Rows of the last minutes may not be merged yet, so a chart of
        them may have the longer step for moments."""
        statement = f"SELECT count() AS rows FROM {source.table} AS r WHERE {IN_SPAN}"
        (row,) = select(self._reader, statement, {"start": span.start, "end": span.end})
        return int(row["rows"])


_OF_ROUTES: Final = "r.route_id IN {routes:Array(UInt64)}"
# Rows that count: of everything, and of routes and consumers, whose hidden routes are found first.
_COUNTED: Final = f" AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN ({HIDDEN_ROUTES}))"
_NOT_HIDDEN: Final = f" AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN {{hidden:Array(UInt64)}})"


def _of_names(names: list[Condition]) -> str:
    conditions = " AND ".join(one.sql for one in names)
    return f"r.route_id IN (SELECT n.route_id FROM endpoint_routes AS n FINAL WHERE {conditions})"


def _fit_step(span: Span, source: _Source) -> int:
    """The shortest that gives at most POINTS."""
    fitting = (one.seconds for one in Step if one.seconds >= source.row_seconds)
    return next((one for one in fitting if span.seconds / one <= POINTS), DAY_SECONDS)


def _statement(source: _Source, where: str) -> str:
    return f"""
SELECT intDiv(toUnixTimestamp(r.time), {{step:UInt32}}) * {{step:UInt32}} AS point, sum(r.calls) AS calls,
    {source.success} AS success, {source.client_error} AS client_error, {source.errors} AS errors,
    quantileExactWeightedArray(0.95)(r.duration.1, r.duration.2) AS p95_bucket,
    max(notEmpty(r.duration.1)) AS is_timed
FROM {source.table} AS r
WHERE {IN_SPAN}{where}
GROUP BY point"""


def _read_point(row: Mapping[str, Any]) -> TrafficPoint:
    calls, success, client_error, errors = (int(row[name]) for name in ("calls", "success", "client_error", "errors"))
    p95_ms = bucket_value(int(row["p95_bucket"])) * MICROSECONDS_TO_MILLISECONDS if row["is_timed"] else None
    return TrafficPoint(
        time=int(row["point"]),
        calls=calls,
        success=success,
        client_error=client_error,
        errors=errors,
        other=calls - success - client_error - errors,
        p95_ms=p95_ms,
    )

"""Reads why an alert was raised: calls over time against what was expected, what the calls were answered, which objects
they took, and by which software and addresses they came.

The series has the expected value and the limit of the detector where the alert keeps them, else what the same subject
did a day before. Objects are keyed hashes; a row of calls names 256 of them at most, so of more they are a sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from collector.alerting.alert import Alert, AlertKind, KindGroup
from collector.core.kinds import ABORTED, NOT_READ, name_status_code
from collector.core.rates import CALLS_A_SECOND
from collector.inventory.endpoints.bodies import Bodies, read_bodies
from collector.inventory.endpoints.predicates import ERROR, EXACT_MAX, OUTCOME, rows_table
from collector.inventory.evidence.calls import CallInventory, CallQuestion, CallSums, Resolution
from collector.inventory.query import DAY_SECONDS, HOUR_SECONDS, Rollup, Span
from collector.storage.records import Reader, select

PLACES_MAX: Final = 10
POINTS_MAX: Final = 90  # More than that no chart shows.
_STEPS: Final = (60, 120, 300, 600, 1_800, *(HOUR_SECONDS * hours for hours in (1, 2, 3, 6, 12, 24)))
WALK_SHARE_MIN: Final = 0.8  # Of the calls to objects that numbers name, to the number right beside the last one.
_STATUS: Final = (
    f"multiIf({OUTCOME} = {ABORTED}, '{name_status_code(ABORTED)}', {OUTCOME} = {NOT_READ}, "
    f"'{name_status_code(NOT_READ)}', concat(toString(intDiv({OUTCOME}, 100)), 'xx'))"
)
FAILED_SHARE: Final = "share of calls that failed"
_MILLISECONDS: Final = "milliseconds a call, mean"


class ExpectedFrom(StrEnum):
    """Where the expected values of a series come from."""

    DETECTOR = "detector"
    DAY_BEFORE = "day_before"  # What the same subject did at that time.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPoint:
    """One step of the series; `start` is unix seconds. None: it is not known, or no call says it."""

    start: int
    calls: int
    observed: float | None
    expected: float | None
    limit: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSeries:
    """Observed against expected, in `unit`."""

    unit: str
    step_seconds: int
    expected_from: ExpectedFrom
    points: tuple[AlertPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedObjects:
    """Which objects the calls of the window took. `known_before` and `of_others` are of those that rows name."""

    objects: int  # Distinct ones.
    is_estimate: bool
    numeric_calls: int  # To objects that numbers name;
    steps: int  # of them, to the number right after or before the last one.
    is_in_order: bool
    named: int  # Distinct objects in rows, of one endpoint or caller;
    known_before: int  # of them, taken by the same caller before the window,
    of_others: int  # or else by others alone.

    def describe(self) -> str:
        """A sentence or two."""
        count = f"{'≈ ' if self.is_estimate else ''}{self.objects:,}"
        said = f"{count} different object{'' if self.objects == 1 else 's'}"
        if self.numeric_calls:
            order = "in order" if self.is_in_order else "in no order"
            said += f", {order}: {self.steps:,} of {self.numeric_calls:,} calls went to the number next to the last one"
        said += "."
        if self.named and (self.known_before or self.of_others):
            said += (
                f" Of {self.named:,} of them, the caller had taken {self.known_before:,} before, and others alone had "
                f"taken {self.of_others:,}."
            )
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All of one alert. `statuses`, `softwares`, `addresses` and `workloads`: calls of the window by value, most
    first."""

    series: AlertSeries
    statuses: Mapping[str, int]
    objects: TouchedObjects | None  # None where no call named an object.
    softwares: Mapping[str, int]
    addresses: Mapping[str, int]
    workloads: Mapping[str, int]
    bodies: Bodies | None  # Data in sampled calls of the endpoint or caller; None where no body was read.


class ExplanationReader:
    """Answers from rows of calls. Methods raise StoreError."""

    def __init__(self, *, reader: Reader, calls: CallInventory) -> None:
        self._reader = reader
        self._calls = calls

    def read(self, alert: Alert, question: CallQuestion, window: CallSums, now: float) -> Explanation:
        """`question` is of all rows around the alert, `window` of those that it counted."""
        judged = replace(question, start=window.start, end=window.end)
        return Explanation(
            series=self._read_series(alert, question, now),
            statuses=self._count(judged, _STATUS),
            objects=self._find_objects(question, judged, window),
            softwares=self._count(judged, "r.client_software") if question.resolution is Resolution.MINUTE else {},
            addresses=self._count(judged, "r.client_address"),
            workloads=self._count(judged, "r.client_workload"),
            bodies=self.read_bodies(alert, question),
        )

    def _read_series(self, alert: Alert, question: CallQuestion, now: float) -> AlertSeries:
        span = _span(question)
        step, last = _choose_step(span), min(question.end, int(now))
        rows = self._sum_steps(question, step)
        unit, expected, limit = _choose_measure(alert)
        source = ExpectedFrom.DETECTOR if expected is not None else ExpectedFrom.NOTHING
        before: dict[int, dict[str, Any]] = {}
        before_step = step
        if expected is None:
            earlier, before_step = self._find_day_before(question, step, now)
            if earlier is not None:
                before = self._sum_steps(earlier, before_step)
            source = ExpectedFrom.DAY_BEFORE if before else ExpectedFrom.NOTHING
        points = []
        for start in range(question.start // step * step, last, step):
            row = rows.get(start, {})
            then = start - DAY_SECONDS
            known = before.get(then // before_step * before_step, {})
            points.append(
                AlertPoint(
                    start=start,
                    calls=int(row.get("calls", 0)),
                    observed=_measure(unit, row, min(step, last - start)),
                    expected=_measure(unit, known, before_step) if before else expected,
                    limit=limit,
                )
            )
        return AlertSeries(unit=unit, step_seconds=step, expected_from=source, points=tuple(points))

    def _find_day_before(self, question: CallQuestion, step: int, now: float) -> tuple[CallQuestion | None, int]:
        """The same question a day earlier, by rows that are still kept, and its step."""
        earlier = replace(question, start=question.start - DAY_SECONDS, end=question.end - DAY_SECONDS)
        if earlier.start >= now - self._calls.find_kept_seconds(earlier.resolution):
            return earlier, step
        hour = Resolution.HOUR.seconds
        start, end = earlier.start // hour * hour, -(-earlier.end // hour) * hour
        if start < now - self._calls.find_kept_seconds(Resolution.HOUR) or question.software:
            return None, step
        return replace(earlier, start=start, end=end, resolution=Resolution.HOUR), max(step, hour)

    def _sum_steps(self, question: CallQuestion, step: int) -> dict[int, dict[str, Any]]:
        where, parameters = self._calls.find_rows(question)
        span = _span(question)
        statement = f"""
SELECT intDiv(toUnixTimestamp(r.time), {{step:UInt32}}) * {{step:UInt32}} AS point, sum(r.calls) AS calls,
    sumIf(r.calls, {ERROR}) AS errors, sum(r.duration_sum_us) AS duration
FROM {rows_table(span)} AS r WHERE {where} GROUP BY point"""
        asked = {**parameters, "start": span.start, "end": span.end, "step": step}
        return {int(row["point"]): row for row in select(self._reader, statement, asked)}

    def _count(self, question: CallQuestion, value: str) -> dict[str, int]:
        """Calls by an expression over rows, most first."""
        where, parameters = self._calls.find_rows(question)
        span = _span(question)
        statement = f"""
SELECT {value} AS value, sum(r.calls) AS total FROM {rows_table(span)} AS r
WHERE {where} GROUP BY value HAVING value != '' AND total > 0 ORDER BY total DESC, value LIMIT {{rows:UInt32}}"""
        asked = {**parameters, "start": span.start, "end": span.end, "rows": PLACES_MAX}
        return {row["value"]: int(row["total"]) for row in select(self._reader, statement, asked)}

    def read_bodies(self, alert: Alert, question: CallQuestion) -> Bodies | None:
        """What sampled calls held; of a day by the hour where the alert is about what an endpoint returns."""
        if alert.kind.row.group in (KindGroup.RISK, KindGroup.CHANGE):
            hour = Resolution.HOUR.seconds
            start, end = (question.end - DAY_SECONDS) // hour * hour, -(-question.end // hour) * hour
            question = replace(question, start=start, end=end, resolution=Resolution.HOUR, software="")
        where, parameters = self._calls.find_rows(question)
        span = _span(question)
        statement = f"""
SELECT sumMap(r.data) AS data, sum(r.request_bodies_read) AS request_bodies_read,
    sum(r.response_bodies_read) AS response_bodies_read, sum(r.records_returned) AS records_returned,
    sum(r.records_measured) AS records_measured
FROM {rows_table(span)} AS r WHERE {where}"""
        found = select(self._reader, statement, {**parameters, "start": span.start, "end": span.end})
        return read_bodies(found[0]) if found else None

    def _find_objects(self, question: CallQuestion, judged: CallQuestion, window: CallSums) -> TouchedObjects | None:
        if not window.objects:
            return None
        named, known, others = self._relate_objects(question, judged)
        return TouchedObjects(
            objects=window.objects,
            is_estimate=window.objects > EXACT_MAX,
            numeric_calls=window.numeric_calls,
            steps=window.monotonic_steps,
            is_in_order=1 < window.numeric_calls <= 1 + window.monotonic_steps / WALK_SHARE_MIN,
            named=named,
            known_before=known,
            of_others=others,
        )

    def _relate_objects(self, question: CallQuestion, judged: CallQuestion) -> tuple[int, int, int]:
        """Distinct objects of one caller in the window, those that it took before, and those that others alone took
        before; of the question's time, by minutes, where a caller is named."""
        if question.resolution is not Resolution.MINUTE or not (question.consumer or question.address):
            return 0, 0, 0
        own, parameters = self._calls.find_caller(question)
        where, of_routes = self._calls.find_rows(replace(question, consumer=None, address="", software=""))
        own_where = f"{where} AND {own}"
        statement = f"""
SELECT count() AS named, countIf(is_known) AS known, countIf(NOT is_known AND is_others) AS others FROM (
    SELECT r.route_id AS route_id, object,
        maxIf(1, {own} AND r.time >= toDateTime({{split:UInt32}}, 'UTC')) AS is_taken,
        maxIf(1, {own} AND r.time < toDateTime({{split:UInt32}}, 'UTC')) AS is_known,
        maxIf(1, NOT ({own})) AS is_others
    FROM rows_minute AS r ARRAY JOIN r.objects AS object
    WHERE {where} AND r.route_id IN (SELECT DISTINCT r.route_id FROM rows_minute AS r WHERE {own_where})
    GROUP BY route_id, object HAVING is_taken
)"""
        asked = {**of_routes, **parameters, "start": question.start, "end": judged.end, "split": judged.start}
        (row,) = select(self._reader, statement, asked)
        return int(row["named"]), int(row["known"]), int(row["others"])


def _choose_step(span: Span) -> int:
    """Seconds of one point: whole rows, at most POINTS_MAX of them."""
    wide_enough = (step for step in _STEPS if step >= span.row_seconds and span.seconds / step <= POINTS_MAX)
    return next(wide_enough, _STEPS[-1])


def _choose_measure(alert: Alert) -> tuple[str, float | None, float | None]:
    """Unit, and expected value and limit of the detector where the alert keeps them."""
    if alert.kind.row.group is KindGroup.VOLUME:
        return CALLS_A_SECOND, alert.expected_rate, alert.threshold_rate or None
    if alert.kind is AlertKind.ERRORS:
        return FAILED_SHARE, None, alert.measure_limit or None
    if alert.kind is AlertKind.LATENCY:
        return _MILLISECONDS, None, None
    return CALLS_A_SECOND, None, None


def _measure(unit: str, row: Mapping[str, Any], seconds: int) -> float | None:
    calls = int(row.get("calls", 0))
    if unit == CALLS_A_SECOND:
        return calls / max(seconds, 1)
    if not calls:
        return None
    return int(row["errors"]) / calls if unit == FAILED_SHARE else int(row["duration"]) / calls / 1_000


def _span(question: CallQuestion) -> Span:
    rollup = Rollup.MINUTE if question.resolution is Resolution.MINUTE else Rollup.HOUR
    return Span(start=question.start, end=question.end, rollup=rollup)

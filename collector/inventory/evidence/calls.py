"""Reads calls by minute or hour of one endpoint, one caller, or both: the figures behind alerts, as rows.

Detectors read server rows without proxies, and so does this, so the sums agree. What a client's sensor saw of an
unwatched server is in the inventory only.

`read_answers` shows whether a caller got what it asked for. It compares its answers with those of others by status and
size, with the kinds of data in sampled ones. An answer with 2xx that refuses in its body is shorter than others of its
route. So sizes are compared by route, each weighted by the caller's calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from collector.core.kinds import HOP_PROXY
from collector.inventory.consumers.consumer import ConsumerName
from collector.inventory.endpoints.bodies import BodySide, read_bodies
from collector.inventory.endpoints.outbound import ROLE_SERVER, find_route_ids, find_service_route_ids
from collector.inventory.endpoints.predicates import (
    CLIENT_ERROR,
    ERROR,
    IN_SPAN,
    SUCCESS,
    UNREAD,
    ConsumerSql,
    count_distinct,
    objects_count,
    rows_table,
)
from collector.inventory.evidence.cohort import Crowd, read_crowd
from collector.inventory.filters import LIMIT_MAX
from collector.inventory.query import (
    HOUR_SECONDS,
    MINUTE_SECONDS,
    Cursor,
    CursorError,
    Rollup,
    Span,
    digest_question,
    read_cursor,
    write_cursor,
)
from collector.storage.columns import UsedBy, read_figures, sum_columns
from collector.storage.records import Reader, read_record, select
from collector.storage.tables.layout import Retention

KINDS_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerComparison:
    calls: int
    served_calls: int  # Answered 2xx.
    served_bytes: int
    comparable_bytes: int  # Of those, at routes where others were answered 2xx too;
    others_bytes: float  # as many answers of others there have so many.
    responses_read: int  # Sampled bodies;
    kinds: tuple[str, ...]  # the kinds of sensitive data in them, most found first.

    def describe(self) -> str:
        """A sentence or two; empty where nobody called."""
        if not self.calls:
            return ""
        said = f"{self.served_calls / self.calls:.0%} of its calls in these rows were answered 2xx"
        if self.served_calls:
            said += f", with {self.served_bytes / self.served_calls:,.0f} bytes each"
        if self.others_bytes:
            said += f", {self.comparable_bytes / self.others_bytes:.0%} of what others are answered there"
        said += "."
        if self.kinds:
            said += f" Of {self.responses_read:,} bodies that were read some held {', '.join(self.kinds)}."
        elif self.responses_read:
            said += f" {self.responses_read:,} bodies that were read held no sensitive data."
        return said


def read_answers(reader: Reader, span: Span, where: str, own: str, parameters: Mapping[str, Any]) -> AnswerComparison:
    """`where`: the conditions on rows of anybody, `own` those of the caller besides. Raises StoreError."""
    statement = f"""
SELECT sum(calls) AS calls, sum(served) AS served_calls, sum(bytes) AS served_bytes,
    sumIf(bytes, others > 0) AS comparable_bytes, sumIf(served * others_bytes / others, others > 0) AS others_bytes,
    sumMap(found) AS data, sum(requests) AS request_bodies_read, sum(responses) AS response_bodies_read,
    toUInt64(0) AS records_returned, toUInt64(0) AS records_measured
FROM (SELECT r.route_id, sumIf(r.calls, {own}) AS calls, sumIf(r.calls, {own} AND {SUCCESS}) AS served,
    sumIf(r.response_bytes, {own} AND {SUCCESS}) AS bytes, sumIf(r.calls, NOT ({own}) AND {SUCCESS}) AS others,
    sumIf(r.response_bytes, NOT ({own}) AND {SUCCESS}) AS others_bytes, sumMapIf(r.data, {own}) AS found,
    sumIf(r.request_bodies_read, {own}) AS requests, sumIf(r.response_bodies_read, {own}) AS responses
    FROM {rows_table(span)} AS r WHERE {where} GROUP BY r.route_id HAVING calls > 0)"""
    found = select(reader, statement, {**parameters, "start": span.start, "end": span.end})
    row = found[0] if found else None
    if row is None or not int(row["calls"]):
        return AnswerComparison(
            calls=0, served_calls=0, served_bytes=0, comparable_bytes=0, others_bytes=0.0, responses_read=0, kinds=()
        )
    bodies = read_bodies(row)
    kinds = [one.kind for one in bodies.data if one.side is BodySide.RESPONSE] if bodies is not None else []
    return AnswerComparison(
        calls=int(row["calls"]),
        served_calls=int(row["served_calls"]),
        served_bytes=int(row["served_bytes"]),
        comparable_bytes=int(row["comparable_bytes"]),
        others_bytes=float(row["others_bytes"]),
        responses_read=bodies.responses_read if bodies is not None else 0,
        kinds=tuple(kinds[:KINDS_NAMED]),
    )


_CREDENTIALS = count_distinct("uniqCombined64If(12)(r.credential, r.credential != 0)")
_EVICTED = """
SELECT count() AS dropped FROM evictions
WHERE table_name = {table:String} AND parseDateTimeBestEffortOrZero(partition, 'UTC') + {seconds:UInt32} >
    toDateTime({start:UInt32}, 'UTC') AND parseDateTimeBestEffortOrZero(partition, 'UTC') <
    toDateTime({end:UInt32}, 'UTC')"""


class Resolution(StrEnum):
    MINUTE = "minute"
    HOUR = "hour"

    @property
    def seconds(self) -> int:
        return MINUTE_SECONDS if self is Resolution.MINUTE else HOUR_SECONDS


# By resolution: the table, and how long one of its partitions is, which the disk cap drops as a whole.
_TABLES: Final = {Resolution.MINUTE: ("rows_minute", HOUR_SECONDS), Resolution.HOUR: ("rows_hour", 24 * HOUR_SECONDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuestion:
    """Whose calls, from when to when (unix seconds, on rows' edges), and which page. An empty part asks for all:
    `address` is where calls came from, whoever the consumer is."""

    start: int
    end: int
    resolution: Resolution
    endpoint_id: str = ""
    consumer: ConsumerName | None = None
    address: str = ""
    whole_service: bool = False  # All endpoints of the endpoint's service.
    software: str = ""  # Of the client; minutes alone have it.
    limit: int = LIMIT_MAX
    cursor: str = ""

    @property
    def fingerprint(self) -> str:
        named = self.consumer.id if self.consumer is not None else ""
        parts = [str(self.start), str(self.end), self.resolution.value, self.endpoint_id, named, self.address]
        if self.whole_service:
            parts.append("service")
        if self.software:
            parts.append(f"software {self.software}")
        return digest_question("calls", *parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSums:
    """What was counted in [start, end), unix seconds. Objects and credentials are distinct ones, estimated where they
    are many, and do not add up over rows; nor does the span."""

    start: int
    end: int
    calls: int
    client_errors: int  # 4xx.
    errors: int  # 5xx, or no answer.
    not_read: int  # Nobody saw how they ended.
    objects: int
    credentials: int
    figures: Mapping[str, int]  # By column: those that collector/storage/columns.py says are shown of calls.
    numeric_calls: int  # To objects that numbers name;
    monotonic_steps: int  # of them, so many to the number right after or before the caller's last one;
    numeric_span: int  # the most between the lowest and the highest number within one window of a sensor.


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPage:
    """Rows with calls, oldest first, the sums of all pages, and where the next one starts (empty on the last)."""

    items: tuple[CallSums, ...]
    total: CallSums
    next_cursor: str


class CallInventory:
    """Answers these questions from the store. Methods raise StoreError."""

    def __init__(self, *, reader: Reader, who: ConsumerSql, retention: Retention | None = None) -> None:
        self._reader = reader
        self._who = who
        self._retention = retention or Retention()

    def find_kept_seconds(self, resolution: Resolution) -> int:
        """How old a row may grow."""
        kept = self._retention
        return kept.minute_seconds if resolution is Resolution.MINUTE else kept.hour_seconds

    def list_calls(self, question: CallQuestion) -> CallPage:
        """One page; raises CursorError when the cursor is not of this question."""
        after = read_cursor(question.cursor, question.fingerprint, float) if question.cursor else None
        if after is not None and not question.start <= float(after.value) < question.end:
            raise CursorError("it is of another time")
        where, parameters = self.find_rows(question)
        first = question.start if after is None else int(after.value) + question.resolution.seconds
        rows = self._select(replace(question, start=max(first, question.start)), where, parameters, question.limit + 1)
        shown = rows[: question.limit]
        next_cursor = ""
        if len(rows) > question.limit:
            next_cursor = write_cursor(Cursor(value=shown[-1].start, id=""), question.fingerprint)
        return CallPage(items=tuple(shown), total=self._sum(question, where, parameters), next_cursor=next_cursor)

    def sum_calls(self, question: CallQuestion) -> CallSums:
        return self._sum(question, *self.find_rows(question))

    def compare_callers(self, question: CallQuestion, split: int) -> Crowd:
        """Who called from `split` (unix seconds) to the question's end, against its start to `split`; by minutes."""
        where, parameters = self.find_rows(question)
        asked = {**parameters, "start": question.start, "end": question.end, "split": split}
        return read_crowd(self._reader, self._who, where, asked)

    def read_answers(self, question: CallQuestion) -> AnswerComparison:
        """What the question's caller was answered, against others at the same routes."""
        where, parameters = self.find_rows(replace(question, consumer=None, address=""))
        own, named = self.find_caller(question)
        return read_answers(self._reader, _span(question), where, own, {**parameters, **named})

    def was_dropped(self, question: CallQuestion) -> bool:
        """Whether the disk cap dropped rows of this time."""
        table, seconds = _TABLES[question.resolution]
        asked = {"table": table, "seconds": seconds, "start": question.start, "end": question.end}
        return any(int(row["dropped"]) for row in select(self._reader, _EVICTED, asked))

    def find_rows(self, question: CallQuestion) -> tuple[str, dict[str, Any]]:
        """The conditions on rows `r` and their parameters, but for `start` and `end`."""
        conditions = [IN_SPAN, f"r.role = {ROLE_SERVER}", f"r.hop != {HOP_PROXY}"]
        parameters: dict[str, Any] = {}
        if question.endpoint_id:
            conditions.append("r.route_id IN {routes:Array(UInt64)}")
            find = find_service_route_ids if question.whole_service else find_route_ids
            parameters["routes"] = find(self._reader, question.endpoint_id)
        own, named = self.find_caller(question)
        return " AND ".join([*conditions, own]), {**parameters, **named}

    def find_caller(self, question: CallQuestion) -> tuple[str, dict[str, Any]]:
        """The condition on rows `r` of who called, and its parameters."""
        conditions = ["true"]
        parameters: dict[str, Any] = {}
        if question.consumer is not None:
            name = question.consumer
            conditions.append(f"({self._who.is_named(name.kind)})")
            parameters |= name.parameters
        if question.address:
            conditions.append("r.client_address = {address:String}")
            parameters["address"] = question.address
        if question.software:
            conditions.append("r.client_software = {software:String}")
            parameters["software"] = question.software
        return " AND ".join(conditions), parameters

    def _select(self, question: CallQuestion, where: str, parameters: Mapping[str, Any], limit: int) -> list[CallSums]:
        span = _span(question)
        statement = f"""
SELECT toUnixTimestamp(r.time) AS row_start, {_sums(span)}
FROM {rows_table(span)} AS r WHERE {where}
GROUP BY row_start HAVING calls > 0 ORDER BY row_start LIMIT {{rows:UInt32}}"""
        asked = {**parameters, "start": span.start, "end": span.end, "rows": limit}
        return [
            _read(row, int(row["row_start"]), int(row["row_start"]) + span.row_seconds)
            for row in select(self._reader, statement, asked)
        ]

    def _sum(self, question: CallQuestion, where: str, parameters: Mapping[str, Any]) -> CallSums:
        span = _span(question)
        statement = f"SELECT {_sums(span)} FROM {rows_table(span)} AS r WHERE {where}"
        (found,) = select(self._reader, statement, {**parameters, "start": span.start, "end": span.end})
        return _read(found, question.start, question.end)


def _span(question: CallQuestion) -> Span:
    rollup = Rollup.MINUTE if question.resolution is Resolution.MINUTE else Rollup.HOUR
    return Span(start=question.start, end=question.end, rollup=rollup)


def _sums(span: Span) -> str:
    return f"""{sum_columns(UsedBy.CALLS)},
    sumIf(r.calls, {CLIENT_ERROR}) AS client_errors, sumIf(r.calls, {ERROR}) AS errors,
    sumIf(r.calls, {UNREAD}) AS not_read, {objects_count(span.rollup)} AS objects, {_CREDENTIALS} AS credentials"""


def _read(row: Mapping[str, Any], start: int, end: int) -> CallSums:
    return read_record(
        CallSums,
        row,
        start=start,
        end=end,
        figures=read_figures(row, UsedBy.CALLS),
        numeric_calls=row["object_numeric_calls"],
        monotonic_steps=row["object_monotonic_steps"],
        numeric_span=row["object_numeric_span"],
    )

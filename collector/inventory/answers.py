"""Whether somebody who asked for what is others' got it: how its answers compare with those of others, by status and
size, and what kinds of data the sampled ones held.

An answer that says 2xx and refuses in its body is shorter than the others of its route; so sizes are compared a route,
each weighed by the calls of who is asked about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from collector.inventory.bodies import BodySide, read_bodies
from collector.inventory.counted import SUCCESS, rows_table
from collector.inventory.reader import Reader, select
from collector.inventory.span import Span

KINDS_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Of one caller's calls."""

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


def read_answers(reader: Reader, span: Span, where: str, own: str, parameters: Mapping[str, Any]) -> Answers:
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
        return Answers(
            calls=0, served_calls=0, served_bytes=0, comparable_bytes=0, others_bytes=0.0, responses_read=0, kinds=()
        )
    bodies = read_bodies(row)
    kinds = [one.kind for one in bodies.data if one.side is BodySide.RESPONSE] if bodies is not None else []
    return Answers(
        calls=int(row["calls"]),
        served_calls=int(row["served_calls"]),
        served_bytes=int(row["served_bytes"]),
        comparable_bytes=int(row["comparable_bytes"]),
        others_bytes=float(row["others_bytes"]),
        responses_read=bodies.responses_read if bodies is not None else 0,
        kinds=tuple(kinds[:KINDS_NAMED]),
    )

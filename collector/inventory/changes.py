"""The inventory at two dates side by side: which endpoints came, went, or changed how they are called.

An endpoint is there at a date if it was called in the week up to its end and answered 2xx to 3xx once; its figures are
those of that week. Read from the days' summaries, which are kept for 90 days (collector/inventory/days.py). Operations
that share a path are endpoints here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from collector.inventory.days import (
    COUNTED_DAYS,
    DAYS_OF_ENDPOINTS,
    DAYS_OF_OPERATIONS,
    ID_OF_OPERATION,
    NAMES_OF_OPERATION,
    NamedOperation,
    read_operation,
)
from collector.inventory.endpoint import FULL_COVERAGE, AuthenticationLevel
from collector.inventory.operations import has_operations
from collector.inventory.reader import Reader, select

WINDOW_DAYS: Final = 7
CHANGES_MAX: Final = 5_000  # Of each list.
_STATES: Final = (
    """
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(d.calls) AS calls, sum(d.judged_calls) AS judged,
    sum(d.authenticated_calls) AS authenticated, toUnixTimestamp(max(d.last_seen)) AS last_seen,
    min(n.first_seen) AS first_seen
"""
    + DAYS_OF_ENDPOINTS
    + """
WHERE d.time >= toDateTime({start:UInt32}, 'UTC') AND d.time < toDateTime({end:UInt32}, 'UTC') AND """
    + COUNTED_DAYS
    + """
GROUP BY n.endpoint_id
HAVING sum(d.calls) > sum(d.client_error_calls) + sum(d.error_calls)
ORDER BY id"""
)
_OPERATIONS: Final = f"""
SELECT {ID_OF_OPERATION} AS id, {NAMES_OF_OPERATION}, any(n.service) AS service, any(n.host) AS host,
    any(n.method) AS method, any(n.url_template) AS template, sum(o.calls) AS calls, sum(o.judged) AS judged,
    sum(o.authenticated) AS authenticated, max(o.last_seen) AS last_seen, min(o.first_seen) AS first_seen
{DAYS_OF_OPERATIONS}
WHERE o.time >= toDateTime({{start:UInt32}}, 'UTC') AND o.time < toDateTime({{end:UInt32}}, 'UTC')
GROUP BY id
HAVING sum(o.served) > 0
ORDER BY id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """An endpoint in the week up to a date. Times are unix seconds. `operation`: where it is one, whose calls are an
    estimate."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication: AuthenticationLevel
    first_seen: int
    last_seen: int
    operation: NamedOperation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedEndpoint:
    """An endpoint that was there at both dates, with other credentials."""

    before: EndpointState
    after: EndpointState


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryDiff:
    """`start` and `end` are the two dates; `is_cut`: a list had more than CHANGES_MAX."""

    start: date
    end: date
    appeared: tuple[EndpointState, ...]
    gone: tuple[EndpointState, ...]
    changed: tuple[ChangedEndpoint, ...]
    is_cut: bool


def compare_dates(reader: Reader, start: date, end: date) -> InventoryDiff:
    """Raises StoreError."""
    before, after = _read_states(reader, start), _read_states(reader, end)
    appeared = [state for name, state in after.items() if name not in before]
    gone = [state for name, state in before.items() if name not in after]
    changed = [
        ChangedEndpoint(before=before[name], after=state)
        for name, state in after.items()
        if name in before and before[name].authentication is not state.authentication
    ]
    return InventoryDiff(
        start=start,
        end=end,
        appeared=tuple(appeared[:CHANGES_MAX]),
        gone=tuple(gone[:CHANGES_MAX]),
        changed=tuple(changed[:CHANGES_MAX]),
        is_cut=max(len(appeared), len(gone), len(changed)) > CHANGES_MAX,
    )


def _read_states(reader: Reader, day: date) -> dict[str, EndpointState]:
    """By id, of the week up to the end of this day (UTC)."""
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    start = max(0, int((end - timedelta(days=WINDOW_DAYS)).timestamp()))
    span = {"start": start, "end": int(end.timestamp())}
    rows = select(reader, _STATES, span)
    if has_operations(reader):
        rows += select(reader, _OPERATIONS, span)
    return {row["id"]: _read_state(row) for row in rows}


def _read_state(row: Mapping[str, Any]) -> EndpointState:
    judged = int(row["judged"])
    share = int(row["authenticated"]) / judged if judged else None
    return EndpointState(
        id=row["id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["template"],
        calls=int(row["calls"]),
        authentication=_decide_level(share),
        first_seen=int(row["first_seen"] or 0),
        last_seen=int(row["last_seen"]),
        operation=read_operation(row),
    )


def _decide_level(share: float | None) -> AuthenticationLevel:
    if share is None:
        return AuthenticationLevel.UNKNOWN
    if share >= FULL_COVERAGE:
        return AuthenticationLevel.FULL
    return AuthenticationLevel.PARTIAL if share > 0 else AuthenticationLevel.NONE

"""Endpoints that are gone: what was known of one that nobody called for 30 days is kept, with its history by day, when
its calls themselves expire. One that is called again loses its tombstone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from collector.inventory.days import (
    COUNTED_DAYS,
    DAYS_OF_ENDPOINTS,
    DAYS_OF_OPERATIONS,
    ID_OF_OPERATION,
    NAMES_OF_OPERATION,
    NamedOperation,
    read_operation,
)
from collector.inventory.operations import has_operations, list_recent
from collector.inventory.reader import select
from collector.inventory.versions import Versions

GONE_SECONDS: Final = 30 * 86_400
TOMBSTONES_MAX: Final = 10_000  # Listed; all are kept.
_GONE: Final = (
    """
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(d.calls) AS calls, sum(d.success_calls) AS success_calls,
    toUnixTimestamp(max(d.last_seen)) AS last_seen, min(n.first_seen) AS first_seen,
    sum(d.authenticated_calls) AS authenticated, sum(d.judged_calls) AS judged,
    sumMap([toUnixTimestamp(d.time)], [d.calls]) AS days
"""
    + DAYS_OF_ENDPOINTS
    + f"""
WHERE {COUNTED_DAYS}"""
    + """
GROUP BY n.endpoint_id
HAVING last_seen < {limit:UInt32} AND success_calls > 0"""
)
_GONE_OPERATIONS: Final = f"""
SELECT {ID_OF_OPERATION} AS id, {NAMES_OF_OPERATION}, any(n.service) AS service, any(n.host) AS host,
    any(n.method) AS method, any(n.url_template) AS template, sum(o.calls) AS calls, sum(o.served) AS success_calls,
    max(o.last_seen) AS last_seen, min(o.first_seen) AS first_seen, sum(o.authenticated) AS authenticated,
    sum(o.judged) AS judged, sumMap([toUnixTimestamp(o.time)], [o.calls]) AS days
{DAYS_OF_OPERATIONS}
GROUP BY id
HAVING last_seen < {{limit:UInt32}} AND success_calls > 0"""
_BACK: Final = """
SELECT endpoint_id FROM endpoint_tombstones FINAL WHERE is_back = 0 AND endpoint_id IN (
    SELECT n.endpoint_id FROM routes_day AS d
    INNER JOIN (SELECT route_id, endpoint_id FROM endpoint_routes FINAL) AS n ON n.route_id = d.route_id
    WHERE d.last_seen >= toDateTime({limit:UInt32}, 'UTC'))"""
_LIST: Final = f"""
SELECT * FROM endpoint_tombstones FINAL WHERE is_back = 0 ORDER BY last_seen DESC, endpoint_id LIMIT {TOMBSTONES_MAX}"""


_OPERATION_COLUMNS: Final = ("operation_protocol", "operation_kind", "operation_name")


class Store(Protocol):
    """What this room needs of `collector.store.base.Store`."""

    def query_columns(self, sql: str, parameters: Any = None) -> dict[str, list[Any]]: ...

    def insert_records(self, table: str, records: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TombstoneRecord:
    """One row of `endpoint_tombstones`."""

    endpoint_id: str
    version: int
    service: str
    host: str
    method: str
    url_template: str
    calls: int
    authenticated_calls: int
    judged_calls: int
    first_seen: datetime
    last_seen: datetime
    days: str
    is_back: int
    parent_id: str
    operation_protocol: str
    operation_kind: str
    operation_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A gone endpoint. `days`: calls by start of day; times are unix seconds. `operation`: where it was one; then calls
    are estimates."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication_coverage: float | None
    first_seen: int
    last_seen: int
    days: Mapping[int, int]
    operation: NamedOperation | None


class Graveyard:
    """Keeps `endpoint_tombstones`. Blocks. Raises StoreError."""

    def __init__(self, *, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._versions = Versions(store, "endpoint_tombstones", clock=clock)

    def look(self) -> int:
        """Write the tombstones of what is gone since the last look, take away those of what is back; gives how many."""
        now = int(self._clock())
        limit = now - GONE_SECONDS
        known = {one.id: one.last_seen for one in self.list_tombstones()}
        found = select(self._store, _GONE, {"limit": limit, "start": 0, "end": now})
        back = {row["endpoint_id"] for row in select(self._store, _BACK, {"limit": limit})}
        if has_operations(self._store):
            found += select(self._store, _GONE_OPERATIONS, {"limit": limit})
            back |= known.keys() & list_recent(self._store, limit).keys()
        version = self._versions.take()
        records = [_write(row, version) for row in found if known.get(row["id"]) != row["last_seen"]]
        records += [_write({"id": name}, version, is_back=1) for name in sorted(back)]
        self._store.insert_records("endpoint_tombstones", records)
        return len(records)

    def list_tombstones(self) -> Sequence[Tombstone]:
        """Those that went last first."""
        return [_read(row) for row in select(self._store, _LIST)]


def _write(row: Mapping[str, Any], version: int, *, is_back: int = 0) -> TombstoneRecord:
    times, calls = row.get("days", ((), ()))
    days = {int(time): int(count) for time, count in zip(times, calls, strict=True)}
    return TombstoneRecord(
        endpoint_id=row["id"],
        version=version,
        service=row.get("service", ""),
        host=row.get("host", ""),
        method=row.get("method", ""),
        url_template=row.get("template", ""),
        calls=int(row.get("calls", 0)),
        authenticated_calls=int(row.get("authenticated", 0)),
        judged_calls=int(row.get("judged", 0)),
        first_seen=datetime.fromtimestamp(int(row.get("first_seen") or 0), UTC),
        last_seen=datetime.fromtimestamp(int(row.get("last_seen", 0)), UTC),
        days=json.dumps(days),
        is_back=is_back,
        parent_id=row.get("parent_id", ""),
        operation_protocol=row.get("protocol", ""),
        operation_kind=row.get("kind", ""),
        operation_name=row.get("name", ""),
    )


def _read(row: Mapping[str, Any]) -> Tombstone:
    judged = int(row["judged_calls"])
    return Tombstone(
        id=row["endpoint_id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["url_template"],
        calls=int(row["calls"]),
        authentication_coverage=int(row["authenticated_calls"]) / judged if judged else None,
        first_seen=_seconds(row["first_seen"]),
        last_seen=_seconds(row["last_seen"]),
        days={int(time): int(calls) for time, calls in json.loads(row["days"]).items()},
        operation=read_operation(
            {name.removeprefix("operation_"): row[name] for name in ("parent_id", *_OPERATION_COLUMNS)}
        ),
    )


def _seconds(value: Any) -> int:
    """The store's client gives times as numbers or as UTC times."""
    if isinstance(value, datetime):
        return int(value.replace(tzinfo=value.tzinfo or UTC).timestamp())
    return int(value)

"""The tables that lists are ranked by: what all consumers together did on one route, by hour and by day.

A list of 100,000 endpoints sorts and filters all of them to show fifty. It reads these narrow rows, one a route, role
and hour, and only the fifty are measured from the rows of calls (collector/inventory/ranking.py). Partitions are days,
as those of rows_hour, so that a question about a day reads two of them and the disk cap drops both tables' day
together. The role comes first in the key: which hosts were called as a client is asked before every list
(collector/inventory/outbound.py).
"""

from collector.store.tables.layout import DEDUPLICATE, HOUR_RETENTION_DAYS, Table

# Hour rows answer spans up to 48 h; the rest of the week is room for a sensor that was away.
HOUR_SUMMARY_RETENTION_DAYS = 8

_COLUMNS = """
    role UInt8,
    route_id UInt64,
    time DateTime('UTC') CODEC(Delta, LZ4),
    last_seen SimpleAggregateFunction(max, DateTime('UTC')),
    calls SimpleAggregateFunction(sum, UInt64),
    success_calls SimpleAggregateFunction(sum, UInt64),
    client_error_calls SimpleAggregateFunction(sum, UInt64),
    error_calls SimpleAggregateFunction(sum, UInt64),
    authenticated_calls SimpleAggregateFunction(sum, UInt64),
    authentication SimpleAggregateFunction(groupBitOr, UInt32),
    duration SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64)))"""

# What "success" and "error" are is the inventory's (collector/inventory/counted.py); credentials count on 2xx only.
_SUCCESS = "m.status_code BETWEEN 200 AND 299"


def _table(name: str, days: int) -> Table:
    return Table(
        name=name,
        shard_by="route_id",
        ddl=f"""
CREATE TABLE IF NOT EXISTS {name}{{write_table}}{{on_cluster}} ({_COLUMNS}
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (role, route_id, time)
TTL time + INTERVAL {days} DAY
SETTINGS {DEDUPLICATE}, ttl_only_drop_parts = 1
""",
    )


def _view(name: str, start: str) -> str:
    """From the minute rows as they are inserted, as rows_hour_view."""
    return f"""
CREATE MATERIALIZED VIEW IF NOT EXISTS {name}_view{{on_cluster}} TO {name}{{write_table}} AS
SELECT
    m.role AS role,
    m.route_id AS route_id,
    {start}(m.time) AS time,
    max(m.last_seen) AS last_seen,
    sum(m.calls) AS calls,
    sumIf(m.calls, {_SUCCESS}) AS success_calls,
    sumIf(m.calls, m.status_code BETWEEN 400 AND 499) AS client_error_calls,
    sumIf(m.calls, m.status_code >= 500 OR m.status_code = 0) AS error_calls,
    sumIf(m.calls, {_SUCCESS} AND m.authentication != 0) AS authenticated_calls,
    groupBitOrIf(m.authentication, {_SUCCESS}) AS authentication,
    sumMap(m.duration) AS duration
FROM rows_minute{{write_table}} AS m
GROUP BY m.role, m.route_id, time
"""


ROUTES_HOUR = _table("routes_hour", HOUR_SUMMARY_RETENTION_DAYS)
ROUTES_HOUR_VIEW = _view("routes_hour", "toStartOfHour")
ROUTES_DAY = _table("routes_day", HOUR_RETENTION_DAYS)
ROUTES_DAY_VIEW = _view("routes_day", "toStartOfDay")

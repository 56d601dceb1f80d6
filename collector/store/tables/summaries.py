"""The tables that lists are ranked by: what all consumers together did on one route, by hour and by day.

A list of 100,000 endpoints sorts and filters all of them to show fifty. It reads these narrow rows, one a route, role
and hour, and only the fifty are measured from the rows of calls (collector/inventory/ranking.py). Partitions are days,
as those of rows_hour, so that a question about a day reads two of them and the disk cap drops both tables' day
together. The role comes first in the key: which hosts were called as a client is asked before every list
(collector/inventory/outbound.py).
"""

from collector.outcomes import is_authenticated, is_client_error, is_error, is_judged, is_success
from collector.protocols import find_bit
from collector.store.tables.layout import DEDUPLICATE, HOUR_RETENTION_DAYS, Added, Table, View

# Hour rows answer spans up to 48 h; the rest of the week is room for a sensor that was away.
HOUR_SUMMARY_RETENTION_DAYS = 8

# Of calls before the column was there, all that were served were judged by.
_JUDGED_TYPE = "SimpleAggregateFunction(sum, UInt64) DEFAULT success_calls"
_PROTOCOLS_TYPE = "SimpleAggregateFunction(groupBitOr, UInt32)"
_COLUMNS = f"""
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
    duration SimpleAggregateFunction(sumMap, Tuple(Array(UInt16), Array(UInt64))),
    judged_calls {_JUDGED_TYPE},
    protocols {_PROTOCOLS_TYPE}"""


def _table(name: str, days: int) -> Table:
    return Table(
        name=name,
        shard_by="route_id",
        added=(Added(columns={"judged_calls": _JUDGED_TYPE, "protocols": _PROTOCOLS_TYPE}),),
        ddl=f"""
CREATE TABLE IF NOT EXISTS {name}{{write_table}}{{on_cluster}} ({_COLUMNS}
) ENGINE = {{engine_prefix}}AggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (role, route_id, time)
TTL time + INTERVAL {days} DAY
SETTINGS {DEDUPLICATE}, ttl_only_drop_parts = 1
""",
    )


def _view(name: str, start: str) -> View:
    """From the minute rows as they are inserted, as rows_hour_view. Credentials count on what was served only."""
    judged = is_judged("m")
    return View(
        name=f"{name}_view",
        target=name,
        query=f"""
SELECT
    m.role AS role,
    m.route_id AS route_id,
    {start}(m.time) AS time,
    max(m.last_seen) AS last_seen,
    sum(m.calls) AS calls,
    sumIf(m.calls, {is_success("m")}) AS success_calls,
    sumIf(m.calls, {is_client_error("m")}) AS client_error_calls,
    sumIf(m.calls, {is_error("m")}) AS error_calls,
    sumIf(m.calls, {is_authenticated("m")}) AS authenticated_calls,
    groupBitOrIf(m.authentication, {judged}) AS authentication,
    sumMap(m.duration) AS duration,
    sumIf(m.calls, {judged}) AS judged_calls,
    groupBitOr({find_bit("m")}) AS protocols
FROM rows_minute{{write_table}} AS m
GROUP BY m.role, m.route_id, time
""",
    )


ROUTES_HOUR = _table("routes_hour", HOUR_SUMMARY_RETENTION_DAYS)
ROUTES_HOUR_VIEW = _view("routes_hour", "toStartOfHour")
ROUTES_DAY = _table("routes_day", HOUR_RETENTION_DAYS)
ROUTES_DAY_VIEW = _view("routes_day", "toStartOfDay")

"""The days of endpoints, and of the operations among them, as parts of statements.

Of routes the summaries by day are kept (collector/store/tables/summaries.py). Of operations the states at the end of
each day are (collector/store/tables/operations.py): what a day added is a state less the one before it of the same
sensor process, and its share of the day's samples times the calls of its route is its calls, an estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from collector.inventory.operations import OPERATION_ID, sum_authenticated, sum_judged, sum_served
from collector.inventory.outbound import HIDDEN_ROUTES, ROLE_SERVER

# `d` is a route's day, `n` its endpoint: endpoint_id, service, host, method, url_template, first_seen (unix seconds).
DAYS_OF_ENDPOINTS: Final = """FROM routes_day AS d
INNER JOIN (
    SELECT e.route_id AS route_id, e.endpoint_id AS endpoint_id, e.service AS service, e.host AS host,
        e.method AS method, e.url_template AS url_template, toUnixTimestamp(f.first_seen) AS first_seen
    FROM (SELECT * FROM endpoint_routes FINAL) AS e
    LEFT JOIN (SELECT route_id, min(first_seen) AS first_seen FROM routes GROUP BY route_id) AS f
        ON f.route_id = e.route_id
) AS n ON n.route_id = d.route_id"""

# Of them, those that count: client-side ones only where no sensor watched the server (collector/inventory/outbound.py),
# by the parameters `start` and `end`.
COUNTED_DAYS: Final = f"(d.role = {ROLE_SERVER} OR d.route_id NOT IN ({HIDDEN_ROUTES}))"

_PROCESS: Final = "s.route_id, s.node, s.boot_id, s.generation"
_BEFORE: Final = "ORDER BY s.time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"
_FIGURES: Final = ("calls", "served", "judged", "authenticated")
# What each day added to each operation of a route, and to the samples of the route.
_ADDED: Final = f"""SELECT s.route_id AS route_id, s.protocol AS protocol, s.kind AS kind, s.name AS name,
        s.time AS time, min(s.first_seen) AS first_seen, max(s.last_seen) AS last_seen,
        {", ".join(f"sum(s.{name} - s.{name}_before) AS {name}" for name in _FIGURES)}
    FROM (
        SELECT s.*, {", ".join(f"lagInFrame(s.{name}) OVER known AS {name}_before" for name in _FIGURES)}
        FROM (
            SELECT o.route_id AS route_id, o.node AS node, o.boot_id AS boot_id, o.generation AS generation,
                o.protocol AS protocol, o.kind AS kind, o.name AS name, o.time AS time, o.first_seen AS first_seen,
                o.last_seen AS last_seen, toInt64(o.calls) AS calls, toInt64({sum_served("o")}) AS served,
                toInt64({sum_judged("o")}) AS judged, toInt64({sum_authenticated("o")}) AS authenticated
            FROM operation_days AS o FINAL
        ) AS s
        WINDOW known AS (PARTITION BY {_PROCESS}, s.protocol, s.kind, s.name {_BEFORE})
    ) AS s
    GROUP BY s.route_id, s.protocol, s.kind, s.name, s.time"""
_SAMPLES: Final = f"""SELECT s.route_id AS route_id, s.time AS time, sum(s.samples - s.samples_before) AS samples
    FROM (
        SELECT s.*, lagInFrame(s.samples) OVER (PARTITION BY {_PROCESS} {_BEFORE}) AS samples_before
        FROM (
            SELECT s.route_id AS route_id, s.node AS node, s.boot_id AS boot_id, s.generation AS generation,
                s.time AS time, toInt64(max(s.samples)) AS samples
            FROM operation_days AS s FINAL GROUP BY {_PROCESS}, s.time
        ) AS s
    ) AS s
    GROUP BY s.route_id, s.time"""

# `o` is an operation's day: id, route_id, protocol, kind, name, time, first_seen, last_seen, and of its samples served,
# judged and authenticated; `calls` is the estimate. `n` is its endpoint as above, without first_seen.
DAYS_OF_OPERATIONS: Final = f"""FROM (
    SELECT a.route_id AS route_id, a.protocol AS protocol, a.kind AS kind, a.name AS name, a.time AS time,
        a.first_seen AS first_seen, a.last_seen AS last_seen, a.served AS served, a.judged AS judged,
        a.authenticated AS authenticated,
        greatest(1, toUInt64(round(c.calls * least(1., a.calls / greatest(1, t.samples))))) AS calls
    FROM ({_ADDED}) AS a
    INNER JOIN ({_SAMPLES}) AS t ON t.route_id = a.route_id AND t.time = a.time
    LEFT JOIN (SELECT d.route_id AS route_id, d.time AS time, sum(d.calls) AS calls FROM routes_day AS d
        WHERE d.route_id IN (SELECT route_id FROM operation_days) GROUP BY d.route_id, d.time) AS c
        ON c.route_id = a.route_id AND c.time = a.time
    WHERE a.calls > 0
) AS o
INNER JOIN (SELECT * FROM endpoint_routes FINAL) AS n ON n.route_id = o.route_id"""
# Columns that name an operation, where rows are grouped by it.
NAMES_OF_OPERATION: Final = """any(o.protocol) AS protocol, any(o.kind) AS kind, any(o.name) AS name,
    any(n.endpoint_id) AS parent_id"""
ID_OF_OPERATION: Final = OPERATION_ID.format(endpoint="n.endpoint_id", operation="o")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedOperation:
    """An operation by its name; `parent_id` is the endpoint whose path it shares."""

    parent_id: str
    protocol: str
    kind: str
    name: str


def read_operation(row: Mapping[str, Any]) -> NamedOperation | None:
    """That of a row with NAMES_OF_OPERATION; None of an endpoint's."""
    if not row.get("parent_id"):
        return None
    return NamedOperation(parent_id=row["parent_id"], protocol=row["protocol"], kind=row["kind"], name=row["name"])

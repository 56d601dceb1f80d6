"""Every DDL statement of the store, in one ClickHouse dialect for the embedded engine and for a cluster.

The tables themselves are in collector/store/tables/, a file a room that writes them.
"""

from collector.store.tables.alerts import ALERT_ACTIONS, ALERT_MUTES, ALERTS
from collector.store.tables.layout import Layout, Table
from collector.store.tables.routes import ENDPOINT_ALIASES, ENDPOINT_ROUTES, REVEALED_WORDS, ROUTES
from collector.store.tables.rows import ROWS_HOUR, ROWS_HOUR_VIEW, ROWS_MINUTE
from collector.store.tables.sensors import COVERAGE, EVICTIONS, SENSORS
from collector.store.tables.summaries import ROUTES_DAY, ROUTES_DAY_VIEW, ROUTES_HOUR, ROUTES_HOUR_VIEW

__all__ = ["TABLES", "Layout", "render_statements"]

TABLES = (
    ROUTES,
    ENDPOINT_ROUTES,
    ENDPOINT_ALIASES,
    ROWS_MINUTE,
    ROWS_HOUR,
    ROUTES_HOUR,
    ROUTES_DAY,
    ALERTS,
    ALERT_ACTIONS,
    ALERT_MUTES,
    SENSORS,
    COVERAGE,
    REVEALED_WORDS,
    EVICTIONS,
)
# A block sent again passes through every view and is then dropped by each table's own window, so that a crash between
# the tables is made good by the replay.
VIEWS = (ROWS_HOUR_VIEW, ROUTES_HOUR_VIEW, ROUTES_DAY_VIEW)


def render_statements(layout: Layout) -> list[str]:
    """Every statement that brings an existing database up to date, in order; each may run again."""
    variables = {
        "engine_prefix": layout.engine_prefix,
        "on_cluster": layout.on_cluster,
        "write_table": layout.write_table,
    }
    statements = [table.ddl.format(**variables).strip() for table in TABLES]
    if layout.cluster:
        statements += [_render_distributed(table, layout) for table in TABLES]
    return statements + [view.format(**variables).strip() for view in VIEWS]


def _render_distributed(table: Table, layout: Layout) -> str:
    """The table without suffix that spreads reads and writes of its shards over the cluster."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name}{layout.on_cluster} AS {table.name}{layout.write_table} "
        f"ENGINE = Distributed('{layout.cluster}', currentDatabase(), '{table.name}{layout.write_table}', "
        f"{table.shard_by})"
    )

"""Every DDL statement of the store, in one ClickHouse dialect for the embedded engine and for a cluster.

The tables themselves are in collector/storage/tables/.
"""

from collections.abc import Iterator, Mapping

from collector.storage.tables.calls import (
    ENDPOINT_ALIASES,
    ENDPOINT_ROUTES,
    ENDPOINT_TOMBSTONES,
    OPERATION_DAYS,
    OPERATION_DAYS_VIEW,
    OPERATION_SAMPLES,
    OPERATION_SAMPLES_VIEW,
    REVEALED_WORDS,
    ROUTES,
    ROUTES_DAY,
    ROUTES_DAY_VIEW,
    ROUTES_HOUR,
    ROUTES_HOUR_VIEW,
    ROWS_HOUR,
    ROWS_HOUR_VIEW,
    ROWS_MINUTE,
    TEMPLATE_EDITS,
)
from collector.storage.tables.decisions import (
    ALERT_ACTIONS,
    ALERT_MUTES,
    ALERTS,
    CHANGE_FACTS,
    DETECTION_DECISIONS,
    DETECTOR_REPORTS,
    ENDPOINT_RISKS,
    ENDPOINT_SPECS,
    FINDING_CHANGES,
    FINDINGS,
    INCIDENT_ENTRIES,
    KNOWN_GOOD,
    SPEC_FITS,
    SPECS,
)
from collector.storage.tables.facts import (
    COVERAGE_HOURS,
    COVERAGE_HOURS_VIEW,
    COVERAGE_ROWS,
    EVICTIONS,
    EXPOSURES,
    FORMER_NAMES,
    PEER_ADDRESSES,
    SCHEMAS,
    SENSORS,
    WORKLOADS,
)
from collector.storage.tables.layout import Added, Layout, Table, View

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
    INCIDENT_ENTRIES,
    DETECTOR_REPORTS,
    KNOWN_GOOD,
    DETECTION_DECISIONS,
    SENSORS,
    COVERAGE_ROWS,
    COVERAGE_HOURS,
    REVEALED_WORDS,
    EVICTIONS,
    PEER_ADDRESSES,
    EXPOSURES,
    WORKLOADS,
    SCHEMAS,
    OPERATION_SAMPLES,
    OPERATION_DAYS,
    FORMER_NAMES,
    SPECS,
    SPEC_FITS,
    ENDPOINT_SPECS,
    ENDPOINT_RISKS,
    FINDINGS,
    FINDING_CHANGES,
    TEMPLATE_EDITS,
    ENDPOINT_TOMBSTONES,
    CHANGE_FACTS,
)
# A block sent again passes through every view and is then dropped by each table's own window, so that a crash between
# the tables is made good by the replay. On a full disk that would not hold (collector/storage/writer.py).
VIEWS = (
    ROWS_HOUR_VIEW,
    ROUTES_HOUR_VIEW,
    ROUTES_DAY_VIEW,
    COVERAGE_HOURS_VIEW,
    OPERATION_SAMPLES_VIEW,
    OPERATION_DAYS_VIEW,
)


def render_statements(layout: Layout) -> list[str]:
    """Every statement that brings an existing database up to date, in order; each may run again."""
    variables = {
        "engine_prefix": layout.engine_prefix,
        "on_cluster": layout.on_cluster,
        "write_table": layout.write_table,
    }
    statements = [table.ddl.format(**variables).strip() for table in TABLES]
    statements += [
        _render_added(table.name, layout.write_table, layout, added) for table in TABLES for added in table.added
    ]
    if layout.cluster:
        statements += [_render_distributed(table, layout) for table in TABLES]
        # The one in front has the columns too, and no key.
        statements += [
            _render_added(table.name, "", layout, Added(columns=added.columns))
            for table in TABLES
            for added in table.added
        ]
    return [*statements, *(text for view in VIEWS for text in _render_view(view, layout, variables))]


def _render_added(name: str, suffix: str, layout: Layout, added: Added) -> str:
    columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {column} {kind}" for column, kind in added.columns.items())
    order = f", MODIFY ORDER BY ({added.order})" if added.order else ""
    return f"ALTER TABLE {name}{suffix}{layout.on_cluster} {columns}{order}"


def _render_view(view: View, layout: Layout, variables: Mapping[str, str]) -> Iterator[str]:
    """The view, and its query anew where an older one is there: changed in place, so that no insert goes past it."""
    query = view.query.format(**variables).strip()
    into = f"{view.target}{layout.write_table}"
    yield f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view.name}{layout.on_cluster} TO {into} AS\n{query}"
    yield f"ALTER TABLE {view.name}{layout.on_cluster} MODIFY QUERY\n{query}"


def _render_distributed(table: Table, layout: Layout) -> str:
    """The table without suffix that spreads reads and writes of its shards over the cluster."""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name}{layout.on_cluster} AS {table.name}{layout.write_table} "
        f"ENGINE = Distributed('{layout.cluster}', currentDatabase(), '{table.name}{layout.write_table}', "
        f"{table.shard_by})"
    )

"""What people and the catalogue decide about the inventory: views, labels, edits of templates, and endpoints."""

from typing import Any, Final

from sqlalchemy import JSON, Column, Index, Integer, Table, Text

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE
from collector.storage.state.types import BoundedText, Hash64, Integer64, Number

TEMPLATE: Final = 65_536  # Characters; a path on the wire has 8 KiB, and its parameters have names.


def _list_service_columns() -> tuple[Column[Any], ...]:
    """collector.core.rows.Service."""
    return (
        Column("cluster", BoundedText(NAME), nullable=False),
        Column("namespace", BoundedText(NAME), nullable=False),
        Column("workload", BoundedText(NAME), nullable=False),
        Column("workload_kind", Integer, nullable=False),
        Column("host_name", BoundedText(NAME), nullable=False),
        Column("port", Integer, nullable=False),
    )


# collector.inventory.views.SavedView.
VIEWS: Final = Table(
    "views",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("list", BoundedText(ID), nullable=False),
    Column("name", BoundedText(NAME), nullable=False),
    Column("query", BoundedText(PROSE), nullable=False),
    Column("by", BoundedText(NAME), nullable=False),
    Column("time", Number, nullable=False),
)

# collector.inventory.traffic.metered.MeteredChoice: one row.
METERED_ENDPOINTS: Final = Table(
    "metered_endpoints",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("endpoints", JSON, nullable=False),
    Column("query", BoundedText(PROSE), nullable=False),
    Column("changed_by", BoundedText(NAME), nullable=False),
    Column("changed_at", Number, nullable=False),
)

# collector.inventory.models.prices.PriceList: one row.
MODEL_PRICES: Final = Table(
    "model_prices",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("currency", BoundedText(NAME), nullable=False),
    Column("prices", JSON, nullable=False),
    Column("changed_by", BoundedText(NAME), nullable=False),
    Column("changed_at", Number, nullable=False),
)

# collector.inventory.coverage.targets.CoverageTarget.
COVERAGE_TARGETS: Final = Table(
    "coverage_targets",
    METADATA,
    Column("cluster", BoundedText(NAME), primary_key=True),
    Column("namespace", BoundedText(NAME), primary_key=True),
    Column("ratio", Number, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("below_since", Number, nullable=False),
    Column("changed_by", BoundedText(NAME), nullable=False),
    Column("changed_at", Number, nullable=False),
)

# collector.inventory.consumers.consumer.ConsumerLabel.
CONSUMER_LABELS: Final = Table(
    "consumer_labels",
    METADATA,
    Column("consumer", BoundedText(NAME), primary_key=True),
    Column("name", BoundedText(NAME), nullable=False),
    Column("note", BoundedText(PROSE), nullable=False),
    Column("changed_by", BoundedText(NAME), nullable=False),
    Column("changed_at", Number, nullable=False),
)

# collector.inventory.templates.mapping.Edit: what people decided about templates; undone ones stay, with who and when.
TEMPLATE_EDITS: Final = Table(
    "template_edits",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("kind", BoundedText(ID), nullable=False),
    *_list_service_columns(),
    Column("host", BoundedText(NAME), nullable=False),
    Column("method", BoundedText(NAME), nullable=False),
    Column("places", Text, nullable=False),  # JSON.
    Column("template", BoundedText(TEMPLATE), nullable=False),
    Column("by", BoundedText(NAME), nullable=False),
    Column("time", Integer64, nullable=False),
    Column("exact_since", Integer64),
    Column("note", BoundedText(PROSE), nullable=False),
    Column("undone_by", BoundedText(NAME), nullable=False),
    Column("undone_at", Integer64, nullable=False),
)

# Words whose text the sensors may send (docs/use/privacy.md). A word's hash is keyed, so each rotation has its own.
REVEALED_WORDS: Final = Table(
    "revealed_words",
    METADATA,
    Column("hash", Hash64, primary_key=True, autoincrement=False),
    Column("text", BoundedText(NAME), nullable=False),
    Column("key_id", Integer64, nullable=False),
    Column("time", Number, nullable=False),
)

# collector.inventory.templates.table.EndpointRouteRecord: the endpoint of each route. ClickHouse has a copy.
ENDPOINT_ROUTES: Final = Table(
    "endpoint_routes",
    METADATA,
    Column("route_id", Hash64, primary_key=True, autoincrement=False),
    Column("revision", Integer64, nullable=False),
    Column("endpoint_id", BoundedText(ID), nullable=False),
    Column("service", BoundedText(NAME), nullable=False),
    *_list_service_columns(),
    Column("host", BoundedText(NAME), nullable=False),
    Column("method", BoundedText(NAME), nullable=False),
    Column("url_template", BoundedText(TEMPLATE), nullable=False),
    Index("ix_endpoint_routes_revision", "revision"),
)

# Ids under which an endpoint was known before its routes moved, each with the route that moved last: a link in an alert
# that was sent stays good. ClickHouse has a copy.
ENDPOINT_ALIASES: Final = Table(
    "endpoint_aliases",
    METADATA,
    Column("endpoint_id", BoundedText(ID), primary_key=True),
    Column("revision", Integer64, nullable=False),
    Column("route_id", Hash64, nullable=False),
)

# What was known of endpoints that are gone, when they went (collector.inventory.changes.PastEndpoint).
RETIRED_ENDPOINTS: Final = Table(
    "retired_endpoints",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("service", BoundedText(NAME), nullable=False),
    Column("host", BoundedText(NAME), nullable=False),
    Column("method", BoundedText(NAME), nullable=False),
    Column("template", BoundedText(TEMPLATE), nullable=False),
    Column("calls", Integer64, nullable=False),
    Column("assessed", Integer64, nullable=False),
    Column("authenticated", Integer64, nullable=False),
    Column("first_seen", Integer64, nullable=False),
    Column("last_seen", Integer64, nullable=False),
    Column("days", JSON, nullable=False),
    Column("parent_id", BoundedText(ID), nullable=False),
    Column("protocol", BoundedText(NAME), nullable=False),
    Column("kind", BoundedText(NAME), nullable=False),
    Column("name", BoundedText(NAME), nullable=False),
    Index("ix_retired_endpoints_last_seen", "last_seen", "id"),
)

# Words of routes whose text the collector asks the sensors for.
HIDDEN_WORDS: Final = Table(
    "hidden_words",
    METADATA,
    Column("hash", Hash64, primary_key=True, autoincrement=False),
)

# collector.receiver.reports.FormerName: which workload it is that a node called by a container's id while the API
# server was away.
FORMER_NAMES: Final = Table(
    "former_names",
    METADATA,
    Column("cluster", BoundedText(NAME), primary_key=True),
    Column("node", BoundedText(NAME), primary_key=True),
    Column("former_name", BoundedText(ID), primary_key=True),
    Column("namespace", BoundedText(NAME), nullable=False),
    Column("workload", BoundedText(NAME), nullable=False),
    Column("time", Number, nullable=False),
)

"""Whom sensors are to stop, how far alerts may act, and what was sent to sensors."""

from typing import Final

from sqlalchemy import JSON, Boolean, Column, Index, Integer, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE
from collector.storage.state.types import BoundedText, Integer64, Number

# collector.response.block.Block. `number` has the order in which they were proposed.
BLOCKS: Final = Table(
    "blocks",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("number", Integer64, nullable=False),
    Column("kind", BoundedText(ID), nullable=False),
    Column("value", BoundedText(NAME), nullable=False),
    Column("key_id", Integer64, nullable=False),
    Column("credentials", JSON, nullable=False),
    Column("services", JSON, nullable=False),
    Column("clusters", JSON, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("state", BoundedText(ID), nullable=False),
    Column("reason", BoundedText(PROSE), nullable=False),
    Column("alert_id", BoundedText(ID), nullable=False),
    Column("proposed_by", BoundedText(NAME), nullable=False),
    Column("proposed_at", Number, nullable=False),
    Column("approved_by", BoundedText(NAME), nullable=False),
    Column("began_at", Number, nullable=False),
    Column("expires_at", Number, nullable=False),
    Column("ended_by", BoundedText(NAME), nullable=False),
    Column("ended_at", Number, nullable=False),
    Column("is_confirmed", Boolean, nullable=False),
    Column("holder", JSON(none_as_null=True)),
    Column("accused", BoundedText(NAME), nullable=False),
    Column("share", Number, nullable=False),
    Column("nodes", JSON, nullable=False),
    Column("stopped_connections", Integer64, nullable=False),
    Column("stopped_bytes", Integer64, nullable=False),
    Index("ix_blocks_number", "number", unique=True),
    Index("ix_blocks_state", "state"),
    Index("ix_blocks_alert_id", "alert_id"),
)

# collector.response.policy_table: one row, what all sensors were sent last. Who changes blocks holds it.
POLICY: Final = Table(
    "policy",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer64, nullable=False),
    Column("terms", JSON, nullable=False),
    Column("orders", JSON, nullable=False),
)

# collector.response.reports: what each node that enforces blocks said last. `content` is a digest of its statuses.
ENFORCING_NODES: Final = Table(
    "enforcing_nodes",
    METADATA,
    Column("node", BoundedText(NAME), primary_key=True),
    Column("heard_at", Number, nullable=False),
    Column("epoch", Integer64, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("reason", BoundedText(PROSE), nullable=False),
    Column("content", BoundedText(ID), nullable=False),
    Index("ix_enforcing_nodes_heard_at", "heard_at"),
)

# One live block at one node, of a workload one of its addresses, of which `part` is a digest.
BLOCK_REPORTS: Final = Table(
    "block_reports",
    METADATA,
    Column("block_id", BoundedText(ID), primary_key=True),
    Column("node", BoundedText(NAME), primary_key=True),
    Column("part", BoundedText(ID), primary_key=True),
    Column("is_enforced", Boolean, nullable=False),
    Column("reason", BoundedText(PROSE), nullable=False),
    Column("first_stop_at", Number, nullable=False),
    Column("is_reported", Boolean, nullable=False),
    Column("last", JSON, nullable=False),
    Column("before", JSON, nullable=False),
    Index("ix_block_reports_node", "node"),
)

# collector.response.ladder.Rung: of kinds that a person decided on.
LADDER: Final = Table(
    "ladder",
    METADATA,
    Column("kind", BoundedText(ID), primary_key=True),
    Column("step", BoundedText(ID), nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("endpoints", JSON, nullable=False),
    Column("set_by", BoundedText(NAME), nullable=False),
)

"""Alerts with their routes, what people did to them, timelines of incidents, and silences."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Hash64, Number

revision = "0001"
down_revision = None

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "alert_actions",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("alert_id", BoundedText(64), nullable=False),
        sa.Column("time", Number(), nullable=False),
        sa.Column("action", BoundedText(64), nullable=False),
        sa.Column("actor", BoundedText(1_100), nullable=False),
        sa.Column("until", Number()),
        sa.Column("note", BoundedText(4_096), nullable=False),
    )
    op.create_index("ix_alert_actions_alert_id", "alert_actions", ["alert_id"])
    op.create_index("ix_alert_actions_time", "alert_actions", ["time"])
    op.create_table(
        "alerts",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("incident_id", BoundedText(64), nullable=False),
        sa.Column("kind", BoundedText(64), nullable=False),
        sa.Column("state", BoundedText(64), nullable=False),
        sa.Column("severity", BoundedText(64), nullable=False),
        sa.Column("confidence", BoundedText(64), nullable=False),
        sa.Column("title", BoundedText(4_096), nullable=False),
        sa.Column("why", BoundedText(4_096), nullable=False),
        sa.Column("advice", BoundedText(4_096), nullable=False),
        sa.Column("risk", BoundedText(64), nullable=False),
        sa.Column("endpoint_id", BoundedText(1_100), nullable=False),
        sa.Column("service", BoundedText(1_100), nullable=False),
        sa.Column("workload", BoundedText(1_100), nullable=False),
        sa.Column("namespace", BoundedText(1_100), nullable=False),
        sa.Column("host", BoundedText(1_100), nullable=False),
        sa.Column("consumer", BoundedText(1_100), nullable=False),
        sa.Column("held_by", BoundedText(1_100), nullable=False),
        sa.Column("node", BoundedText(1_100), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("other_nodes", sa.JSON(), nullable=False),
        sa.Column("opened_at", Number(), nullable=False),
        sa.Column("updated_at", Number(), nullable=False),
        sa.Column("closed_at", Number()),
        sa.Column("window_start", Number(), nullable=False),
        sa.Column("window_end", Number(), nullable=False),
        sa.Column("observed_rate", Number(), nullable=False),
        sa.Column("expected_rate", Number(), nullable=False),
        sa.Column("threshold_rate", Number(), nullable=False),
        sa.Column("score", Number(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("loss_ratio", Number(), nullable=False),
        sa.Column("measure", Number(), nullable=False),
        sa.Column("measure_limit", Number(), nullable=False),
        sa.Column("acknowledged_by", BoundedText(1_100), nullable=False),
        sa.Column("acknowledged_at", Number()),
        sa.Column("verdict", BoundedText(64), nullable=False),
        sa.Column("verdict_at", Number()),
        sa.Column("verdict_by", BoundedText(1_100), nullable=False),
    )
    op.create_index("ix_alerts_consumer", "alerts", ["consumer"])
    op.create_index("ix_alerts_endpoint_id", "alerts", ["endpoint_id"])
    op.create_index("ix_alerts_incident_id", "alerts", ["incident_id"])
    op.create_index("ix_alerts_opened_at", "alerts", ["opened_at", "id"])
    op.create_table(
        "imports",
        sa.Column("name", BoundedText(64), primary_key=True),
        sa.Column("time", Number(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "incident_entries",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("incident_id", BoundedText(64), nullable=False),
        sa.Column("time", Number(), nullable=False),
        sa.Column("alert_id", BoundedText(64), nullable=False),
        sa.Column("happening", BoundedText(64), nullable=False),
        sa.Column("kind", BoundedText(64), nullable=False),
        sa.Column("severity", BoundedText(64), nullable=False),
        sa.Column("title", BoundedText(4_096), nullable=False),
        sa.Column("why", BoundedText(4_096), nullable=False),
    )
    op.create_index("ix_incident_entries_alert_id", "incident_entries", ["alert_id"])
    op.create_index("ix_incident_entries_incident_id", "incident_entries", ["incident_id", "time"])
    op.create_index("ix_incident_entries_time", "incident_entries", ["time"])
    op.create_table(
        "silences",
        sa.Column("subject", BoundedText(2_600), primary_key=True),
        sa.Column("kind", BoundedText(64), nullable=False),
        sa.Column("by", BoundedText(1_100), nullable=False),
        sa.Column("at", Number(), nullable=False),
        sa.Column("reason", BoundedText(4_096), nullable=False),
        sa.Column("until", Number()),
        sa.Column("alert_id", BoundedText(64), nullable=False),
    )
    op.create_table(
        "alert_routes",
        sa.Column("alert_id", BoundedText(64), sa.ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("route_id", Hash64(), nullable=False),
    )
    op.create_index("ix_alert_routes_route_id", "alert_routes", ["route_id"])

"""Findings, who decided them, and pasts of endpoints."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0017"
down_revision = "0016"

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "findings",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("endpoint_id", BoundedText(1_100), nullable=False),
        sa.Column("rule", BoundedText(64), nullable=False),
        sa.Column("severity", BoundedText(64), nullable=False),
        sa.Column("owasp", BoundedText(64), nullable=False),
        sa.Column("state", BoundedText(64), nullable=False),
        sa.Column("service", BoundedText(1_100), nullable=False),
        sa.Column("method", BoundedText(64), nullable=False),
        sa.Column("first_seen", Number(), nullable=False),
        sa.Column("last_seen", Number(), nullable=False),
        sa.Column("updated_at", Number(), nullable=False),
        sa.Column("changed_at", Number(), nullable=False),
        sa.Column("gravity", Number(), nullable=False),
        sa.Column("decided_until", Number(), nullable=False),
        sa.Column("is_reopened", sa.Boolean(), nullable=False),
        sa.Column("changed_by", BoundedText(1_100), nullable=False),
        sa.Column("title", BoundedText(4_096), nullable=False),
        sa.Column("why", BoundedText(4_096), nullable=False),
        sa.Column("advice", BoundedText(4_096), nullable=False),
        sa.Column("signs", sa.JSON(), nullable=False),
        sa.Column("note", BoundedText(4_096), nullable=False),
        sa.Column("host", BoundedText(1_100), nullable=False),
        sa.Column("url_template", BoundedText(4_096), nullable=False),
        sa.Column("searched", BoundedText(8_192), nullable=False),
    )
    op.create_index("ix_findings_endpoint_id", "findings", ["endpoint_id"])
    op.create_index("ix_findings_gravity", "findings", ["gravity", "id"])
    op.create_index(
        "ix_findings_rule",
        "findings",
        ["rule", "state", "severity", "service", "first_seen", "last_seen", "endpoint_id"],
    )
    op.create_index("ix_findings_decided_until", "findings", ["decided_until"])
    op.create_table(
        "finding_changes",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("finding_id", BoundedText(64), nullable=False),
        sa.Column("time", Number(), nullable=False),
        sa.Column("state", BoundedText(64), nullable=False),
        sa.Column("actor", BoundedText(1_100), nullable=False),
        sa.Column("note", BoundedText(4_096), nullable=False),
        sa.Column("decision_id", BoundedText(64), nullable=False),
    )
    op.create_index("ix_finding_changes_finding_id", "finding_changes", ["finding_id"])
    op.create_index("ix_finding_changes_decision_id", "finding_changes", ["decision_id"])
    op.create_index("ix_finding_changes_time", "finding_changes", ["time"])
    op.create_table(
        "endpoint_pasts",
        sa.Column("endpoint_id", BoundedText(1_100), primary_key=True),
        sa.Column("exposure", BoundedText(64), nullable=False),
        sa.Column("exposure_before", BoundedText(64), nullable=False),
        sa.Column("exposure_since", Number(), nullable=False),
        sa.Column("authenticated_at", Number(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("computed_at", Number(), nullable=False),
    )

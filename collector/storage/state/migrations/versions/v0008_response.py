"""Blocks, the policy of sensors, the audit log and the ladder."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0008"
down_revision = "0007"

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "blocks",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", BoundedText(64), nullable=False),
        sa.Column("value", BoundedText(1_100), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("credentials", sa.JSON(), nullable=False),
        sa.Column("services", sa.JSON(), nullable=False),
        sa.Column("clusters", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("state", BoundedText(64), nullable=False),
        sa.Column("reason", BoundedText(4_096), nullable=False),
        sa.Column("alert_id", BoundedText(64), nullable=False),
        sa.Column("proposed_by", BoundedText(1_100), nullable=False),
        sa.Column("proposed_at", Number(), nullable=False),
        sa.Column("approved_by", BoundedText(1_100), nullable=False),
        sa.Column("began_at", Number(), nullable=False),
        sa.Column("expires_at", Number(), nullable=False),
        sa.Column("ended_by", BoundedText(1_100), nullable=False),
        sa.Column("ended_at", Number(), nullable=False),
        sa.Column("is_confirmed", sa.Boolean(), nullable=False),
        sa.Column("holder", sa.JSON()),
        sa.Column("accused", BoundedText(1_100), nullable=False),
        sa.Column("share", Number(), nullable=False),
        sa.Column("nodes", sa.JSON(), nullable=False),
        sa.Column("stopped_connections", sa.BigInteger(), nullable=False),
        sa.Column("stopped_bytes", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_blocks_number", "blocks", ["number"], unique=True)
    op.create_index("ix_blocks_state", "blocks", ["state"])
    op.create_index("ix_blocks_alert_id", "blocks", ["alert_id"])
    op.create_table(
        "policy",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("orders", sa.JSON(), nullable=False),
    )
    op.create_table(
        "audit_entries",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("time", Number(), nullable=False),
        sa.Column("by", BoundedText(1_100), nullable=False),
        sa.Column("action", BoundedText(64), nullable=False),
        sa.Column("block_id", BoundedText(64), nullable=False),
        sa.Column("target", BoundedText(1_100), nullable=False),
        sa.Column("why", BoundedText(4_096), nullable=False),
    )
    op.create_index("ix_audit_entries_time", "audit_entries", ["time"])
    op.create_index("ix_audit_entries_block_id", "audit_entries", ["block_id"])
    op.create_table(
        "ladder",
        sa.Column("kind", BoundedText(64), primary_key=True),
        sa.Column("step", BoundedText(64), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("endpoints", sa.JSON(), nullable=False),
        sa.Column("set_by", BoundedText(1_100), nullable=False),
    )

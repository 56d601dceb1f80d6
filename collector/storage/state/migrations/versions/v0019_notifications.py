"""Notifications that wait for their receivers."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "notifications",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("notifier", BoundedText(1_100), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Number(), nullable=False),
    )
    op.create_index("ix_notifications_notifier", "notifications", ["notifier", "number"])
    op.create_table(
        "notified",
        sa.Column("alert_id", BoundedText(64), primary_key=True),
        sa.Column("notifier", BoundedText(1_100), primary_key=True),
        sa.Column("news", BoundedText(1_100), nullable=False),
    )

"""Saved views of lists, and labels of consumers."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "views",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("list", BoundedText(64), nullable=False),
        sa.Column("name", BoundedText(1_100), nullable=False),
        sa.Column("query", BoundedText(4_096), nullable=False),
        sa.Column("by", BoundedText(1_100), nullable=False),
        sa.Column("time", Number(), nullable=False),
    )
    op.create_table(
        "consumer_labels",
        sa.Column("consumer", BoundedText(1_100), primary_key=True),
        sa.Column("name", BoundedText(1_100), nullable=False),
        sa.Column("note", BoundedText(4_096), nullable=False),
        sa.Column("changed_by", BoundedText(1_100), nullable=False),
        sa.Column("changed_at", Number(), nullable=False),
    )

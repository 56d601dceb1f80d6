"""What sensors report of the blocks they hold."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "enforcing_nodes",
        sa.Column("node", BoundedText(1_100), primary_key=True),
        sa.Column("heard_at", Number(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("reason", BoundedText(4_096), nullable=False),
        sa.Column("content", BoundedText(64), nullable=False),
    )
    op.create_index("ix_enforcing_nodes_heard_at", "enforcing_nodes", ["heard_at"])
    op.create_table(
        "block_reports",
        sa.Column("block_id", BoundedText(64), primary_key=True),
        sa.Column("node", BoundedText(1_100), primary_key=True),
        sa.Column("part", BoundedText(64), primary_key=True),
        sa.Column("is_enforced", sa.Boolean(), nullable=False),
        sa.Column("reason", BoundedText(4_096), nullable=False),
        sa.Column("first_stop_at", Number(), nullable=False),
        sa.Column("is_reported", sa.Boolean(), nullable=False),
        sa.Column("last", sa.JSON(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
    )
    op.create_index("ix_block_reports_node", "block_reports", ["node"])

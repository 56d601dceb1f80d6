"""Endpoints that are no longer called."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "retired_endpoints",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("service", BoundedText(1_100), nullable=False),
        sa.Column("host", BoundedText(1_100), nullable=False),
        sa.Column("method", BoundedText(1_100), nullable=False),
        sa.Column("template", BoundedText(65_536), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("assessed", sa.BigInteger(), nullable=False),
        sa.Column("authenticated", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("days", sa.JSON(), nullable=False),
        sa.Column("parent_id", BoundedText(64), nullable=False),
        sa.Column("protocol", BoundedText(1_100), nullable=False),
        sa.Column("kind", BoundedText(1_100), nullable=False),
        sa.Column("name", BoundedText(1_100), nullable=False),
    )
    op.create_index("ix_retired_endpoints_last_seen", "retired_endpoints", ["last_seen", "id"])

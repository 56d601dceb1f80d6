"""Targets for the share of HTTP that is read."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "coverage_targets",
        sa.Column("cluster", BoundedText(1_100), primary_key=True),
        sa.Column("namespace", BoundedText(1_100), primary_key=True),
        sa.Column("ratio", Number(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("below_since", Number(), nullable=False),
        sa.Column("changed_by", BoundedText(1_100), nullable=False),
        sa.Column("changed_at", Number(), nullable=False),
    )

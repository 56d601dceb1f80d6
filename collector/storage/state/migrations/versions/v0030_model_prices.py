"""Prices of models, by which the cost of their tokens is shown."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Make the table, which has one row."""
    op.create_table(
        "model_prices",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("currency", BoundedText(1_100), nullable=False),
        sa.Column("prices", sa.JSON(), nullable=False),
        sa.Column("changed_by", BoundedText(1_100), nullable=False),
        sa.Column("changed_at", Number(), nullable=False),
    )

"""Leases."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "leases",
        sa.Column("name", BoundedText(64), primary_key=True),
        sa.Column("holder", BoundedText(64), nullable=False),
        sa.Column("address", BoundedText(1_100), nullable=False),
        sa.Column("until", Number(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )

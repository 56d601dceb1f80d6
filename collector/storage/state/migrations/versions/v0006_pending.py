"""Reports that wait for the process that makes alerts."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "pending_reports",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("kind", BoundedText(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "signal_series",
        sa.Column("source", BoundedText(64), primary_key=True),
        sa.Column("series", BoundedText(1_100), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
    )

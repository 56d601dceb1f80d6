"""How far the readers of a shared log came."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "log_cursors",
        sa.Column("log", BoundedText(64), primary_key=True),
        sa.Column("reader", BoundedText(64), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("claim_end", sa.BigInteger()),
    )
    op.create_table(
        "log_ledgers",
        sa.Column("log", BoundedText(64), primary_key=True),
        sa.Column("reader", BoundedText(64), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("ranges", sa.LargeBinary(), nullable=False),
    )

"""What the detectors learned."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "detector_states",
        sa.Column("name", BoundedText(64), primary_key=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "detector_cuts",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("segment", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("messages", sa.LargeBinary(), nullable=False),
        sa.Column("is_checkpoint", sa.Boolean(), nullable=False),
    )

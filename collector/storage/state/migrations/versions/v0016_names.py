"""Words that sensors are asked for, and former names of workloads."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Hash64, Number

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the tables."""
    op.create_table("hidden_words", sa.Column("hash", Hash64(), primary_key=True, autoincrement=False))
    op.create_table(
        "former_names",
        sa.Column("cluster", BoundedText(1_100), primary_key=True),
        sa.Column("node", BoundedText(1_100), primary_key=True),
        sa.Column("former_name", BoundedText(64), primary_key=True),
        sa.Column("namespace", BoundedText(1_100), nullable=False),
        sa.Column("workload", BoundedText(1_100), nullable=False),
        sa.Column("time", Number(), nullable=False),
    )

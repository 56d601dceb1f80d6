"""The level of sensitivity that somebody chose."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sensitivity",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("level", BoundedText(64), nullable=False),
        sa.Column("configured", BoundedText(64), nullable=False),
        sa.Column("at", Number(), nullable=False),
        sa.Column("by", BoundedText(1_100), nullable=False),
    )

"""Which endpoints have metrics of their own."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "metered_endpoints",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("endpoints", sa.JSON(), nullable=False),
        sa.Column("query", BoundedText(4_096), nullable=False),
        sa.Column("changed_by", BoundedText(1_100), nullable=False),
        sa.Column("changed_at", Number(), nullable=False),
    )

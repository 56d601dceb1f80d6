"""What is known to exist."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "change_facts",
        sa.Column("subject", BoundedText(1_100), primary_key=True),
        sa.Column("kind", BoundedText(64), primary_key=True),
        sa.Column("detail", BoundedText(1_100), primary_key=True),
        sa.Column("scope", BoundedText(1_100), nullable=False),
        sa.Column("label", BoundedText(4_096), nullable=False),
        sa.Column("anchor", BoundedText(1_100), nullable=False),
        sa.Column("first_seen", Number(), nullable=False),
        sa.Column("seen_at", Number(), nullable=False),
        sa.Column("told_at", Number(), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_change_facts_told_at", "change_facts", ["told_at"])

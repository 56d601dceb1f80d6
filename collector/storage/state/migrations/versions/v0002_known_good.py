"""Known-good rules, and who changed what of the detection."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0002"
down_revision = "0001"

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "known_good",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("note", BoundedText(4_096), nullable=False),
        sa.Column("consumer", BoundedText(1_100), nullable=False),
        sa.Column("network", BoundedText(64), nullable=False),
        sa.Column("workload", BoundedText(1_100), nullable=False),
        sa.Column("endpoint_id", BoundedText(1_100), nullable=False),
        sa.Column("kind", BoundedText(64), nullable=False),
        sa.Column("created_at", Number(), nullable=False),
        sa.Column("created_by", BoundedText(1_100), nullable=False),
        sa.Column("expires_at", Number(), nullable=False),
        sa.Column("ended_at", Number()),
        sa.Column("ended_by", BoundedText(1_100), nullable=False),
        sa.Column("updated_at", Number(), nullable=False),
    )
    op.create_index("ix_known_good_expires_at", "known_good", ["expires_at"])
    op.create_table(
        "detection_decisions",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("time", Number(), nullable=False),
        sa.Column("actor", BoundedText(1_100), nullable=False),
        sa.Column("action", BoundedText(64), nullable=False),
        sa.Column("subject", BoundedText(1_100), nullable=False),
        sa.Column("note", BoundedText(4_096), nullable=False),
    )

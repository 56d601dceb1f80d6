"""API descriptions."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "specs",
        sa.Column("name", BoundedText(1_100), primary_key=True),
        sa.Column("digest", BoundedText(64), primary_key=True),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("service", BoundedText(1_100), nullable=False),
        sa.Column("source", BoundedText(4_096), nullable=False),
        sa.Column("uploaded_by", BoundedText(1_100), nullable=False),
        sa.Column("time", Number(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_specs_place", "specs", ["place"])
    op.create_table(
        "spec_fits",
        sa.Column("name", BoundedText(1_100), primary_key=True),
        sa.Column("extent", BoundedText(64), nullable=False),
    )

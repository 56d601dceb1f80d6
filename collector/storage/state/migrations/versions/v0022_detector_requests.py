"""What people ask of the detectors."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "detector_requests",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("subjects", sa.BigInteger()),
    )

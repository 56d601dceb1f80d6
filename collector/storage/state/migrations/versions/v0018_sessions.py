"""Sessions of pages."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sessions",
        sa.Column("session_hash", BoundedText(64), primary_key=True),
        sa.Column("until", Number(), nullable=False),
    )

"""How far notifiers have the audit log."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Integer64

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "audit_feeds",
        sa.Column("notifier", BoundedText(1_100), primary_key=True),
        sa.Column("number", Integer64(), nullable=False),
        sa.Column("until", Integer64(), nullable=False),
    )

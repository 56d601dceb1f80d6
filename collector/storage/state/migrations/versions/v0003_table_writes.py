"""How often each table was written."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "table_writes",
        sa.Column("table_name", BoundedText(64), primary_key=True),
        sa.Column("writes", sa.BigInteger(), nullable=False),
    )

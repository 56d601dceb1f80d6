"""Notifications that wait for the end of a receiver's quiet hours."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns; what waits is not held."""
    op.add_column("notifications", sa.Column("alert_id", BoundedText(64), nullable=False, server_default=""))
    op.add_column("notifications", sa.Column("held_until", Number(), nullable=False, server_default="0"))
    op.add_column("notifications", sa.Column("is_first", sa.Boolean(), nullable=False, server_default=sa.false()))

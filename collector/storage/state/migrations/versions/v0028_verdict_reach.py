"""Where a verdict on an alert holds."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Earlier ones hold everywhere."""
    op.add_column("alerts", sa.Column("verdict_reach", BoundedText(64), nullable=False, server_default=""))

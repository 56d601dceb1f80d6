"""What people did to alerts is in the timelines of incidents and in the audit log."""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Nobody read this table."""
    op.drop_table("alert_actions")

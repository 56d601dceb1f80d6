"""The last word of each sensor."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Hash64, Number

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sensors",
        sa.Column("node", BoundedText(1_100), primary_key=True),
        sa.Column("cluster", BoundedText(1_100), nullable=False),
        sa.Column("boot_id", BoundedText(1_100), nullable=False),
        sa.Column("version", BoundedText(1_100), nullable=False),
        sa.Column("kernel_release", BoundedText(1_100), nullable=False),
        sa.Column("key_id", Hash64(), nullable=False),
        sa.Column("policy_epoch", Hash64(), nullable=False),
        sa.Column("policy_refusal", BoundedText(4_096), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("reason", BoundedText(4_096), nullable=False),
        sa.Column("capture", BoundedText(1_100), nullable=False),
        sa.Column("fallback_reason", BoundedText(4_096), nullable=False),
        sa.Column("certificate_not_after", Number(), nullable=False),
        sa.Column("first_seen", Number(), nullable=False),
        sa.Column("last_hello_at", Number(), nullable=False),
        sa.Column("last_health_at", Number(), nullable=False),
        sa.Column("last_batch_at", Number(), nullable=False),
        sa.Column("lag_ms", Hash64(), nullable=False),
        sa.Column("spool_bytes", Hash64(), nullable=False),
        sa.Column("memory_bytes", Hash64(), nullable=False),
        sa.Column("cpu_ns", Hash64(), nullable=False),
        sa.Column("seen_calls", Hash64(), nullable=False),
        sa.Column("lost_calls", Hash64(), nullable=False),
        sa.Column("stages", sa.Text(), nullable=False),
        sa.Column("updated_at", Number(), nullable=False),
        sa.Column("heard_by", BoundedText(64), nullable=False),
        sa.Column("written", sa.BigInteger(), nullable=False),
    )
    op.create_index("sensors_written", "sensors", ["written"])

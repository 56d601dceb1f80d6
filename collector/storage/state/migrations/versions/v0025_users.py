"""Named API tokens, role bindings, sessions that know whose they are, and the chain of the audit log.

Earlier sessions do not know whose they are, so they end: their people sign in again.
"""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Make the tables and the columns."""
    for name, length in (("way", 64), ("before", 4_096), ("after", 4_096), ("salt", 64), ("seal", 64), ("hash", 64)):
        op.add_column("audit_entries", sa.Column(name, BoundedText(length), nullable=False, server_default=""))
    op.create_index("ix_audit_entries_action", "audit_entries", ["action"])
    op.create_table(
        "api_tokens",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("name", BoundedText(64), nullable=False),
        sa.Column("secret_sha256", BoundedText(64), nullable=False),
        sa.Column("role", BoundedText(64), nullable=False),
        sa.Column("clusters", sa.JSON(), nullable=False),
        sa.Column("namespaces", sa.JSON(), nullable=False),
        sa.Column("made_by", BoundedText(1_100), nullable=False),
        sa.Column("made_at", Number(), nullable=False),
        sa.Column("expires_at", Number(), nullable=False),
        sa.Column("last_used_at", Number(), nullable=False),
    )
    op.create_index("ix_api_tokens_name", "api_tokens", ["name"], unique=True)
    op.create_index("ix_api_tokens_secret_sha256", "api_tokens", ["secret_sha256"], unique=True)
    op.create_table(
        "role_bindings",
        sa.Column("kind", BoundedText(64), primary_key=True),
        sa.Column("name", BoundedText(1_100), primary_key=True),
        sa.Column("role", BoundedText(64), nullable=False),
        sa.Column("clusters", sa.JSON(), nullable=False),
        sa.Column("namespaces", sa.JSON(), nullable=False),
        sa.Column("made_by", BoundedText(1_100), nullable=False),
        sa.Column("made_at", Number(), nullable=False),
    )
    op.create_table(
        "closed_ways",
        sa.Column("way", BoundedText(64), primary_key=True),
        sa.Column("closed_by", BoundedText(1_100), nullable=False),
        sa.Column("closed_at", Number(), nullable=False),
    )
    op.drop_table("sessions")
    op.create_table(
        "sessions",
        sa.Column("session_hash", BoundedText(64), primary_key=True),
        sa.Column("id", BoundedText(64), nullable=False),
        sa.Column("began_at", Number(), nullable=False),
        sa.Column("until", Number(), nullable=False),
        sa.Column("actor", BoundedText(1_100), nullable=False),
        sa.Column("role", BoundedText(64), nullable=False),
        sa.Column("clusters", sa.JSON(), nullable=False),
        sa.Column("namespaces", sa.JSON(), nullable=False),
        sa.Column("way", BoundedText(64), nullable=False),
        sa.Column("opener", BoundedText(64), nullable=False),
        sa.Column("user_name", BoundedText(1_100), nullable=False),
        sa.Column("user_groups", sa.JSON(), nullable=False),
        sa.Column("address", BoundedText(64), nullable=False),
    )

"""Secrets, installation keys, enrolment tokens and certificates."""

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Number

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "secrets",
        sa.Column("name", BoundedText(64), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", Number(), nullable=False),
    )
    op.create_table(
        "installation_keys",
        sa.Column("key_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", Number(), nullable=False),
    )
    op.create_table(
        "enrollments",
        sa.Column("number", BoundedText(64), primary_key=True),
        sa.Column("secret_sha256", BoundedText(64), nullable=False),
        sa.Column("node", BoundedText(1_100), nullable=False),
        sa.Column("cluster", BoundedText(1_100), nullable=False),
        sa.Column("made_at", Number(), nullable=False),
        sa.Column("expires_at", Number(), nullable=False),
        sa.Column("used_at", Number(), nullable=False),
        sa.Column("used_by", BoundedText(1_100), nullable=False),
    )
    op.create_table(
        "issued_certificates",
        sa.Column("serial", BoundedText(64), primary_key=True),
        sa.Column("cluster", BoundedText(1_100), nullable=False),
        sa.Column("node", BoundedText(1_100), nullable=False),
        sa.Column("issued_at", Number(), nullable=False),
        sa.Column("not_after", Number(), nullable=False),
        sa.Column("way", BoundedText(1_100), nullable=False),
    )
    op.create_index("issued_certificates_node", "issued_certificates", ["node", "cluster"])
    op.create_table(
        "revoked_certificates",
        sa.Column("serial", BoundedText(64), primary_key=True),
        sa.Column("revoked_at", Number(), nullable=False),
    )
    op.create_table(
        "revoked_nodes",
        sa.Column("cluster", BoundedText(1_100), primary_key=True),
        sa.Column("node", BoundedText(1_100), primary_key=True),
        sa.Column("revoked_at", Number(), nullable=False),
    )

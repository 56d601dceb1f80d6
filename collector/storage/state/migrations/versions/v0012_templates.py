"""Edits of templates, revealed words, and the endpoint of each route with its aliases."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from collector.storage.state.types import BoundedText, Hash64, Number

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "template_edits",
        sa.Column("id", BoundedText(64), primary_key=True),
        sa.Column("kind", BoundedText(64), nullable=False),
        *_list_service_columns(),
        sa.Column("host", BoundedText(1_100), nullable=False),
        sa.Column("method", BoundedText(1_100), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.Column("template", BoundedText(65_536), nullable=False),
        sa.Column("by", BoundedText(1_100), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("exact_since", sa.BigInteger()),
        sa.Column("note", BoundedText(4_096), nullable=False),
        sa.Column("undone_by", BoundedText(1_100), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "revealed_words",
        sa.Column("hash", Hash64(), primary_key=True, autoincrement=False),
        sa.Column("text", BoundedText(1_100), nullable=False),
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("time", Number(), nullable=False),
    )
    op.create_table(
        "endpoint_routes",
        sa.Column("route_id", Hash64(), primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("endpoint_id", BoundedText(64), nullable=False),
        sa.Column("service", BoundedText(1_100), nullable=False),
        *_list_service_columns(),
        sa.Column("host", BoundedText(1_100), nullable=False),
        sa.Column("method", BoundedText(1_100), nullable=False),
        sa.Column("url_template", BoundedText(65_536), nullable=False),
    )
    op.create_index("ix_endpoint_routes_revision", "endpoint_routes", ["revision"])
    op.create_table(
        "endpoint_aliases",
        sa.Column("endpoint_id", BoundedText(64), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("route_id", Hash64(), nullable=False),
    )


def _list_service_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("cluster", BoundedText(1_100), nullable=False),
        sa.Column("namespace", BoundedText(1_100), nullable=False),
        sa.Column("workload", BoundedText(1_100), nullable=False),
        sa.Column("workload_kind", sa.Integer(), nullable=False),
        sa.Column("host_name", BoundedText(1_100), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
    )

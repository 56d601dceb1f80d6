"""What is known to exist, which the watch for changes compares with."""

from typing import Final

from sqlalchemy import Column, Index, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE
from collector.storage.state.types import BoundedText, Integer64, Number

# collector.detection.changes.rules.Fact.
CHANGE_FACTS: Final = Table(
    "change_facts",
    METADATA,
    Column("subject", BoundedText(NAME), primary_key=True),
    Column("kind", BoundedText(ID), primary_key=True),
    Column("detail", BoundedText(NAME), primary_key=True),
    Column("scope", BoundedText(NAME), nullable=False),
    Column("label", BoundedText(PROSE), nullable=False),
    Column("anchor", BoundedText(NAME), nullable=False),
    Column("first_seen", Number, nullable=False),
    Column("seen_at", Number, nullable=False),
    Column("told_at", Number, nullable=False),
    Column("key_id", Integer64, nullable=False),
    Index("ix_change_facts_told_at", "told_at"),
)

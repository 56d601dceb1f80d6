"""What people decide about the inventory: saved views of lists and labels of consumers."""

from typing import Final

from sqlalchemy import Column, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE
from collector.storage.state.types import BoundedText, Number

# collector.inventory.views.SavedView.
VIEWS: Final = Table(
    "views",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("list", BoundedText(ID), nullable=False),
    Column("name", BoundedText(NAME), nullable=False),
    Column("query", BoundedText(PROSE), nullable=False),
    Column("by", BoundedText(NAME), nullable=False),
    Column("time", Number, nullable=False),
)

# collector.inventory.consumers.consumer.ConsumerLabel.
CONSUMER_LABELS: Final = Table(
    "consumer_labels",
    METADATA,
    Column("consumer", BoundedText(NAME), primary_key=True),
    Column("name", BoundedText(NAME), nullable=False),
    Column("note", BoundedText(PROSE), nullable=False),
    Column("changed_by", BoundedText(NAME), nullable=False),
    Column("changed_at", Number, nullable=False),
)

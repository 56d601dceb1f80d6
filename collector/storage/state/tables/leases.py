"""Leases: which process does what only one may do at a time."""

from typing import Final

from sqlalchemy import Column, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, UNCOUNTED
from collector.storage.state.types import BoundedText, Integer64, Number

# collector.storage.state.leases.Lease. Renewed each second, so its writes are not counted.
LEASES: Final = Table(
    "leases",
    METADATA,
    Column("name", BoundedText(ID), primary_key=True),
    Column("holder", BoundedText(ID), nullable=False),  # A process; another one after each start.
    Column("address", BoundedText(NAME), nullable=False),  # Where the holder answers other processes.
    Column("until", Number, nullable=False),  # By the clock of the database.
    Column("epoch", Integer64, nullable=False),  # One more with each change of holder.
    info={UNCOUNTED: True},
)

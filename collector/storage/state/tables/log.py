"""How far the readers of a shared log came."""

from typing import Final

from sqlalchemy import Column, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, UNCOUNTED
from collector.storage.state.types import BoundedText, Integer64

# collector.log.base.ReadCursor. Written with each claim, so its writes are not counted.
LOG_CURSORS: Final = Table(
    "log_cursors",
    METADATA,
    Column("log", BoundedText(ID), primary_key=True),  # Its id.
    Column("reader", BoundedText(ID), primary_key=True),
    Column("position", Integer64, nullable=False),  # Everything before it is done.
    Column("claim_end", Integer64),  # The end of what was begun.
    info={UNCOUNTED: True},
)

# collector.log.cursors.SavedLedger: which batches came before a position.
LOG_LEDGERS: Final = Table(
    "log_ledgers",
    METADATA,
    Column("log", BoundedText(ID), primary_key=True),
    Column("reader", BoundedText(ID), primary_key=True),
    Column("position", Integer64, nullable=False),
    Column("ranges", LargeBinary, nullable=False),  # MessagePack, compressed.
    info={UNCOUNTED: True},
)

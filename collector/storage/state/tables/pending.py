"""What waits for the process that makes alerts, from those that detect and watch."""

from typing import Final

from sqlalchemy import Column, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, ROW_NUMBER
from collector.storage.state.types import BoundedText, Integer64

# collector.alerting.pending.PendingReports: deleted in the transaction that makes alerts of them.
PENDING_REPORTS: Final = Table(
    "pending_reports",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("kind", BoundedText(ID), nullable=False),
    Column("content", LargeBinary, nullable=False),
)

# Which signals of the detectors came: all of a series below `next`.
SIGNAL_SERIES: Final = Table(
    "signal_series",
    METADATA,
    Column("source", BoundedText(ID), primary_key=True),
    Column("series", BoundedText(NAME), nullable=False),
    Column("next", Integer64, nullable=False),
)

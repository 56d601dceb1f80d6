"""What the detectors learned, for the process that goes on with it."""

from typing import Final

from sqlalchemy import Boolean, Column, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, ROW_NUMBER, UNCOUNTED
from collector.storage.state.types import BoundedText, Integer64

# collector.detection.shared_memory.StateMemory: states by name, compressed. The present one is a checkpoint.
DETECTOR_STATES: Final = Table(
    "detector_states",
    METADATA,
    Column("name", BoundedText(ID), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    info={UNCOUNTED: True},
)

# Where reads of the log ended since that checkpoint, and what was obeyed before each. The first is the checkpoint.
DETECTOR_CUTS: Final = Table(
    "detector_cuts",
    METADATA,
    Column("number", Integer64, primary_key=True, autoincrement=False),
    Column("segment", Integer64, nullable=False),
    Column("place", Integer64, nullable=False),
    Column("messages", LargeBinary, nullable=False),
    Column("is_checkpoint", Boolean, nullable=False),
    info={UNCOUNTED: True},
)

# What the detectors of another collector are asked for; `subjects` is the answer.
DETECTOR_REQUESTS: Final = Table(
    "detector_requests",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("content", LargeBinary, nullable=False),
    Column("subjects", Integer64),
)

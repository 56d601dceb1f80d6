"""The last word of each sensor, whichever collector heard it."""

from typing import Final

from sqlalchemy import Column, Index, Integer, Table, Text

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE
from collector.storage.state.types import BoundedText, Hash64, Integer64, Number

# `state` is the wire's SensorState; `stages` is JSON: [{stage, seen, used, dropped: {reason: count}}]. `heard_by` is
# the process that wrote the row, and `written` counts the writes of the table, so that others read only what is new.
SENSORS: Final = Table(
    "sensors",
    METADATA,
    Column("node", BoundedText(NAME), primary_key=True),
    Column("cluster", BoundedText(NAME), nullable=False),
    Column("boot_id", BoundedText(NAME), nullable=False),
    Column("version", BoundedText(NAME), nullable=False),
    Column("kernel_release", BoundedText(NAME), nullable=False),
    Column("key_id", Hash64, nullable=False),
    Column("policy_epoch", Hash64, nullable=False),
    Column("policy_refusal", BoundedText(PROSE), nullable=False),
    Column("state", Integer, nullable=False),
    Column("reason", BoundedText(PROSE), nullable=False),
    Column("capture", BoundedText(NAME), nullable=False),
    Column("fallback_reason", BoundedText(PROSE), nullable=False),
    Column("certificate_not_after", Number, nullable=False),
    Column("first_seen", Number, nullable=False),
    Column("last_hello_at", Number, nullable=False),
    Column("last_health_at", Number, nullable=False),
    Column("last_batch_at", Number, nullable=False),
    Column("lag_ms", Hash64, nullable=False),
    Column("spool_bytes", Hash64, nullable=False),
    Column("memory_bytes", Hash64, nullable=False),
    Column("cpu_ns", Hash64, nullable=False),
    Column("seen_calls", Hash64, nullable=False),
    Column("lost_calls", Hash64, nullable=False),
    Column("stages", Text, nullable=False),
    Column("updated_at", Number, nullable=False),
    Column("heard_by", BoundedText(ID), nullable=False),
    Column("written", Integer64, nullable=False),
    Index("sensors_written", "written"),
)

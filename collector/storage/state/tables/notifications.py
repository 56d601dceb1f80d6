"""Notifications that wait for their receivers, and what receivers were notified of."""

from typing import Final

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, ROW_NUMBER, UNCOUNTED
from collector.storage.state.types import BoundedText, Integer64, Number

# collector.alerting.notifiers.outbox.Waiting, in the order in which they are sent. One is not sent before `held_until`
# (unix seconds); `is_first`: the receiver knows nothing of its alert.
NOTIFICATIONS: Final = Table(
    "notifications",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("notifier", BoundedText(NAME), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Number, nullable=False),
    Column("alert_id", BoundedText(ID), nullable=False, default=""),
    Column("held_until", Number, nullable=False, default=0.0),
    Column("is_first", Boolean, nullable=False, default=False),
    Index("ix_notifications_notifier", "notifier", "number"),
    info={UNCOUNTED: True},
)

# The newest of each alert: `news` has what a change of it would be worth a notification.
NOTIFIED: Final = Table(
    "notified",
    METADATA,
    Column("alert_id", BoundedText(ID), primary_key=True),
    Column("notifier", BoundedText(NAME), primary_key=True),
    Column("news", BoundedText(NAME), nullable=False),
    info={UNCOUNTED: True},
)

# collector.alerting.notifiers.audit_feed: up to which number a notifier has the audit log, and the last of the batch
# under way.
AUDIT_FEEDS: Final = Table(
    "audit_feeds",
    METADATA,
    Column("notifier", BoundedText(NAME), primary_key=True),
    Column("number", Integer64, nullable=False),
    Column("until", Integer64, nullable=False),
    info={UNCOUNTED: True},
)

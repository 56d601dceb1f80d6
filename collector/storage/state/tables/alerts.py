"""Alerts, their incidents and timelines, and what people decided on alerts and on the detection."""

from typing import Final

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE, ROW_NUMBER, SUBJECT
from collector.storage.state.types import BoundedText, Hash64, Integer64, Number

# collector.alerting.alert.Alert. `workload` is that of the service, for the filter.
ALERTS: Final = Table(
    "alerts",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("incident_id", BoundedText(ID), nullable=False),
    Column("kind", BoundedText(ID), nullable=False),
    Column("state", BoundedText(ID), nullable=False),
    Column("severity", BoundedText(ID), nullable=False),
    Column("confidence", BoundedText(ID), nullable=False),
    Column("title", BoundedText(PROSE), nullable=False),
    Column("why", BoundedText(PROSE), nullable=False),
    Column("advice", BoundedText(PROSE), nullable=False),
    Column("risk", BoundedText(ID), nullable=False),
    Column("endpoint_id", BoundedText(NAME), nullable=False),
    Column("service", BoundedText(NAME), nullable=False),
    Column("workload", BoundedText(NAME), nullable=False),
    Column("namespace", BoundedText(NAME), nullable=False),
    Column("host", BoundedText(NAME), nullable=False),
    Column("consumer", BoundedText(NAME), nullable=False),
    Column("held_by", BoundedText(NAME), nullable=False),
    Column("node", BoundedText(NAME), nullable=False),
    Column("nodes", JSON, nullable=False),
    Column("other_nodes", JSON, nullable=False),
    Column("opened_at", Number, nullable=False),
    Column("updated_at", Number, nullable=False),
    Column("closed_at", Number),
    Column("window_start", Number, nullable=False),
    Column("window_end", Number, nullable=False),
    Column("observed_rate", Number, nullable=False),
    Column("expected_rate", Number, nullable=False),
    Column("threshold_rate", Number, nullable=False),
    Column("score", Number, nullable=False),
    Column("calls", Integer64, nullable=False),
    Column("loss_ratio", Number, nullable=False),
    Column("measure", Number, nullable=False),
    Column("measure_limit", Number, nullable=False),
    Column("acknowledged_by", BoundedText(NAME), nullable=False),
    Column("acknowledged_at", Number),
    Column("verdict", BoundedText(ID), nullable=False),
    Column("verdict_at", Number),
    Column("verdict_by", BoundedText(NAME), nullable=False),
    Column("verdict_reach", BoundedText(ID), nullable=False, server_default=""),
    Index("ix_alerts_opened_at", "opened_at", "id"),
    Index("ix_alerts_incident_id", "incident_id"),
    Index("ix_alerts_consumer", "consumer"),
    Index("ix_alerts_endpoint_id", "endpoint_id"),
)

# The routes of an alert, in their order.
ALERT_ROUTES: Final = Table(
    "alert_routes",
    METADATA,
    Column("alert_id", BoundedText(ID), ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("route_id", Hash64, nullable=False),
    Index("ix_alert_routes_route_id", "route_id"),
)

# collector.alerting.lifecycle.IncidentEntry: the timelines of incidents.
INCIDENT_ENTRIES: Final = Table(
    "incident_entries",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("incident_id", BoundedText(ID), nullable=False),
    Column("time", Number, nullable=False),
    Column("alert_id", BoundedText(ID), nullable=False),
    Column("happening", BoundedText(ID), nullable=False),
    Column("kind", BoundedText(ID), nullable=False),
    Column("severity", BoundedText(ID), nullable=False),
    Column("title", BoundedText(PROSE), nullable=False),
    Column("why", BoundedText(PROSE), nullable=False),
    Index("ix_incident_entries_incident_id", "incident_id", "time"),
    Index("ix_incident_entries_alert_id", "alert_id"),
    Index("ix_incident_entries_time", "time"),
)

# collector.alerting.silences.Silence of a subject: those in force, and mutes that ended lately.
SILENCES: Final = Table(
    "silences",
    METADATA,
    Column("subject", BoundedText(SUBJECT), primary_key=True),
    Column("kind", BoundedText(ID), nullable=False),
    Column("by", BoundedText(NAME), nullable=False),
    Column("at", Number, nullable=False),
    Column("reason", BoundedText(PROSE), nullable=False),
    Column("until", Number),
    Column("alert_id", BoundedText(ID), nullable=False),
)

# collector.alerting.silences.KnownGood.
KNOWN_GOOD: Final = Table(
    "known_good",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("note", BoundedText(PROSE), nullable=False),
    Column("consumer", BoundedText(NAME), nullable=False),
    Column("network", BoundedText(ID), nullable=False),
    Column("workload", BoundedText(NAME), nullable=False),
    Column("endpoint_id", BoundedText(NAME), nullable=False),
    Column("kind", BoundedText(ID), nullable=False),
    Column("created_at", Number, nullable=False),
    Column("created_by", BoundedText(NAME), nullable=False),
    Column("expires_at", Number, nullable=False),
    Column("ended_at", Number),
    Column("ended_by", BoundedText(NAME), nullable=False),
    Column("updated_at", Number, nullable=False),
    Index("ix_known_good_expires_at", "expires_at"),
)

# collector.alerting.detection.ChosenLevel: one row, where somebody chose another level than that of the settings.
SENSITIVITY: Final = Table(
    "sensitivity",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("level", BoundedText(ID), nullable=False),
    Column("configured", BoundedText(ID), nullable=False),
    Column("at", Number, nullable=False),
    Column("by", BoundedText(NAME), nullable=False),
)

# collector.alerting.detection.DetectionDecision: who changed what of the detection.
DETECTION_DECISIONS: Final = Table(
    "detection_decisions",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("time", Number, nullable=False),
    Column("actor", BoundedText(NAME), nullable=False),
    Column("action", BoundedText(ID), nullable=False),
    Column("subject", BoundedText(NAME), nullable=False),
    Column("note", BoundedText(PROSE), nullable=False),
)

"""Imports alerts that an earlier version kept in ClickHouse."""

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, insert, select

from collector.alerting.alert import Alert, AlertKind, Confidence
from collector.alerting.lifecycle import IncidentEntry
from collector.alerting.repository import save_alerts, save_silences
from collector.alerting.silences import Silence, SilenceKind
from collector.storage.records import read_record
from collector.storage.state.imports import OldRows
from collector.storage.state.tables.alerts import ALERTS, INCIDENT_ENTRIES


def import_alerts(connection: Connection, rows: OldRows) -> None:
    """Alerts, timelines, which have what people did to them, and silences. Raises StoreError."""
    for alerts in rows.read("alerts", _read_alert):
        save_alerts(connection, alerts)
    for entries in rows.read("incident_entries", lambda row: read_record(IncidentEntry, row)):
        connection.execute(insert(INCIDENT_ENTRIES), [asdict(entry) for entry in entries])
    for silences in rows.read("alert_mutes", _read_silence):
        save_silences(
            connection,
            [
                silence if silence.alert_id else replace(silence, alert_id=_find_newest(connection, silence.subject))
                for silence in silences
                if silence is not None
            ],
        )


def _read_alert(row: dict[str, Any]) -> Alert:
    """Alerts from before there were incidents are one each; those from before there was a confidence have none."""
    return read_record(
        Alert, row, incident_id=row.get("incident_id") or row["id"], confidence=Confidence(row.get("confidence", ""))
    )


def _read_silence(row: dict[str, Any]) -> Silence | None:
    """One that is neither expected nor muted was undone. Those of 0.1.0 do not say on which alert they were made."""
    kind, *names = row["subject"].split("|")
    is_expected, until = bool(row["is_expected"]), row["muted_until"]
    if not is_expected and until is None:
        return None
    return Silence(
        kind=SilenceKind.EXPECTED if is_expected else SilenceKind.MUTED,
        by=row["actor"],
        at=row["updated_at"],
        reason=row.get("reason", ""),
        until=None if is_expected else until,
        subject="|".join((AlertKind(kind), *names)),
        alert_id=row.get("alert_id", ""),
    )


def _find_newest(connection: Connection, subject: str) -> str:
    """The newest alert of a subject stands for it."""
    own = ALERTS.c.kind + "|" + ALERTS.c.endpoint_id + "|" + ALERTS.c.consumer + "|" + ALERTS.c.node  # Alert.subject
    newest = select(ALERTS.c.id).where(own == subject).order_by(ALERTS.c.opened_at.desc()).limit(1)
    return str(connection.execute(newest).scalar() or "")

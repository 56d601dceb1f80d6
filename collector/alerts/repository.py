"""Alerts in the store: every change is a row of `alerts` (the newest version of an id holds), every decision one of
`alert_actions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from collector.alerts.alert import Alert, AlertKind, AlertState, Confidence, Severity, Verdict
from collector.alerts.incident import Happening, Incident, IncidentEntry

_COLUMNS = ", ".join(field.name for field in fields(Alert))
_RESTORED_MAX = 10_000
_ENTRIES_MAX = 1_000  # The newest of a timeline.
_ENTRY_COLUMNS = ", ".join(field.name for field in fields(IncidentEntry))
_SEVERITIES = ", ".join(f"'{severity.value}'" for severity in Severity)  # Gravest last.
# Alerts from before there were incidents are one each.
_INCIDENTS = f"""
SELECT if(incident_id = '', id, incident_id) AS incident,
    argMax(multiIf(consumer != '', consumer, endpoint_id != '', endpoint_id, node), opened_at) AS actor,
    max(state = 'open') AS is_open,
    arrayElement([{_SEVERITIES}], toUInt8(max(indexOf([{_SEVERITIES}], severity)))) AS severity_most,
    argMax(title, opened_at) AS title_newest,
    arraySort(groupUniqArray(kind)) AS kinds,
    arraySort(arrayFilter(r -> r != '', groupUniqArray(risk))) AS risks,
    count() AS alerts_count,
    min(opened_at) AS first_at,
    max(updated_at) AS last_at
FROM alerts FINAL
GROUP BY incident
"""


class Place(Protocol):
    """The last alert shown: the next page holds what sorts after it."""

    @property
    def opened_at(self) -> float:
        """Unix seconds."""
        ...

    @property
    def id(self) -> str:
        """Breaks ties."""
        ...


class Database(Protocol):
    """What of the store this room uses (collector.store.base.Store). Methods raise StoreError."""

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        """Columns of a SELECT."""
        ...

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """Append dataclasses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAction:
    """What a person did: a row of `alert_actions`."""

    alert_id: str
    time: float
    action: str  # acknowledge, mute, expect or unexpect.
    actor: str
    until: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """What is silenced by subject: a row of `alert_mutes`."""

    subject: str
    updated_at: float
    muted_until: float | None
    is_expected: bool
    actor: str


class AlertTable:
    """Reads and writes alerts. Methods raise StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, alerts: Sequence[Alert]) -> None:
        """Append the alerts as they are now."""
        self._database.insert_records("alerts", alerts)

    def record(self, action: AlertAction, silence: Silence | None) -> None:
        """Append a decision, and what it silences."""
        self._database.insert_records("alert_actions", [action])
        if silence is not None:
            self._database.insert_records("alert_mutes", [silence])

    def list(
        self, *, state: AlertState | None, kind: AlertKind | None, limit: int, after: Place | None
    ) -> tuple[Alert, ...]:
        """At most `limit` alerts by (opened_at, id) descending."""
        conditions, parameters = ["1"], {"limit": limit}  # type: tuple[list[str], dict[str, Any]]
        if state is not None:
            conditions.append("state = {state:String}")
            parameters["state"] = state.value
        if kind is not None:
            conditions.append("kind = {kind:String}")
            parameters["kind"] = kind.value
        if after is not None:
            conditions.append("(opened_at, id) < ({opened_at:Float64}, {id:String})")
            parameters |= {"opened_at": after.opened_at, "id": after.id}
        return self._select(
            f"{' AND '.join(conditions)} ORDER BY opened_at DESC, id DESC LIMIT {{limit:UInt32}}", parameters
        )

    def get(self, alert_id: str) -> Alert | None:
        """One alert."""
        found = self._select("id = {id:String}", {"id": alert_id})
        return found[0] if found else None

    def list_restorable(self, since: float) -> tuple[Alert, ...]:
        """Open alerts, and those that changed after `since`."""
        condition = "(state = 'open' OR updated_at > {since:Float64}) ORDER BY opened_at DESC LIMIT {limit:UInt32}"
        return self._select(condition, {"since": since, "limit": _RESTORED_MAX})

    def list_judged(self) -> tuple[Alert, ...]:
        """Alerts that somebody judged, oldest verdict first."""
        return self._select("verdict != '' ORDER BY verdict_at DESC LIMIT {limit:UInt32}", {"limit": _RESTORED_MAX})[
            ::-1
        ]

    def write_entries(self, entries: Sequence[IncidentEntry]) -> None:
        """Append to timelines."""
        self._database.insert_records("incident_entries", entries)

    def list_incidents(self, *, state: AlertState | None, limit: int, after: Place | None) -> tuple[Incident, ...]:
        """At most `limit` incidents by (opened_at, id) descending."""
        conditions, parameters = ["1"], {"limit": limit}  # type: tuple[list[str], dict[str, Any]]
        if state is not None:
            conditions.append("is_open = {is_open:UInt8}")
            parameters["is_open"] = int(state is AlertState.OPEN)
        if after is not None:
            conditions.append("(first_at, incident) < ({opened_at:Float64}, {id:String})")
            parameters |= {"opened_at": after.opened_at, "id": after.id}
        order = "ORDER BY first_at DESC, incident DESC LIMIT {limit:UInt32}"
        return self._select_incidents(f"{_INCIDENTS} HAVING {' AND '.join(conditions)} {order}", parameters)

    def get_incident(self, incident_id: str) -> Incident | None:
        """One incident."""
        found = self._select_incidents(f"{_INCIDENTS} HAVING incident = {{id:String}}", {"id": incident_id})
        return found[0] if found else None

    def list_incident_alerts(self, incident_id: str) -> tuple[Alert, ...]:
        """Its alerts, newest first."""
        condition = "incident_id = {id:String} OR (incident_id = '' AND id = {id:String})"
        return self._select(f"{condition} ORDER BY opened_at DESC, id DESC", {"id": incident_id})

    def list_entries(self, incident_id: str) -> tuple[IncidentEntry, ...]:
        """The timeline of an incident, oldest first; of a long one the newest entries."""
        columns = self._database.query_columns(
            f"SELECT {_ENTRY_COLUMNS} FROM incident_entries WHERE incident_id = {{id:String}} "
            "ORDER BY time DESC, alert_id, happening LIMIT {limit:UInt32}",
            {"id": incident_id, "limit": _ENTRIES_MAX},
        )
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return tuple(
            IncidentEntry(
                **row
                | {
                    "happening": Happening(row["happening"]),
                    "kind": AlertKind(row["kind"]),
                    "severity": Severity(row["severity"]),
                }
            )
            for row in reversed(rows)
        )

    def list_silences(self) -> tuple[dict[str, float], set[str]]:
        """Muted subjects with the end of the mute, and expected subjects."""
        columns = self._database.query_columns("SELECT subject, muted_until, is_expected FROM alert_mutes FINAL")
        rows = list(zip(columns["subject"], columns["muted_until"], columns["is_expected"], strict=True))
        return {subject: until for subject, until, _ in rows if until}, {subject for subject, _, is_on in rows if is_on}

    def _select_incidents(self, sql: str, parameters: dict[str, Any]) -> tuple[Incident, ...]:
        columns = self._database.query_columns(sql, parameters)
        return tuple(
            Incident(
                id=row["incident"],
                actor=row["actor"],
                state=AlertState.OPEN if row["is_open"] else AlertState.CLOSED,
                severity=Severity(row["severity_most"]),
                title=row["title_newest"],
                kinds=tuple(AlertKind(kind) for kind in row["kinds"]),
                risks=tuple(row["risks"]),
                alerts=int(row["alerts_count"]),
                opened_at=row["first_at"],
                updated_at=row["last_at"],
            )
            for row in (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        )

    def _select(self, condition: str, parameters: dict[str, Any]) -> tuple[Alert, ...]:
        columns = self._database.query_columns(f"SELECT {_COLUMNS} FROM alerts FINAL WHERE {condition}", parameters)
        return tuple(_read(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))


def _read(row: dict[str, Any]) -> Alert:
    kind, state, severity = AlertKind(row["kind"]), AlertState(row["state"]), Severity(row["severity"])
    route_ids = tuple(int(value) for value in row["route_ids"])
    plain = {"kind": kind, "state": state, "severity": severity, "route_ids": route_ids}
    # Rows from before there was a confidence hold none.
    confidence = Confidence(row["confidence"] or Confidence.MEDIUM)
    plain |= {"confidence": confidence, "verdict": Verdict(row["verdict"])}
    return Alert(**{**row, **plain, "is_expected": bool(row["is_expected"])})

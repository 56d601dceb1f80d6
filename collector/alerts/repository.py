"""Alerts in the store: every change is a row of `alerts` (the newest version of an id holds), every decision one of
`alert_actions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from collector.alerts.alert import Alert, AlertKind, AlertState, Severity

_COLUMNS = ", ".join(field.name for field in fields(Alert))
_RESTORED_MAX = 10_000


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

    def list_silences(self) -> tuple[dict[str, float], set[str]]:
        """Muted subjects with the end of the mute, and expected subjects."""
        columns = self._database.query_columns("SELECT subject, muted_until, is_expected FROM alert_mutes FINAL")
        rows = list(zip(columns["subject"], columns["muted_until"], columns["is_expected"], strict=True))
        return {subject: until for subject, until, _ in rows if until}, {subject for subject, _, is_on in rows if is_on}

    def _select(self, condition: str, parameters: dict[str, Any]) -> tuple[Alert, ...]:
        columns = self._database.query_columns(f"SELECT {_COLUMNS} FROM alerts FINAL WHERE {condition}", parameters)
        return tuple(_read(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))


def _read(row: dict[str, Any]) -> Alert:
    kind, state, severity = AlertKind(row["kind"]), AlertState(row["state"]), Severity(row["severity"])
    route_ids = tuple(int(value) for value in row["route_ids"])
    plain = {"kind": kind, "state": state, "severity": severity, "route_ids": route_ids}
    return Alert(**{**row, **plain, "is_expected": bool(row["is_expected"])})

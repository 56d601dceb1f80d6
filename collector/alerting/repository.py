"""Stores alerts: every change is a row of `alerts` (an id's newest version holds), every decision one of
`alert_actions`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypedDict, TypeVar, Unpack

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity
from collector.alerting.lifecycle import Incident, IncidentEntry
from collector.alerting.silences import Silence, SilenceKind
from collector.storage.base import Store
from collector.storage.records import select, select_records

RecordT = TypeVar("RecordT")
_RESTORED_MAX = 10_000
_ENTRIES_MAX = 1_000  # The newest of a timeline.
_SEVERITIES = ", ".join(f"'{severity.value}'" for severity in Severity)  # Gravest last.
_IS_SILENCED = "has({silenced:Array(String)}, id)"
_SHOWN_STATE = f"if({_IS_SILENCED}, 'silenced', state)"
_RANK = f"indexOf([{_SEVERITIES}], severity)"
# `shop/orders:8080` without the namespace and the port.
_WORKLOAD = r"replaceRegexpOne(service, '^(?:[^/]*/)?(.*):[0-9]+$', '\\1')"
_ROUTES = "(SELECT groupArray(route_id) FROM endpoint_routes FINAL WHERE endpoint_id = {endpoint:String})"
# By the name of a filter (AlertFilters). The id of an endpoint changes with its template, and its routes do not.
_CONDITIONS: Final[Mapping[str, str]] = {
    "state": f"{_SHOWN_STATE} = {{state:String}}",
    "kind": "kind = {kind:String}",
    "severity": "severity = {severity:String}",
    "confidence": "confidence = {confidence:String}",
    "service": f"(service = {{service:String}} OR {_WORKLOAD} = {{service:String}})",
    "namespace": "namespace = {namespace:String}",
    "endpoint": f"(endpoint_id = {{endpoint:String}} OR hasAny(route_ids, {_ROUTES}))",
    "consumer": "consumer = {consumer:String}",
    "start": "(state = 'open' OR closed_at >= {start:Float64})",
    "end": "opened_at < {end:Float64}",
}
# Alerts from before there were incidents are one each.
_INCIDENTS = f"""(
    SELECT incident AS id, actor, multiIf(is_open, 'open', is_silenced, 'silenced', 'closed') AS state,
        gravest AS severity, newest AS title, kinds, risks, alerts, first_at AS opened_at, last_at AS updated_at
    FROM (
        SELECT if(incident_id = '', id, incident_id) AS incident,
            argMax(multiIf(consumer != '', consumer, endpoint_id != '', endpoint_id, node), opened_at) AS actor,
            max(state = 'open' AND NOT {_IS_SILENCED}) AS is_open,
            max({_IS_SILENCED}) AS is_silenced,
            arrayElement([{_SEVERITIES}], toUInt8(max(indexOf([{_SEVERITIES}], severity)))) AS gravest,
            argMax(title, opened_at) AS newest,
            arraySort(groupUniqArray(kind)) AS kinds,
            arraySort(arrayFilter(r -> r != '', groupUniqArray(risk))) AS risks,
            count() AS alerts,
            min(opened_at) AS first_at,
            max(updated_at) AS last_at
        FROM alerts FINAL GROUP BY incident
    )
)"""


class AlertSort(StrEnum):
    """What alerts may be sorted by."""

    NEWEST = "newest"
    SEVERITY = "severity"  # Gravest first, and of these the newest.


class AlertFilters(TypedDict, total=False):
    """Which alerts, and in which order; empty or None: any. Times are unix seconds."""

    state: AlertState | None
    kind: AlertKind | None
    severity: Severity | None
    confidence: Confidence | None
    service: str  # As listed, or a workload's name.
    namespace: str
    endpoint: str  # Its id, or one that it had.
    consumer: str  # `kind:value`.
    start: float | None  # Those that were open then or later,
    end: float | None  # and were opened before then.
    sort: AlertSort


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPlace:
    """The last alert or incident shown: the next page holds what was opened before it (ids break ties). `severity` is
    there where the page is sorted by it."""

    opened_at: float
    id: str
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAction:
    """What a person did: a row of `alert_actions`."""

    alert_id: str
    time: float
    action: str  # A Happening.
    actor: str
    until: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SilenceRow:
    """What is silenced by subject: a row of `alert_mutes`. One neither muted nor expected is a silence undone."""

    subject: str
    updated_at: float
    muted_until: float | None
    is_expected: bool
    actor: str
    alert_id: str
    reason: str


class AlertTable:
    """Reads and writes alerts. Methods raise StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, alerts: Sequence[Alert]) -> None:
        """Append the alerts as they are now."""
        self._store.insert_records("alerts", alerts)

    def record(self, action: AlertAction) -> None:
        """Append a decision."""
        self._store.insert_records("alert_actions", [action])

    def silence(self, silence: Silence) -> None:
        """Append what is silenced."""
        self._save_silence(silence, is_expected=silence.kind is SilenceKind.EXPECTED, until=silence.until)

    def lift(self, silence: Silence, *, by: str, at: float) -> None:
        """Append that a silence is over."""
        self._save_silence(replace(silence, by=by, at=at, reason=""), is_expected=False, until=None)

    def _save_silence(self, silence: Silence, *, is_expected: bool, until: float | None) -> None:
        row = _SilenceRow(
            subject=silence.subject,
            updated_at=silence.at,
            muted_until=until,
            is_expected=is_expected,
            actor=silence.by,
            alert_id=silence.alert_id,
            reason=silence.reason,
        )
        self._store.insert_records("alert_mutes", [row])

    def list(
        self,
        *,
        limit: int,
        after: AlertPlace | None,
        silenced: Collection[str],
        **asked: Unpack[AlertFilters],
    ) -> tuple[Alert, ...]:
        """At most `limit` alerts in the order asked for; `silenced`: ids of those that are."""
        conditions, parameters = _narrow(asked, silenced)
        is_graded = asked.get("sort") is AlertSort.SEVERITY
        return self._page(Alert, "alerts FINAL", conditions, parameters, limit, after, is_graded=is_graded)

    def count(
        self, *, silenced: Collection[str], **asked: Unpack[AlertFilters]
    ) -> dict[tuple[AlertState, Severity], int]:
        """How many alerts there are, by state and severity."""
        conditions, parameters = _narrow(asked, silenced)
        rows = select(
            self._store,
            f"SELECT {_SHOWN_STATE} AS shown, severity, count() AS alerts FROM alerts FINAL "
            f"WHERE {' AND '.join(conditions)} GROUP BY shown, severity",
            {**parameters, "silenced": sorted(silenced)},
        )
        return {(AlertState(row["shown"]), Severity(row["severity"])): int(row["alerts"]) for row in rows}

    def get(self, alert_id: str) -> Alert | None:
        """One alert."""
        found = select_records(self._store, Alert, "alerts FINAL WHERE id = {id:String}", {"id": alert_id})
        return found[0] if found else None

    def list_restorable(self, since: float) -> tuple[Alert, ...]:
        """Open alerts, and those that changed after `since`."""
        source = "alerts FINAL WHERE state = 'open' OR updated_at > {since:Float64} ORDER BY opened_at DESC"
        return select_records(self._store, Alert, source, {"since": since}, limit=_RESTORED_MAX)

    def list_with_verdict(self) -> tuple[Alert, ...]:
        """Alerts that somebody gave a verdict on, oldest verdict first."""
        source = "alerts FINAL WHERE verdict != '' ORDER BY verdict_at DESC"
        return select_records(self._store, Alert, source, limit=_RESTORED_MAX)[::-1]

    def write_entries(self, entries: Sequence[IncidentEntry]) -> None:
        """Append to timelines."""
        self._store.insert_records("incident_entries", entries)

    def list_incidents(
        self, *, state: AlertState | None, limit: int, after: AlertPlace | None, silenced: Collection[str]
    ) -> tuple[Incident, ...]:
        """At most `limit` incidents by (opened_at, id) descending; `silenced`: ids of alerts that are."""
        conditions, parameters = ["1"], {"silenced": sorted(silenced)}  # type: tuple[list[str], dict[str, Any]]
        if state is not None:
            conditions.append("state = {state:String}")
            parameters["state"] = state.value
        return self._page(Incident, _INCIDENTS, conditions, parameters, limit, after)

    def get_incident(self, incident_id: str, *, silenced: Collection[str]) -> Incident | None:
        """One incident."""
        parameters = {"id": incident_id, "silenced": sorted(silenced)}
        found = select_records(self._store, Incident, f"{_INCIDENTS} WHERE id = {{id:String}}", parameters)
        return found[0] if found else None

    def _page(
        self,
        record: type[RecordT],
        table: str,
        conditions: Sequence[str],
        parameters: Mapping[str, Any],
        limit: int,
        after: AlertPlace | None,
        *,
        is_graded: bool = False,
    ) -> tuple[RecordT, ...]:
        keys = {"opened_at": "{opened_at:Float64}", "id": "{id:String}"}
        place: dict[str, Any] = {}
        if is_graded:
            keys = {_RANK: "{rank:UInt8}", **keys}
        if after is not None:
            place = {"opened_at": after.opened_at, "id": after.id}
            place |= {"rank": after.severity.rank + 1 if after.severity is not None else 0} if is_graded else {}
            conditions = [*conditions, f"({', '.join(keys)}) < ({', '.join(keys.values())})"]
        order = ", ".join(f"{key} DESC" for key in keys)
        source = f"{table} WHERE {' AND '.join(conditions)} ORDER BY {order}"
        return select_records(self._store, record, source, {**parameters, **place}, limit=limit)

    def list_incident_alerts(self, incident_id: str) -> tuple[Alert, ...]:
        """Its alerts, newest first."""
        condition = "incident_id = {id:String} OR (incident_id = '' AND id = {id:String})"
        source = f"alerts FINAL WHERE {condition} ORDER BY opened_at DESC, id DESC"
        return select_records(self._store, Alert, source, {"id": incident_id})

    def list_entries(self, incident_id: str) -> tuple[IncidentEntry, ...]:
        """The timeline of an incident, oldest first; of a long one the newest entries."""
        source = "incident_entries WHERE incident_id = {id:String} ORDER BY time DESC, alert_id, happening"
        return select_records(self._store, IncidentEntry, source, {"id": incident_id}, limit=_ENTRIES_MAX)[::-1]

    def list_silences(self, now: float) -> tuple[Silence, ...]:
        """Those of subjects that hold. Rows of 0.1.0 do not say on which alert they were made: the newest of the
        subject stands for it."""
        source = "alert_mutes FINAL WHERE is_expected OR muted_until > {now:Float64}"
        rows = select_records(self._store, _SilenceRow, source, {"now": now})
        newest = self._find_newest([row.subject for row in rows if not row.alert_id])
        return tuple(
            Silence(
                kind=SilenceKind.EXPECTED if row.is_expected else SilenceKind.MUTED,
                by=row.actor,
                at=row.updated_at,
                reason=row.reason,
                until=None if row.is_expected else row.muted_until,
                subject=row.subject,
                alert_id=row.alert_id or newest.get(row.subject, ""),
            )
            for row in rows
        )

    def _find_newest(self, subjects: Sequence[str]) -> dict[str, str]:
        """Ids of the newest alerts by subject (Alert.subject)."""
        if not subjects:
            return {}
        columns = self._store.query_columns(
            "SELECT concat(kind, '|', endpoint_id, '|', consumer, '|', node) AS subject, "
            "argMax(id, opened_at) AS newest "
            "FROM alerts FINAL GROUP BY subject HAVING has({subjects:Array(String)}, subject)",
            {"subjects": list(subjects)},
        )
        return dict(zip(columns["subject"], columns["newest"], strict=True))


def _narrow(asked: AlertFilters, silenced: Collection[str]) -> tuple[list[str], dict[str, Any]]:
    """The conditions on alerts and their parameters."""
    given = {name: value for name, value in asked.items() if name in _CONDITIONS and value not in ("", None)}
    conditions = ["1", *(_CONDITIONS[name] for name in given)]
    return conditions, {**given, **({"silenced": sorted(silenced)} if "state" in given else {})}

"""Keeps alerts, what people did to them, the timelines of incidents, and silences in the state.

An alert, its entries and the decision that changed it are one transaction.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Final, NoReturn, TypedDict, Unpack

from sqlalchemy import ColumnElement, Connection, Row, Select, case, delete, func, insert, or_, select, tuple_

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity
from collector.alerting.lifecycle import Incident, IncidentEntry
from collector.alerting.pending import Write, WriteAlso, delete_pending
from collector.alerting.silences import Silence
from collector.core.feature import Feature, Job, Role
from collector.storage.base import LeaseLostError
from collector.storage.disk import StoredRows
from collector.storage.state.erasing import blank_texts, find_mentions
from collector.storage.state.store import StateStore, read_row, upsert
from collector.storage.state.tables.alerts import ALERT_ROUTES, ALERTS, INCIDENT_ENTRIES, SILENCES
from collector.storage.state.tables.notifications import NOTIFIED
from collector.trust.audit import AuditEntry, add_entries
from common.figures import make_totals

# However many there are within the retention: with their timelines and what people did some 500 MB.
EXPIRE_SECONDS: Final = 3_600.0  # Between two looks for what is too old.
ALERTS_MAX: Final = 100_000
ENTRIES_MAX: Final = 500_000
_RESTORED_MAX = 10_000
_ENTRIES_SHOWN_MAX = 1_000  # The newest of a timeline.
_IDS_MAX: Final = 10_000  # In one statement.
_RANK: Final = case({severity.value: severity.rank for severity in Severity}, value=ALERTS.c.severity)
_WORKLOAD: Final = re.compile(r"(?:[^/]*/)?(.*):[0-9]+")  # `shop/orders:8080` without the namespace and the port.


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


def _refuse() -> NoReturn:
    raise LeaseLostError("This collector does not make alerts now.")


class AlertTable:
    """Reads and writes alerts. Methods raise StoreError."""

    def __init__(
        self,
        state: StateStore,
        find_routes: Callable[[str], Sequence[int]] = lambda endpoint_id: (),
        begin: Callable[[], Write] | None = None,
    ) -> None:
        """`find_routes` gives the routes of an endpoint: its id changes with its template, and its routes do not.
        `begin` gives the transactions of the holder of the lease, once it has it; without one any process writes."""
        self._state = state
        self._find_routes = find_routes
        self._evicted_count = 0
        self._begin = begin
        self._write: Write = state.write if begin is None else _refuse

    def count_writes(self) -> int:
        """Another number where alerts or silences changed, in any process."""
        return self._state.count_writes([ALERTS.name, SILENCES.name])

    def begin(self) -> None:
        """Write as the present holder of the lease from here on. Raises LeaseLostError where that is another."""
        if self._begin is not None:
            self._write = self._begin()

    def write(
        self,
        *,
        alerts: Sequence[Alert] = (),
        entries: Sequence[IncidentEntry] = (),
        silence: Silence | None = None,
        lifted: str = "",
        taken: Collection[int] = (),
        decided: Sequence[AuditEntry] = (),
        also: WriteAlso = lambda connection: None,
    ) -> None:
        """The alerts as they are now, what timelines gained, what is silenced or (`lifted`, a subject) no longer,
        (`taken`) numbers of pending reports that alerts were made of, what of it the audit log keeps, and what `also`
        writes: all of it, or nothing."""
        with self._write() as connection:
            delete_pending(connection, taken)
            save_alerts(connection, alerts)
            also(connection)
            if entries:
                connection.execute(insert(INCIDENT_ENTRIES), [asdict(entry) for entry in entries])
            if lifted:
                connection.execute(delete(SILENCES).where(SILENCES.c.subject == lifted))
            if silence is not None:
                save_silences(connection, [silence])
            add_entries(connection, decided)

    def list(
        self,
        *,
        limit: int,
        after: AlertPlace | None,
        silenced: Collection[str],
        **asked: Unpack[AlertFilters],
    ) -> tuple[Alert, ...]:
        """At most `limit` alerts in the order asked for; `silenced`: ids of those that are."""
        conditions = [*self._narrow(asked, silenced)]
        keys: list[ColumnElement[Any]] = [ALERTS.c.opened_at, ALERTS.c.id]
        place: list[Any] = [after.opened_at, after.id] if after is not None else []
        if asked.get("sort") is AlertSort.SEVERITY:
            keys = [_RANK, *keys]
            place = [after.severity.rank if after.severity is not None else -1, *place] if after is not None else []
        if place:
            conditions.append(tuple_(*keys) < tuple_(*place))
        statement = select(ALERTS).where(*conditions).order_by(*(key.desc() for key in keys)).limit(limit)
        return self._read_alerts(statement)

    def count(
        self, *, silenced: Collection[str], **asked: Unpack[AlertFilters]
    ) -> dict[tuple[AlertState, Severity], int]:
        """How many alerts there are, by state and severity."""
        shown = _show_state(silenced).label("shown")
        columns = (shown, ALERTS.c.severity, func.count().label("alerts"))
        statement = select(*columns).where(*self._narrow(asked, silenced)).group_by(shown, ALERTS.c.severity)
        with self._state.read() as connection:
            rows = connection.execute(statement).all()
        return {(AlertState(row.shown), Severity(row.severity)): row.alerts for row in rows}

    def get(self, alert_id: str) -> Alert | None:
        """One alert."""
        found = self._read_alerts(select(ALERTS).where(ALERTS.c.id == alert_id))
        return found[0] if found else None

    def list_restorable(self, since: float) -> tuple[Alert, ...]:
        """Open alerts, and those that changed after `since`."""
        is_recent = or_(ALERTS.c.state == AlertState.OPEN, ALERTS.c.updated_at > since)
        return self._read_alerts(
            select(ALERTS).where(is_recent).order_by(ALERTS.c.opened_at.desc()).limit(_RESTORED_MAX)
        )

    def list_with_verdict(self) -> tuple[Alert, ...]:
        """Alerts that somebody gave a verdict on, oldest verdict first."""
        newest = select(ALERTS).where(ALERTS.c.verdict != "").order_by(ALERTS.c.verdict_at.desc())
        return self._read_alerts(newest.limit(_RESTORED_MAX))[::-1]

    def list_incidents(
        self, *, state: AlertState | None, limit: int, after: AlertPlace | None, silenced: Collection[str]
    ) -> tuple[Incident, ...]:
        """At most `limit` incidents by (opened_at, id) descending; `silenced`: ids of alerts that are."""
        grouped = _group_incidents(silenced).subquery()
        statement = select(grouped).order_by(grouped.c.opened_at.desc(), grouped.c.id.desc()).limit(limit)
        if state is not None:
            statement = statement.where(grouped.c.state == state)
        if after is not None:
            statement = statement.where(tuple_(grouped.c.opened_at, grouped.c.id) < tuple_(after.opened_at, after.id))
        return self._read_incidents(statement)

    def get_incident(self, incident_id: str, *, silenced: Collection[str]) -> Incident | None:
        """One incident."""
        found = self._read_incidents(_group_incidents(silenced).where(ALERTS.c.incident_id == incident_id))
        return found[0] if found else None

    def list_incident_alerts(self, incident_id: str) -> tuple[Alert, ...]:
        """Its alerts, newest first."""
        own = select(ALERTS).where(ALERTS.c.incident_id == incident_id)
        return self._read_alerts(own.order_by(ALERTS.c.opened_at.desc(), ALERTS.c.id.desc()))

    def list_entries(self, incident_id: str) -> tuple[IncidentEntry, ...]:
        """The timeline of an incident, oldest first; of a long one the newest entries."""
        own = select(INCIDENT_ENTRIES).where(INCIDENT_ENTRIES.c.incident_id == incident_id)
        newest = own.order_by(INCIDENT_ENTRIES.c.time.desc(), INCIDENT_ENTRIES.c.number.desc())
        with self._state.read() as connection:
            rows = connection.execute(newest.limit(_ENTRIES_SHOWN_MAX)).all()
        return tuple(read_row(IncidentEntry, row) for row in reversed(rows))

    def list_silences(self, now: float) -> tuple[Silence, ...]:
        """Those of subjects that hold."""
        in_force = select(SILENCES).where(or_(SILENCES.c.until.is_(None), SILENCES.c.until > now))
        with self._state.read() as connection:
            return tuple(read_row(Silence, row) for row in connection.execute(in_force))

    def make_feature(self, clock: Callable[[], float], kept_days: int) -> Feature:
        """What the collector repeats and shows."""
        text = f"Closed alerts that were deleted because there were more than {ALERTS_MAX:,}."
        return Feature(
            name="kept alerts",
            role=Role.JOBS,
            jobs=(Job(works=(lambda: self.expire(clock(), kept_days),), seconds=EXPIRE_SECONDS),),
            figures=lambda: make_totals([("alerts_evicted", text, self._evicted_count)]),
        )

    def expire(self, now: float, kept_days: int) -> int:
        """Delete what is past its retention, and the oldest beyond what is kept at most; how many alerts of those."""
        before = now - kept_days * 86_400
        with self._state.write() as connection:
            connection.execute(delete(ALERTS).where(ALERTS.c.opened_at < before))
            connection.execute(delete(INCIDENT_ENTRIES).where(INCIDENT_ENTRIES.c.time < before))
            is_over = SILENCES.c.until.is_not(None) & (SILENCES.c.until < now)
            connection.execute(delete(SILENCES).where(or_(SILENCES.c.at < before, is_over)))
            beyond = select(ALERTS.c.id).where(ALERTS.c.state != AlertState.OPEN).order_by(ALERTS.c.opened_at.desc())
            evicted = connection.execute(delete(ALERTS).where(ALERTS.c.id.in_(beyond.offset(ALERTS_MAX)))).rowcount
            connection.execute(delete(NOTIFIED).where(NOTIFIED.c.alert_id.not_in(select(ALERTS.c.id))))
            number = INCIDENT_ENTRIES.c.number
            older = select(number).order_by(number.desc()).offset(ENTRIES_MAX)
            connection.execute(delete(INCIDENT_ENTRIES).where(number.in_(older)))
        self._evicted_count += int(evicted)
        return int(evicted)

    def erase(self, consumer: str, pattern: re.Pattern[str]) -> dict[str, int]:
        """Delete what is of a consumer or names it by the pattern, and blank its name elsewhere; rows by table."""
        with self._state.write() as connection:
            gone = {
                *find_mentions(connection, ALERTS, ("title", "why"), pattern),
                *connection.execute(select(ALERTS.c.id).where(ALERTS.c.consumer == consumer)).scalars(),
            }
            counts = {
                INCIDENT_ENTRIES.name: _delete(connection, INCIDENT_ENTRIES.c.alert_id, gone)
                + _delete(
                    connection,
                    INCIDENT_ENTRIES.c.number,
                    find_mentions(connection, INCIDENT_ENTRIES, ("title", "why"), pattern),
                ),
                SILENCES.name: _delete(
                    connection, SILENCES.c.subject, find_mentions(connection, SILENCES, ("subject",), pattern)
                ),
                ALERTS.name: _delete(connection, ALERTS.c.id, gone),
            }
            counts[SILENCES.name] += blank_texts(connection, SILENCES, "reason", pattern)
        return counts

    def _narrow(self, asked: AlertFilters, silenced: Collection[str]) -> tuple[ColumnElement[bool], ...]:
        """The conditions on alerts."""
        given = {name: value for name, value in asked.items() if value not in ("", None)}
        conditions = [_CONDITIONS[name](value) for name, value in given.items() if name in _CONDITIONS]
        if "state" in given:
            conditions.append(_show_state(silenced) == given["state"])
        if endpoint_id := asked.get("endpoint"):
            routes = select(ALERT_ROUTES.c.alert_id).where(ALERT_ROUTES.c.route_id.in_(self._find_routes(endpoint_id)))
            conditions.append(or_(ALERTS.c.endpoint_id == endpoint_id, ALERTS.c.id.in_(routes)))
        return tuple(conditions)

    def _read_alerts(self, statement: Select[Any]) -> tuple[Alert, ...]:
        with self._state.read() as connection:
            rows = connection.execute(statement).all()
            routes: dict[str, list[int]] = {row.id: [] for row in rows}
            ordered = select(ALERT_ROUTES).order_by(ALERT_ROUTES.c.alert_id, ALERT_ROUTES.c.position)
            for ids in _split(routes):
                for row in connection.execute(ordered.where(ALERT_ROUTES.c.alert_id.in_(ids))):
                    routes[row.alert_id].append(row.route_id)
        return tuple(read_row(Alert, row, route_ids=tuple(routes[row.id])) for row in rows)

    def _read_incidents(self, statement: Select[Any]) -> tuple[Incident, ...]:
        with self._state.read() as connection:
            found = connection.execute(statement).all()
            own: dict[str, list[Row[Any]]] = {row.id: [] for row in found}
            members = select(ALERTS).where(ALERTS.c.incident_id.in_(own)).order_by(ALERTS.c.opened_at, ALERTS.c.id)
            for row in connection.execute(members):
                own[row.incident_id].append(row)
        return tuple(_read_incident(row, own[row.id]) for row in found)


def measure_alerts(state: StateStore, kept_days: int, now: float) -> StoredRows:
    """The whole state, most of which they are. Raises StoreError."""
    with state.read() as connection:
        rows, oldest = connection.execute(select(func.count(), func.min(ALERTS.c.opened_at))).one()
    span, kept = int(now - oldest) if rows else 0, kept_days * 86_400
    return StoredRows(
        what="Alerts, with the whole state",
        setting="retention.alert_days",
        kept_seconds=kept,
        rows=rows,
        bytes=state.measure_bytes(),
        span_seconds=max(0, min(span, kept)),
    )


def save_alerts(connection: Connection, alerts: Sequence[Alert]) -> None:
    """The alerts as they are now."""
    upsert(connection, ALERTS, [_write_alert(alert) for alert in alerts])
    for ids in _split([alert.id for alert in alerts]):
        connection.execute(delete(ALERT_ROUTES).where(ALERT_ROUTES.c.alert_id.in_(ids)))
    routes = [
        {"alert_id": alert.id, "position": position, "route_id": route_id}
        for alert in alerts
        for position, route_id in enumerate(alert.route_ids)
    ]
    if routes:
        connection.execute(insert(ALERT_ROUTES), routes)


def save_silences(connection: Connection, silences: Sequence[Silence]) -> None:
    """The newest decision on each subject."""
    names = [column.name for column in SILENCES.columns]
    upsert(connection, SILENCES, [{name: getattr(silence, name) for name in names} for silence in silences])


def _write_alert(alert: Alert) -> dict[str, Any]:
    row = {field.name: getattr(alert, field.name) for field in fields(Alert) if field.name != "route_ids"}
    workload = _WORKLOAD.fullmatch(alert.service)
    return row | {"workload": workload[1] if workload is not None else ""}


# By the name of a filter (AlertFilters); that of the state and of the endpoint need more than its value.
_CONDITIONS: Final[Mapping[str, Callable[[Any], ColumnElement[bool]]]] = {
    "kind": lambda value: ALERTS.c.kind == value,
    "severity": lambda value: ALERTS.c.severity == value,
    "confidence": lambda value: ALERTS.c.confidence == value,
    "service": lambda value: or_(ALERTS.c.service == value, ALERTS.c.workload == value),
    "namespace": lambda value: ALERTS.c.namespace == value,
    "consumer": lambda value: ALERTS.c.consumer == value,
    "start": lambda value: or_(ALERTS.c.state == AlertState.OPEN, ALERTS.c.closed_at >= value),
    "end": lambda value: ALERTS.c.opened_at < value,
}


def _show_state(silenced: Collection[str]) -> ColumnElement[str]:
    """The state as people see it."""
    return case((ALERTS.c.id.in_(sorted(silenced)), AlertState.SILENCED.value), else_=ALERTS.c.state)


def _group_incidents(silenced: Collection[str]) -> Select[Any]:
    """Incidents with what their alerts add up to."""
    # Of states the first in this order holds, by its number.
    order = [AlertState.OPEN, AlertState.SILENCED, AlertState.CLOSED]
    number = case({state.value: place for place, state in enumerate(order)}, value=_show_state(silenced))
    state = case({place: state.value for place, state in enumerate(order)}, value=func.min(number))
    return select(
        ALERTS.c.incident_id.label("id"),
        state.label("state"),
        func.count().label("alerts"),
        func.min(ALERTS.c.opened_at).label("opened_at"),
        func.max(ALERTS.c.updated_at).label("updated_at"),
    ).group_by(ALERTS.c.incident_id)


def _read_incident(row: Row[Any], alerts: Sequence[Row[Any]]) -> Incident:
    """`alerts`: its own, the newest last."""
    newest = alerts[-1]
    return read_row(
        Incident,
        row,
        actor=newest.consumer or newest.endpoint_id or newest.node,
        severity=max((Severity(one.severity) for one in alerts), key=lambda severity: severity.rank),
        title=newest.title,
        kinds=tuple(sorted({one.kind for one in alerts})),
        risks=tuple(sorted({one.risk for one in alerts} - {""})),
    )


def _delete(connection: Connection, key: ColumnElement[Any], values: Collection[Any]) -> int:
    return sum(connection.execute(delete(key.table).where(key.in_(some))).rowcount for some in _split(values))


def _split(values: Iterable[Any]) -> list[Sequence[Any]]:
    """As many at a time as one statement takes."""
    whole = list(values)
    return [whole[start : start + _IDS_MAX] for start in range(0, len(whole), _IDS_MAX)]

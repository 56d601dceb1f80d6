"""Targets for the share of HTTP that is read: of everything, of a cluster, or of a namespace.

The share is that of connections which listening ports took in the current hour and the one before. Fewer than
`CONNECTIONS_MIN` say nothing of a share. A share that is below its target for the target's time is reported, and the
report ends when the share is back. Targets are in the state, with when each was missed first, so a restart or another
collector goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, select

from collector.alerting.alert import AlertKind, Report
from collector.core.errors import ConflictError, UnknownError
from collector.core.feature import Feature, Job, Role
from collector.core.scope import find_scope
from collector.inventory.coverage.sql import HISTORY_BASE_SECONDS, RECENT
from collector.inventory.query import HOUR_SECONDS
from collector.storage.records import Reader
from collector.storage.records import select as select_rows
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, lock_table, read_row, upsert
from collector.storage.state.tables.inventory import COVERAGE_TARGETS
from collector.trust.audit import add_entries, make_entry
from common.figures import Figure

TARGETS_MAX: Final = 100
SECONDS_DEFAULT: Final = 900
SECONDS_MAX: Final = 7 * 86_400
LOOK_SECONDS: Final = 60.0
CONNECTIONS_MIN: Final = 20
_CALM_SECONDS: Final = 10 * LOOK_SECONDS  # While another collector takes over, nobody looks.


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageTarget:
    """One target. An empty name stands for all. `below_since`: since when the share is below `ratio`; 0: it is not."""

    cluster: str
    namespace: str
    ratio: float
    seconds: int
    below_since: float = 0.0
    changed_by: str
    changed_at: float

    @property
    def place(self) -> str:
        """Of what it is a target, as CLUSTER/NAMESPACE with `*` for all; empty: of everything."""
        if not self.cluster and not self.namespace:
            return ""
        return f"{self.cluster or '*'}/{self.namespace or '*'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTarget:
    """A target, and the connections of late that look like HTTP."""

    target: CoverageTarget
    connections: int
    read_connections: int

    @property
    def recent_ratio(self) -> float | None:
        """The share that is read; None where there were too few."""
        return self.read_connections / self.connections if self.connections >= CONNECTIONS_MIN else None

    @property
    def is_missed(self) -> bool:
        ratio = self.recent_ratio
        return ratio is not None and ratio < self.target.ratio


class CoverageTargets:
    """Thread-safe, but `look` is for one thread. Methods raise StoreError."""

    def __init__(self, *, state: StateStore, reader: Reader, clock: Callable[[], float]) -> None:
        self._state = state
        self._reader = reader
        self._clock = clock
        self._targets = StateCache(state, (COVERAGE_TARGETS.name,), _read_targets)
        self._last: tuple[MeasuredTarget, ...] = ()

    def put(self, *, cluster: str, namespace: str, ratio: float, seconds: int, by: str) -> CoverageTarget:
        """Set a target in place of the one before. Raises ConflictError where there are too many."""
        target = CoverageTarget(
            cluster=cluster, namespace=namespace, ratio=ratio, seconds=seconds, changed_by=by, changed_at=self._clock()
        )
        with self._state.write() as connection:
            lock_table(connection, COVERAGE_TARGETS)
            old = connection.execute(select(COVERAGE_TARGETS).where(_is(target))).first()
            others = select(func.count()).where(~_is(target))
            if connection.execute(others).scalar_one() >= TARGETS_MAX:
                raise ConflictError(f"There are {TARGETS_MAX} targets, which is the most; take one away first.")
            upsert(connection, COVERAGE_TARGETS, [asdict(target)])
            before = None if old is None else {"ratio": old.ratio, "seconds": old.seconds}
            after = {"ratio": ratio, "seconds": seconds}
            entry = make_entry(
                target.changed_at, by, "coverage-target.set", target.place or "*", before=before, after=after
            )
            add_entries(connection, [entry])
        self._targets.look()
        return target

    def remove(self, *, cluster: str, namespace: str, by: str) -> None:
        """Take a target away. Raises UnknownError."""
        with self._state.write() as connection:
            found = [one for one in _read_targets(connection) if (one.cluster, one.namespace) == (cluster, namespace)]
            if not found:
                raise UnknownError("There is no such target; look it up in /api/v1/coverage/targets.")
            connection.execute(delete(COVERAGE_TARGETS).where(_is(found[0])))
            before = {"ratio": found[0].ratio, "seconds": found[0].seconds}
            target = found[0].place or "*"
            add_entries(connection, [make_entry(self._clock(), by, "coverage-target.removed", target, before=before)])
        self._targets.look()

    def measure(self) -> tuple[MeasuredTarget, ...]:
        """All targets of the scope of whoever asks, by their place. The store is asked only where there is one."""
        scope = find_scope()
        targets = [one for one in self._targets.recall() if scope.is_all or scope.admits(one.cluster, one.namespace)]
        if not targets:
            return ()
        end = int(self._clock()) + 1
        start = end // HOUR_SECONDS * HOUR_SECONDS - HOUR_SECONDS
        rows = select_rows(self._reader, RECENT, {"start": start, "base": start - HISTORY_BASE_SECONDS, "end": end})

        def add(target: CoverageTarget, column: str) -> int:
            return sum(
                int(row[column])
                for row in rows
                if target.cluster in ("", row["cluster"]) and target.namespace in ("", row["namespace"])
            )

        return tuple(
            MeasuredTarget(
                target=target,
                connections=add(target, "share_connections"),
                read_connections=add(target, "read_connections"),
            )
            for target in targets
        )

    def look(self) -> "TargetFindings":
        """What is below its target for long enough, and what is not. Notes since when."""
        now, measured = self._clock(), self.measure()
        gone = {one.target.place for one in self._last} - {one.target.place for one in measured}
        self._last = measured
        changed = [
            replace(one.target, below_since=now if one.is_missed else 0.0)
            for one in measured
            if one.recent_ratio is not None and one.is_missed != bool(one.target.below_since)
        ]
        if changed:
            with self._state.write() as connection:
                for target in changed:
                    statement = COVERAGE_TARGETS.update().where(_is(target))
                    connection.execute(statement.values(below_since=target.below_since))
            self._targets.look()
        missed = [
            one
            for one in measured
            if one.is_missed and one.target.below_since and now - one.target.below_since >= one.target.seconds
        ]
        # One that has too few connections keeps its alert until it closes by itself.
        well = {one.target.place for one in measured if not one.is_missed and one.recent_ratio is not None}
        return TargetFindings(
            reports=tuple(_report(one, now) for one in missed),
            healed=tuple((AlertKind.COVERAGE_BELOW_TARGET, place) for place in sorted(well | gone)),
        )

    def make_feature(
        self, take: Callable[[Sequence[Report]], object], settle: Callable[[AlertKind, str], None]
    ) -> Feature:
        """What is repeated, and the figures of the last look."""

        def work() -> None:
            found = self.look()
            if found.reports:
                take(found.reports)
            for kind, place in found.healed:
                settle(kind, place)

        return Feature(
            name="targets of coverage",
            role=Role.JOBS,
            jobs=(Job(works=(work,), seconds=LOOK_SECONDS),),
            figures=lambda: _list_figures(self._last),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFindings:
    """What one look found: reports of targets that are missed, and (kind, place) of those that are met."""

    reports: tuple[Report, ...]
    healed: tuple[tuple[AlertKind, str], ...]


def _read_targets(connection: Connection) -> tuple[CoverageTarget, ...]:
    rows = connection.execute(select(COVERAGE_TARGETS))
    return tuple(sorted((read_row(CoverageTarget, row) for row in rows), key=lambda one: (one.cluster, one.namespace)))


def _is(target: CoverageTarget) -> ColumnElement[bool]:
    columns = COVERAGE_TARGETS.c
    return (columns.cluster == target.cluster) & (columns.namespace == target.namespace)


def _report(measured: MeasuredTarget, now: float) -> Report:
    target, ratio = measured.target, measured.recent_ratio or 0.0
    names = (("namespace", target.namespace), ("cluster", target.cluster))
    where = "".join(f" of the {what} {name}" for what, name in names if name)
    kind = AlertKind.COVERAGE_BELOW_TARGET
    return Report(
        kind=kind,
        severity=kind.row.severity,
        title=f"Only {ratio:.1%} of the HTTP connections{where} are read, below the target of {target.ratio:.1%}",
        why=f"Of {measured.connections:,} connections of the last one to two hours that look like HTTP"
        f"{where}, {measured.read_connections:,} were read. The target is {target.ratio:.1%} within "
        f"{target.seconds // 60} minutes.",
        advice=kind.row.advice,
        calm_seconds=_CALM_SECONDS,
        window_start=target.below_since,
        window_end=now,
        node=target.place,
    )


def _list_figures(measured: Sequence[MeasuredTarget]) -> Iterator[Figure]:
    nothing = (("", ""), 0.0, nan)
    rows = [
        ((one.target.cluster, one.target.namespace), one.target.ratio, nan if (r := one.recent_ratio) is None else r)
        for one in measured
    ]
    for (cluster, namespace), target, recent in rows or [nothing]:
        labels = (("k8s_cluster_name", cluster), ("k8s_namespace_name", namespace))
        yield Figure(
            name="coverage_target_ratio",
            documentation="Share of HTTP connections that a target wants; 0 without a target.",
            value=target,
            is_total=False,
            labels=labels,
        )
        yield Figure(
            name="coverage_recent_ratio",
            documentation="Share of HTTP connections of the last one to two hours that are read, for each target.",
            value=recent,
            is_total=False,
            labels=labels,
        )

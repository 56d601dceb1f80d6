"""Compares one description with its service: shadow, zombie and orphan endpoints, and drift."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from collector.core.budget import check_budget
from collector.core.scope import find_scope
from collector.inventory.endpoints.spec_status import EndpointSpec, SpecStatus
from collector.schemas.service import NOTHING_KNOWN, SchemaInventory, list_some
from collector.specs.assessment import SERVED_NAMES, SeenEndpoints
from collector.specs.drift import Drift, Seen, find_drift
from collector.specs.matching import Fit, Match, SeenEndpoint, SpecBook, assess_endpoint
from collector.specs.table import ListedSpec, SpecTable
from collector.storage.base import Store
from collector.storage.records import read_record, select

_SPECS = "SELECT DISTINCT spec FROM endpoint_specs FINAL WHERE spec != ''"
_SAYING = """
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(d.calls) AS calls, toUnixTimestamp(max(d.last_seen)) AS last_seen
FROM endpoint_routes AS n FINAL INNER JOIN routes_day AS d ON d.route_id = n.route_id
WHERE d.success_calls > 0 AND (match(n.url_template, {names:String}))
GROUP BY n.endpoint_id ORDER BY calls DESC, id LIMIT 100"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedEndpoint:
    """An endpoint, what its description says of it, and how it differs."""

    id: str
    service: str
    host: str
    method: str
    template: str
    spec: EndpointSpec
    drift: tuple[Drift, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An operation that was never called."""

    method: str
    http_route: str
    operation_id: str
    is_deprecated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecReport:
    """All of one description."""

    name: str
    documented: tuple[ReportedEndpoint, ...]
    shadow: tuple[ReportedEndpoint, ...]
    zombie: tuple[ReportedEndpoint, ...]
    orphan: tuple[Orphan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedDescription:
    """An endpoint that looks like a service's own description."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    last_seen: int


class SpecReporter:
    """Answers from the store as of now. Raises StoreError."""

    def __init__(
        self, *, store: Store, table: SpecTable, schemas: SchemaInventory, fits: Callable[[], Mapping[str, Fit]]
    ) -> None:
        """`fits`: how far descriptions that were seen in traffic are in force, by name."""
        self._fits = fits
        self._store = store
        self._table = table
        self._schemas = schemas

    def list_specs(self) -> tuple[ListedSpec, ...]:
        """All descriptions; in a scope those that say something of its endpoints."""
        listed, names = self._table.list_specs(), self._find_names()
        return listed if names is None else tuple(one for one in listed if one.name in names)

    def _find_names(self) -> frozenset[str] | None:
        """Of descriptions that the scope of whoever asks shows; None: all."""
        if find_scope().is_all:
            return None
        return frozenset(row["spec"] for row in select(self._store, _SPECS))

    def report(self, name: str) -> SpecReport | None:
        """Everything of one description; None where there is none of that name."""
        revisions, names = self._table.list_revisions(), self._find_names()
        if all(one.name != name for one in revisions) or (names is not None and name not in names):
            return None
        endpoints = SeenEndpoints(self._store)
        book = SpecBook(revisions, endpoints, self._fits())
        assessed = ((one, assess_endpoint(one, book)) for one in endpoints)
        mine = sorted(((one, spec) for one, spec in assessed if spec.spec == name), key=lambda pair: pair[0].id)
        reported = self._report_all(mine, book)
        called = {(one.method, spec.http_route) for one, spec in mine}
        orphans = [
            Orphan(
                method=operation.method,
                http_route=base + operation.path,
                operation_id=operation.operation_id,
                is_deprecated=operation.is_deprecated,
            )
            for revision in revisions
            if revision.name == name and revision.is_current and book.is_in_force(revision)
            for operation in revision.spec.operations
            for base in book.find_base_paths(revision)[:1]
            if not any((operation.method, one + operation.path) in called for one in book.find_base_paths(revision))
        ]
        by_status = {status: tuple(one for one in reported if one.spec.status is status) for status in SpecStatus}
        return SpecReport(
            name=name,
            documented=by_status[SpecStatus.DOCUMENTED],
            shadow=by_status[SpecStatus.SHADOW],
            zombie=by_status[SpecStatus.ZOMBIE],
            orphan=tuple(orphans),
        )

    def report_endpoint(self, endpoint_id: str) -> ReportedEndpoint | None:
        """One endpoint; None where there is none of that id."""
        endpoints = SeenEndpoints(self._store)
        found = endpoints.find(endpoint_id)
        if found is None:
            return None
        book = SpecBook(self._table.list_revisions(), endpoints, self._fits())
        return self._report_all([(found, assess_endpoint(found, book))], book)[0]

    def list_served(self) -> tuple[ServedDescription, ...]:
        """Descriptions that were seen in traffic; what sensors could not outline, a person fetches."""
        rows = select(self._store, _SAYING, {"names": SERVED_NAMES})
        return tuple(read_record(ServedDescription, row) for row in rows)

    def read_seen(self, ids: Iterable[str]) -> dict[str, Seen]:
        """What is compared with a description, by endpoint; an unknown one is not there."""
        wanted = list(ids)
        schemas = self._schemas.read_many(wanted)
        return {
            one.id: Seen(
                schema=schemas.get(one.id, NOTHING_KNOWN),
                statuses=one.statuses,
                authenticated_share=one.authenticated_share,
            )
            for one in list_some(self._store, wanted)
        }

    def _report_all(
        self, assessed: Iterable[tuple[SeenEndpoint, EndpointSpec]], book: SpecBook
    ) -> list[ReportedEndpoint]:
        known = list(assessed)
        matches = {one.id: match for one, _ in known if (match := _find(book, one)) is not None}
        seen = self.read_seen(matches)
        return [
            ReportedEndpoint(
                id=one.id,
                service=one.service,
                host=one.host,
                method=one.method,
                template=one.template,
                spec=spec,
                drift=_compare(seen.get(one.id), matches.get(one.id)),
            )
            for one, spec in known
        ]


def _find(book: SpecBook, endpoint: SeenEndpoint) -> Match | None:
    current, older, _ = book.find(endpoint)
    return current or older


def _compare(seen: Seen | None, match: Match | None) -> tuple[Drift, ...]:
    check_budget()
    return find_drift(seen, match.operation, match.revision.spec) if seen is not None and match is not None else ()

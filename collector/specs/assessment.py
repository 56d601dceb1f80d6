"""Keeps `endpoint_specs` current: which endpoint is in which description, after every change of either.

Housekeeping calls it. It first reads watched files and descriptions seen in traffic, and assesses which of the latter
fit their service's calls. It writes what changed, of endpoints and of descriptions.

`SpecTraffic` puts descriptions in force that services serve themselves, from outlines in the store. Such a description
says what a service has, not what it should have. So where a person or a file describes the service too, only theirs
count (collector/specs/matching.py).
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from collector.core.budget import check_budget, hold
from collector.core.errors import ConflictError
from collector.inventory.endpoints.spec_status import NO_SPEC, EndpointSpec, read_spec_row
from collector.receiver.schemas import DESCRIPTION
from collector.specs.document import TEXT_BYTES_MAX, Spec, SpecError
from collector.specs.fit import Extent, FitResult, assess_served
from collector.specs.matching import TOO_COSTLY, Fit, Revision, SeenEndpoint, SpecBook, assess_endpoint
from collector.specs.table import NAME_CHARACTERS_MAX, SOURCE_TRAFFIC, SpecTable
from collector.storage.base import Store
from collector.storage.records import Reader, select

# Where services serve their own description: the usual names.
SERVED_NAMES: Final = r"/(?:openapi|swagger)(?:\.json|\.ya?ml)?$|/v[23]/api-docs(?:/|$)|/api-docs(?:\.json)?$"
ROUTES_MAX: Final = 1_000
SERVED_OF_SERVICE_MAX: Final = 20
_SEEN: Final = f"""
SELECT s.route_id AS route_id, any(n.service) AS service, any(n.host) AS host, any(n.url_template) AS template,
    argMax(s.fields, (s.time, s.version)) AS document
FROM schemas AS s FINAL INNER JOIN (SELECT * FROM endpoint_routes FINAL) AS n ON n.route_id = s.route_id
WHERE s.part = {DESCRIPTION} AND n.method = 'GET' AND match(n.url_template, {{names:String}})
GROUP BY s.route_id ORDER BY service, host, template, route_id
LIMIT {SERVED_OF_SERVICE_MAX} BY service LIMIT {ROUTES_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDescription:
    """An outline, and who serves it where."""

    service: str
    place: str  # Host and path.
    document: str

    @property
    def name(self) -> str:
        """The name that its description has; without slashes, as it is part of a URL."""
        return f"{self.service} {self.place}".replace("/", "-")[:NAME_CHARACTERS_MAX]


class SpecTraffic:
    """Puts in force what changed. Not thread-safe. Raises StoreError."""

    def __init__(self, *, reader: Reader, table: SpecTable) -> None:
        self._reader = reader
        self._table = table
        self._taken: dict[str, str] = {}  # Documents by name.

    def look(self) -> dict[str, str]:
        """Gives what is none, by place: why."""
        errors: dict[str, str] = {}
        for seen in self._list_seen():
            if self._taken.get(seen.name) == seen.document:
                continue
            try:
                # What a person took out stays out until its text is another.
                if not self._table.was_deleted(seen.name, seen.document):
                    self._table.upload(
                        name=seen.name,
                        document=seen.document,
                        service=seen.service,
                        source=f"{SOURCE_TRAFFIC}{seen.place}",
                        by="apidae",
                    )
                self._taken[seen.name] = seen.document
            except (SpecError, ConflictError) as error:
                errors[seen.place] = str(error)
        return errors

    def _list_seen(self) -> list[SeenDescription]:
        return [
            SeenDescription(service=row["service"], place=f"{row['host']}{row['template']}", document=row["document"])
            for row in select(self._reader, _SEEN, {"names": SERVED_NAMES})
        ]


FILES_MAX: Final = 200
SUFFIXES: Final = (".json", ".yaml", ".yml")
# One route of each endpoint has its names; so the engine keeps no name of all endpoints at once.
_ENDPOINTS = """
SELECT n.endpoint_id AS id, n.service AS service, n.workload AS workload, n.host AS host, n.method AS method,
    n.url_template AS template, e.served_calls AS served_calls
FROM endpoint_routes AS n FINAL
INNER JOIN (
    SELECT max(r.route_id) AS route_id, sum(d.success_calls) AS served_calls
    FROM endpoint_routes AS r FINAL
    LEFT JOIN (SELECT route_id, sum(success_calls) AS success_calls FROM routes_day GROUP BY route_id) AS d
        ON d.route_id = r.route_id
    {condition}
    GROUP BY r.endpoint_id
) AS e ON e.route_id = n.route_id"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpecRecord:
    """One row of `endpoint_specs`."""

    endpoint_id: str
    status: str
    spec: str
    http_route: str
    operation_id: str
    is_deprecated: int
    requires_authentication: int
    reason: str
    version: int


NOT_COMPARED: Final = FitResult(
    fit=Fit(prefix="", is_keeping_base=True, heads=frozenset()), extent=Extent.NONE, reason=TOO_COSTLY
)


class SpecAssessor:
    """Thread-safe. Blocks. Raises StoreError."""

    def __init__(self, *, store: Store, table: SpecTable, paths: Sequence[Path]) -> None:
        self._store = store
        self._table = table
        self._paths = tuple(paths)
        self._traffic = SpecTraffic(reader=store, table=table)
        self._lock = Lock()
        self._read: dict[Path, tuple[int, int]] = {}
        self._told: dict[str, EndpointSpec] = {}
        self._extents: dict[str, Extent] = {}  # As stored.
        self._version = -1  # The newest of `_told`.
        # Of descriptions seen in traffic, and of those that are not compared, by name, of the last look.
        self.results: dict[str, FitResult] = {}
        self._costly: dict[str, Spec] = {}  # Newest texts that are not compared, by name.
        self.file_errors: dict[str, str] = {}  # By path, of the last look.
        self.traffic_errors: dict[str, str] = {}  # By host and path.

    def look(self) -> int:
        """Read files that changed, assess all endpoints, write what changed; gives how many did."""
        with hold(self._lock):
            self._read_files()
            self.traffic_errors = self._traffic.look()
            self._load()
            revisions = self._table.list_revisions()
            if not revisions and not self._told:
                self.results = {}
                return 0
            changed = self._compare(revisions, SeenEndpoints(self._store))
            self._write_extents()
            self._write(changed)
            return len(changed)

    def _compare(self, revisions: Sequence[Revision], endpoints: Iterable[SeenEndpoint]) -> dict[str, EndpointSpec]:
        """What the descriptions say of endpoints, where it is new. A text that turns out to be too costly is skipped
        from then on, until it is another."""
        newest = {one.name: one.spec for one in reversed(revisions)}
        self._costly = {name: spec for name, spec in self._costly.items() if newest.get(name) is spec}
        while True:
            compared = [one for one in revisions if one.name not in self._costly]
            results = assess_served(compared, endpoints, self._extents)
            costly = {name for name, one in results.items() if one.reason == TOO_COSTLY}
            self.results = results | dict.fromkeys(self._costly, NOT_COMPARED)
            if not costly:
                book = SpecBook(compared, endpoints, self.fits)
                assessed = ((one.id, assess_endpoint(one, book)) for one in endpoints)
                changed = {name: spec for name, spec in assessed if self._told.get(name, NO_SPEC) != spec}
                costly = book.list_exhausted()
                if not costly:
                    return changed
            for name in costly:
                logger.warning("The API description %s is not in force. %s", name, TOO_COSTLY)
                self._costly[name] = newest[name]

    @property
    def fits(self) -> dict[str, Fit]:
        """Of descriptions seen in traffic, by name, of the last look."""
        return {name: one.fit for name, one in self.results.items()}

    def _write_extents(self) -> None:
        extents = {name: one.extent for name, one in self.results.items() if one.extent is not Extent.NONE}
        if extents != self._extents:
            self._table.keep_extents(extents)

    def _write(self, changed: Mapping[str, EndpointSpec]) -> None:
        if changed:
            self._version += 1
            records = [_make_record(endpoint_id, spec, self._version) for endpoint_id, spec in changed.items()]
            self._store.insert_records("endpoint_specs", records)
            self._told |= changed

    def _load(self) -> None:
        """What was written, where somebody else wrote since."""
        self._extents = self._table.read_extents()
        newest = int(self._store.query("SELECT max(version) FROM endpoint_specs")[0][0])
        if newest != self._version:
            rows = select(self._store, "SELECT * FROM endpoint_specs FINAL")
            self._told = {row["endpoint_id"]: read_spec_row(row) for row in rows}
            self._version = newest

    def _read_files(self) -> None:
        """Watched files by size and time; one that cannot be read is logged once, and looked at again."""
        errors: dict[str, str] = {}
        for path in list_files(self._paths):
            try:
                status = path.stat()
                mark = (status.st_mtime_ns, status.st_size)
                if self._read.get(path) == mark:
                    continue
                if status.st_size > TEXT_BYTES_MAX:
                    raise SpecError(f"The document has {status.st_size} bytes; the limit is {TEXT_BYTES_MAX}.")
                self._table.upload(name=path.stem, document=path.read_text(), service="", source=str(path), by="file")
                self._read[path] = mark
            except (OSError, UnicodeDecodeError, SpecError, ConflictError) as error:
                errors[str(path)] = str(error)
        for name in errors.keys() - self.file_errors.keys():
            logger.warning("The API description %s is not taken: %s", name, errors[name])
        self.file_errors = errors


def _make_record(endpoint_id: str, spec: EndpointSpec, version: int) -> EndpointSpecRecord:
    required = spec.requires_authentication
    return EndpointSpecRecord(
        endpoint_id=endpoint_id,
        status=spec.status.value,
        spec=spec.spec,
        http_route=spec.http_route,
        operation_id=spec.operation_id,
        is_deprecated=int(spec.is_deprecated),
        requires_authentication=-1 if required is None else int(required),
        reason=spec.reason,
        version=version,
    )


class SeenEndpoints:
    """All endpoints. They are read anew each time, and some thousand at a time: all of 200,000 are 200 MB. Raises
    StoreError, BudgetError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __iter__(self) -> Iterator[SeenEndpoint]:
        return self._read("", {})

    def find(self, endpoint_id: str) -> SeenEndpoint | None:
        """The one of this id."""
        return next(self._read("WHERE r.endpoint_id = {id:String}", {"id": endpoint_id}), None)

    def _read(self, condition: str, parameters: Mapping[str, str]) -> Iterator[SeenEndpoint]:
        for columns in self._store.stream_columns(_ENDPOINTS.replace("{condition}", condition), parameters):
            for values in zip(*columns.values(), strict=True):
                check_budget()
                yield SeenEndpoint(**dict(zip(columns, values, strict=True)))


def list_files(paths: Sequence[Path]) -> list[Path]:
    """Files that are named, and those with a fitting suffix in directories that are."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.iterdir() if one.suffix in SUFFIXES and one.is_file())
        else:
            found.append(path)
    return found[:FILES_MAX]

"""The mapping job: gives every route an endpoint, and names it anew when a word that its template hides is revealed.

New routes come from the store's writer, which also brings a stored route again whose mapping failed: it takes a route
for known only once it has one. Naming itself is pure and elsewhere: this room writes `endpoint_routes` and, where a
route moves, `endpoint_aliases`. Asking the sensors for hidden words is ingest's (collector/ingest/reveal.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from collector.inventory.endpoint import name_service
from collector.inventory.naming import identify_endpoint, template
from collector.rows import Route

_NOT_NAMED: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointName:
    """What naming gives for one route."""

    endpoint_id: str
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRouteRecord:
    """One row of `endpoint_routes`."""

    route_id: int
    version: int
    endpoint_id: str
    service: str
    cluster: str
    namespace: str
    workload: str
    workload_kind: int
    host_name: str
    port: int
    host: str
    method: str
    url_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAliasRecord:
    """One row of `endpoint_aliases`."""

    endpoint_id: str
    version: int
    route_id: int


class Writer(Protocol):
    """The writing half of `collector.store.base.Store`."""

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """Append records; raises StoreError."""
        ...


def name_endpoint(route: Route, words: Mapping[int, str]) -> EndpointName:
    """The endpoint of a route by itself, as long as nothing is known of its siblings (collector/inventory/grouping.py).

    A trailing slash does not make another endpoint.
    """
    named = template(route.segments, False, words)
    return EndpointName(endpoint_id=identify_endpoint(route, named), template=named)


class EndpointMapping:
    """Keeps `endpoint_routes` current. One thread at a time."""

    def __init__(self, *, writer: Writer, take_version: Callable[[], int]) -> None:
        self._writer = writer
        self._take_version = take_version
        self._words: dict[int, str] = {}

    def learn_words(self, words: Mapping[int, str]) -> None:
        """Take revealed texts by hash; routes named from now on show them. The caller maps the routes that had them

        again.
        """
        self._words.update(words)

    def write(
        self, named: Sequence[tuple[Route, EndpointName]], former_ids: Mapping[int, str] = _NOT_NAMED
    ) -> tuple[EndpointRouteRecord, ...]:
        """Write names that were found; the same route again is a later version. `former_ids`: what routes that move
        were called until now, by route id; these stay aliases. Raises StoreError, and then no route was named."""
        version = self._take_version()
        records = tuple(_record(route, name, version) for route, name in named)
        aliases = {
            former: EndpointAliasRecord(endpoint_id=former, version=version, route_id=record.route_id)
            for record in records
            if (former := former_ids.get(record.route_id, record.endpoint_id)) != record.endpoint_id
        }
        if aliases:  # First: an alias of an endpoint that still has routes is not looked at.
            self._writer.insert_records("endpoint_aliases", list(aliases.values()))
        self._writer.insert_records("endpoint_routes", records)
        return records

    @property
    def words(self) -> Mapping[int, str]:
        """Revealed texts by hash."""
        return self._words


def _record(route: Route, name: EndpointName, version: int) -> EndpointRouteRecord:
    service = route.service
    return EndpointRouteRecord(
        route_id=route.route_id,
        version=version,
        endpoint_id=name.endpoint_id,
        service=name_service(service),
        cluster=service.cluster,
        namespace=service.namespace,
        workload=service.workload,
        workload_kind=service.workload_kind,
        host_name=service.host_name,
        port=service.port,
        host=route.host,
        method=route.method,
        url_template=name.template,
    )

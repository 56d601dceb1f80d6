"""Which endpoint a route belongs to: routes in, records of `endpoint_routes` out.

Routes of one service, host, method and template are one endpoint; its id is a hash of the four, so every restart and
every collector gives the same. When a word is revealed its routes are mapped anew under a later version: history
follows without being rewritten.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from collector.inventory.naming import template
from collector.rows import Route, Service


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRoute:
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


class EndpointMapper:
    """Maps routes and remembers the mapping for the detectors. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives unix seconds; versions are its microseconds."""
        self._clock = clock
        self._words: dict[int, str] = {}
        self._endpoints: dict[int, str] = {}
        self._changes = 0
        self._lock = Lock()

    @property
    def changes(self) -> int:
        """Rises with every change of the mapping."""
        return self._changes

    def load(self, endpoint_of_route: Mapping[int, str], words: Mapping[int, str]) -> None:
        """Take over what the store holds: the mapping, and texts by hash."""
        with self._lock:
            self._endpoints.update(endpoint_of_route)
            self._words.update(words)
            self._changes += 1

    def learn_words(self, words: Mapping[int, str]) -> None:
        """Texts by hash, for routes mapped from now on."""
        with self._lock:
            self._words.update(words)

    def list_endpoints(self) -> dict[int, str]:
        """Endpoint ids by route id."""
        with self._lock:
            return dict(self._endpoints)

    def __call__(self, routes: Sequence[Route]) -> list[EndpointRoute]:
        """Records of these routes, of a version later than any before."""
        version = int(self._clock() * 1e6)
        with self._lock:
            records = [self._map(route, version) for route in routes]
            self._endpoints.update((record.route_id, record.endpoint_id) for record in records)
            self._changes += 1
        return records

    def _map(self, route: Route, version: int) -> EndpointRoute:
        service = route.service
        url_template = template(route.segments, route.has_trailing_slash, self._words)
        return EndpointRoute(
            route_id=route.route_id,
            version=version,
            endpoint_id=identify_endpoint(service, route.host, route.method, url_template),
            service=name_service(service),
            cluster=service.cluster,
            namespace=service.namespace,
            workload=service.workload,
            workload_kind=min(service.workload_kind, 255),
            host_name=service.host_name,
            port=service.port,
            host=route.host,
            method=route.method,
            url_template=url_template,
        )


def name_service(service: Service) -> str:
    """`shop/web:8080` for a workload, `host-a/nginx.service:80` on a plain host."""
    place = service.namespace or service.host_name
    return f"{place}/{service.workload}:{service.port}" if place else f"{service.workload}:{service.port}"


def identify_endpoint(service: Service, host: str, method: str, url_template: str) -> str:
    """16 hexadecimal digits, stable for ever."""
    parts = (
        *(service.cluster, service.namespace, service.workload, str(service.workload_kind), service.host_name),
        *(str(service.port), host, method, url_template),
    )
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

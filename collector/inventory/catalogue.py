"""The mapping of routes to endpoints as the running collector holds it: brought up to date at the start, then kept so.

It reads routes and revealed words from the store, has them named (collector/inventory/mapping.py), remembers what the
detectors need of it, and asks the sensors for words that are still hidden.
"""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from collector.ingest.reveal import RevealBook
from collector.inventory.mapping import EndpointMapping, name_endpoint
from collector.rows import Route, Segment, Service
from collector.store.base import Store


class Catalogue:
    """Thread-safe: the writer's thread maps, the flush renames, the detectors' thread reads."""

    def __init__(self, store: Store, mapping: EndpointMapping, reveals: RevealBook) -> None:
        """Takes up what the store holds. Raises StoreError."""
        self._store = store
        self._mapping = mapping
        self._reveals = reveals
        self._lock = Lock()
        self._endpoints: dict[int, str] = dict(store.query("SELECT route_id, endpoint_id FROM endpoint_routes FINAL"))
        self.changes = 1
        words = {int(word): str(text) for word, text in store.query("SELECT hash, text FROM revealed_words FINAL")}
        self._mapping.learn_words(words)
        unsure = self._select_routes(
            "route_id NOT IN (SELECT route_id FROM endpoint_routes) "
            "OR arrayExists((k, t) -> k = 2 AND t = '', segment_kind, segment_text)",
            {},
        )
        # What a crash left between a route or word and its mapping.
        self._remember([r for r in unsure if name_endpoint(r, words).endpoint_id != self._endpoints.get(r.route_id)])
        self._reveals.add_routes(unsure)
        self._reveals.forget(words)

    def map_routes(self, routes: Sequence[Route]) -> None:
        """Name new routes, and ask for their hidden words. Raises StoreError."""
        with self._lock:
            self._remember(routes)
        self._reveals.add_routes(routes)

    def learn(self, words: Mapping[int, str]) -> None:
        """Name anew the routes in which these words were hidden. Raises StoreError."""
        routes = self._select_routes("hasAny(segment_hash, {hashes:Array(UInt64)})", {"hashes": list(words)})
        with self._lock:
            self._mapping.learn_words(words)
            self._remember(routes)

    def list_endpoints(self) -> dict[int, str]:
        """Endpoint ids by route id."""
        with self._lock:
            return dict(self._endpoints)

    def _remember(self, routes: Sequence[Route]) -> None:
        if routes:
            records = self._mapping.map_routes(routes)
            self._endpoints.update((record.route_id, record.endpoint_id) for record in records)
            self.changes += 1

    def _select_routes(self, condition: str, parameters: dict[str, Any]) -> list[Route]:
        rows = self._store.query(
            "SELECT route_id, cluster, namespace, workload, workload_kind, host_name, port, host, method, "
            "segment_kind, segment_text, segment_hash, segment_length, has_trailing_slash "
            f"FROM routes FINAL WHERE {condition} LIMIT 100000",
            parameters,
        )
        return [_read_route(row) for row in rows]


def _read_route(row: tuple[Any, ...]) -> Route:
    cluster, namespace, workload, kind, host_name, port = row[1:7]
    return Route(
        route_id=int(row[0]),
        service=Service(
            cluster=cluster,
            namespace=namespace,
            workload=workload,
            workload_kind=kind,
            host_name=host_name,
            port=port,
        ),
        host=row[7],
        method=row[8],
        segments=tuple(Segment(*parts) for parts in zip(*row[9:13], strict=True)),
        has_trailing_slash=bool(row[13]),
    )

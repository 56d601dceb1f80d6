"""Names where an endpoint is served: its service, namespace and host, for the titles and filters of alerts."""

from collections.abc import Sequence
from threading import Lock
from typing import Final

from collector.alerting.alert import NOWHERE, Place
from collector.storage.base import StoreError
from collector.storage.records import Reader, select
from common.bounded import BoundedDict

_KNOWN_MAX: Final = 10_000  # Endpoints with alerts, the least recently asked for go first.
_OF_ROUTES: Final = "route_id IN {routes:Array(UInt64)}"
_OF_ENDPOINT: Final = "endpoint_id = {id:String}"


class Places:
    """Reads each endpoint's place once. Thread-safe."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: BoundedDict[str, Place] = BoundedDict(_KNOWN_MAX)
        self._lock = Lock()

    def find(self, endpoint_id: str, route_ids: Sequence[int] = ()) -> Place:
        """Of an endpoint by its routes, or by its id where none are named; nowhere while it is in no table, or where
        the store is away."""
        if not endpoint_id and not route_ids:
            return NOWHERE
        key = endpoint_id or f"{route_ids[0]:016x}"
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._read(endpoint_id, route_ids)
        if known != NOWHERE:
            with self._lock:
                self._known.renew(key, known)
        return known

    def list_routes(self, endpoint_id: str) -> tuple[int, ...]:
        """Those that the endpoint has now. Raises StoreError."""
        sql = "SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = {id:String}"
        return tuple(row["route_id"] for row in select(self._reader, sql, {"id": endpoint_id}))

    def _read(self, endpoint_id: str, route_ids: Sequence[int]) -> Place:
        condition = _OF_ROUTES if route_ids else _OF_ENDPOINT
        try:
            rows = select(
                self._reader,
                f"SELECT service, namespace, host FROM endpoint_routes FINAL WHERE {condition} "
                "ORDER BY route_id LIMIT 1",
                {"routes": list(route_ids)} if route_ids else {"id": endpoint_id},
            )
        except StoreError:
            return NOWHERE
        return Place(**rows[0]) if rows else NOWHERE

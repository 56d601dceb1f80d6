"""The inventory as a stranger reads it over HTTP: endpoints of one server's port, with what was counted."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import httpx

from tests.waiting import DEADLINE_SECONDS

PAGE = 200
_NAMED = {"aborted": 0, "not read": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint's counts."""

    id: str
    port: int
    host: str
    method: str
    template: str
    calls: int
    status_codes: tuple[
        tuple[int, int], ...
    ]  # (code, calls), codes ascending; 0: ended before a response, 1: not read.
    request_bytes: int
    response_bytes: int
    is_proxied: bool
    consumers: tuple[tuple[str, int], ...]  # (kind:value, calls) of the busiest, most first.


class Inventory:
    """Reads /api/v1 of a collector without tokens on loopback."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=DEADLINE_SECONDS)

    def close(self) -> None:
        """Ends its connection."""
        self._client.close()

    def get(self, path: str, **params: Any) -> Any:
        """A JSON answer; raises httpx.HTTPError."""
        response = self._client.get(f"/api/v1{path}", params=params)
        response.raise_for_status()
        return response.json()

    def list_items(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All pages."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(path, limit=PAGE, **params, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page.get("next_cursor") or ""
            if not cursor:
                return items

    def read_endpoints(self, port: int) -> list[Endpoint]:
        """Endpoints of the services that listen on `port`, ordered by template and method."""
        return self.read_ports({port})[port]

    def read_ports(self, ports: Collection[int]) -> dict[int, list[Endpoint]]:
        """The same of each of `ports`, in one reading."""
        found: dict[int, list[Endpoint]] = {port: [] for port in ports}
        for item in self.list_items("/endpoints", operations="exclude", hops="include"):
            if read_port(item) in found:
                found[read_port(item)].append(self._read(item))
        return {
            port: sorted(endpoints, key=lambda endpoint: (endpoint.template, endpoint.method))
            for port, endpoints in found.items()
        }

    def count_calls(self, *ports: int) -> int:
        """Calls of all endpoints of `ports`, without asking for details."""
        return sum(
            item["calls"]
            for item in self.list_items("/endpoints", operations="exclude", hops="include")
            if read_port(item) in ports
        )

    def _read(self, item: dict[str, Any]) -> Endpoint:
        detail = self.get(f"/endpoints/{item['id']}")
        codes = Counter(
            {_NAMED[code] if code in _NAMED else int(code): calls for code, calls in detail["status_codes"].items()}
        )
        return Endpoint(
            id=item["id"],
            port=read_port(item),
            host=item["host"],
            method=item["method"],
            template=item["template"],
            calls=item["calls"],
            status_codes=tuple(sorted(codes.items())),
            request_bytes=item["request_bytes"],
            response_bytes=item["response_bytes"],
            is_proxied=item["is_proxied"],
            consumers=tuple((one["id"], one["calls"]) for one in detail["top_consumers"]),
        )


def read_port(item: dict[str, Any]) -> int:
    """The port of an endpoint's service."""
    service = item["service"]
    return int(service["port"] if isinstance(service, dict) else service.rpartition(":")[2])

"""Task `templates`: paths in, the template that the inventory holds for each at the end out.

A node per service, as in an installation; consumer n mod 50, and a call each 20 s of virtual time. After all input the
collector asks to reveal the words it does not know, maps the routes to endpoints and drops endpoints that answered
nothing but 404. The runner learns which route a line had from the sensor; the collector's code gets row batches only.
"""

import json
from collections import defaultdict
from pathlib import Path

from collector.core.rows import Route
from collector.inventory.naming import WORD
from collector.inventory.templates.catalogue import map_endpoints
from collector.inventory.templates.path_trie import RouteEvidence
from collector.storage.columns import RowBatch
from tests.accuracy.node import Node

CONSUMERS = 50
CALL_NS = 20 * 10**9
NOT_FOUND = 404


class _Inventory:
    """Totals by route, from row batches alone."""

    def __init__(self) -> None:
        self.routes: dict[int, Route] = {}
        self._calls: dict[int, int] = defaultdict(int)
        self._served: dict[int, int] = defaultdict(int)
        self.found: dict[int, int] = defaultdict(int)  # Calls that were not answered 404.

    def add(self, batch: RowBatch) -> None:
        for route in batch.routes:
            self.routes[route.route_id] = route
        for row in range(len(batch)):
            route_id, calls, status = int(batch.route_id[row]), int(batch.calls[row]), int(batch.status_code[row])
            self._calls[route_id] += calls
            self._served[route_id] += calls * (200 <= status < 300)
            self.found[route_id] += calls * (status != NOT_FOUND)

    def evidence(self) -> list[RouteEvidence]:
        return [
            RouteEvidence(
                route=route,
                calls=self._calls[route_id],
                served_calls=self._served[route_id],
            )
            for route_id, route in self.routes.items()
        ]


def infer(lines: list[tuple[int, dict[str, object]]], name: str) -> dict[int, str | None]:
    """Template of each (line number, line) of one service."""
    node, inventory = Node(name, call_ns=CALL_NS), _Inventory()
    seen: dict[int, int] = {}
    for number, line in lines:
        head = f"{line['m']} {line['path']} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
        for batch in node.see(head, int(str(line["status"])), number % CONSUMERS):
            inventory.add(batch)
        seen[number] = node.last_route_id
    for batch in node.flush():
        inventory.add(batch)
    evidence = inventory.evidence()
    hidden = {segment.hash for one in evidence for segment in one.route.segments if segment.kind == WORD}
    mapped = map_endpoints(evidence, node.templater.apply_reveal(sorted(hidden)))
    found: dict[str, int] = defaultdict(int)
    for route_id, endpoint in mapped.items():
        found[endpoint.template] += inventory.found[route_id]
    templates: dict[int, str | None] = {}
    for number, route_id in seen.items():
        template = mapped[route_id].template if route_id in mapped else None
        templates[number] = template if template is not None and found[template] else None
    return templates


def run(source: Path, target: Path) -> None:
    """Reads JSONL `{"spec", "m", "path", "status"}`, writes a line `{"template": ...}` for each."""
    services: dict[str, list[tuple[int, dict[str, object]]]] = defaultdict(list)
    count = 0
    with source.open(encoding="utf-8", newline="\n") as file:
        for text in file:
            if text.strip():
                line = json.loads(text)
                services[line["spec"]].append((count, line))
                count += 1
    templates: list[str | None] = [None] * count
    for name, lines in services.items():
        for number, template in infer(lines, name).items():
            templates[number] = template
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps({"template": template}) + "\n" for template in templates)

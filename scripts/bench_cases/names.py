"""What it costs to keep the endpoint of each route in the state, with a copy in ClickHouse.

    scripts/bench names [--routes 100000] [--state-url postgresql://..]

One JSON line a step: milliseconds of process time, which other work on the machine does not lengthen. That of a
PostgreSQL server is not in it, but that of the embedded ClickHouse is. The database of `--state-url` must be empty.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.mapping import EndpointName, name_endpoint
from collector.inventory.templates.table import TemplateTable, import_templates
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.imports import import_once
from collector.storage.state.store import open_state

SERVICES = 200
LITERAL = 1  # The wire's SegmentKind.


def make_names(count: int) -> list[tuple[Route, EndpointName]]:
    """Routes of as many services as a large installation has, each an endpoint of its own."""
    named = []
    for number in range(1, count + 1):
        workload = f"svc{number % SERVICES}"
        service = Service(cluster="", namespace="shop", workload=workload, workload_kind=4, host_name="", port=8080)
        route = Route(
            route_id=number << 40,
            service=service,
            host=f"{workload}.example",
            method="GET",
            segments=(Segment(LITERAL, "api", 0, 0), Segment(LITERAL, f"items{number}", 0, 0)),
            has_trailing_slash=False,
        )
        named.append((route, name_endpoint(route, {})))
    return named


def run(scenario: str, work: Callable[[], object]) -> None:
    """Print what it takes."""
    start = time.process_time()
    work()
    print(json.dumps({"scenario": scenario, "cpu_ms": round((time.process_time() - start) * 1e3, 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench names")
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--state-url")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-bench-") as directory:
        for name in ("tables", "state", "imported"):
            Path(directory, name).mkdir()
        store = EmbeddedStore(Path(directory, "tables"))
        state = open_state(Path(directory, "state"), options.state_url)
        later = open_state(Path(directory, "imported"))
        try:
            named, table = make_names(options.routes), TemplateTable(state, store)
            run("write all", lambda: table.write_names(named))
            run("write 100", lambda: table.write_names(named[:100]))
            run("write 1", lambda: table.write_names(named[:1]))
            run("read all, at the start", table.list_names)
            newest, _ = table.list_names()
            run("look for new ones, each second", lambda: table.list_names(newest))
            run("compare the copy, each 10 minutes", table.copy_names)
            store.execute("TRUNCATE TABLE endpoint_routes")
            run("write the whole copy again", table.copy_names)
            run("import from an earlier version", lambda: import_once(later, store, "names", import_templates, 0.0))
            print(json.dumps({"scenario": "size", "state_bytes": state.measure_bytes()}), flush=True)
        finally:
            later.close()
            state.close()
            store.close()


if __name__ == "__main__":
    main()

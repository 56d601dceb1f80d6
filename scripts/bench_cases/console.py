"""How long a collector takes for each page, and how long the page is, with 100,000 endpoints while calls come in.

    scripts/bench console [--endpoints 100000] [--consumers 1000000] [--rounds 5] [--directory DIR] [--processor]

The store is seeded as for `scripts/bench inventory`. First each page, list and question of the API is asked for in
this process, with kept sums: milliseconds of processor time of all threads, whatever else the machine does, as a table
in Markdown (goal 100 at 95 %). A batch of 500 rows is stored before each look, and is not counted. A look is `anew`
where no answer of the last seconds is kept (collector/storage/recent.py). That is all with `--processor`. Then the
collector runs as a program, and a sensor sends it a batch of 500 rows each 0.2 s: milliseconds of the first view and
the median of the later ones on loopback (goal 300), and bytes of HTML (goal 300,000), one JSON line a page.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx

from collector.alerting.self_monitoring import StorageState
from collector.core.config import CollectorSettings
from collector.inventory.endpoints.filters import EndpointSort
from collector.server.app import build_app
from collector.server.compose import Collector
from collector.storage.embedded import EmbeddedStore
from scripts.bench_cases.inventory import ROWS, seed
from tests.collector.api.client import TestClient
from tests.collector.running import Conversation, RunningCollector, make_hello, wrap
from tests.collector.wire_batches import make_batch

GOAL_MS, GOAL_BYTES, GOAL_PROCESSOR_MS = 300, 300_000, 100
LISTS = (
    *(f"/endpoints?sort={sort}" for sort in EndpointSort),
    *("/endpoints?since=1h", "/endpoints?since=7d", "/endpoints?q=items77+get", "/endpoints?service=svc7"),
    *("/endpoints?auth=none", "/endpoints?exposure=external&risk_min=50", "/endpoints?finding=any"),
    *("/services?sort=p95", "/services?sort=risk", "/consumers?sort=endpoints", "/consumers?q=c", "/findings?q=items"),
    *("/api/v1/endpoints", "/api/v1/services", "/api/v1/consumers", "/api/v1/findings", "/api/v1/map"),
    *("/api/v1/timeseries", "/api/v1/coverage", "/api/v1/inventory/diff", "/api/v1/blocks", "/api/v1/alerts"),
)
NEWEST_SECONDS = 60
BATCH_ROWS = 500
BATCH_SECONDS = 0.2
NAVIGATION = re.compile(r'<li><a href="([^"]+)"')
FIRST_ENDPOINT = re.compile(r'href="(/endpoints/[0-9a-f]+)')


def send_batches(address: str, stop: threading.Event) -> None:
    """One sensor that has always something to send."""
    conversation = Conversation(address, make_hello("bench"))
    sequence = 0
    while not stop.wait(BATCH_SECONDS):
        sequence += 1
        base = int(time.time()) - 60
        conversation.say(wrap(make_batch(rows=BATCH_ROWS, sequence=sequence, node="bench", base=base)))
    conversation.close()


def list_pages(client: httpx.Client | TestClient) -> list[str]:
    """Those of the navigation, and one endpoint."""
    endpoints = client.get("/endpoints").text
    return [*dict.fromkeys(NAVIGATION.findall(endpoints)), *FIRST_ENDPOINT.findall(endpoints)[:1]]


def list_questions(client: TestClient) -> list[str]:
    """Pages, lists in each order and with filters, a later page, and one of each thing."""
    first = {
        name: client.get(f"/api/v1/{name}", params={"limit": 1}).json()
        for name in ("endpoints", "services", "consumers")
    }
    endpoint, service, consumer = (
        quote(str(one["items"][0][key]), safe="/:")
        for one, key in zip(first.values(), ("id", "service", "id"), strict=True)
    )
    later = urlencode({"cursor": first["endpoints"]["next_cursor"]})
    things = (
        *(f"/services/{service}", f"/consumers/{consumer}", f"/api/v1/endpoints?{later}"),
        *(f"/api/v1/endpoints/{endpoint}", f"/api/v1/services/{service}", f"/api/v1/consumers/{consumer}"),
    )
    return [*list_pages(client), *LISTS, *things]


def measure_processor(directory: Path, rounds: int) -> Iterator[tuple[str, list[float], list[float]]]:
    """By question, milliseconds of each view after the first, least first: with no answer kept, and of one more look
    after each. A batch of rows comes before each look. None where a view took longer than a request may. The present
    is soon after the newest row, also of a directory that was kept."""
    present = [time.time()]
    collector = Collector(CollectorSettings(data_dir=directory, no_auth=True), clock=lambda: present[0])
    try:
        ((newest,),) = collector.store.query("SELECT toUnixTimestamp(max(last_seen)) FROM rows_hour")
        present[0] = float(newest) + NEWEST_SECONDS
        services = collector.build_services(str, lambda _: (b"", ""), StorageState)
        for sums in filter(None, (services.sums, services.route_sums, services.figure_sums)):
            start = time.process_time()
            while sums.update():
                pass
            print(f"{sums.feature.name}: {time.process_time() - start:.1f} s of processor time", file=sys.stderr)
        with TestClient(build_app(services), base_url="http://localhost") as client:
            for path in list_questions(client):
                anew: list[float] = []
                again: list[float] = []
                for times in (anew, again) * (rounds + 1):
                    write_rows(collector, int(present[0]) // 60 * 60)
                    if times is anew and services.recent is not None:
                        services.recent.forget()
                    start = time.process_time()
                    if client.get(path).is_error:
                        break
                    times.append((time.process_time() - start) * 1e3)
                yield path, sorted(anew[1:]), sorted(again[1:])
    finally:
        collector.close()


def write_rows(collector: Collector, now: int) -> None:
    """As the writer does when a batch came: of this minute, on routes that are there."""
    source = f"SELECT number * 101 % 90000 AS n, 0 AS m, 0 AS k, 1 AS role FROM numbers({BATCH_ROWS})"
    collector.store.execute(ROWS.format(now=now, source=source))


def print_processor(directory: Path, rounds: int) -> None:
    """The table, with a row as soon as it is measured."""
    place = min(rounds - 1, int(0.95 * rounds))
    print(
        f"| Question | Anew, median ms | Anew, 95 % of {rounds}, ms | Again within seconds, 95 %, ms "
        f"(goal {GOAL_PROCESSOR_MS}) |\n|---|---|---|---|"
    )
    for path, anew, again in measure_processor(directory, rounds):
        shown = re.sub("(?<=cursor=).*", "..", path)
        if len(again) < rounds:
            print(f"| `{shown}` | not answered in time | **missed** | **missed** |", flush=True)
            continue
        cells = [f"{anew[place]:.0f}", f"{again[place]:.0f}"]
        missed = [" **missed**" * (times[place] > GOAL_PROCESSOR_MS) for times in (anew, again)]
        print(
            f"| `{shown}` | {statistics.median(anew):.0f} | {cells[0]}{missed[0]} | {cells[1]}{missed[1]} |", flush=True
        )


def measure(client: httpx.Client, path: str, rounds: int) -> dict[str, object]:
    """Of one page, as a browser waits for it."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        answer = client.get(path)
        times.append((time.perf_counter() - start) * 1e3)
    return {
        "page": path,
        "status": answer.status_code,
        "first_ms": round(times[0]),
        "median_ms": round(statistics.median(times[1:])),
        "bytes": len(answer.content),
        "is_within_goal": answer.status_code == 200 and times[0] <= GOAL_MS and len(answer.content) <= GOAL_BYTES,
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(prog="scripts/bench console")
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--consumers", type=int, default=0, help="Further ones, with a call each.")
    parser.add_argument("--processor", action="store_true", help="Only the processor time.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="A data directory that is kept, and used again.")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="apidae-bench-"))
    try:
        if not (directory / "store").exists():
            (directory / "store").mkdir(parents=True)
            store = EmbeddedStore(directory / "store")
            seed(store, options.endpoints, int(time.time()), options.consumers)
            store.close()
        print_processor(directory, options.rounds)
        if options.processor:
            return
        started = time.monotonic()
        collector = RunningCollector(directory, "--no-auth")
        print(json.dumps({"scenario": "start", "seconds": round(time.monotonic() - started, 1)}), flush=True)
        stop = threading.Event()
        sensor = threading.Thread(target=send_batches, args=(collector.ready["grpc"], stop))
        sensor.start()
        try:
            with httpx.Client(base_url=f"http://{collector.ready['http']}", timeout=60) as client:
                total = client.get("/api/v1/endpoints", params={"limit": 1}).json()["total"]
                print(json.dumps({"scenario": "endpoints", "total": total}), flush=True)
                for path in list_pages(client):
                    print(json.dumps(measure(client, path, options.rounds)), flush=True)
        finally:
            stop.set()
            sensor.join()
            collector.stop()
    finally:
        if options.directory is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()

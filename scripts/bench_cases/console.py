"""How long a collector takes for each page, and how long the page is, with 100,000 endpoints while calls come in.

    scripts/bench console [--endpoints 100000] [--rounds 5] [--directory DIR]

The store is seeded as for `scripts/bench inventory`. First each page is asked for in this process, while nothing comes
in: `processor_ms` is what a view computes, whatever else the machine does. Then the collector runs as a program, and a
sensor sends it a batch of 500 rows each 0.2 s: milliseconds of the first view and the median of the later ones on
loopback (goal 300), and bytes of HTML (goal 300,000). One JSON line a page each.
"""

import argparse
import json
import re
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import httpx

from collector.alerting.self_monitoring import StorageState
from collector.core.config import CollectorSettings
from collector.server.app import build_app
from collector.server.compose import Collector
from collector.storage.embedded import EmbeddedStore
from scripts.bench_cases.inventory import seed
from tests.collector.api.client import TestClient
from tests.collector.running import Conversation, RunningCollector, make_hello, wrap
from tests.collector.wire_batches import make_batch

GOAL_MS, GOAL_BYTES = 300, 300_000
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


def measure_computing(directory: Path, rounds: int) -> dict[str, float]:
    """By page, milliseconds of processor of a view after the first, while nothing comes in."""
    found = {}
    collector = Collector(CollectorSettings(data_dir=directory, no_auth=True))
    try:
        app = build_app(collector.build_services(str, bytes, StorageState))
        with TestClient(app, base_url="http://localhost") as client:
            for path in list_pages(client):
                client.get(path)
                start = time.process_time()
                for _ in range(rounds):
                    client.get(path)
                found[path] = (time.process_time() - start) * 1e3 / rounds
    finally:
        collector.close()
    return found


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="A data directory that is kept, and used again.")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="apidae-bench-"))
    try:
        if not (directory / "store").exists():
            (directory / "store").mkdir(parents=True)
            store = EmbeddedStore(directory / "store")
            seed(store, options.endpoints, int(time.time()))
            store.close()
        for path, used in measure_computing(directory, options.rounds).items():
            print(json.dumps({"page": path, "processor_ms": round(used)}), flush=True)
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

"""What assessing the risk of many endpoints costs the collector: looks of the assessor over a store as in `inventory`.

    scripts/bench risk [--endpoints 100000] [--passes 4] [--findings] [--directory DIR]

The clock stands at the newest call of the store. Endpoints wait until a pass takes them, so the first passes judge what
was never judged and the store of findings grows with each. One JSON line a pass: endpoints judged and still waiting,
seconds, CPU microseconds an endpoint, findings in the store; then one of a pass over endpoints that were judged before.
With `--findings` each endpoint has three from the start, which were accepted; a line says what looking up those
of the endpoints of one chunk costs, as the assessor asks.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import CHUNK, RiskAssessor
from collector.risk.repository import RiskTable
from collector.storage.embedded import EmbeddedStore
from scripts.bench_cases.inventory import seed


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run_pass(assessor: RiskAssessor, store: EmbeddedStore, name: str) -> int:
    """One look; gives how many still wait."""
    start, start_process = time.perf_counter(), time.process_time()
    judged = assessor.look()
    seconds, process = time.perf_counter() - start, time.process_time() - start_process
    figures = {
        "judged": judged,
        "waiting": assessor.waiting_count,
        "seconds": round(seconds, 2),
        "cpu_us_an_endpoint": round(process / max(1, judged) * 1e6),
        "findings": int(store.query("SELECT count() FROM findings FINAL")[0][0]),
    }
    print(json.dumps({"scenario": name, **figures}), flush=True)
    return assessor.waiting_count


def seed_findings(store: EmbeddedStore, now: float) -> None:
    """Three of each endpoint, of the length that they have."""
    long = "repeat('what was seen and what would end it, in a sentence or two; ', {})"
    store.execute(f"""
INSERT INTO findings (id, endpoint_id, rule, severity, owasp, state, title, why, advice, signs, first_seen, last_seen,
    updated_at, changed_at, changed_by, note, method, host, url_template, service)
SELECT lower(hex(cityHash64(endpoint_id, n))), endpoint_id, concat('rule_', toString(n)), 'medium', 'API3:2023',
    'accepted', {long.format(1)}, {long.format(3)}, {long.format(3)}, ['email', 'person_name'], {now}, {now}, {now},
    {now}, 'ada', 'public by design', method, host, url_template, service
FROM endpoint_routes FINAL ARRAY JOIN range(3) AS n""")
    store.execute("OPTIMIZE TABLE findings FINAL")


def measure_lookup(store: EmbeddedStore, rounds: int = 9) -> None:
    """Of the endpoints of a chunk, as a pass has them in order."""
    table = RiskTable(store)
    ids = [row[0] for row in store.query("SELECT DISTINCT endpoint_id FROM endpoint_routes ORDER BY endpoint_id")]
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), len(ids) // rounds)]
    costs: list[float] = []
    for chunk in (chunks[0], *chunks[:rounds]):  # The first one warms.
        start = time.process_time()
        found = sum(map(len, table.read_findings(chunk).values()))
        costs.append((time.process_time() - start) * 1e3)
    figures = {"endpoints": len(chunks[0]), "found": found, "cpu_ms_median": round(statistics.median(costs[1:]), 1)}
    print(json.dumps({"scenario": "findings of a chunk", **figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench risk")
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--findings", action="store_true")
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="apidae-bench-"))
    store = EmbeddedStore(directory)
    try:
        if not store.query("SELECT count() FROM routes")[0][0]:
            seed(store, options.endpoints, int(time.time()))
        clock = Clock(float(store.query("SELECT toUnixTimestamp(max(last_seen)) FROM rows_minute")[0][0]))
        if options.findings:
            seed_findings(store, clock.now)
            measure_lookup(store)
        assessor = RiskAssessor(
            store=store,
            endpoints=EndpointInventory(reader=store, who=ConsumerSql()),
            clock=clock,
            alarm=lambda reports: None,
        )
        for number in range(options.passes):
            clock.now += 1
            if not run_pass(assessor, store, f"pass {number + 1}"):
                break
        clock.now += 240
        run_pass(assessor, store, "later pass")
    finally:
        store.close()
        if options.directory is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()

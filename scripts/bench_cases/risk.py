"""What assessing the risk of many endpoints costs the collector: looks of the assessor over a store as in `inventory`.

    scripts/bench risk [--endpoints 100000] [--passes 4] [--findings] [--directory DIR]

The clock stands at the newest call of the store. Endpoints wait until a pass takes them, so the first passes judge what
was never judged and the store of findings grows with each. One JSON line a pass: endpoints judged and still waiting,
seconds, CPU microseconds an endpoint, findings in the store; then one of a pass over endpoints that were judged before.
With `--findings` each endpoint has three from the start, which were accepted; lines say what looking up those of the
endpoints of one chunk costs, as the assessor asks, and what the lists of findings cost.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import CHUNK, RiskAssessor
from collector.risk.finding import Finding, FindingState, identify_finding
from collector.risk.finding_query import FindingGroupQuery, FindingQuery
from collector.risk.repository import RiskTable
from collector.risk.rules import load_rules
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import open_state
from scripts.bench_cases.inventory import seed


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run_pass(assessor: RiskAssessor, name: str) -> int:
    """One look; gives how many still wait."""
    start, start_process = time.perf_counter(), time.process_time()
    judged = assessor.look()
    seconds, process = time.perf_counter() - start, time.process_time() - start_process
    figures = {
        "judged": judged,
        "waiting": assessor.waiting_count,
        "seconds": round(seconds, 2),
        "cpu_us_an_endpoint": round(process / max(1, judged) * 1e6),
        "findings": sum(assessor.table.count_findings().values()),
    }
    print(json.dumps({"scenario": name, **figures}), flush=True)
    return assessor.waiting_count


def seed_findings(store: EmbeddedStore, table: RiskTable, now: float) -> None:
    """Three of each endpoint, of the length that they have."""
    sentence = "what was seen and what would end it, in a sentence or two; "
    rules = [rule for rule, _ in load_rules()]
    rows = store.query(
        "SELECT DISTINCT endpoint_id, method, host, url_template, service FROM endpoint_routes ORDER BY endpoint_id"
    )
    for start in range(0, len(rows), CHUNK):
        found = [
            Finding(
                id=identify_finding(endpoint_id, rule.id),
                endpoint_id=endpoint_id,
                rule=rule.id,
                severity=rule.severity,
                owasp=rule.owasp,
                state=FindingState.ACCEPTED,
                title=rule.title,
                why=sentence * 3,
                advice=rule.advice,
                signs=("email", "person_name"),
                first_seen=now,
                last_seen=now,
                updated_at=now,
                changed_at=now - number,
                changed_by="ada",
                note="public by design",
                is_reopened=False,
                method=method,
                host=host,
                url_template=template,
                service=service,
            )
            for number, (endpoint_id, method, host, template, service) in enumerate(rows[start : start + CHUNK], start)
            for rule in (rules[(number + step) % len(rules)] for step in (0, 7, 14))
        ]
        table.save([], found, [])


def measure_lists(store: EmbeddedStore, table: RiskTable, rounds: int = 9) -> None:
    """Findings of the endpoints of a chunk, as a pass has them in order; then the lists."""
    rows = store.query(f"SELECT DISTINCT endpoint_id FROM endpoint_routes ORDER BY endpoint_id LIMIT {CHUNK}")
    ids = [row[0] for row in rows]
    tasks: dict[str, Callable[[], object]] = {
        "findings of a chunk": lambda: table.read_findings(ids),
        "list of findings": lambda: table.list_findings(FindingQuery()),
        "list of a state": lambda: table.list_findings(FindingQuery(state=FindingState.ACCEPTED)),
        "list of a service": lambda: table.list_findings(FindingQuery(service="svc7")),
        "list of a word": lambda: table.list_findings(FindingQuery(q="items777/")),
        "findings by rule": lambda: table.list_groups(FindingGroupQuery()),
        "findings by state": table.count_findings,
    }
    for name, task in tasks.items():
        task()  # Warms.
        costs: list[float] = []
        for _ in range(rounds):
            start = time.process_time()
            task()
            costs.append((time.process_time() - start) * 1e3)
        print(json.dumps({"scenario": name, "cpu_ms_median": round(statistics.median(costs), 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench risk")
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--findings", action="store_true")
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="apidae-bench-"))
    store, state = EmbeddedStore(directory), open_state(directory)
    try:
        if not store.query("SELECT count() FROM routes")[0][0]:
            seed(store, options.endpoints, int(time.time()))
        clock = Clock(float(store.query("SELECT toUnixTimestamp(max(last_seen)) FROM rows_minute")[0][0]))
        if options.findings:
            seed_findings(store, RiskTable(store, state), clock.now)
            measure_lists(store, RiskTable(store, state))
        assessor = RiskAssessor(
            store=store,
            state=state,
            endpoints=EndpointInventory(reader=store, who=ConsumerSql()),
            clock=clock,
            alarm=lambda reports: None,
        )
        for number in range(options.passes):
            clock.now += 1
            if not run_pass(assessor, f"pass {number + 1}"):
                break
        clock.now += 240
        run_pass(assessor, "later pass")
    finally:
        store.close()
        state.close()
        if options.directory is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()

"""What judging the risk of many endpoints costs the collector: looks of the keeper over a store as in `inventory`.

    scripts/bench risk [--endpoints 100000] [--passes 4] [--directory DIR]

The clock stands at the newest call of the store. Endpoints wait until a pass takes them, so the first passes judge what
was never judged and the store of findings grows with each. One JSON line a pass: endpoints judged and still waiting,
seconds, CPU microseconds an endpoint, findings in the store; then one of a pass over endpoints that were judged before.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from collector.inventory.counted import ConsumerSql
from collector.inventory.endpoints import EndpointInventory
from collector.risk.keeper import RiskKeeper
from collector.store.embedded import EmbeddedStore
from scripts.bench_cases.inventory import seed


class Clock:
    """Unix seconds, moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run_pass(keeper: RiskKeeper, store: EmbeddedStore, name: str) -> int:
    """One look; gives how many still wait."""
    start, start_process = time.perf_counter(), time.process_time()
    judged = keeper.look()
    seconds, process = time.perf_counter() - start, time.process_time() - start_process
    figures = {
        "judged": judged,
        "waiting": keeper.waiting_count,
        "seconds": round(seconds, 2),
        "cpu_us_an_endpoint": round(process / max(1, judged) * 1e6),
        "findings": int(store.query("SELECT count() FROM findings FINAL")[0][0]),
    }
    print(json.dumps({"scenario": name, **figures}), flush=True)
    return keeper.waiting_count


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench risk")
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="apidae-bench-"))
    store = EmbeddedStore(directory)
    try:
        if not store.query("SELECT count() FROM routes")[0][0]:
            seed(store, options.endpoints, int(time.time()))
        clock = Clock(float(store.query("SELECT toUnixTimestamp(max(last_seen)) FROM rows_minute")[0][0]))
        keeper = RiskKeeper(
            store=store,
            endpoints=EndpointInventory(reader=store, who=ConsumerSql()),
            clock=clock,
            alarm=lambda reports: None,
        )
        for number in range(options.passes):
            clock.now += 1
            if not run_pass(keeper, store, f"pass {number + 1}"):
                break
        clock.now += 240
        run_pass(keeper, store, "later pass")
    finally:
        store.close()
        if options.directory is None:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()

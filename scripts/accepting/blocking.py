"""A scraper beside buyers: it is detected, a block stops it and nobody else, and lifting gives its calls back."""

import time
from typing import Final

from scripts.accepting.kubernetes_client import Object, wait_for
from scripts.accepting.run import Acceptance
from scripts.accepting.workloads import ORDERS, PORT

SCRAPER, BUYER = "scraper", "steady-buyer"
SCRAPER_RATE, BUYER_RATE = 20.0, 3.0  # Calls/s.
STREAM_SECONDS: Final = 900.0
ALERT_SECONDS: Final = 120.0
EFFECT_SECONDS: Final = 20.0
# A block of a workload reaches a sensor with its next policy.
SETTLED_SECONDS: Final = 5.0


def check_block(run: Acceptance) -> None:
    """Detect, block, lift."""
    address = f"orders.{run.namespace}:{PORT}"
    streams = ((SCRAPER, SCRAPER_RATE, 50_001), (BUYER, BUYER_RATE, 70_001))
    run.kubernetes.apply(
        [
            run.workloads.make_deployment(
                name,
                "stream",
                address=address,
                template=ORDERS,
                calls_per_second=rate,
                seconds=STREAM_SECONDS,
                first=first,
            )
            for name, rate, first in streams
        ]
    )
    run.kubernetes.wait_for_rollout(*(f"deployment/{name}" for name, _, _ in streams))
    _check_alert(run)
    nodes = run.collector.get("/blocks")["nodes"]
    if not nodes or not all(node["is_enabled"] for node in nodes):
        reason = "no sensor enforces: sensor.settings.enforcement.enabled is false"
        run.table.skip("block", "the scraper alone is reset", reason)
        run.table.skip("lift", "the scraper is answered", reason)
    else:
        _check_block_and_lift(run)
    run.kubernetes.run("delete", "deployment", SCRAPER, BUYER, "--wait=true")


def _check_alert(run: Acceptance) -> None:
    """An alert about its Pod, by the name of its workload."""
    name, began = f"{run.namespace}/{SCRAPER}", time.monotonic()

    def find_alerts() -> list[Object]:
        alerts: list[Object] = run.collector.list_items("/alerts")
        return [alert for alert in alerts if name in f"{alert['held_by']} {alert['consumer']}"]

    found = wait_for(find_alerts, ALERT_SECONDS)
    kinds = sorted({alert["kind"] for alert in found})
    observed = f"{', '.join(kinds)} after {time.monotonic() - began:.0f} s" if kinds else "no alert"
    run.table.add("scraper", f"an alert that names it within {ALERT_SECONDS:.0f} s", observed, holds=bool(kinds))


def _check_block_and_lift(run: Acceptance) -> None:
    began = time.time()
    words = f"block workload:{run.namespace}/{SCRAPER} --seconds 600 --reason acceptance --confirm"
    made = run.collector.run_command(words)
    stopped = wait_for(lambda: _find_first(run, SCRAPER, "reset", began), EFFECT_SECONDS)
    time.sleep(SETTLED_SECONDS)
    until = time.time()
    scraper = _count(run, SCRAPER, (stopped or began) + 2, until)
    buyer = _count(run, BUYER, began, until)
    run.table.add(
        "block",
        "the scraper alone is reset",
        f"first reset after {(stopped or 0) - began:.1f} s; then {scraper}; buyer {buyer}"
        if stopped
        else f"no reset: {scraper}",
        holds=bool(stopped) and not scraper["answered"] and not buyer["reset"] and buyer["answered"] > 0,
        details=made,
    )
    lifted = time.time()
    run.collector.run_command(f"lift {made['id']}")
    answered = wait_for(lambda: _find_first(run, SCRAPER, "answered", lifted), EFFECT_SECONDS)
    time.sleep(SETTLED_SECONDS)
    after = _count(run, SCRAPER, (answered or lifted) + 2, time.time())
    run.table.add(
        "lift",
        "the scraper is answered",
        f"first answer after {(answered or 0) - lifted:.1f} s; then {after}" if answered else "no answer",
        holds=bool(answered) and not after["reset"],
    )


def _find_first(run: Acceptance, name: str, kind: str, since: float) -> float:
    """Time of the first line that has some of this kind; 0 without."""
    lines = run.kubernetes.read_lines(f"deployment/{name}", "--since=60s")
    return min((line["at"] for line in lines if line["at"] > since and line.get(kind)), default=0.0)


def _count(run: Acceptance, name: str, since: float, until: float) -> dict[str, int]:
    """Calls of these seconds, by what became of them."""
    lines = [line for line in run.kubernetes.read_lines(f"deployment/{name}") if since < line["at"] <= until]
    return {kind: sum(line.get(kind, 0) for line in lines) for kind in ("answered", "reset")}

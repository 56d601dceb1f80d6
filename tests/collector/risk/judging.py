"""A collector that runs, fed with cases by the sensor's own code, until it has judged every endpoint of theirs."""

import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from sensor.export.messages import write_schemas
from tests.collector.risk.traffic import Sensor, load_cases
from tests.collector.running import RunningCollector, make_hello, talk, wrap
from tests.waiting import DEADLINE_SECONDS


def start_collector(directory: Path, *flags: str) -> RunningCollector:
    """One that judges each second."""
    directory.mkdir(parents=True, exist_ok=True)
    constants = {"collector.server.compose.RISK_SECONDS": 1}
    return RunningCollector(directory / "data", "--no-auth", *flags, constants=constants)


def feed(collector: RunningCollector, cases: list[dict[str, Any]]) -> Sensor:
    """All calls of the cases, and wait until all are judged."""
    sensor = Sensor([case["id"] for case in cases])
    for case in cases:
        sensor.see(case)
    described = (write_schemas(schemas) for schemas in sensor.schemas.take(sensor.time_ns))
    talk(collector.ready["grpc"], [make_hello(), *described, *(wrap(batch) for batch in sensor.flush())])
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        endpoints = collector.get("/endpoints?limit=500").json()["items"]
        judged = {one["service"]["workload"] for one in endpoints if one["risk"] is not None}
        if judged == {case["id"] for case in cases} and all(one["risk"] is not None for one in endpoints):
            return sensor
        assert time.monotonic() < deadline, f"judged {len(judged)} of {len(cases)}"
        time.sleep(0.2)


def judge_cases(directory: Path) -> dict[str, Counter[str]]:
    """Findings of each rule by case, as the API has them."""
    collector = start_collector(directory)
    try:
        feed(collector, load_cases())
        rules: dict[str, Counter[str]] = defaultdict(Counter)
        for finding in collector.get("/findings?limit=500").json()["items"]:
            rules[finding["service"].rpartition(":")[0]][finding["rule"]] += 1
        return dict(rules)
    finally:
        assert collector.stop() == 0

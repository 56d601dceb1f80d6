"""Services of our own, vulnerable and sound, through a running collector: every flaw is found, no decoy is flagged."""

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.risk.traffic import Sensor, load_cases
from tests.collector.running import RunningCollector, make_hello, talk, wrap

pytestmark = pytest.mark.store

FLAWS_MIN, DECOYS_MIN = 30, 60
WAIT_SECONDS = 60.0


def test_the_list_is_long_enough() -> None:
    cases = load_cases()
    assert len({case["id"] for case in cases}) == len(cases)
    assert sum("expect" in case for case in cases) >= FLAWS_MIN
    assert sum("expect" not in case for case in cases) >= DECOYS_MIN


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Rules by case, as the API of a collector tells them once it has judged every endpoint."""
    directory = tmp_path_factory.mktemp("cases")
    settings = directory / "collector.toml"
    settings.write_text("risk_interval_seconds = 1\n")
    collector = RunningCollector(directory / "data", "--no-auth", "--config", str(settings))
    try:
        yield _judge(collector)
    finally:
        assert collector.stop() == 0


def _judge(collector: RunningCollector) -> dict[str, set[str]]:
    cases = load_cases()
    sensor = Sensor([case["id"] for case in cases])
    for case in cases:
        sensor.see(case)
    talk(collector.ready["grpc"], [make_hello(), *(wrap(batch) for batch in sensor.flush())])
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        endpoints = collector.get("/endpoints?limit=500").json()["items"]
        judged = {one["service"]["workload"] for one in endpoints if one["risk"] is not None}
        if judged == {case["id"] for case in cases}:
            break
        assert time.monotonic() < deadline, f"judged {len(judged)} of {len(cases)}"
        time.sleep(0.2)
    rules: dict[str, set[str]] = defaultdict(set)
    for finding in collector.get("/findings?limit=500").json()["items"]:
        rules[finding["service"].rpartition(":")[0]].add(finding["rule"])
    return rules


@pytest.mark.parametrize("case", [case for case in load_cases() if "expect" in case], ids=lambda case: case["id"])
def test_every_flaw_is_found(case: dict[str, object], found: dict[str, set[str]]) -> None:
    assert set(case["expect"]) <= found[str(case["id"])]  # type: ignore[call-overload]


def test_no_decoy_is_flagged(found: dict[str, set[str]], tmp_path: Path) -> None:
    decoys = [str(case["id"]) for case in load_cases() if "expect" not in case]
    assert {name: rules for name, rules in found.items() if name in decoys} == {}

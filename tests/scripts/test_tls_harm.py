"""What scripts/bench tls_harm makes of its rounds: none is lost between two runs, and each kind of harm is told."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from scripts.bench_cases.harming.load import Round
from scripts.bench_cases.tls_harm import Kept, count_calls, is_harmless, read_state, summarise

QUIET = Kept(
    runtime="nginx",
    way="none",
    paced=Round(1_000, 0, 500, 900),
    full=Round(9_000, 0, 800, 1_500),
    actions={},
    failures=[],
    breakpoints=[],
    looked=13,
    descriptors=0,
)
WATCHED = replace(QUIET, way="probes", actions={"attached": 7, "killed": 2}, held=90)


def test_rounds_are_read_as_they_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    assert read_state(path) == []
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in (QUIET, WATCHED)))
    assert read_state(path) == [QUIET, WATCHED]


def test_only_calls_with_probes_count() -> None:
    assert count_calls([QUIET, WATCHED, WATCHED, replace(WATCHED, runtime="node")], "nginx") == 20_000


def test_auto_is_compared_with_off() -> None:
    off = replace(QUIET, way="off")
    slow = replace(QUIET, way="auto", paced=Round(1_000, 0, 551, 900), actions={"turns": 3})
    line = summarise([off, slow], "nginx")
    assert (line["calls_disturbed"], line["auto"]["p99_ratio"], line["actions"]) == (10_000, 1.102, {"turns": 3})
    assert not is_harmless(line)
    assert is_harmless(summarise([off, replace(slow, paced=off.paced)], "nginx"))


def test_a_quiet_run_is_harmless() -> None:
    line = summarise([QUIET, WATCHED, WATCHED], "nginx")
    assert (line["calls_disturbed"], line["actions"], line["held"]) == (20_000, {"attached": 14, "killed": 4}, 180)
    assert line["probes"]["p99_ratio"] == 1.0
    assert is_harmless(line)


@pytest.mark.parametrize(
    "worse",
    [
        replace(WATCHED, full=Round(9_000, 1, 800, 1_500)),
        replace(WATCHED, paced=Round(1_000, 0, 551, 900)),
        replace(WATCHED, failures=["process 7 of nginx ended"]),
        replace(WATCHED, breakpoints=["/usr/lib/libssl.so.3+0x3e75a of process 7"]),
        replace(WATCHED, left=["prog 12"]),
    ],
    ids=["errors", "latency", "ended", "breakpoint", "left"],
)
def test_harm_is_told(worse: Kept) -> None:
    assert not is_harmless(summarise([QUIET, worse], "nginx"))

"""`scripts/bench capture`: every line has the same names, whatever its scenario measures."""

import json

import pytest

from scripts.bench_cases import capture
from scripts.bench_cases.capturing.lines import NAMES
from scripts.bench_cases.capturing.loads import UnavailableError
from scripts.bench_cases.capturing.rounds import Round, summarise

FIELDS = {
    "scenario", "cpu_ratio", "cpu_s_per_100k", "sensor_cpu_s_per_100k", "seen", "made", "dropped", "memory_bytes",
}  # fmt: skip


def test_rounds_are_summed_up_by_medians() -> None:
    plain = [Round(made=100_000, server=server, client=0.5) for server in (1.0, 1.5, 9.0)]
    watched = [
        Round(made=100_000, server=1.5, client=0.5, watcher=watcher, seen=100_000, dropped=1, memory_bytes=size)
        for watcher, size in ((0.2, 5), (0.4, 7), (3.0, 6))
    ]
    line = summarise("x", plain, watched, 5)
    assert FIELDS == set(NAMES) <= line.keys()
    assert (line["cpu_ratio"], line["cpu_s_per_100k"], line["sensor_cpu_s_per_100k"]) == (1.2, 2.4, 0.4)
    assert (line["seen"], line["made"], line["dropped"], line["memory_bytes"]) == (300_000, 300_000, 3, 7)


@pytest.mark.parametrize("name", [*capture.SCENARIOS, *capture.MEASURES])
def test_a_scenario_that_cannot_run_says_so_under_the_same_names(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise UnavailableError("not here")

    monkeypatch.setattr(capture, "run_rounds", refuse)
    monkeypatch.setattr(capture, "MEASURES", dict.fromkeys(capture.MEASURES, refuse))
    capture.run_scenario(name, 1, 1, tmp_path_factory.mktemp("none"))
    (line,) = capsys.readouterr().out.splitlines()
    read = json.loads(line)
    assert read.keys() == FIELDS | {"skipped"}
    assert (read["scenario"], read["skipped"]) == (name, "not here")

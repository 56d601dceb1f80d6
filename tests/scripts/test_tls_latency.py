"""What scripts/bench tls_latency makes of calls and changes: each call belongs to what was there while it lasted."""

from scripts.bench_cases.harming.paced import Call
from scripts.bench_cases.harming.toggled import Change
from scripts.bench_cases.tls_latency import compare_neighbours, judge, summarise

# Probes go in from 10.0 to 10.1 and out from 11.0 to 11.2; then in again.
CHANGES = [Change(10.0, 10.1, "in", 5.0, 5.1), Change(11.0, 11.2, "out", 5.3, 5.3), Change(12.0, 12.1, "in", 5.4, 5.5)]


def call(began: float, took: float, *, is_right: bool = True) -> Call:
    return Call(began, began + took, is_right)


def test_calls_belong_to_what_was_there() -> None:
    calls = [
        call(9.5, 0.01),  # Before the first change nothing is compared.
        call(10.05, 0.01),  # While probes go in.
        call(10.5, 0.002),
        call(10.9, 0.15),  # Lasts into the change.
        call(11.1, 0.5),
        call(11.5, 0.001, is_right=False),
        call(12.5, 0.001),  # Behind the last one neither.
    ]
    windows = judge(list(reversed(calls)), CHANGES)
    assert [(one["kind"], one["latencies_us"], one["failed"]) for one in windows] == [
        ("changing", [10_000], 0),
        ("in", [2_000], 0),
        ("changing", [150_000, 500_000], 0),
        ("out", [1_000], 1),
        ("changing", [], 0),
        ("in", [], 0),
    ]
    assert [round(one["cpu_us"]) for one in windows] == [0, 200_000, 0, 100_000, 0, 0]


def test_neighbours_are_compared() -> None:
    def window(kind: str, latency: int) -> dict[str, object]:
        return {"kind": kind, "latencies_us": [latency] * 200, "failed": 0, "cpu_us": 4_000.0}

    windows = [window("out", 100), window("changing", 900), window("in", 110), window("out", 1_000), window("in", 900)]
    assert compare_neighbours(windows, "in") == [1.1, 0.9]
    line = summarise("nginx", windows, [12.0, 80.0])
    told = line["in"]
    assert (told["calls"], line["out"]["p99_us"], told["p99_ratio_of_neighbours"]) == (400, 1_000, 1.0)
    assert (told["server_cpu_us"], line["out"]["server_cpu_us"]) == (20.0, 20.0)
    assert (line["changes"], line["change_ms_median"]) == (2, 46.0)

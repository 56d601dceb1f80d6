"""What the sensor keeps: idle, and with 10,000 routes and 50,000 consumers, maps and rings included."""

import time
from pathlib import Path
from typing import Final

from scripts.bench_cases.capturing.lines import print_line
from scripts.bench_cases.capturing.loads import NO_PAUSE, UnavailableError, Wrk
from scripts.bench_cases.capturing.servers import run_constant
from scripts.bench_cases.capturing.watchers import run_product

IDLE_SECONDS: Final = 12.0
ROUTES, CONSUMERS = 10_000, 50_000
LEARNING_TRIES: Final = 16
LEARNING_SECONDS: Final = 6
# Learning so much in a minute takes more heads than the budget allows; what is known afterwards takes as much memory.
UNBOUNDED: Final = "heads_per_second = 100000\ncapture_budget_core_share = 64\n"


def measure_idle(name: str, directory: Path) -> None:
    """Nothing but the sensor's own traffic, past its first windows."""
    with run_product(directory / name) as product:
        time.sleep(IDLE_SECONDS)
        line = {"scenario": name, "memory_bytes": product.read_memory(), "file_bytes": product.read_file_bytes()}
        print_line(line)


def measure_large(name: str, directory: Path) -> None:
    """Load until so many routes are known and nothing new is learned. Consumers with a token each have one profile: the
    kernel tells the token; that all were met is sure after some 100,000 calls."""
    load = Wrk(pace=NO_PAUSE, kind="cycle", credentials=CONSUMERS, routes=ROUTES)
    with (
        run_constant(directory / f"{name}-server") as server,
        run_product(directory / name, settings=UNBOUNDED) as product,
    ):
        peak, made, known = 0, 0, (0, 0)
        for _ in range(LEARNING_TRIES):
            made += load.run(server.port, LEARNING_SECONDS)
            peak = max(peak, product.read_memory())
            before, known = known, product.read_known()
            if known == before and known[0] >= ROUTES:
                break
        else:
            raise UnavailableError(f"learning did not end after {made} calls: {known[0]} routes of {ROUTES} are known")
        time.sleep(IDLE_SECONDS)
        line = {
            "scenario": name,
            "memory_bytes": product.read_memory(),
            "file_bytes": product.read_file_bytes(),
            "peak_memory_bytes": peak,
            "taught_routes": known[0],
            "taught_profiles": known[1],
            "made": made,
            "dropped": product.read_dropped(),
        }
        print_line(line)

"""What stays in memory is out of the garbage collector's sight, and the engine gives memory back soon."""

import subprocess
import sys
from pathlib import Path

import pytest

from collector.server.run import GC_THRESHOLDS
from tests.collector.running import clean_environment

_FROZEN = """
import gc
from collector.server.run import freeze_long_lived

kept = [[number] for number in range(200_000)]
cycle = []
cycle.append(cycle)
del cycle
freeze_long_lived()
print(gc.get_freeze_count() > 200_000, len(gc.get_objects()) < 10_000, gc.collect() < 100)
before = gc.get_freeze_count()
del kept
print(before - gc.get_freeze_count() >= 200_000)
"""
# The jobs would begin where this stops the collector.
_STARTED = """
import asyncio, gc, os, signal, sys
import collector.server.run as run
from tests.with_constants import set_constants

async def repeat_jobs(list_jobs, on_error, budgets):
    works = [work for job in list_jobs() for work in job.works]
    print("jobs", gc.get_threshold() == run.GC_THRESHOLDS, gc.get_freeze_count() > 50_000, flush=True)
    print("again", works.count(run.freeze_long_lived) == 2, gc.unfreeze in works, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(600)

run.repeat_jobs = repeat_jobs
from common.main import main
sys.argv = ["apidae", "collector", "--data-dir", DIRECTORY, "--grpc-listen", "127.0.0.1:0", "--http-listen",
    "127.0.0.1:0"]
main()
"""
_ALLOCATOR = """
from pathlib import Path
from collector.storage.embedded import EmbeddedStore

store = EmbeddedStore(Path(DIRECTORY))
stats = str(store.query("SELECT * FROM system.jemalloc_stats"))
print("opt.dirty_decay_ms: 300" in stats, "opt.narenas: 1" in stats)
store.close()
"""


def run(program: str, directory: Path) -> list[str]:
    """The lines that a program prints."""
    text = program.replace("DIRECTORY", repr(str(directory / "data")))
    done = subprocess.run(
        [sys.executable, "-c", text], env=clean_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_collection_does_not_look_at_what_stays_and_this_is_freed_all_the_same(tmp_path: Path) -> None:
    assert run(_FROZEN, tmp_path) == ["True True True", "True"]


@pytest.mark.store
def test_the_collector_freezes_what_its_start_made_and_looks_at_the_young_in_small_parts(tmp_path: Path) -> None:
    lines = run(_STARTED, tmp_path)
    assert "jobs True True" in lines and "again True True" in lines
    young, rounds, _ = GC_THRESHOLDS
    assert young * (rounds + 1) <= 60_000


@pytest.mark.store
def test_the_engine_gives_memory_back_soon(tmp_path: Path) -> None:
    assert run(_ALLOCATOR, tmp_path) == ["True True"]

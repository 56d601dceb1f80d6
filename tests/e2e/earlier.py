"""The version before this one, from the history of the clone: its programs, beside those of the checkout.

Its files lie in a directory of their own and run with the packages of this environment. So a test shows what the code
of both versions does with the same store, state and stream, and not what an older interpreter or package does.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tarfile import TarFile

import pytest

from scripts.live.host import COLLECTOR_READY_SECONDS, SENSOR_READY_SECONDS, CollectorAddress
from scripts.live.program import Program

ROOT = Path(__file__).parents[2]
VERSION = "0.1"
# The commit whose changelog names release 0.1.0: the last with all of its settings. There is no tag of it.
COMMIT = "d8eacdb6daa60504e9f05f47cbaba91ebaa68b81"
# Its compiler is a child that looks for its code in the directory where it is started.
_RUN = "import os; os.chdir({!r}); from common.main import main; main()"


@dataclass(frozen=True, slots=True)
class Earlier:
    """Programs of the earlier version."""

    tree: Path

    def run(self, code: str) -> str:
        """Standard output of Python code there."""
        command = [sys.executable, "-P", "-c", code]
        environment = {**os.environ, **self._environment}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    def start_collector(self, data: Path, log: Path, grpc_listen: str) -> tuple[Program, CollectorAddress]:
        """Ready when it returns."""
        options = ("--data-dir", str(data), "--no-auth", "--grpc-listen", grpc_listen, "--http-listen", "127.0.0.1:0")
        collector = self._start("collector", options, log, {})
        ready = self._wait(collector, "ready", COLLECTOR_READY_SECONDS)
        return collector, CollectorAddress(grpc=ready["grpc"], http=ready["http"])

    def start_sensor(self, collector: CollectorAddress, state: Path, log: Path, cache: Path) -> Program:
        """Capturing when it returns; `cache` keeps its compiled programs for the next one."""
        options = ("--collector", collector.grpc, "--state-dir", str(state))
        sensor = self._start("sensor", options, log, {"APIDAE_SENSOR_CACHE_DIR": str(cache)})
        self._wait(sensor, "capturing", SENSOR_READY_SECONDS)
        return sensor

    @property
    def _environment(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{self.tree}:{self.tree / 'proto' / 'gen'}"}

    def _start(self, name: str, options: tuple[str, ...], log: Path, more: Mapping[str, str]) -> Program:
        command = [sys.executable, "-P", "-c", _RUN.format(str(self.tree)), name, *options]
        return Program(f"{name} of {VERSION}", command, log, {**self._environment, **more})

    @staticmethod
    def _wait(program: Program, event: str, seconds: float) -> dict[str, str]:
        try:
            return program.wait_for(event, seconds)
        except BaseException:
            program.stop()
            raise


def unpack_earlier(directory: Path) -> Earlier:
    """Its files in `directory`; skips where the clone does not have them."""
    found = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        error = (found.stderr.decode(errors="replace").splitlines() or ["no reason given"])[0]
        pytest.skip(
            f"Nothing of an upgrade from version {VERSION} was tested: git gives no files of its commit {COMMIT[:8]} "
            f"({error}). A shallow clone lacks it; run `git fetch --unshallow` and test again."
        )
    with TarFile(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return Earlier(directory)

"""A sensor that comes and goes at random: stopped, paused and resumed, killed with SIGKILL, also while it starts.

One at a time, in a thread of its own. What the sensors held in the kernel is noted while they live.
"""

import subprocess
import time
from pathlib import Path

from scripts.bench_cases.harming.disturbing import Disturbing
from scripts.live.host import APIDAE, CollectorAddress, start_sensor
from scripts.live.kernel_objects import list_held
from scripts.live.program import Program

CONTROL_SECONDS = 15.0
STARTING_SECONDS = (0.05, 2.0)  # After which a starting sensor is killed.
CAPTURING_SECONDS = (0.3, 3.0)
PAUSED_SECONDS = (0.1, 1.0)
APART_SECONDS = (0.1, 1.5)


class Disturber(Disturbing):
    """Sensors of one collector, with some options."""

    def __init__(self, collector: CollectorAddress, directory: Path, seed: int, *options: str) -> None:
        super().__init__(directory, seed, APART_SECONDS)
        self._options = options
        self._collector = collector

    def _live_once(self) -> None:
        run_directory = self._directory / "run"
        options = ("--run-dir", str(run_directory), *self._options)
        sensor = start_sensor(self._collector, self._directory / "state", self._directory, *options, wait=False)
        try:
            if self._random.random() < 0.2:
                self._rest(STARTING_SECONDS)
                self._end(sensor, "killed_starting")
                return
            sensor.wait_for("capturing", 60.0)
            self.held |= list_held(sensor.pid)
            self.actions["attached"] += 1
            self._rest(CAPTURING_SECONDS)
            if self._random.random() < 0.4:
                self._command("pause", run_directory)
                self._rest(PAUSED_SECONDS)
                if self._random.random() < 0.7:
                    self._command("resume", run_directory)
                    self.held |= list_held(sensor.pid)
                    self._rest(CAPTURING_SECONDS)
            self._end(sensor, self._random.choice(("killed", "stopped")))
        finally:
            sensor.kill()

    def _end(self, sensor: Program, action: str) -> None:
        self.held |= list_held(sensor.pid)
        self.actions[action] += 1
        if action == "stopped":
            code = sensor.stop()
            if code:
                self.failures.append(f"a stopped sensor ended with {code}: {sensor.log_tail()}")
        else:
            sensor.kill()

    def _command(self, command: str, run_directory: Path) -> None:
        arguments = [APIDAE, command, "--run-dir", str(run_directory)]
        subprocess.run(arguments, check=True, timeout=CONTROL_SECONDS, capture_output=True)
        self.actions["paused" if command == "pause" else "resumed"] += 1


def wait_for_rcu() -> None:
    """The kernel frees programs and maps after a grace period."""
    time.sleep(5.0)

"""A sensor that comes and goes at random: stopped, paused and resumed, killed with SIGKILL, also while it starts.

One at a time, in a thread of its own. What the sensors held in the kernel is noted while they live.
"""

import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from scripts.live.host import APIDAE, CollectorAddress, start_sensor
from scripts.live.kernel_objects import Objects, list_held
from scripts.live.program import Program, ProgramError

CONTROL_SECONDS = 15.0
STARTING_SECONDS = (0.05, 2.0)  # After which a starting sensor is killed.
CAPTURING_SECONDS = (0.3, 3.0)
PAUSED_SECONDS = (0.1, 1.0)
APART_SECONDS = (0.1, 1.5)


class Disturber:
    """`actions` counts what was done, `held` what was held, `failures` what a sensor did wrong, in words."""

    def __init__(self, collector: CollectorAddress, directory: Path, seed: int, *options: str) -> None:
        self._options = options  # Of the sensor.
        self.actions: Counter[str] = Counter()
        self.held: Objects = frozenset()
        self.failures: list[str] = []
        self._collector = collector
        self._directory = directory
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturber")

    def __enter__(self) -> "Disturber":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._live_once()
            except (ProgramError, subprocess.SubprocessError) as error:
                self.failures.append(str(error))
            self._rest(APART_SECONDS)

    def _rest(self, between: tuple[float, float]) -> None:
        self._stopping.wait(self._random.uniform(*between))

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

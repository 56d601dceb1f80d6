"""How long nothing is captured, and how long nobody reads, when a sensor is replaced on its node.

    scripts/bench restart [--times 5]

A JSON line for each way: `followed`, as the chart does it: the next one waits beside the one that runs, which is then
stopped and gives it its capture; `left`: stopped with `handover_seconds`, then the next one (only where a bpf file
system can be mounted); `stopped` (SIGTERM, then the next one, whose kernel side was compiled before); `killed`
(SIGKILL); `compiled`, where the next one has another kernel side and must compile it first, as after an upgrade that
changed it. Gaps are what the next sensor says of itself, from detached to attached again; with SIGKILL one may begin a
second early. `unread_seconds`, where there is no gap: between the last reading of the one and the first of the other,
in which the rings hold what comes. On the node nothing else runs but a collector. Needs root.
"""

import argparse
import contextlib
import json
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program

_GAP = re.compile(r"nothing was captured for ([0-9.]+) s")
WAYS = ("followed", "left", "stopped", "killed", "compiled")
_WAITING = "goes on where the sensor before stops"
# What the one says when it has given its capture away, and the other when it has it.
_GIVEN, _TAKEN = ("the next sensor goes on", "capture goes on for"), "is read now"
WAITING_SECONDS = 60
SETTLE_SECONDS = 1.0  # The image is looked for, and is there.


class Node:
    """One node's directories and the sensor on it."""

    def __init__(self, place: Path, address: CollectorAddress, pins: Path | None) -> None:
        self._place, self._address, self._pins = place, address, pins
        self.unread: list[float] = []
        self._round = 0
        self.sensor = self._start()

    def _start(self, *, is_following: bool = False, is_leaving: bool = False) -> Program:
        # The last flag of a name counts: images are kept here, not in the checkout.
        extra = ["--cache-dir", str(self._place / "cache")]
        # The log of the one that runs may be open still.
        self._round += 1
        logs = self._place / f"logs-{self._round}"
        logs.mkdir()
        lines = [f"takeover_wait_seconds = {WAITING_SECONDS}"] * is_following
        if is_leaving:
            lines += [f"handover_seconds = {WAITING_SECONDS}"]
        if self._pins is not None:
            lines += [f'pin_dir = "{self._pins}"']
        if lines:
            (logs / "sensor.toml").write_text("\n".join(lines) + "\n")
            extra += ["--config", str(logs / "sensor.toml")]
        return start_sensor(self._address, self._place / "state", logs, *extra, wait=not is_following)

    def _follow(self) -> None:
        """The next one beside this one, and then in its place."""
        before, self.sensor = self.sensor, self._start(is_following=True)
        try:
            deadline = time.monotonic() + WAITING_SECONDS
            while _WAITING not in self.sensor.log_path.read_text():
                if time.monotonic() > deadline:
                    raise SystemExit(f"the next sensor does not wait: {self.sensor.log_tail()}")
                time.sleep(0.1)
            time.sleep(SETTLE_SECONDS)
        finally:
            before.stop()
        self.sensor.wait_for("capturing", WAITING_SECONDS)

    def replace(self, way: str) -> float:
        """The gap, in seconds."""
        before = self.sensor
        if way == "followed":
            self._follow()
            return self._read_gap(before)
        if way == "left":  # The one that runs leaves nothing yet.
            before.stop()
            before = self._start(is_leaving=True)
            before.stop()
            self.sensor = self._start()
            return self._read_gap(before)
        if way == "killed":
            self.sensor.send_signal(signal.SIGKILL)
        self.sensor.stop()
        if way == "compiled":
            for image in (self._place / "cache").glob("*.image"):
                image.unlink()
        self.sensor = self._start()
        return self._read_gap(before)

    def _read_gap(self, before: Program) -> float:
        log = self.sensor.log_path.read_text()
        found = _GAP.findall(log)
        given, taken = _find_time(before.log_path.read_text(), _GIVEN), _find_time(log, (_TAKEN,))
        if not found and given and taken:
            self.unread.append((taken - given).total_seconds())
            return 0.0
        if len(found) != 1:
            raise SystemExit(f"the sensor told no gap: {self.sensor.log_tail()}")
        return float(found[0])


def _find_time(log: str, said: tuple[str, ...]) -> datetime | None:
    """When a log says one of these."""
    for line in log.splitlines():
        if any(text in line for text in said) and line.startswith("{"):
            return datetime.fromisoformat(json.loads(line)["time"])
    return None


@contextlib.contextmanager
def mount_pins(place: Path) -> Iterator[Path | None]:
    """A directory of a bpf file system; None where none can be mounted."""
    mount = place / "bpf"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "bpf", "bpf", str(mount)], capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield mount / "apidae"
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as directory, mount_pins(Path(directory)) as pins:
        place = Path(directory)
        collector, address = start_collector(place / "collector", place)
        try:
            node = Node(place, address, pins)
        except BaseException:
            collector.stop()
            raise
        try:
            for way in WAYS if pins is not None else [way for way in WAYS if way != "left"]:
                node.unread.clear()
                gaps = [node.replace(way) for _ in range(times)]
                fact = {"way": way, "gap_seconds": gaps, "median": statistics.median(gaps), "most": max(gaps)}
                if node.unread:
                    fact["unread_seconds"] = node.unread
                print(json.dumps(fact), flush=True)
        finally:
            node.sensor.stop()
            collector.stop()


if __name__ == "__main__":
    main()

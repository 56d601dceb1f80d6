"""How long nothing is captured, and how long nobody reads, when a sensor is replaced on its node.

    scripts/bench restart [--times 5] [--ways followed stopped ..]

A JSON line for each way:

- `followed`, as the chart does it: the next sensor waits beside the one that runs, which is then stopped.
- `stopped`: SIGTERM, then the next sensor, whose programs were compiled before.
- `killed`: SIGKILL, then the next sensor. Its gap may begin up to a second early.
- `compiled`: stopped, and the next sensor compiles its programs first.

Gaps are what the next sensor logs, from detached to attached again. `unread_seconds` (`followed` only) is the time from
its attachment until the next sensor reads; its rings hold what comes meanwhile. Nothing else runs on the node
but a collector. Needs root.
"""

import argparse
import json
import re
import signal
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program

_GAP = re.compile(r"nothing was captured for ([0-9.]+) s")
WAYS = ("followed", "stopped", "killed", "compiled")
WAITING = "ready to capture as soon as"
# What the next sensor logs when it captures, and when it reads.
_ATTACHED, _READ = "attached; events are read", "is read now"
WAITING_SECONDS = 60
SETTLE_SECONDS = 1.0  # The image is looked for, and is there.


class Node:
    """One node's directories and the sensor on it."""

    def __init__(self, place: Path, address: CollectorAddress) -> None:
        self._place, self._address = place, address
        self.unread: list[float] = []
        self._round = 0
        self.sensor = self._start()

    def _start(self, *, is_following: bool = False) -> Program:
        extra: list[str] = []
        # The log of the one that runs may be open still.
        self._round += 1
        logs = self._place / f"logs-{self._round}"
        logs.mkdir()
        if is_following:
            (logs / "sensor.toml").write_text(f"takeover_wait_seconds = {WAITING_SECONDS}\n")
            extra = ["--config", str(logs / "sensor.toml")]
        return start_sensor(self._address, self._place / "state", logs, *extra, wait=not is_following)

    def _follow(self) -> None:
        """The next one beside this one, and then in its place."""
        before, self.sensor = self.sensor, self._start(is_following=True)
        try:
            self.sensor.wait_until_logged(WAITING, WAITING_SECONDS)
            time.sleep(SETTLE_SECONDS)
        finally:
            before.stop()
        self.sensor.wait_for("capturing", WAITING_SECONDS)

    def replace(self, way: str) -> float:
        """The gap, in seconds."""
        if way == "followed":
            self._follow()
            return self._read_gap()
        if way == "killed":
            self.sensor.send_signal(signal.SIGKILL)
        self.sensor.stop()
        if way == "compiled":
            self._forget_images()
        self.sensor = self._start()
        return self._read_gap()

    def _forget_images(self) -> None:
        for image in (self._place / "cache").rglob("*.image"):
            image.unlink()

    def _read_gap(self) -> float:
        log = self.sensor.log_path.read_text()
        found = _GAP.findall(log)
        attached, read = _find_time(log, _ATTACHED), _find_time(log, _READ)
        if attached and read:
            self.unread.append((read - attached).total_seconds())
        if len(found) != 1:
            raise SystemExit(f"the sensor logged no gap: {self.sensor.log_tail()}")
        return float(found[0])


def _find_time(log: str, text: str) -> datetime | None:
    """When a log has this text."""
    for line in log.splitlines():
        if text in line and line.startswith("{"):
            return datetime.fromisoformat(json.loads(line)["time"])
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    arguments = parser.parse_args()
    times = arguments.times
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        collector, address = start_collector(place / "collector", place)
        try:
            node = Node(place, address)
        except BaseException:
            collector.stop()
            raise
        try:
            for way in arguments.ways:
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

"""How long nothing is captured when a sensor is replaced on its node.

    scripts/bench restart [--times 5]

A JSON line for each way: `followed`, as the chart does it: the next one waits beside the one that runs, which is then
stopped; `stopped` (SIGTERM, then the next one, whose kernel side was compiled before); `killed` (SIGKILL); `compiled`,
where the next one has another kernel side and must compile it first, as after an upgrade that changed it. Gaps are what
the next sensor says of itself, from detached to attached again; with SIGKILL one may begin a second early. On the node
nothing else runs but a collector. Needs root.
"""

import argparse
import json
import re
import signal
import statistics
import tempfile
import time
from pathlib import Path

from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program

_GAP = re.compile(r"nothing was captured for ([0-9.]+) s")
WAYS = ("followed", "stopped", "killed", "compiled")
_WAITING = "Waiting for"
WAITING_SECONDS = 60
SETTLE_SECONDS = 1.0  # The image is looked for, and is there.


class Node:
    """One node's directories and the sensor on it."""

    def __init__(self, place: Path, address: CollectorAddress) -> None:
        self._place, self._address = place, address
        self._round = 0
        self.sensor = self._start()

    def _start(self, *, is_following: bool = False) -> Program:
        # The last flag of a name counts: images are kept here, not in the checkout.
        extra = ["--cache-dir", str(self._place / "cache")]
        # The log of the one that runs may be open still.
        self._round += 1
        logs = self._place / f"logs-{self._round}"
        logs.mkdir()
        if is_following:
            (logs / "sensor.toml").write_text(f"takeover_wait_seconds = {WAITING_SECONDS}\n")
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
        if way == "followed":
            self._follow()
            return self._read_gap()
        if way == "killed":
            self.sensor.send_signal(signal.SIGKILL)
        self.sensor.stop()
        if way == "compiled":
            for image in (self._place / "cache").glob("*.image"):
                image.unlink()
        self.sensor = self._start()
        return self._read_gap()

    def _read_gap(self) -> float:
        found = _GAP.findall(self.sensor.log_path.read_text())
        if len(found) != 1:
            raise SystemExit(f"the sensor told no gap: {self.sensor.log_tail()}")
        return float(found[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        collector, address = start_collector(place / "collector", place)
        try:
            node = Node(place, address)
        except BaseException:
            collector.stop()
            raise
        try:
            for way in WAYS:
                gaps = [node.replace(way) for _ in range(times)]
                fact = {"way": way, "gap_seconds": gaps, "median": statistics.median(gaps), "most": max(gaps)}
                print(json.dumps(fact), flush=True)
        finally:
            node.sensor.stop()
            collector.stop()


if __name__ == "__main__":
    main()

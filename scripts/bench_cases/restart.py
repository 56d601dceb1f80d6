"""How long nothing is captured, and how long nobody reads, when a sensor is replaced on its node.

    scripts/bench restart [--times 5] [--ways followed upgraded ..]

A JSON line for each way: `followed`, as the chart does it: the next one waits beside the one that runs, which is then
stopped and gives it its capture; `upgraded`: the same, where the next one has another kernel side, which it must
compile, as after an upgrade that changed it; `left`: stopped with `handover_seconds`, then the next one (only where a
bpf file system can be mounted); `stopped` (SIGTERM, then the next one, whose kernel side was compiled before); `killed`
(SIGKILL); `compiled`: stopped, and the next one must compile its kernel side first. Gaps are what the next sensor says
of itself, from detached to attached again; with SIGKILL one may begin a second early. `unread_seconds`, where capture
was given or began before the one had ended: till the first reading of the other, in which the rings hold what comes. On
the node nothing else runs but a collector. Needs root.
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
WAYS = ("followed", "upgraded", "left", "stopped", "killed", "compiled")
WAITING = "goes on where the sensor before stops"
# Another size of the ring is another kernel side; the setting's default is the second.
_RING_BYTES = (4 << 20, 8 << 20)
# What the one says when it has given its capture away, and the other when it has it.
_GIVEN = ("the next sensor goes on", "capture goes on for", "the next sensor begins")
_TAKEN = ("is read now",)
WAITING_SECONDS = 60
SETTLE_SECONDS = 1.0  # The image is looked for, and is there.


class Node:
    """One node's directories and the sensor on it."""

    def __init__(self, place: Path, address: CollectorAddress, pins: Path | None) -> None:
        self._place, self._address, self._pins = place, address, pins
        self.unread: list[float] = []
        self._round = 0
        self._ring_bytes = _RING_BYTES[-1]
        self.sensor = self._start()

    def _start(self, *, is_following: bool = False, is_leaving: bool = False) -> Program:
        # The last flag of a name counts: images are kept here, not in the checkout.
        extra = ["--cache-dir", str(self._place / "cache"), "--ring-bytes", str(self._ring_bytes)]
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
            self.sensor.wait_until_logged(WAITING, WAITING_SECONDS)
            time.sleep(SETTLE_SECONDS)
        finally:
            before.stop()
        self.sensor.wait_for("capturing", WAITING_SECONDS)

    def replace(self, way: str) -> float:
        """The gap, in seconds."""
        before = self.sensor
        if way in ("followed", "upgraded"):
            if way == "upgraded":
                self._change_kernel_side()
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
            self._forget_images()
        self.sensor = self._start()
        return self._read_gap(before)

    def _change_kernel_side(self) -> None:
        self._forget_images()
        self._ring_bytes = _RING_BYTES[self._ring_bytes == _RING_BYTES[0]]

    def _forget_images(self) -> None:
        for image in (self._place / "cache").rglob("*.image"):
            image.unlink()

    def _read_gap(self, before: Program) -> float:
        log = self.sensor.log_path.read_text()
        found = _GAP.findall(log)
        given, taken = _find_time(before.log_path.read_text(), _GIVEN), _find_time(log, _TAKEN)
        if given and taken:
            self.unread.append((taken - given).total_seconds())
            if not found:
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
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    arguments = parser.parse_args()
    times = arguments.times
    with tempfile.TemporaryDirectory() as directory, mount_pins(Path(directory)) as pins:
        place = Path(directory)
        collector, address = start_collector(place / "collector", place)
        try:
            node = Node(place, address, pins)
        except BaseException:
            collector.stop()
            raise
        try:
            for way in arguments.ways if pins is not None else [way for way in arguments.ways if way != "left"]:
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

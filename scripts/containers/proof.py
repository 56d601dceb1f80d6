"""Shows that the images work: the programs run in them as the chart runs them, and calls of this host are told.

The collector runs as its image's user without a capability, the sensor with the chart's; both in PID, mount, cgroup and
network namespaces of their own, on read-only roots, with no header or compiler of this host. What is called is a server
of this host, outside all of these.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from scripts.containers.container import Container, main_process
from scripts.containers.containerfile import Stage
from scripts.containers.rootfs import DIRECTORY
from scripts.live.program import Program

CALLS: Final = 23
READY_SECONDS: Final = 120.0
TOLD_SECONDS: Final = 20.0
GRPC, HTTP, METRICS = "127.0.0.1:7443", "127.0.0.1:8080", "127.0.0.1:9464"
PREFLIGHT_SECONDS: Final = 180.0  # It compiles and loads all programs.
# Of preflight: what must be right in the image. Capture that falls back to system calls is a warning there.
NEEDED_CHECKS: Final = ("capabilities", "plaintext capture (cgroup_skb)", "TLS programs")
FALLBACK_METRIC: Final = "apidae_sensor_capture_by_system_calls"
SENSOR_DIRECTORIES: Final = ("/var/lib/apidae/sensor", "/run/apidae")
DATA_DIRECTORY: Final = "/var/lib/apidae/collector"

Image = tuple[Path, Stage]


class ProofError(Exception):
    """An image does not do what it should; one sentence."""


def prove(sensor: Image | None, collector: Image | None, capabilities: list[str]) -> Iterator[dict[str, Any]]:
    """What was shown, one at a time. Without the collector's image there is nothing to send to, and only the preflight
    runs. Raises ProofError, ProgramError."""
    with tempfile.TemporaryDirectory(dir=DIRECTORY) as directory, _network() as network:
        place = Path(directory)
        runs = _Runs(place, network, capabilities)
        if sensor:
            yield runs.check_preflight(sensor)
        if collector:
            with runs.start_collector(*collector) as (container, pid):
                yield runs.check_health(container, pid)
                yield runs.check_decision(container)
                if sensor:
                    with runs.start_sensor(*sensor):
                        yield runs.check_calls(container)


class _Runs:
    def __init__(self, place: Path, network: int, capabilities: list[str]) -> None:
        self._place, self._network, self._capabilities = place, network, capabilities

    def _sensor_container(self, root: Path, stage: Stage) -> Container:
        mounts = [(Path("/proc"), "/host/proc", False), (Path("/sys/fs/cgroup"), "/host/cgroup", False)]
        for target in SENSOR_DIRECTORIES:
            origin = self._place / target.replace("/", "_")
            origin.mkdir(exist_ok=True)
            mounts.append((origin, target, True))
        return Container(
            root=root, stage=stage, capabilities=self._capabilities, mounts=mounts, network_of=self._network
        )

    def check_preflight(self, image: Image) -> dict[str, Any]:
        """What the sensor says of this host from inside."""
        done = self._sensor_container(*image).run(
            *("apidae", "preflight", "--json", "--cgroup-path", "/host/cgroup"),
            timeout=PREFLIGHT_SECONDS,
            APIDAE_SENSOR_READ_TLS="true",
        )
        if done.returncode:
            raise ProofError(f"apidae preflight in the sensor's image: {done.stderr or done.stdout}")
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        for name in NEEDED_CHECKS:
            if checks[name]["status"] != "ok":
                raise ProofError(f"apidae preflight in the sensor's image: {name} is {checks[name]['observed']}")
        return {"preflight": {name: check["status"] for name, check in checks.items()}}

    @contextlib.contextmanager
    def start_collector(self, root: Path, stage: Stage) -> Iterator[tuple[Container, int]]:
        """Ready, in the network of the proof; and its pid."""
        data = self._place / "data"
        data.mkdir(mode=0o700)
        uid, _, gid = stage.user.partition(":")
        os.chown(data, int(uid), int(gid))
        container = Container(root=root, stage=stage, mounts=[(data, DATA_DIRECTORY, True)], network_of=self._network)
        arguments = ["--no-auth", "--grpc-listen", GRPC, "--http-listen", HTTP]
        with self._start(container, arguments, "collector") as program:
            program.wait_for("ready", READY_SECONDS)
            yield container, main_process(program.pid)

    @contextlib.contextmanager
    def start_sensor(self, root: Path, stage: Stage) -> Iterator[None]:
        """Capturing."""
        arguments = ["--collector", GRPC, "--cgroup-path", "/host/cgroup", "--node", "proof"]
        arguments += ["--metrics-listen", METRICS]
        environment = {"APIDAE_SENSOR_PROC_PATH": "/host/proc"}
        with self._start(self._sensor_container(root, stage), arguments, "sensor", environment) as program:
            program.wait_for("capturing", READY_SECONDS)
            yield

    @contextlib.contextmanager
    def _start(
        self, container: Container, arguments: list[str], name: str, environment: dict[str, str] | None = None
    ) -> Iterator[Program]:
        stage = container.stage
        command = container.command([*stage.entrypoint, *stage.command, *arguments], environment)
        program = Program(name, command, self._place / f"{name}.log")
        try:
            yield program
        finally:
            with contextlib.suppress(OSError, IndexError):
                os.kill(main_process(program.pid), signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(30)
            program.stop()
            shutil.copy2(program.log_path, DIRECTORY / f"{name}.log")

    def check_health(self, container: Container, pid: int) -> dict[str, Any]:
        """The image's own health check, inside; and who it runs as."""
        done = container.run(*container.stage.healthcheck)
        if done.returncode:
            raise ProofError(f"the collector's health check failed: {done.stderr}")
        who = container.run("sh", "-c", "id -u; grep CapEff /proc/self/status; touch /x 2>&1")
        uid, capabilities, refused = who.stdout.splitlines()
        if (
            uid != container.stage.user.partition(":")[0]
            or int(capabilities.split()[1], 16)
            or "Read-only" not in refused
        ):
            raise ProofError(f"the collector's container has more rights than it should: {who.stdout}")
        resident = int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])
        return {"collector": "healthy", "uid": int(uid), "capabilities": 0, "resident_megabytes": resident // 1000}

    def check_decision(self, container: Container) -> dict[str, Any]:
        """A command that decides, run as the image's user, who has a name there."""
        done = container.run("apidae", "block", "203.0.113.7", "--seconds", "60", "--reason", "proof", "--confirm")
        if done.returncode:
            raise ProofError(f"apidae block in the collector's image: {done.stderr}")
        return {"decided_by": json.loads(done.stdout)["approved_by"]}

    def check_calls(self, container: Container) -> dict[str, Any]:
        """Calls of this host, reported by the collector in the container, and captured by packets."""
        with _serve() as port:
            for _ in range(CALLS):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/proof/of/images", timeout=5) as answer:
                    answer.read()
            deadline = time.monotonic() + TOLD_SECONDS
            told: list[dict[str, Any]] = []
            while time.monotonic() < deadline:
                asked = container.run("apidae", "endpoints", "--output", "json", "--query", "/proof/of/images")
                told = json.loads(asked.stdout or "[]") if not asked.returncode else []
                if sum(endpoint["calls"] for endpoint in told) >= CALLS:
                    break
                time.sleep(1)
        if len(told) != 1 or told[0]["calls"] != CALLS:
            raise ProofError(f"{CALLS} calls were made, and the collector told {told}")
        return {"calls": told[0]["calls"], "service": told[0]["service"], "capture": _read_way(container)}


def _read_way(container: Container) -> str:
    """How the sensor beside this container captures, by its own metrics. Raises ProofError where not by packets."""
    script = f"import urllib.request as u; print(u.urlopen('http://{METRICS}/metrics', timeout=10).read().decode())"
    asked = container.run("/opt/apidae/bin/python", "-c", script)
    found = re.search(rf"^{FALLBACK_METRIC} (\S+)$", asked.stdout, re.MULTILINE)
    if found is None or float(found[1]):
        said = found[0] if found else asked.stderr or f"no {FALLBACK_METRIC}"
        raise ProofError(f"the sensor does not capture by packets ({said}): see .run/images/sensor.log for the reason")
    return "cgroup_skb"


@contextlib.contextmanager
def _network() -> Iterator[int]:
    """A process that holds a network namespace with nothing but loopback."""
    script = "ip link set lo up && echo ready && exec sleep 600"
    with subprocess.Popen(["unshare", "--net", "sh", "-ec", script], stdout=subprocess.PIPE, text=True) as holder:
        try:
            if holder.stdout is None or holder.stdout.readline() != "ready\n":
                raise ProofError("a network namespace with loopback could not be made (unshare, ip)")
            yield holder.pid
        finally:
            holder.terminate()


@contextlib.contextmanager
def _serve() -> Iterator[int]:
    """A server of this host: its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()

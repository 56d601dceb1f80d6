"""Shows that the images work: containerd runs their archives as the chart would, and calls of this host are reported.

The collector runs as its image's user without a capability, the sensor with the chart's; both on read-only roots and
with the default seccomp profile, with no header or compiler of this host. What is called is a server of this host,
outside all of these.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from scripts.containers.containerfile import Stage
from scripts.containers.rootfs import DIRECTORY
from scripts.containers.runtime import Container, Runtime, run_containerd
from scripts.live.program import Program

CALLS: Final = 23
READY_SECONDS: Final = 120.0
TOLD_SECONDS: Final = 20.0
GRPC, HTTP, METRICS = "127.0.0.1:7443", "127.0.0.1:8080", "127.0.0.1:9464"
PREFLIGHT_SECONDS: Final = 180.0  # It compiles and loads all programs.
# Of preflight: what must be right in the image. Capture that falls back to system calls is a warning there.
NEEDED_CHECKS: Final = ("capabilities", "plaintext capture (cgroup_skb)", "TLS programs")
FALLBACK_METRIC: Final = "apidae_sensor_capture_by_system_calls"
STOP_SECONDS: Final = 30.0
# Lines of /proc/PID/status (proc(5)), and the numbers of capabilities (linux/capability.h) that the chart may give.
RIGHTS: Final = "CapEff|CapBnd|NoNewPrivs|Seccomp:"
CAPABILITIES: Final = {
    "DAC_READ_SEARCH": 2,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_RESOURCE": 24,
    "SYSLOG": 34,
    "PERFMON": 38,
    "BPF": 39,
}
SENSOR_DIRECTORIES: Final = ("/var/lib/apidae/sensor", "/run/apidae")
DATA_DIRECTORY: Final = "/var/lib/apidae/collector"

Image = tuple[Path, Stage]  # Its archive, and how it runs.


class ProofError(Exception):
    """An image does not do what it should; one sentence."""


def prove(sensor: Image | None, collector: Image | None, capabilities: list[str]) -> Iterator[dict[str, Any]]:
    """What was shown, one at a time. Without the collector's image there is nothing to send to, and only the preflight
    runs. Raises ProofError, ProgramError, ContainerError, NotRunError."""
    with (
        tempfile.TemporaryDirectory(dir=DIRECTORY) as directory,
        _network() as network,
        run_containerd(Path(directory) / "containerd") as runtime,
    ):
        runs = _Runs(Path(directory), runtime, network, capabilities)
        if sensor:
            sensor_image = runs.import_image(sensor)
            yield runs.check_preflight(sensor_image)
        if collector:
            with runs.start_collector(runs.import_image(collector)) as container:
                yield runs.check_health(container)
                yield runs.check_decision(container)
                if sensor:
                    with runs.start_sensor(sensor_image) as sensing:
                        yield runs.check_rights(sensing)
                        yield runs.check_calls(container)


class _Runs:
    def __init__(self, place: Path, runtime: Runtime, network: int, capabilities: list[str]) -> None:
        self._place, self._runtime, self._network, self._capabilities = place, runtime, network, capabilities

    def import_image(self, image: Image) -> tuple[str, Stage]:
        """Its name in containerd."""
        path, stage = image
        return self._runtime.import_archive(path), stage

    def _sensor_container(self, name: str, image: tuple[str, Stage]) -> Container:
        mounts = [(Path("/proc"), "/host/proc", False), (Path("/sys/fs/cgroup"), "/host/cgroup", False)]
        for target in SENSOR_DIRECTORIES:
            origin = self._place / target.replace("/", "_")
            origin.mkdir(exist_ok=True)
            mounts.append((origin, target, True))
        return self._make_container(name, image, mounts, self._capabilities)

    def _make_container(
        self, name: str, image: tuple[str, Stage], mounts: list[tuple[Path, str, bool]], capabilities: list[str]
    ) -> Container:
        return Container(
            runtime=self._runtime,
            image=image[0],
            stage=image[1],
            name=name,
            capabilities=capabilities,
            mounts=mounts,
            network_of=self._network,
        )

    def check_preflight(self, image: tuple[str, Stage]) -> dict[str, Any]:
        """What the sensor says of this host from inside."""
        done = self._sensor_container("preflight", image).run(
            *("apidae", "preflight", "--json", "--cgroup-path", "/host/cgroup"),
            timeout=PREFLIGHT_SECONDS,
            APIDAE_SENSOR_READ_TLS="full",
        )
        if done.returncode:
            raise ProofError(f"apidae preflight in the sensor's image: {done.stderr or done.stdout}")
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        for name in NEEDED_CHECKS:
            if checks[name]["status"] != "ok":
                raise ProofError(f"apidae preflight in the sensor's image: {name} is {checks[name]['observed']}")
        return {"preflight": {name: check["status"] for name, check in checks.items()}}

    @contextlib.contextmanager
    def start_collector(self, image: tuple[str, Stage]) -> Iterator[Container]:
        """Ready, in the network of the proof."""
        data = self._place / "data"
        data.mkdir(mode=0o700)
        uid, _, gid = image[1].user.partition(":")
        os.chown(data, int(uid), int(gid))
        container = self._make_container("collector", image, [(data, DATA_DIRECTORY, True)], [])
        with self._start(container, ["--no-auth", "--grpc-listen", GRPC, "--http-listen", HTTP]) as program:
            program.wait_for("ready", READY_SECONDS)
            yield container

    @contextlib.contextmanager
    def start_sensor(self, image: tuple[str, Stage]) -> Iterator[Container]:
        """Capturing."""
        arguments = ["--collector", GRPC, "--cgroup-path", "/host/cgroup", "--node", "proof"]
        arguments += ["--metrics-listen", METRICS]
        container = self._sensor_container("sensor", image)
        with self._start(container, arguments, APIDAE_SENSOR_PROC_PATH="/host/proc") as program:
            program.wait_for("capturing", READY_SECONDS)
            yield container

    @contextlib.contextmanager
    def _start(self, container: Container, arguments: list[str], **environment: str) -> Iterator[Program]:
        stage = container.stage
        command = container.make_command([*stage.entrypoint, *stage.command, *arguments], **environment)
        program = Program(container.name, command, self._place / f"{container.name}.log")
        try:
            yield program
        finally:
            program.stop(STOP_SECONDS)
            shutil.copy2(program.log_path, DIRECTORY / f"{container.name}.log")

    def check_health(self, container: Container) -> dict[str, Any]:
        """The image's own health check, inside; and who it runs as."""
        done = container.execute(*container.stage.healthcheck)
        if done.returncode:
            raise ProofError(f"the collector's health check failed: {done.stderr}")
        status = Path(f"/proc/{container.find_main_process()}/status").read_text()
        resident = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])
        return {"collector": "healthy", "resident_megabytes": resident // 1000, **self.check_rights(container)}

    def check_rights(self, container: Container) -> dict[str, Any]:
        """What a program in the container may do: what the chart says, and no more."""
        who = container.execute("sh", "-c", f"id -u; id -un; grep -E '^({RIGHTS})' /proc/self/status; touch /x 2>&1")
        uid, name, *lines, refused = who.stdout.splitlines() if who.stdout.count("\n") > 2 else ("", "", "")
        rights = {key: value for key, _, value in (line.partition(":\t") for line in lines)}
        wanted = sum(1 << CAPABILITIES[capability] for capability in container.capabilities)
        if (
            uid != container.stage.user.partition(":")[0]
            or int(rights.get("CapEff", "-1"), 16) != wanted
            or int(rights.get("CapBnd", "-1"), 16) != wanted
            or (rights.get("NoNewPrivs"), rights.get("Seccomp")) != ("1", "2")
            or "Read-only" not in refused
        ):
            raise ProofError(f"the {container.name}'s container has other rights than the chart gives: {who.stdout}")
        return {"container": container.name, "user": name, "capabilities": len(container.capabilities), "seccomp": True}

    def check_decision(self, container: Container) -> dict[str, Any]:
        """A command that decides, run as the image's user, who has a name there."""
        done = container.execute("apidae", "block", "203.0.113.7", "--seconds", "60", "--reason", "proof", "--confirm")
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
                asked = container.execute(
                    "apidae", "get", "endpoints", "--output", "json", "--query", "/proof/of/images"
                )
                told = json.loads(asked.stdout or "[]") if not asked.returncode else []
                if sum(endpoint["calls"] for endpoint in told) >= CALLS:
                    break
                time.sleep(1)
        if len(told) != 1 or told[0]["calls"] != CALLS:
            raise ProofError(f"{CALLS} calls were made, and the collector reports {told}")
        return {"calls": told[0]["calls"], "service": told[0]["service"], "capture": _read_way(container)}


def _read_way(container: Container) -> str:
    """How the sensor beside this container captures, by its own metrics. Raises ProofError where not by packets."""
    script = f"import urllib.request as u; print(u.urlopen('http://{METRICS}/metrics', timeout=10).read().decode())"
    asked = container.execute("/opt/apidae/bin/python", "-c", script)
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

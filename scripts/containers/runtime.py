"""Runs images as a node does: containerd imports an archive, runc starts containers of it.

Both are the distribution's; the containerd is one of our own, with its socket and its files in a directory of the
caller. Nothing of a node's own containerd is touched.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.containers.containerfile import Stage

PROGRAMS: Final = ("containerd", "containerd-shim-runc-v2", "ctr", "runc")
RUNC: Final = Path("/run/containerd/runc")  # Of every containerd of a machine.
START_SECONDS: Final = 30.0
IMPORT_SECONDS: Final = 300.0
# What containers get from ctr unless it is taken; the chart takes all and gives back what it names.
_GIVEN: Final = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
# No kubelet and no tracing here; and no snapshots of file systems that are not there.
_DISABLED: Final = (
    *("grpc.v1.cri", "tracing.processor.v1.otlp", "internal.v1.tracing", "snapshotter.v1.aufs"),
    *("snapshotter.v1.btrfs", "snapshotter.v1.devmapper", "snapshotter.v1.zfs"),
)


class NotRunError(Exception):
    """Containers cannot be run here for want of what it takes; one sentence."""


class ContainerError(Exception):
    """containerd refused what was asked of it; one sentence."""


class Runtime:
    """A containerd that runs."""

    def __init__(self, place: Path) -> None:
        self.socket = place / "c.sock"
        # Beside other containerds of this machine, runc and cgroups know containers by this and their names.
        self.namespace = f"apidae-{os.getpid()}"
        self.ctr = ("ctr", "--address", str(self.socket), "--namespace", self.namespace)

    def import_archive(self, path: Path) -> str:
        """The name of the image that the archive holds. Raises ContainerError."""
        before = set(self.call("images", "list", "--quiet").splitlines())
        self.call("images", "import", str(path), timeout=IMPORT_SECONDS)
        (name,) = set(self.call("images", "list", "--quiet").splitlines()) - before
        return name

    def call(self, *arguments: str, timeout: float = 60) -> str:
        """What ctr prints. Raises ContainerError."""
        command = [*self.ctr, *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise ContainerError(f"ctr {' '.join(arguments[:2])} did not end within {timeout:.0f} s") from error
        if done.returncode:
            raise ContainerError(f"ctr {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout

    def remove_containers(self) -> None:
        """All of them, running or not, and the directories of all of them that runc leaves."""
        for container in self.call("containers", "list", "--quiet").split():
            for ending in (("tasks", "delete", "--force"), ("containers", "delete")):
                with contextlib.suppress(ContainerError):
                    self.call(*ending, container)
        cgroups = Path("/sys/fs/cgroup")
        left = [*cgroups.glob(self.namespace), *cgroups.glob(f"*/{self.namespace}"), RUNC / self.namespace]
        for directory in left:
            with contextlib.suppress(OSError):
                directory.rmdir()


@contextlib.contextmanager
def run_containerd(place: Path) -> Iterator[Runtime]:
    """A containerd with all that it writes below `place`, until the caller is done. Raises NotRunError."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise NotRunError(f"{', '.join(missing)} missing: apt-get install containerd runc")
    place.mkdir()
    runtime, settings = Runtime(place), place / "containerd.toml"
    disabled = ", ".join(f'"io.containerd.{name}"' for name in _DISABLED)
    settings.write_text(
        f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\ndisabled_plugins = [{disabled}]\n'
        f'[grpc]\naddress = "{runtime.socket}"\n[ttrpc]\naddress = "{runtime.socket}.ttrpc"\n'
    )
    log = place / "containerd.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["containerd", "--config", str(settings)], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        _wait_until_ready(runtime, process, log)
        yield runtime
    finally:
        with contextlib.suppress(ContainerError):
            runtime.remove_containers()
        process.terminate()
        process.wait(30)


def _wait_until_ready(runtime: Runtime, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            runtime.call("version")
            return
        except ContainerError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise NotRunError(f"containerd does not run here: {''.join(last) or error}") from error
            time.sleep(0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of an image, with the chart's restrictions: a read-only root, the default seccomp profile, no new
    privileges, and `capabilities` alone."""

    runtime: Runtime
    image: str
    stage: Stage
    name: str
    capabilities: Sequence[str] = ()
    # (of this host, in the container, whether it may be written).
    mounts: Sequence[tuple[Path, str, bool]] = ()
    # Whose network namespace it is in.
    network_of: int

    def make_command(self, arguments: Sequence[str], **environment: str) -> list[str]:
        """What runs it; SIGTERM to this reaches the program, and its end ends the command and the container."""
        options = ["--rm", "--read-only", "--seccomp", "--with-ns", f"network:/proc/{self.network_of}/ns/net"]
        options += ["--mount", "type=tmpfs,src=tmpfs,dst=/tmp,options=mode=1777"]
        for origin, target, is_written in self.mounts:
            options += ["--mount", f"type=bind,src={origin},dst={target},options=rbind:{'rw' if is_written else 'ro'}"]
        for name in _GIVEN:
            options += [] if name in self.capabilities else ["--cap-drop", f"CAP_{name}"]
        for name in self.capabilities:
            options += [] if name in _GIVEN else ["--cap-add", f"CAP_{name}"]
        for name, value in environment.items():
            options += ["--env", f"{name}={value}"]
        return [*self.runtime.ctr, "run", *options, self.image, self.name, *arguments]

    def run(self, *arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        """A container of its own for this command, to its end; output as text."""
        return self._finish(self.make_command(arguments, **environment), timeout)

    def execute(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A command inside the running container, as the kubelet does it; output as text."""
        command = [*self.runtime.ctr, "tasks", "exec", "--exec-id", f"exec-{time.monotonic_ns()}", self.name]
        return self._finish([*command, *arguments], timeout)

    def find_main_process(self) -> int:
        """The pid of its first process, on this host."""
        for line in self.runtime.call("tasks", "list").splitlines():
            name, pid, *_ = line.split()
            if name == self.name:
                return int(pid)
        raise ContainerError(f"the container {self.name} does not run")

    @staticmethod
    def _finish(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )

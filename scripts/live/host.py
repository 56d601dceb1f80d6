"""Starts the product on this host: a collector with its embedded store, and a sensor that sends to it.

Gives running `Program`s and the addresses they told. The sensor needs root: under sudo where the caller is not.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.live.program import Program

COLLECTOR_READY_SECONDS = 60.0  # A store of many GB replays its WAL first.
SENSOR_READY_SECONDS = 90.0  # It gives up by itself, in words, after 30 s for first contact and 60 s for compiling.
APIDAE = str(Path(sys.executable).with_name("apidae"))
# All sensors started from this checkout share what the first one compiled, whatever their state directories.
CACHE_DIRECTORY = Path(".run/cache").absolute()


class RootNeededError(Exception):
    """The sensor cannot be started: neither root nor sudo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorAddress:
    """Where a ready collector listens."""

    grpc: str  # HOST:PORT
    http: str  # HOST:PORT

    @property
    def url(self) -> str:
        """Root of its web address."""
        return f"http://{self.http}"


def prefix_for_root() -> list[str]:
    """What to put before a command that needs root; raises RootNeededError where that is not to be had."""
    uid = os.geteuid()
    if uid == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo is None:
        raise RootNeededError(f"the sensor needs root, you are uid {uid} and there is no sudo here: run this as root")
    # Asked for here, while this process owns the terminal; the sensor runs in the background, where sudo cannot ask.
    if subprocess.run([sudo, "--validate"], check=False).returncode:
        raise RootNeededError(
            f"the sensor needs root and sudo refused uid {uid}: run this as root or as one who may sudo"
        )
    return [sudo, "--non-interactive", "--preserve-env=PYTHONDONTWRITEBYTECODE", "--"]


def start_collector(
    data_directory: Path,
    log_directory: Path,
    *extra: str,
    http_listen: str = "127.0.0.1:0",
    grpc_listen: str = "127.0.0.1:0",
    program: Sequence[str] = (APIDAE,),
    ready_seconds: float = COLLECTOR_READY_SECONDS,
) -> tuple[Program, CollectorAddress]:
    """A collector on loopback without tokens; blocks until it is ready. `extra`: more of its command line.

    Raises ProgramError with the end of its log.
    """
    data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [*program, "collector", "--data-dir", str(data_directory), "--no-auth"]
    command += ["--grpc-listen", grpc_listen, "--http-listen", http_listen, *extra]
    started = Program("collector", command, log_directory / "collector.log")
    try:
        event = started.wait_for("ready", ready_seconds)
    except BaseException:
        started.stop()
        raise
    return started, CollectorAddress(grpc=event["grpc"], http=event["http"])


def start_sensor(
    collector: CollectorAddress,
    state_directory: Path,
    log_directory: Path,
    *extra: str,
    wait: bool = True,
    program: Sequence[str] = (APIDAE,),
) -> Program:
    """A sensor that sends to `collector`; blocks until it captures, unless told not to wait.

    `state_directory` (made by the sensor, as root) holds its key and its spool: one for each collector, so that rows
    of one run never reach the collector of another. `program`: another one than ours.

    Raises RootNeededError, or ProgramError with the end of its log.
    """
    command = [*prefix_for_root(), *program, "sensor", "--collector", collector.grpc]
    command += ["--state-dir", str(state_directory.absolute()), *extra]
    lend_images(state_directory)
    # Byte code that root writes into a user's checkout could not be removed by that user.
    environment = {"PYTHONDONTWRITEBYTECODE": "1"} if os.geteuid() else None
    started = Program("sensor", command, log_directory / "sensor.log", environment)
    if not wait:
        return started
    try:
        started.wait_for("capturing", SENSOR_READY_SECONDS)
        keep_images(state_directory)
    except BaseException:
        started.stop()
        raise
    return started


def lend_images(state_directory: Path) -> None:
    """Links to the compiled programs that earlier sensors left: compiling takes a minute. Without root the directory is
    the sensor's own."""
    if os.geteuid() == 0:
        state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for image in CACHE_DIRECTORY.glob("*.image"):
            if not (state_directory / image.name).exists():
                (state_directory / image.name).symlink_to(image)


def keep_images(state_directory: Path) -> None:
    """Copies what a sensor compiled, for the next ones."""
    if os.geteuid() == 0:
        CACHE_DIRECTORY.mkdir(parents=True, exist_ok=True)
        for image in state_directory.glob("*.image"):
            if not image.is_symlink():
                shutil.copy2(image, CACHE_DIRECTORY)

"""A real application: how it is installed, started and called, and what is true of it.

Packages come from PyPI, npm or Debian by name, into a directory of their own. Nothing of them is kept in this checkout.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DRIVERS: Final = Path(__file__).parent / "drivers"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
READY_SECONDS: Final = 120.0
DRIVE_SECONDS: Final = 300.0


class ApplicationError(Exception):
    """An application was not installed, did not start, or its client failed; with the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One application, and what its own documentation says of its routes.

    drivers/NAME.sh starts it on $PORT in an empty directory, with its programs in the path; $SECOND_PORT is free too.
    drivers/NAME.py calls it, and knows both.
    A route is `METHOD /template`: `{name}` is one segment and `{name:path}` the rest. `authentication` has the kind of
    each route that needs credentials, by the API's names; `*` is for all others. `findings` are the pairs (rule, route)
    that a person would accept, `*` for any route; others count as false.
    """

    name: str
    routes: tuple[str, ...]
    python: tuple[str, ...] = ()  # From PyPI; the first may be the application, the others its clients.
    node: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()
    authentication: Mapping[str, str] = field(default_factory=dict)
    findings: frozenset[tuple[str, str]] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)


# Of an application without any login: whoever calls it may change it.
OPEN_CHANGES: Final = frozenset({("change_without_authentication", "*")})


def install(application: Application, root: Path) -> Path:
    """Its home below `root`; does nothing if it was installed there with these packages. Raises ApplicationError."""
    home = root / application.name
    stamp = home / "installed"
    # With the place: the programs of a moved environment name the interpreter of the old one.
    wanted = "\n".join((str(home), *application.python, *application.node, *application.debian))
    if stamp.exists() and stamp.read_text() == wanted:
        return home
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    _run([SYSTEM_PYTHON, "-m", "venv", str(home / "python")], home)
    if application.python:
        pip = [str(home / "python/bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *application.python], home)
    if application.node:
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), *application.node], home)
    for package in application.debian:
        _run(["apt-get", "download", "--quiet", package], home)
    for archive in home.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(archive), str(home / "debian")], home)
    stamp.write_text(wanted)
    return home


def _run(command: list[str], home: Path) -> None:
    log = home / "install.log"
    with log.open("ab") as output:
        code = subprocess.run(command, cwd=home, stdout=output, stderr=output, check=False).returncode
    if code:
        raise ApplicationError(f"{' '.join(command[:4])} .. failed with {code}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


@contextmanager
def run_application(application: Application, home: Path, data: Path, port: int, second_port: int) -> Iterator[None]:
    """Started and ready on 127.0.0.1:`port`, ended at the end. Raises ApplicationError."""
    data.mkdir(parents=True)
    paths = [home / "python/bin", home / "node_modules/.bin", home / "debian/usr/bin", home / "debian/usr/sbin"]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*map(str, paths), os.environ["PATH"]]),
        "HOME": str(data),
        "PORT": str(port),
        "SECOND_PORT": str(second_port),
        **application.environment,
    }
    log = data.parent / f"{application.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", str(DRIVERS / f"{application.name}.sh")], cwd=data, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until_ready(process, port, log, application.name)
            yield
        finally:
            _end(process)


def wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path, name: str) -> None:
    """Returns once the port is open. Raises ApplicationError."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ApplicationError(f"{name} does not listen on port {port}:\n{_tail(log)}") from None
            time.sleep(0.2)
        else:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
    process.poll()


def drive(application: Application, home: Path, data: Path, port: int, second_port: int) -> None:
    """Calls it with its own client. Raises ApplicationError."""
    program = [str(home / "python/bin/python"), "-P", str(DRIVERS / f"{application.name}.py")]
    log = data.parent / f"{application.name}-client.log"
    environment = {**os.environ, "HOME": str(data), "SECOND_PORT": str(second_port)}
    with log.open("wb") as output:
        try:
            code = subprocess.run(
                [*program, f"http://127.0.0.1:{port}"],
                cwd=data, env=environment, stdout=output, stderr=output, timeout=DRIVE_SECONDS, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = -1
    if code:
        raise ApplicationError(f"the client of {application.name} failed with {code}:\n{_tail(log)}")

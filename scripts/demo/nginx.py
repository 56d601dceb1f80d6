"""Runs an nginx of our own on loopback: a private directory, no system configuration, a port that was free a moment
ago.

Used by the demo, the benchmarks and the end-to-end tests. nginx cannot be told port 0, so a port is taken, given back
and used; where another process was faster, the next one is tried.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from scripts.ports import take_port

ATTEMPTS = 5
READY_SECONDS = 10.0
CONFIGURATION = """\
daemon off;
master_process {master};
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 100000000;
    keepalive_timeout 1h;
    server_tokens off;
    server {{
{listens}
{server}
    }}
}}
"""


class NginxError(Exception):
    """nginx did not start; the text holds its error log."""


def find_nginx() -> str | None:
    """Path of the nginx program; None where it is not installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Nginx:
    """A running nginx; `server` is what goes into its one `server {}` block, `listen` behind each of its addresses."""

    def __init__(
        self,
        directory: Path,
        server: str,
        *,
        addresses: tuple[str, ...] = ("127.0.0.1",),
        workers: int = 1,
        listen: str = "reuseport",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment`: in place of this process's."""
        program = find_nginx()
        if program is None:
            raise NginxError("nginx is not installed: apt-get install nginx-light")
        directory.mkdir(parents=True, exist_ok=True)
        self._listen, self._environment = listen, environment
        self.directory = directory.resolve()  # nginx reads relative paths from its prefix.
        for _ in range(ATTEMPTS):
            self.port = take_port(addresses)
            self.process = self._start(program, server, addresses, workers)
            if self._wait_until_ready(addresses[0]):
                return
            self.stop()
        raise NginxError(f"nginx did not start in {ATTEMPTS} attempts: {self._read_error_log()}")

    def _start(self, program: str, server: str, addresses: tuple[str, ...], workers: int) -> subprocess.Popen[bytes]:
        names = [f"[{address}]" if ":" in address else address for address in addresses]
        listens = "\n".join(f"        listen {name}:{self.port} {self._listen};" for name in names)
        text = CONFIGURATION.format(
            directory=self.directory,
            listens=listens,
            server=server,
            workers=workers,
            master="on" if workers > 1 else "off",
            user="user root;" if os.geteuid() == 0 else "",
        )
        path = self.directory / "nginx.conf"
        path.write_text(text)
        command = [program, "-p", str(self.directory), "-e", str(self.directory / "error.log"), "-c", str(path)]
        return subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_until_ready(self, address: str) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((address, self.port), timeout=1):
                return True
            time.sleep(0.02)
        return False

    def _read_error_log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "error.log").read_text(errors="replace").strip()[-500:]
        return "it wrote no log"

    def stop(self) -> None:
        """Ends it and waits. Safe to call again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

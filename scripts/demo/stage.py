"""Puts the demo on: starts the services that can run here, then the honest clients, and each act when it is due; stops
all of them.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.demo.nginx import Nginx, find_nginx
from scripts.demo.web import EDGE_ADDRESS, GATEWAY_ADDRESS
from scripts.live.program import Program

READY_SECONDS = 20.0
CATALOG = """
        default_type application/json;
        location ~ ^/products/10[0-5][0-9]$ {
            if ($http_x_api_key = "") { return 401 '{"error": "an API key is needed"}'; }
            return 200 '{"name": "Desk lamp", "price": 24, "stock": 17}';
        }
        location / { return 404 '{"error": "no such product"}'; }
"""
PROGRAMS = Path(__file__).parent / "programs"
ROOT = PROGRAMS.parent.parent.parent
# Services in Python, in the order in which they start, with those that each calls.
SERVICES: Final = {
    "payments": (),
    "stock": (),
    "users": (),
    "orders": ("payments", "stock"),
    "accounts": ("users",),
}
# Of the demo's sensor alone: its two proxies, and that it may block. One client may make most calls of this host.
SENSOR_SETTINGS: Final = f"""\
trusted_proxy_cidrs = ["{EDGE_ADDRESS}/32", "{GATEWAY_ADDRESS}/32"]

[enforcement]
enabled = true
max_call_share = 1.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What happens `seconds` after the clients began."""

    name: str
    seconds: float
    text: str


ACTS: Final = (
    Act(name="scraper", seconds=15, text="a customer inside reads all orders by number, 10 calls/s"),
    Act(name="stuffing", seconds=20, text="an address outside tries stolen passwords at the login, 3 calls/s"),
    Act(name="injection", seconds=25, text="an address outside sends SQL injection in a search"),
)


class Stage:
    """Running demo services and clients. `skipped` says in words what does not run and why."""

    def __init__(self, directory: Path, seed: int | None = None) -> None:
        self.ports: dict[str, int] = {}
        self.skipped: list[str] = []
        self._directory = directory
        self._seed = seed
        self._programs: list[Program] = []
        self._nginx: Nginx | None = None

    def start_services(self) -> None:
        """The services in Python, catalog (nginx) and cart (Node) where those are installed, and the gateway in front.

        Raises ProgramError, NginxError.
        """
        for name, called in SERVICES.items():
            self._start(name, [sys.executable, "-m", name, *self._list_ports(*called)])
        if find_nginx() is None:
            self.skipped.append("no catalog service: nginx is not installed")
        else:
            self._nginx = Nginx(self._directory / "nginx", CATALOG)
            self.ports["catalog"] = self._nginx.port
        node = shutil.which("node")
        if node is None:
            self.skipped.append("no cart service: node is not installed")
        else:
            self._start("cart", [node, str(PROGRAMS / "cart.js")])
        self._start("gateway", [sys.executable, "-m", "gateway", *self._list_ports(*self.ports)])

    def start_clients(self) -> None:
        """Honest traffic to all services that run, and one stranger at the export."""
        seed = [] if self._seed is None else [f"seed={self._seed}"]
        optional = [f"{name}=1" for name in ("catalog", "cart") if name in self.ports]
        self._launch("edge", [sys.executable, "-m", "edge", *self._list_ports("gateway"), *optional, *seed])
        self._launch("report", [sys.executable, "-m", "report", *self._list_ports("users", "stock"), *seed])

    def start(self, act: Act) -> float:
        """Starts an act; returns the unix time of its first call."""
        if act.name == "scraper":
            program = self._launch("scraper", [sys.executable, "-m", "scraper", str(self.ports["gateway"])])
            return float(program.wait_for("started", READY_SECONDS)["time"])
        attack = [f"attack={act.name}", *self._list_ports("gateway")]
        program = self._launch(act.name, [sys.executable, "-m", "edge", *attack])
        return float(program.wait_for("ready", READY_SECONDS)["time"])

    def stop(self) -> None:
        """Ends clients before services, so that no call ends in a refused connection. Safe to call again."""
        for program in reversed(self._programs):
            program.stop()
        if self._nginx is not None:
            self._nginx.stop()

    def _list_ports(self, *names: str) -> list[str]:
        return [f"{name}={self.ports[name]}" for name in names]

    def _start(self, name: str, command: list[str]) -> None:
        self.ports[name] = int(self._launch(name, command).wait_for("ready", READY_SECONDS)["port"])

    def _launch(self, name: str, command: list[str]) -> Program:
        """With the folder of the programs on Python's path, so that a process is called by its module alone."""
        path = os.pathsep.join((str(PROGRAMS), str(ROOT)))
        program = Program(name, command, self._directory / f"{name}.log", {"PYTHONPATH": path})
        self._programs.append(program)
        return program

"""Puts the demo on: starts the services that can run here, then the honest clients, and on request the scraper; stops
all of them.
"""

import shutil
import sys
from pathlib import Path

from scripts.demo.nginx import Nginx, find_nginx
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
HERE = Path(__file__).parent


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
        """Orders and users (Python), catalog (nginx) and cart (Node) where those are installed.

        Raises ProgramError, NginxError.
        """
        python = sys.executable
        self._start("orders", [python, "-m", "scripts.demo.orders"])
        self._start("users", [python, "-m", "scripts.demo.users"])
        if find_nginx() is None:
            self.skipped.append("no catalog service: nginx is not installed")
        else:
            self._nginx = Nginx(self._directory / "nginx", CATALOG)
            self.ports["catalog"] = self._nginx.port
        node = shutil.which("node")
        if node is None:
            self.skipped.append("no cart service: node is not installed")
        else:
            self._start("cart", [node, str(HERE / "cart.js")])

    def start_clients(self) -> None:
        """Honest traffic to all services that run."""
        arguments = [f"{name}={port}" for name, port in self.ports.items()]
        if self._seed is not None:
            arguments.append(f"seed={self._seed}")
        self._programs.append(self._launch("clients", [sys.executable, "-m", "scripts.demo.clients", *arguments]))

    def start_scraper(self) -> float:
        """Starts the abuser; returns the unix time of its first call."""
        scraper = self._launch("scraper", [sys.executable, "-m", "scripts.demo.scraper", str(self.ports["orders"])])
        self._programs.append(scraper)
        return float(scraper.wait_for("started", READY_SECONDS)["time"])

    def stop(self) -> None:
        """Ends clients before services, so that no call ends in a refused connection. Safe to call again."""
        for program in reversed(self._programs):
            program.stop()
        if self._nginx is not None:
            self._nginx.stop()

    def _start(self, name: str, command: list[str]) -> None:
        program = self._launch(name, command)
        self._programs.append(program)
        self.ports[name] = int(program.wait_for("ready", READY_SECONDS)["port"])

    def _launch(self, name: str, command: list[str]) -> Program:
        return Program(name, command, self._directory / f"{name}.log")

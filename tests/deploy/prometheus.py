"""Prometheus and promtool of the distribution, as the tests of the chart's rules and dashboard use them."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.deploy.test_monitoring import list_panels, read_alerts
from tests.waiting import wait_until

RATE_INTERVAL: Final = "1m"


def need(program: str) -> str:
    """Where it is installed; `scripts/setup full` installs both."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (package prometheus)")
    return found


def write_rules(directory: Path) -> Path:
    """A file with the chart's alerts."""
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "apidae", "rules": read_alerts()}]}))
    return path


def list_questions() -> set[tuple[str, str]]:
    """Title and expression of all that the dashboard's panels ask for."""
    return {
        (panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL))
        for panel in list_panels()
        for target in panel["targets"]
    }


@contextmanager
def run_prometheus(targets: Iterable[str], directory: Path) -> Iterator[str]:
    """The address of one that reads these addresses each second, and has the chart's rules."""
    program = need("prometheus")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(write_rules(directory))],
        "scrape_configs": [{"job_name": "apidae", "static_configs": [{"targets": list(targets)}]}],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
    log = directory / "prometheus.log"
    command = [program, f"--config.file={directory / 'prometheus.yaml'}", f"--storage.tsdb.path={directory / 'tsdb'}"]
    with log.open("wb") as output:
        started = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stdout=output, stderr=output)
    try:
        # It listens before its database is open, and answers 503 until then.
        wait_until(lambda: "Server is ready to receive web requests" in log.read_text(), "Prometheus is ready")
        line = next(line for line in log.read_text().splitlines() if "Listening on" in line)
        yield line.split("address=")[1].split()[0].strip('"')
    finally:
        started.terminate()
        started.wait()


def ask(prometheus: str, path: str, **asked: str) -> Any:
    """What its API answers."""
    with urlopen(f"http://{prometheus}/api/v1/{path}?{urlencode(asked)}") as answer:
        return json.load(answer)["data"]

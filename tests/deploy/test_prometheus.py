"""Prometheus's own programs accept the chart's rules, and each panel of the dashboard has data of what the programs
export."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from collector.inventory.traffic.meter import CallMeter
from common.figures import collect_families
from sensor.core.config import CaptureWay
from tests.collector.inventory.test_meter import GET_USER, add
from tests.collector.wire_batches import make_batch
from tests.deploy.test_monitoring import list_panels, read_alerts
from tests.exporters import collect_collector, collect_sensor
from tests.waiting import wait_until

RATE_INTERVAL: Final = "1m"


def need(program: str) -> str:
    """Where it is installed; `scripts/setup full` installs both."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (package prometheus)")
    return found


def write_rules(directory: Path) -> Path:
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "apidae", "rules": read_alerts()}]}))
    return path


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    checked = subprocess.run(
        [need("promtool"), "check", "rules", "--lint-fatal", str(write_rules(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(read_alerts())} rules found" in checked.stdout


def test_the_alert_on_coverage_begins_and_ends(tmp_path: Path) -> None:
    promtool, labels = need("promtool"), {"k8s_cluster_name": "", "k8s_namespace_name": "pay"}
    known = {"k8s_namespace_name": "pay", "severity": "warning"}
    series = 'apidae_collector_coverage_{}_ratio{{k8s_namespace_name="pay"}}'
    alert = next(one for one in read_alerts() if one["alert"] == "ApidaeCoverageBelowTarget")
    assert set(labels) <= {"k8s_cluster_name", "k8s_namespace_name"}
    words = alert["annotations"]["description"]
    for name, value in labels.items():
        words = words.replace(f"{{{{ $labels.{name} }}}}", value)
    summary = alert["annotations"]["summary"].replace("{{ $value | humanizePercentage }}", "50%")
    firing = [{"exp_labels": known, "exp_annotations": {"summary": summary, "description": words}}]
    case = {
        "rule_files": [str(write_rules(tmp_path))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series.format("target"), "values": "0.9x60"},
                    {"series": series.format("recent"), "values": "0.95x4 0.5x30 0.95x30"},
                ],
                "alert_rule_test": [
                    {"alertname": alert["alert"], "eval_time": "10m", "exp_alerts": []},
                    {"alertname": alert["alert"], "eval_time": "25m", "exp_alerts": firing},
                    {"alertname": alert["alert"], "eval_time": "45m", "exp_alerts": []},
                ],
            }
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(case))
    tested = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


class _Exported(Collector):
    """What the programs export, with calls that go on."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._meter = CallMeter()
        self._meter.choose({11: GET_USER})
        self._families = {family.name: family for family in families}

    def collect(self) -> Iterable[Metric]:
        add(self._meter, make_batch(rows=4))
        counted = {one.name: one for one in collect_families("apidae_collector_", self._meter.list_figures())}
        return (self._families | counted).values()


@pytest.fixture
def exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with the metrics of sensor and collector."""
    sensor = collect_sensor(CaptureWay.CGROUP_SKB, tmp_path / "sensor", monkeypatch)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exported([*sensor, *collect_collector(tmp_path / "data")]))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = generate_latest(registry)
            self.send_response(200)
            self.send_header("content-type", CONTENT_TYPE_LATEST)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prometheus(exporter: str, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that reads them, and has the chart's rules."""
    program = need("prometheus")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(write_rules(tmp_path))],
        "scrape_configs": [{"job_name": "apidae", "static_configs": [{"targets": [exporter]}]}],
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    log = tmp_path / "prometheus.log"
    command = [program, f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with log.open("wb") as output:
        started = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stdout=output, stderr=output)
    try:
        wait_until(lambda: "Listening on" in log.read_text(), "Prometheus listens")
        line = next(line for line in log.read_text().splitlines() if "Listening on" in line)
        yield line.split("address=")[1].split()[0].strip('"')
    finally:
        started.terminate()
        started.wait()


def ask(prometheus: str, path: str, **asked: str) -> Any:
    with urlopen(f"http://{prometheus}/api/v1/{path}?{urlencode(asked)}") as answer:
        return json.load(answer)["data"]


@pytest.mark.store
@pytest.mark.full("collector.inventory", "collector.server", "common")
def test_each_panel_has_data(prometheus: str) -> None:
    expressions = {
        (panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL))
        for panel in list_panels()
        for target in panel["targets"]
    }
    assert len(expressions) > 30

    def list_empty() -> list[tuple[str, str]]:
        return [one for one in expressions if not ask(prometheus, "query", query=one[1])["result"]]

    wait_until(lambda: not list_empty(), "each panel has data")
    (target,) = ask(prometheus, "targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    rules = ask(prometheus, "rules")["groups"][0]["rules"]
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []

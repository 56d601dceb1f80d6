"""Prometheus's own programs accept the chart's rules; tests/e2e/test_demo.py asks a Prometheus for each panel."""

import subprocess
from pathlib import Path

import yaml

from tests.deploy.prometheus import need, write_rules
from tests.deploy.test_monitoring import read_alerts


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

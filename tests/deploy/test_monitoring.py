"""Alerts and dashboard of the chart: off by default, and of metrics that the programs export."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from scripts.helm.settings_schema import CHART
from tests.deploy.chart import Document, documents, find, need_helm
from tests.test_metrics import PAGE, ROW

FILES: Final = CHART / "files"
METRIC: Final = re.compile(r"\bapidae_\w+")
SELECTOR: Final = re.compile(r"(apidae_\w+)\{(\w+)=\"\w+\"\}")
# Labels that the Prometheus operator adds to what it reads from Pods.
TARGET_LABELS: Final = {"namespace", "pod"}


def read_alerts() -> list[Document]:
    alerts: list[Document] = yaml.safe_load((FILES / "alerts.yaml").read_text())
    return alerts


def list_panels() -> Iterator[Document]:
    board = json.loads((FILES / "dashboard.json").read_text())
    return (panel for panel in board["panels"] if panel["type"] != "row")


def list_expressions() -> list[str]:
    expressions = [alert["expr"] for alert in read_alerts()]
    return expressions + [target["expr"] for panel in list_panels() for target in panel["targets"]]


def read_metrics() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every metric that the programs export, by name."""
    known = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels, _ in ROW.findall(PAGE.read_text())}
    for name, (kind, labels) in list(known.items()):
        if kind == "histogram":  # Its samples are counters.
            known |= {f"{name}_bucket": ("counter", labels | {"le"}), f"{name}_sum": ("counter", labels)}
            known[f"{name}_count"] = "counter", labels
    return known


def test_every_metric_is_exported() -> None:
    known, expressions = read_metrics(), list_expressions()
    named = {name for expression in expressions for name in METRIC.findall(expression)}
    assert len(named) > 25 and named <= known.keys(), named - known.keys()
    for expression in expressions:
        for name, label in SELECTOR.findall(expression):
            assert label in known[name][1], expression
        for name in re.findall(r"(?:rate|increase)\((apidae_\w+)", expression):
            assert known[name][0] == "counter", expression


def test_labels_in_words_are_those_of_the_result() -> None:
    known = read_metrics()
    texts = [(alert["expr"], " ".join(alert["annotations"].values())) for alert in read_alerts()]
    shown = [(expression, set(re.findall(r"\$labels\.(\w+)", text))) for expression, text in texts]
    shown += [
        (target["expr"], set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])))
        for panel in list_panels()
        for target in panel["targets"]
    ]
    for expression, labels in shown:
        summed = re.match(r"sum(?: by \(([^)]*)\))?", expression.strip())
        name = METRIC.findall(expression)[0]
        has = set(re.findall(r"\w+", summed[1] or "")) if summed else known[name][1] | TARGET_LABELS
        assert labels <= has, (expression, labels, has)


def test_alerts_say_what_to_do() -> None:
    alerts = read_alerts()
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert all(text.endswith(".") for text in alert["annotations"].values()), alert["alert"]
        assert set(alert["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "PrometheusRule"])
def test_nothing_is_there_by_default(kind: str) -> None:
    need_helm()
    assert kind not in {document["kind"] for document in documents("smallest")}
    assert not [d for d in documents("smallest") if d["metadata"]["name"].endswith("-dashboard")]


def test_the_rendered_rule_and_dashboard_are_the_files() -> None:
    need_helm()
    everything = documents("everything")
    (group,) = find(everything, "PrometheusRule")["spec"]["groups"]
    assert group["rules"] == read_alerts()
    board = find(everything, "ConfigMap", "-dashboard")
    shown: Any = json.loads(board["data"]["apidae.json"])
    assert shown == json.loads((FILES / "dashboard.json").read_text())
    assert board["metadata"]["labels"]["grafana_dashboard"] == "yes"


def test_a_sensor_is_read_by_one_monitor() -> None:
    need_helm()
    for example, kinds in (("everything", ["PodMonitor"]), ("existing", ["ServiceMonitor"])):
        found = [d["kind"] for d in documents(example) if d["metadata"]["name"].endswith("-sensor")]
        assert [kind for kind in found if kind.endswith("Monitor")] == kinds

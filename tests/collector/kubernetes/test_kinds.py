"""The kinds that the collector follows: each has a struct, a place in the state, and its right in the chart."""

from pathlib import Path
from typing import get_args

import yaml

from collector.kubernetes.state import KubernetesObject
from collector.kubernetes.watcher import KINDS

CHART = Path(__file__).parents[2] / "data" / "chart" / "smallest.yaml"


def test_every_struct_is_followed() -> None:
    assert {kind for kind, _, _ in KINDS} == set(get_args(KubernetesObject))


def test_the_chart_lets_the_collector_watch_every_kind() -> None:
    roles = [one for one in yaml.safe_load_all(CHART.read_text()) if one and one["kind"] == "ClusterRole"]
    granted = {
        (group, resource)
        for role in roles
        for rule in role["rules"]
        if {"list", "watch"} <= set(rule["verbs"])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    watched = {(path.split("/")[2] if path.startswith("/apis/") else "", path.split("/")[-1]) for _, path, _ in KINDS}
    assert watched <= granted

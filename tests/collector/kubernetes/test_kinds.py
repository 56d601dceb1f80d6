"""The kinds that the collector follows: each has a struct of its own, a right in the chart, and words for people."""

from pathlib import Path

import yaml

from collector.inventory.endpoints.exposure import describe
from collector.kubernetes.exposure import ROUTE_KINDS
from collector.kubernetes.rows import ROUTES, Fact, FactKind
from collector.kubernetes.watcher import KINDS

CHART = Path(__file__).parents[2] / "data" / "chart" / "smallest.yaml"


def test_every_kind_has_a_struct_and_a_place() -> None:
    assert len({kind for kind, _, _ in KINDS}) == len(KINDS)
    assert len({path for _, paths, _ in KINDS for path in paths}) == sum(len(paths) for _, paths, _ in KINDS)


def test_every_fact_is_said_in_words() -> None:
    assert {kind.fact for kind in ROUTE_KINDS} - {None} == set(ROUTES)
    for kind in FactKind:
        assert "shop/web" in describe(Fact(kind=kind, source="shop/web")) or kind.value.startswith("host_")


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
    watched = {
        (path.split("/")[2] if path.startswith("/apis/") else "", path.split("/")[-1])
        for _, paths, _ in KINDS
        for path in paths
    }
    assert watched <= granted

"""What leads to a workload's ports."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.core.keys import InstallationKey
from collector.inventory.endpoints.exposure import leads_to
from collector.kubernetes.addresses import Target, Targets
from collector.kubernetes.exposure import ExposureBook, find_facts
from collector.kubernetes.rows import Fact, FactKind, read_facts, write_facts
from collector.receiver.reports import RevealedWord
from collector.server.compose import Collector
from common.keyed_hash import hash_value
from tests.collector.kubernetes.manifests import (
    Manifest,
    make_gateway,
    make_ingress,
    make_namespace,
    make_path,
    make_pod,
    make_policy,
    make_route,
    make_service,
    make_slice,
)
from tests.collector.kubernetes.states import make_state

POD = make_pod("orders-1")
SERVED = (POD, make_service(), make_slice("orders", {"orders-1": "10.1.0.5"}))


def facts_of(*manifests: Manifest, port: int = 8080) -> list[Fact]:
    """The facts of the Deployment shop/orders."""
    state = make_state(*manifests)
    found = find_facts(state, Targets(state))
    return list(read_facts(found.get(Target("shop", "orders", port), "[]")))


def tell(facts: list[Fact]) -> list[tuple[Any, ...]]:
    return [(fact.kind.value, fact.source, fact.is_external) for fact in facts]


def test_a_workload_without_a_service_has_no_facts_but_is_known() -> None:
    state = make_state(POD)
    assert find_facts(state, Targets(state)) == {Target("shop", "orders", 0): "[]"}


def test_a_cluster_ip_is_inside() -> None:
    assert tell(facts_of(*SERVED)) == [("cluster_ip", "shop/orders", False)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"type": "NodePort", "node_port": 30080}, [("node_port", "shop/orders", True)]),
        ({"type": "LoadBalancer", "balanced": ("203.0.113.9",)}, [("load_balancer", "shop/orders", True)]),
        (
            {"type": "LoadBalancer", "annotations": {"networking.gke.io/load-balancer-type": "Internal"}},
            [("load_balancer", "shop/orders", False)],
        ),
        ({"external": ("198.51.100.4",)}, [("external_ip", "shop/orders", True)]),
    ],
)
def test_services_that_lead_in_from_outside(columns: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    facts = facts_of(POD, make_service(**columns), make_slice("orders", {"orders-1": "10.1.0.5"}))
    assert tell(facts)[1:] == expected


def test_ports_of_nodes_and_pods_on_their_nodes_network() -> None:
    ports = ({"name": "http", "containerPort": 8080, "hostPort": 18080},)
    assert [(fact.kind.value, fact.port) for fact in facts_of(make_pod("orders-1", ports=ports))] == [
        ("host_port", 18080)
    ]
    assert tell(facts_of(make_pod("orders-1", is_host_network=True), port=0)) == [("host_network", "shop/orders", True)]


def test_an_ingress_leads_by_host_and_path() -> None:
    ingress = make_ingress("web", make_path("/api"), make_path("/v[0-9]+/x", path_type="ImplementationSpecific"))
    facts = [fact for fact in facts_of(*SERVED, ingress) if fact.kind == "ingress"]
    assert [(fact.host, fact.path, fact.path_type, fact.is_tls, fact.is_rewritten) for fact in facts] == [
        ("shop.example", "/api", "Prefix", True, False),
        ("shop.example", "/v[0-9]+/x", "Pattern", True, False),
    ]


def test_an_ingress_that_rewrites_paths_says_so() -> None:
    annotations = {"nginx.ingress.kubernetes.io/rewrite-target": "/$1"}
    facts = facts_of(*SERVED, make_ingress("web", make_path("/api", port="http"), annotations=annotations))
    assert [fact.is_rewritten for fact in facts if fact.kind == "ingress"] == [True]


def test_an_ingress_to_another_service_or_port_leads_nowhere_here() -> None:
    ingress = make_ingress("web", make_path("/a", service="users"), make_path("/b", port=81))
    assert tell(facts_of(*SERVED, ingress)) == [("cluster_ip", "shop/orders", False)]


LISTENER = {"name": "web", "port": 443, "protocol": "HTTPS", "allowedRoutes": {"namespaces": {"from": "All"}}}
RULE = {"matches": [{"path": {"type": "PathPrefix", "value": "/api"}}], "backendRefs": [{"name": "orders", "port": 80}]}


@pytest.mark.parametrize(
    ("listener", "hosts", "expected"),
    [
        ({}, (), ["*"]),
        ({}, ("shop.example",), ["shop.example"]),
        ({"hostname": "*.example"}, ("shop.example", "shop.test"), ["shop.example"]),
        ({"hostname": "shop.example"}, ("*.example",), ["shop.example"]),
        ({"hostname": "shop.example"}, (), ["shop.example"]),
        ({"hostname": "*.example"}, ("example",), []),  # At least one label more.
        ({"protocol": "TCP"}, (), []),
        ({"allowedRoutes": {"namespaces": {"from": "Same"}}}, (), []),
        ({"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}}, (), ["*"]),
        ({"allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "c"}}}}}, (), []),
    ],
)
def test_a_route_leads_by_the_hosts_that_its_gateway_takes(
    listener: dict[str, Any], hosts: tuple[str, ...], expected: list[str]
) -> None:
    gateway = make_gateway("edge", {**LISTENER, **listener})
    facts = facts_of(*SERVED, make_namespace("shop", a="b"), gateway, make_route("web", [RULE], hosts=hosts))
    routed = [fact for fact in facts if fact.kind == "http_route"]
    assert [fact.host for fact in routed] == expected
    assert all((fact.path, fact.addresses, fact.is_tls) == ("/api", ("203.0.113.7",), True) for fact in routed)


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [
        (None, "lets nobody in"),
        ([], "lets nobody in"),
        ([{}], "lets everybody in"),
        ([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}], "lets everybody in"),
        ([{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}], "lets some in"),
    ],
)
def test_a_network_policy_is_told_with_whom_it_lets_in(ingress: list[Any] | None, expected: str) -> None:
    policies = (
        make_policy("ours", ingress=ingress, labels={"app": "orders"}),
        make_policy("others", ingress=[], labels={"app": "users"}),
    )
    facts = facts_of(*SERVED, *policies, port=0)
    assert [(fact.source, fact.note) for fact in facts] == [("shop/ours", expected)]


def test_facts_survive_the_store() -> None:
    ports = ({"name": "http", "containerPort": 8080, "hostPort": 18080},)
    facts = facts_of(make_pod("orders-1", ports=ports), *SERVED[1:], make_ingress("web", make_path("/api")))
    assert len(facts) == 3 and read_facts(write_facts(facts)) == tuple(facts)


def test_words_of_paths_are_no_secret_and_come_once() -> None:
    ingress = make_ingress("web", make_path("/churn/items"), make_path("/v[0-9]+", path_type="ImplementationSpecific"))
    state = make_state(*SERVED, ingress)
    book = ExposureBook("east")
    book.refresh(state, Targets(state), 1_000.0)
    assert book.take_words() == ["churn", "items"] and book.take_words() == []
    # After a restart too: an earlier version may have stored the facts alone.
    assert ExposureBook("east", book.take_changed()).take_words() == ["churn", "items"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("/api/v1/orders", True),
        ("/api/v1/{word}", False),  # Not orders, which would be shown.
        ("/api/v1/{word_2}", False),
        ("/api/v1/{order_id}", True),
        ("/api/v1/{word_id}", True),
        ("/api/v1/users", False),
        ("/{word}/v1/orders", False),
    ],
)
def test_a_hidden_word_matches_no_word_of_a_route(template: str, expected: bool) -> None:
    fact = Fact(kind=FactKind.INGRESS, source="shop/web", host="*", path="/api/v1/orders", path_type="Prefix")
    assert leads_to(fact, template, "GET") == expected
    assert leads_to(replace(fact, path="/api"), "/api/{word}", "GET")


def test_words_of_routes_have_the_hash_that_sensors_give_them() -> None:
    keys = [InstallationKey(key_id=number, secret=bytes([number]) * 16) for number in (1, 2)]
    told: list[RevealedWord] = []
    collector = SimpleNamespace(keys=keys, _clock=lambda: 5.0, reports=SimpleNamespace(add_words=told.extend))
    Collector._reveal_words(cast(Collector, collector), ["churn"])
    assert [(word.key_id, word.text) for word in told] == [(1, "churn"), (2, "churn")]
    assert all(word.hash == hash_value(key.secret, b"churn") for word, key in zip(told, keys, strict=True))


def test_only_changes_are_told() -> None:
    def look(*manifests: Manifest) -> dict[tuple[str, int], str]:
        state = make_state(*manifests)
        book.refresh(state, Targets(state), 1_000.0)
        return {(one.workload, one.port): one.facts for one in book.take_changed()}

    book = ExposureBook("east")
    assert set(look(*SERVED)) == {("orders", 0), ("orders", 8080)}
    assert not look(*SERVED)
    assert look(POD) == {("orders", 8080): "[]"}  # Its Service is gone.
    assert not look()  # Without Pods nobody calls it: what was known stays.
    assert set(look(*SERVED)) == {("orders", 8080)}

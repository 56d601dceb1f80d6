"""Deny lists and policies: every blocked address is in them, nothing else is, and they are what their readers take."""

from typing import Any

import pytest
import yaml

from collector.receiver.policy import BlockKind, BlockOrder, BlockScope
from collector.response.deny_lists import ExportFormat, ExportSettings, export_blocks

CART = BlockScope(namespace="shop", workload="cart", port=8080)


def order(value: str, *scopes: BlockScope, kind: BlockKind = BlockKind.ADDRESS) -> BlockOrder:
    return BlockOrder(id=value, kind=kind, value=value, key_id=0, credentials=(), scopes=scopes, expires_at=0)


ORDERS = (
    order("203.0.113.7"),
    order("2001:db8::/64"),
    order("198.51.100.9", CART),
    order("00c0ffee00c0ffee", kind=BlockKind.CREDENTIAL),
)


def write(kind: ExportFormat, orders: tuple[BlockOrder, ...] = ORDERS) -> str:
    return export_blocks(orders, kind, ExportSettings(traefik_entry_points=("websecure",)))


def read(kind: ExportFormat, orders: tuple[BlockOrder, ...] = ORDERS) -> list[Any]:
    return list(yaml.safe_load_all(write(kind, orders)))


def test_haproxy_has_a_network_a_line() -> None:
    lines = write(ExportFormat.HAPROXY).splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["2001:db8::/64", "203.0.113.7/32"]


def test_traefik_sends_the_blocked_to_nobody() -> None:
    (document,) = read(ExportFormat.TRAEFIK)
    clear, tls = document["http"]["routers"].values()
    assert clear["rule"] == "ClientIP(`2001:db8::/64`) || ClientIP(`203.0.113.7/32`)"
    assert clear["middlewares"] == list(document["http"]["middlewares"])
    assert clear["entryPoints"] == ["websecure"] and tls == {**clear, "tls": {}}


def test_traefik_names_no_entry_points_where_all_are_meant() -> None:
    assert "entryPoints" not in export_blocks(ORDERS, ExportFormat.TRAEFIK, ExportSettings())


def test_envoy_takes_up_a_list_that_changed_and_no_other() -> None:
    first, again, other = (read(ExportFormat.ENVOY, orders)[0] for orders in (ORDERS, ORDERS, ORDERS[:1]))
    assert first == again and first["version_info"] != other["version_info"]
    policy = first["resources"][0]["typed_config"]["rules"]["policies"]["apidae-blocked"]
    assert policy["principals"] == [
        {"remote_ip": {"address_prefix": "2001:db8::", "prefix_len": 64}},
        {"remote_ip": {"address_prefix": "203.0.113.7", "prefix_len": 32}},
    ]


def test_cilium_denies_and_isolates_nobody() -> None:
    cart, everywhere = read(ExportFormat.CILIUM)
    assert (cart["metadata"]["namespace"], cart["spec"]["ingressDeny"]) == ("shop", [{"fromCIDR": ["198.51.100.9/32"]}])
    assert everywhere["kind"] == "CiliumClusterwideNetworkPolicy"
    assert everywhere["spec"]["ingressDeny"] == [{"fromCIDR": ["2001:db8::/64", "203.0.113.7/32"]}]
    assert all(one["spec"]["enableDefaultDeny"] == {"ingress": False} for one in (cart, everywhere))


def test_envoy_gateway_denies_by_client() -> None:
    cart, gateway = read(ExportFormat.ENVOY_GATEWAY)
    assert cart["spec"]["targetRefs"][0]["name"] == "cart" and gateway["spec"]["targetRefs"][0]["kind"] == "Gateway"
    assert cart["spec"]["authorization"]["defaultAction"] == "Allow"
    assert cart["spec"]["authorization"]["rules"][0]["principal"] == {
        # A route's policy replaces the Gateway's.
        "clientCIDRs": ["198.51.100.9/32", "2001:db8::/64", "203.0.113.7/32"]
    }


def test_a_network_policy_lets_in_all_others() -> None:
    (policy,) = read(ExportFormat.NETWORK_POLICY)
    four, six = policy["spec"]["ingress"][0]["from"]
    assert four == {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["198.51.100.9/32"]}}
    assert six == {"ipBlock": {"cidr": "::/0"}}


@pytest.mark.parametrize("kind", ExportFormat)
def test_without_blocks_nobody_is_denied(kind: ExportFormat) -> None:
    text = write(kind, ())
    assert "203.0" not in text and "action: Deny" not in text and "ingress" not in text


@pytest.mark.parametrize("kind", ExportFormat)
def test_no_hash_leaves(kind: ExportFormat) -> None:
    assert "c0ffee" not in write(kind)


def test_a_name_with_characters_of_yaml_stays_a_name() -> None:
    scope = BlockScope(namespace="shop", workload='a: #"b', port=0)
    (policy,) = read(ExportFormat.CILIUM, (order("198.51.100.9", scope),))
    assert policy["metadata"]["name"] == 'apidae-a: #"b' and list(policy["metadata"]["labels"].values()) == ["apidae"]


def test_kubernetes_takes_the_policy() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="the validator is not installed")
    for document in read(ExportFormat.NETWORK_POLICY):
        kubernetes_validate.validate(document, "1.31", strict=True)

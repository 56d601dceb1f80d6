"""A call through a proxy is one call on the service map, unless both are asked for."""

from pathlib import Path

import pytest

from collector.inventory.endpoints.hops import HopView
from collector.inventory.partners import PartnerNetworks
from collector.inventory.traffic.map import MapInventory, MapQuery
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store


def test_calls_to_a_proxy_are_counted_at_its_application(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    seed = Seed()
    proxy = seed.endpoint(1, "GET", "/orders", workload="ingress", namespace="edge")
    orders = seed.endpoint(2, "GET", "/orders", workload="orders", namespace="shop")
    seed.calls(proxy, 9, hop=2, client_address="198.41.0.4")
    seed.calls(orders, 9, client_workload="edge/ingress")
    seed.write(store)
    inventory = MapInventory(reader=store, partners=PartnerNetworks())
    counted = {hops: inventory.read_map(MapQuery(hops=hops), NOW) for hops in HopView}
    assert {hops: found.calls for hops, found in counted.items()} == {
        HopView.EXCLUDE: 9,
        HopView.INCLUDE: 18,
        HopView.ONLY: 9,
    }
    assert [edge.target for edge in counted[HopView.EXCLUDE].edges] == ["shop/orders"]
    store.close()

"""Blocks of somebody who sees a part of the installation: pure rules, and a responder over an installation of two
namespaces."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from collector.core.scope import EVERYTHING, Scope, use_scope
from collector.receiver.policy import BlockOrder
from collector.response.block import BlockError
from collector.response.block_scope import is_within, limit_places
from collector.response.responder import Responder
from collector.trust.principal import Role
from tests.collector.api.canaries import BOTH, OTHER, PLACES, Installation, open_installation
from tests.collector.api.client import TestClient
from tests.collector.api.principals import become

SHOP = Scope(namespaces=("shop",))
EAST = Scope(clusters=("east",))
PAIRS = Scope(namespaces=("shop", "east/bank", "west/bank"))
BANK = Scope(namespaces=("east/bank",))
HOSTS = Scope(clusters=("-",))  # No cluster has this name; blocks write hosts outside of any so.
OWN, FOREIGN = PLACES


@pytest.mark.parametrize(
    ("scope", "services", "clusters", "limited"),
    [
        (EVERYTHING, (), (), ((), ())),
        (EVERYTHING, ("bank/pay",), ("west",), (("bank/pay",), ("west",))),
        (SHOP, (), (), (("shop/",), ())),
        (SHOP, ("shop/cart:80",), ("west",), (("shop/cart:80",), ("west",))),
        (SHOP, ("bank/pay",), (), None),
        (SHOP, ("shop/cart", "bank/pay"), (), None),
        (SHOP, ("cart",), (), None),
        (SHOP, (":80",), (), None),
        (EAST, (), (), ((), ("east",))),
        (EAST, ("bank/pay",), (), (("bank/pay",), ("east",))),
        (EAST, (), ("west",), None),
        (EAST, (), ("east", "west"), None),
        (PAIRS, (), (), (("shop/",), ())),
        (PAIRS, (), ("east",), (("shop/", "bank/"), ("east",))),
        (PAIRS, ("bank/pay",), (), None),
        (PAIRS, ("bank/pay",), ("east", "west"), (("bank/pay",), ("east", "west"))),
        (PAIRS, ("bank/pay",), ("east", "north"), None),
        (BANK, (), (), (("bank/",), ("east",))),
        (BANK, (), ("-",), None),
        (HOSTS, (), (), None),
        (Scope(clusters=("east",), namespaces=("shop",)), (), (), (("shop/",), ("east",))),
    ],
)
def test_a_block_is_limited_to_what_its_maker_sees(
    scope: Scope, services: tuple[str, ...], clusters: tuple[str, ...], limited: Any
) -> None:
    if limited is None:
        assert not is_within(services, clusters, scope)
        with pytest.raises(BlockError, match="and a block holds at services of it alone"):
            limit_places(services, clusters, scope)
    else:
        assert limit_places(services, clusters, scope) == limited
        assert is_within(*limited, scope)


def test_a_block_of_everything_is_nobodys_who_sees_a_part() -> None:
    for scope in (SHOP, EAST, PAIRS, BANK, HOSTS):
        assert not is_within((), (), scope)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with open_installation(tmp_path_factory.mktemp("blocks")) as opened:
        yield opened


@pytest.fixture
def client(installation: Installation) -> Iterator[TestClient]:
    become(installation.services, Role.RESPONDER, Scope(namespaces=(OWN.namespace,)))
    with TestClient(installation.app, headers={"accept": "text/html, */*"}, follow_redirects=False) as opened:
        yield opened


def list_ids(client: TestClient) -> dict[str, str]:
    return {one["id"]: one["state"] for one in client.get("/api/v1/blocks").json()["items"]}


def read_orders(responder: Responder) -> dict[str, BlockOrder]:
    """What sensors are to stop, but for its end: the clock of the installation stands."""
    return {order.id: replace(order, expires_at=0.0) for order in responder.orders()}


@pytest.mark.store
def test_a_bound_responder_blocks_in_the_own_namespace_and_nothing_elsewhere_changes(
    installation: Installation, client: TestClient
) -> None:
    responder = installation.services.responder
    assert responder is not None
    before = read_orders(responder)
    assert len(before) == 3
    asked = {"consumer": OWN.address, "is_confirmed": True, "reason": "Reads all."}
    preview = client.post("/api/v1/blocks/preview", json={"consumer": OWN.address}).json()
    assert preview["calls"] > 0 and OTHER not in str(preview)
    made = client.post("/api/v1/blocks", json=asked)
    assert made.status_code == 201, made.text
    block = made.json()
    assert (block["services"], block["state"]) == ([f"{OWN.namespace}/"], "live")
    after = read_orders(responder)
    assert before.items() <= after.items() and after.keys() - before.keys() == {block["id"]}
    (scope,) = after[block["id"]].scopes
    assert (scope.namespace, scope.workload, scope.port) == (OWN.namespace, "", 0)
    assert block["id"] in list_ids(client) and len(list_ids(client)) == 2
    assert "Reads all." in client.get("/response").text
    assert client.post(f"/api/v1/blocks/{block['id']}/lift", json={}).status_code == 200
    assert read_orders(responder) == before


@pytest.mark.store
def test_a_bound_responder_ends_sees_and_asks_of_nothing_else(installation: Installation, client: TestClient) -> None:
    with use_scope(EVERYTHING):
        responder = installation.services.responder
        assert responder is not None
        foreign = [one for one in responder.list_blocks() if one.services != (f"{OWN.namespace}/",)]
    assert {one.state for one in foreign} == {"live"} and len(foreign) == 2
    for block in foreign:
        assert client.get(f"/api/v1/blocks/{block.id}").status_code == 404
        for action in ("lift", "approve", "reject"):
            assert client.post(f"/api/v1/blocks/{block.id}/{action}", json={}).status_code == 404
            page = client.post(f"/response/{action}", data={"id": block.id})
            assert page.status_code == 422 and "There is no block" in page.text
    for body in (
        {"consumer": f"address:{BOTH}", "services": [FOREIGN.service]},
        {"consumer": FOREIGN.address},
        {"consumer": FOREIGN.consumer},
    ):
        answer = client.post("/api/v1/blocks", json=body)
        assert answer.status_code == 422 and ("You see only" in answer.text or "to what you see" in answer.text)
        assert FOREIGN.namespace not in answer.text.replace(str(body["consumer"]), "")
    assert client.post("/api/v1/blocks/preview", json={"consumer": FOREIGN.address}).status_code == 422
    for method, path in (("POST", "blocks/lift"), ("GET", "blocks/audit"), ("GET", "ladder"), ("PUT", "ladder/bola")):
        assert client.request(method, f"/api/v1/{path}", json={}).status_code == 403
    page = client.get("/response").text
    assert "blocks that hold in the namespace" in page and "/response/ladder" not in page and "lift-all" not in page
    assert all(block.id not in page for block in foreign)

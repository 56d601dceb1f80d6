"""Blocks follow who did it: they end with the Pod that held the address, or cover what the Pods of a workload hold."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.alerting.alert import AlertKind, Report
from collector.api.services import ApiSettings, Services
from collector.core.config import BlockSettings
from collector.core.scope import Scope, use_scope
from collector.inventory.endpoints.peers import Holder
from collector.kubernetes.addresses import AddressBook, Targets
from collector.kubernetes.objects import PodObject
from collector.kubernetes.rows import HeldAddresses, PeerKind
from collector.kubernetes.state import Pod, read_pod
from collector.receiver.policy import BlockStatus, EnforcementReport
from collector.response.block import BlockError, BlockState
from collector.response.block_factory import BlockRequest
from collector.response.deny_lists import ExportFormat, ExportSettings, export_blocks
from collector.response.holders import Holders, describe_holders
from collector.response.ladder import LadderStep, Rung
from collector.response.preview import Previewer
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed, write_watch
from tests.collector.kubernetes.manifests import make_pod
from tests.collector.kubernetes.states import decode, make_state
from tests.collector.response import making
from tests.collector.states import create_state

pytestmark = pytest.mark.store

POD, NEXT = "10.244.0.21", "10.244.0.22"
SCRAPER = "workload:shop/Deployment/scraper"
LABELS = {"pod-template-hash": "7d4"}
STARTED = "2020-01-01T05:42:00Z"


def make(name: str, address: str = POD, **more: Any) -> Pod:
    """A Pod of the Deployment `scraper`, unless said otherwise."""
    more = {"owner": ("ReplicaSet", "scraper-7d4"), "labels": LABELS, "started": STARTED, **more}
    return read_pod(decode(make_pod(name, addresses=(address,), **more)))  # type: ignore[arg-type]


@dataclass
class Watch:
    """A watched cluster, as the watcher keeps it."""

    store: EmbeddedStore
    cluster: str = "east"
    changes: int = 0
    is_listed: bool = True
    pods: dict[tuple[str, str], Pod] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.book = AddressBook(self.cluster)

    def list_held(self) -> HeldAddresses | None:
        return self.book.list_held(self.pods) if self.is_listed else None

    def put(self, *pods: Pod, now: float = NOW) -> None:
        for pod in pods:
            self.book.follow(self.pods.get(pod.key), pod, now)
            self.pods[pod.key] = pod
        self._write(now)

    def remove(self, name: str, now: float = NOW) -> None:
        self.book.follow(self.pods.pop(("shop", name)), None, now)
        self._write(now)

    def _write(self, now: float) -> None:
        self.changes += 1
        state = make_state()
        state._kinds[PodObject] = dict(self.pods)
        self.book.refresh(state, Targets(state), now)
        self.store.insert_records("peer_addresses", self.book.take_changed(now))


class Site:
    """A responder beside one watched cluster."""

    def __init__(self, state: StateStore, store: EmbeddedStore, **limits: Any) -> None:
        self.time = SimpleNamespace(now=float(NOW))
        self.watch, self.west = Watch(store), Watch(store, "west")
        holders = Holders([self.watch, self.west], store)
        self.responder = making.make_responder(
            state,
            limits=BlockSettings(**limits),
            previewer=Previewer(store, holders, lambda _: [""]),
            holders=holders,
            clock=lambda: self.time.now,
            monotonic=lambda: self.time.now,
            find_clusters=lambda nodes: ("east",) if nodes else (),
        )
        self.sent: list[tuple[str, ...]] = []
        self.responder.on_change(lambda: self.sent.append(self.list_stopped()))

    def list_stopped(self) -> tuple[str, ...]:
        return tuple(order.value for order in self.responder.orders())

    def accuse(self, address: str, alert_id: str = "x1", **more: Any) -> None:
        more = {"kind": AlertKind.ENUMERATION, "nodes": ("node-1", "node-2"), **more}
        assert not self.responder.take_alerts([make_alert(alert_id, consumer=f"address:{address}", **more)])

    def tick(self) -> None:
        self.time.now += 1
        self.responder.tick()

    def enforce(self) -> None:
        self.responder.put_rung(
            Rung(kind=AlertKind.ENUMERATION, step=LadderStep.ENFORCE, seconds=900, endpoints=("*",), set_by="ada")
        )


def open_client(site: Site, store: EmbeddedStore) -> TestClient:
    """Over HTTP."""
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.2.0", htmx_path=Path("/nonexistent")),
            clock=lambda: site.time.now,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            responder=site.responder,
        )
    )
    return TestClient(app, base_url="http://localhost")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path / "store")
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{order_id}")
    for address in (POD, NEXT):
        seed.calls(orders, 60, client_address=address, minutes_ago=3)
    seed.write(opened)
    write_watch(opened)
    yield opened
    opened.close()


@pytest.fixture
def site(store: EmbeddedStore, sqlite_state: StateStore) -> Site:
    return Site(sqlite_state, store)


def test_a_block_of_a_pods_address_ends_with_the_pod_and_not_with_its_successor(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"))
    block = site.responder.block(BlockRequest(consumer=POD))
    assert str(block.holder) == "pod shop/scraper-7d4-a of shop/Deployment/scraper"
    site.tick()
    assert site.list_stopped() == (POD,)
    site.watch.remove("scraper-7d4-a")
    site.watch.put(make("honest-0", owner=("StatefulSet", "honest")))  # It inherits the address at once.
    site.tick()
    (ended,) = site.responder.list_blocks()
    assert (ended.state, ended.ended_by) == (BlockState.EXPIRED, "apidae") and site.sent[-1] == ()
    assert "scraper-7d4-a of shop/Deployment/scraper no longer holds" in site.responder.list_audit(1)[0].why


def test_a_block_of_a_workload_covers_what_its_pods_hold_and_nothing_else(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"), make("honest-0", "10.244.0.9", owner=("StatefulSet", "honest")))
    block = site.responder.block(BlockRequest(consumer="workload:shop/scraper"))
    assert (block.target.consumer, block.clusters) == (SCRAPER, ("east",))
    site.tick()
    assert site.list_stopped() == (POD,)
    site.watch.remove("scraper-7d4-a")
    site.watch.put(make("honest-1", POD, owner=("StatefulSet", "honest")), make("scraper-7d4-b", NEXT))
    site.tick()
    assert site.sent[-1] == site.list_stopped() == (NEXT,)
    (order,) = site.responder.orders()
    assert (order.id, order.clusters) == (f"{block.id}/{NEXT}", ("east",))
    assert export_blocks([order], ExportFormat.HAPROXY, ExportSettings(cluster="east")).split()[-1] == f"{NEXT}/32"
    site.responder.lift(block.id, by="ada")
    assert site.list_stopped() == ()


def test_what_sensors_say_of_the_addresses_of_a_workload_is_said_of_its_block(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"), make("scraper-7d4-b", NEXT))
    block = site.responder.block(BlockRequest(consumer=SCRAPER))

    def report(*stopped: tuple[str, int, str]) -> None:
        statuses = tuple(
            BlockStatus(
                id=f"{block.id}/{address}",
                is_enforced=not reason,
                reason=reason,
                stopped_connections=count,
                stopped_bytes=10 * count,
                failed_resets=0,
                spared_requests=0,
                first_stop_at=0.0,
            )
            for address, count, reason in stopped
        )
        site.responder.take_report("n1", EnforcementReport(epoch=1, is_enabled=True, reason="", blocks=statuses))

    report((POD, 3, ""), (NEXT, 4, ""))
    ((_, status),) = site.responder.list_statuses([block])[block.id]
    assert (status.is_enforced, status.stopped_connections, status.stopped_bytes) == (True, 7, 70)
    report((NEXT, 5, "its limit"))  # The other Pod went.
    ((_, status),) = site.responder.list_statuses([block])[block.id]
    assert (status.is_enforced, status.reason, status.stopped_connections) == (False, "its limit", 8)
    assert site.responder.list_audit(1)[0].action == "declined"


def test_what_is_accused_by_address_is_proposed_as_the_workload_that_held_it(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"))
    site.accuse(POD)
    (proposed,) = site.responder.list_blocks()
    assert (proposed.target.consumer, proposed.clusters, proposed.accused) == (SCRAPER, ("east",), f"address:{POD}")
    assert "was held by pod shop/scraper-7d4-a of shop/Deployment/scraper; addresses of Pods are" in proposed.reason
    assert proposed.nodes == ("node-1", "node-2")
    site.watch.remove("scraper-7d4-a")
    site.watch.put(make("scraper-7d4-b", NEXT))
    site.accuse(NEXT, "x2")  # The same, restarted: it is proposed already.
    assert len(site.responder.list_blocks()) == 1
    assert site.responder.approve(proposed.id, by="ada", is_second_person=False).state is BlockState.LIVE
    assert site.list_stopped() == (NEXT,)


def test_a_pod_that_inherited_the_address_since_is_not_accused(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"))
    site.watch.remove("scraper-7d4-a", now=NOW - 2)
    successor = make("honest-0", owner=("StatefulSet", "honest"), started="2100-01-01T00:00:00Z")
    site.watch.put(successor)
    site.accuse(POD)
    (proposed,) = site.responder.list_blocks()
    assert proposed.target.consumer == SCRAPER


def test_a_bare_pod_is_proposed_by_its_address_until_it_goes(site: Site) -> None:
    site.watch.put(make("tool", owner=None))
    site.accuse(POD)
    (proposed,) = site.responder.list_blocks()
    assert (proposed.target.consumer, str(proposed.holder)) == (f"address:{POD}", "pod shop/tool")
    site.watch.remove("tool")
    site.tick()
    assert site.responder.list_blocks()[0].state is BlockState.REJECTED
    site.accuse(POD, "x2", window_start=NOW - 2, window_end=NOW - 1)
    assert len(site.responder.list_blocks()) == 1  # Nobody is there to be stopped.


@pytest.mark.parametrize("is_host_network", [False, True])
def test_an_address_of_a_node_is_no_pods_and_needs_a_person(site: Site, is_host_network: bool) -> None:
    """Also where a Pod claims the address without saying that it is on its node's network."""
    node = "10.0.0.1"
    site.watch.put(make("agent", node, node_addresses=(node,), is_host_network=is_host_network))
    site.enforce()
    site.accuse(node)
    (proposed,) = site.responder.list_blocks()
    assert (proposed.target.consumer, proposed.holder, proposed.state) == (f"address:{node}", None, "proposed")
    with pytest.raises(BlockError, match=r"10\.0\.0\.1 is an address of node node-1; all that call with it"):
        site.responder.block(BlockRequest(consumer=node))
    with pytest.raises(BlockError, match="No Pod of shop/scraper runs"):
        site.responder.block(BlockRequest(consumer="workload:shop/scraper"))


def test_until_the_pods_are_known_nobody_is_stopped_and_nothing_ends(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"), make("tool", NEXT, owner=None))
    for consumer in (SCRAPER, NEXT):
        site.responder.block(BlockRequest(consumer=consumer))
    site.watch.is_listed = False
    site.watch.changes += 1
    site.tick()
    assert site.sent[-1] == () and {block.state for block in site.responder.list_blocks()} == {BlockState.LIVE}
    site.watch.is_listed = True
    site.watch.changes += 1
    site.tick()
    assert set(site.sent[-1]) == {POD, NEXT}


def test_two_workloads_of_one_name_are_not_taken_for_each_other(site: Site) -> None:
    site.watch.put(make("scraper-7d4-a"), make("scraper-0", NEXT, owner=("StatefulSet", "scraper")))
    with pytest.raises(BlockError, match="may be shop/Deployment/scraper, shop/StatefulSet/scraper in east; name"):
        site.responder.block(BlockRequest(consumer="workload:shop/scraper"))
    site.responder.block(BlockRequest(consumer="workload:shop/StatefulSet/scraper"))
    assert site.list_stopped() == (NEXT,)
    for wrong in ("workload:shop", "workload:a/b/c/d", "workload:/x"):
        with pytest.raises(BlockError, match="is not NAMESPACE"):
            site.responder.block(BlockRequest(consumer=wrong))


def test_the_collectors_limits_hold_for_pods_and_for_what_a_network_holds(
    store: EmbeddedStore, sqlite_state: StateStore
) -> None:
    site = Site(sqlite_state, store, never_block_cidrs=(f"{POD}/32",))
    site.watch.put(make("scraper-7d4-a"), make("scraper-7d4-b", NEXT))
    site.responder.block(BlockRequest(consumer=SCRAPER))
    assert site.list_stopped() == (NEXT,)
    with pytest.raises(BlockError, match=r"10\.244\.0\.0/24 holds 10\.244\.0\.21/32, which is never blocked"):
        site.responder.block(BlockRequest(consumer="10.244.0.0/24", is_confirmed=True))


def test_a_block_that_newer_settings_forbid_is_no_longer_sent(store: EmbeddedStore, sqlite_state: StateStore) -> None:
    before = Site(sqlite_state, store)
    before.responder.block(BlockRequest(consumer="10.9.9.0/24", is_confirmed=True))
    assert before.list_stopped() == ("10.9.9.0/24",)
    after = Site(sqlite_state, store, never_block_cidrs=("10.9.9.7/32",))
    after.tick()
    assert after.list_stopped() == ()


@pytest.mark.parametrize(
    ("nodes", "others", "state"),
    [(("node-1",), ("node-2",), "proposed"), (("node-1",), (), "live"), (("node-1", "node-2"), ("node-3",), "live")],
)
def test_the_ladder_does_not_act_on_one_nodes_word_about_a_service_of_several(
    site: Site, nodes: tuple[str, ...], others: tuple[str, ...], state: str
) -> None:
    site.watch.put(make("scraper-7d4-a"))
    site.enforce()
    site.accuse(POD, nodes=nodes, other_nodes=others)
    (block,) = site.responder.list_blocks()
    assert (block.state, block.nodes) == (state, nodes)


def test_preview_list_and_page_name_who_holds_an_address_now_and_before(site: Site, store: EmbeddedStore) -> None:
    site.watch.put(make("c32", owner=None), now=NOW - 900)
    site.watch.remove("c32", now=NOW - 600)
    site.watch.put(make("scraper-7d4-a"), now=NOW - 300)
    words = "pod shop/scraper-7d4-a of shop/Deployment/scraper since 2020-01-01 05:42 UTC (before: pod shop/c32)"
    with open_client(site, store) as client:
        preview = client.post("/api/v1/blocks/preview", json={"consumer": POD}).json()
        assert preview["held_by"] == words and [one["name"] for one in preview["holders"]] == ["scraper-7d4-a", "c32"]
        assert "changed hands in the last 24 hours" in preview["needs_confirmation"]
        assert any("Block its workload" in note for note in preview["notes"])
        workload = client.post("/api/v1/blocks/preview", json={"consumer": SCRAPER, "clusters": ["east"]}).json()
        assert workload["addresses"] == [POD]
        block = client.post("/api/v1/blocks", json={"consumer": POD, "is_confirmed": True}).json()
        assert block["held_by"] == words
        assert block["ends_with"] == "pod shop/scraper-7d4-a of shop/Deployment/scraper"
        page = client.get("/response").text
        assert f"held by {words}" in page and "the block ends with pod shop/scraper-7d4-a" in page
        assert f"Held by {words}." in client.get(f"/response/preview?consumer={POD}").text


def test_a_preview_of_a_workload_counts_the_calls_of_its_pods_alone(site: Site, store: EmbeddedStore) -> None:
    site.watch.put(make("scraper-7d4-a"), now=NOW - 900)
    site.watch.put(make("honest-0", NEXT, owner=("StatefulSet", "honest")), now=NOW - 900)
    preview = site.responder.preview(SCRAPER, ())
    assert (preview.calls, preview.share) == (60, pytest.approx(0.5))


def test_proxies_get_no_block_of_who_makes_most_calls_unless_it_is_confirmed(
    store: EmbeddedStore, sqlite_state: StateStore
) -> None:
    """Sensors have such a limit of their own, each for its node."""
    seed = Seed()
    seed.calls(seed.endpoint(2, "GET", "/pay"), 400, client_address="203.0.113.9", minutes_ago=2)
    seed.write(store)
    site = Site(sqlite_state, store)

    def export() -> list[str]:
        lines = export_blocks(site.responder.orders(), ExportFormat.HAPROXY, ExportSettings()).splitlines()
        return [line for line in lines if not line.startswith("#")]

    block = site.responder.block(BlockRequest(consumer="203.0.113.9"))
    assert site.list_stopped() == ("203.0.113.9",) and export() == []
    assert "over half of all calls" in " ".join(site.responder.preview("203.0.113.9").notes)
    site.responder.lift(block.id, by="ada")
    site.responder.block(BlockRequest(consumer="203.0.113.9", is_confirmed=True))
    site.responder.block(BlockRequest(consumer=POD))
    assert export() == [f"{POD}/32", "203.0.113.9/32"]
    blocks = site.responder.list_blocks()
    assert [block.is_exported for block in blocks] == [True, True, False]


def test_the_page_leads_from_an_accused_address_to_the_workload_that_is_proposed(
    site: Site, store: EmbeddedStore
) -> None:
    site.watch.put(make("scraper-7d4-a"))
    site.accuse(POD)
    with open_client(site, store) as client:
        question = f"/response/preview?consumer=address:{POD}&alert=x1"
        answer = client.get(question, follow_redirects=False)
        assert answer.status_code == 303
        page = client.get(answer.headers["location"]).text
    assert f"Block {SCRAPER}?" in page and f"Its Pods hold {POD}." in page


def make_past(cluster: str, name: str, since: int, until: int = 0, kind: PeerKind = PeerKind.POD) -> Holder:
    namespace, owner = ("shop", ("Pod", name)) if kind is PeerKind.POD else ("", ("", ""))
    return Holder(
        cluster=cluster, kind=kind, namespace=namespace, name=name, workload_kind=owner[0], workload=owner[1],
        node="", services=(), workloads=(), since=since, until=until,
    )  # fmt: skip


def test_holders_in_words() -> None:
    now = 86_400.0 * 20_000
    day = int(now)
    east, west = make_past("east", "a", day - 3_600), make_past("", "b", day - 7_200)
    gone = make_past("east", "c", day - 9_000, day - 4_000)
    assert describe_holders([], now) == ""
    assert describe_holders([east, gone], now) == "pod shop/a since 23:00 UTC (before: pod shop/c)"
    assert describe_holders([east, west], now) == "pod shop/a in east since 23:00 UTC, pod shop/b in - since 22:00 UTC"
    assert describe_holders([gone], now) == "pod shop/c until 22:53 UTC"
    node = make_past("east", "node-1", day - 200_000, kind=PeerKind.NODE)
    assert describe_holders([node], now) == "node node-1 since 2024-10-01 16:26 UTC"


def make_report(consumer: str, start: float, end: float) -> Report:
    alert = make_alert("x1", consumer=consumer, title=f"{consumer} reads 57 different objects", why="57 objects.")
    named = {name: getattr(alert, name) for name in ("kind", "severity", "title", "why", "consumer")}
    return Report(**named, window_start=start, window_end=end, calm_seconds=60)


def test_an_alert_names_who_held_the_address_then(site: Site) -> None:
    site.watch.put(make("c32", owner=None), now=NOW - 900)
    site.watch.remove("c32", now=NOW - 600)
    late = make("scraper-7d4-a", started=datetime.fromtimestamp(NOW - 300, UTC).isoformat())
    site.watch.put(late, now=NOW - 300)

    def name(consumer: str, start: float, end: float, *clusters: str) -> Report:
        return site.responder._holders.name_accused(make_report(consumer, start, end), clusters, NOW)

    before = name(f"address:{POD}", NOW - 800, NOW - 700, "east")
    assert before.title == f"address:{POD} (shop/c32) reads 57 different objects"
    assert before.held_by.startswith("pod shop/c32 until ") and before.why == (
        f"57 objects. The address was held by {before.held_by}."
    )
    after = name(f"address:{POD}", NOW - 100, NOW - 50)
    assert "(shop/scraper) reads" in after.title and "pod shop/scraper-7d4-a of shop/Deployment" in after.held_by
    assert after.consumer == f"address:{POD}"
    for other in (name(f"address:{POD}", NOW - 100, NOW, "west"), name("principal:00", NOW - 100, NOW)):
        assert other.held_by == "" and other.title == f"{other.consumer} reads 57 different objects"


def test_the_store_is_not_asked_who_held_an_address_that_nobody_else_held_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.watch.put(make("scraper-7d4-a"))
    (pod,) = site.responder._holders.find_pods(POD, ["east"])
    holders, start = site.responder._holders, float(pod.since)

    def name(start: float) -> Report:
        return holders.name_accused(make_report(f"address:{POD}", start, start + 60), ["east"], NOW)

    asked = name(start - 1)
    with monkeypatch.context() as patch:
        patch.setattr(holders, "list_past", lambda *_: pytest.fail("The store was asked."))
        assert name(start).held_by == asked.held_by != ""
    site.watch.put(make("agent", POD, node_addresses=(POD,), is_host_network=True))
    with monkeypatch.context() as patch:
        patch.setattr(holders, "list_past", lambda *_: [])
        assert name(start).held_by == ""


def test_a_workload_of_two_clusters_is_stopped_in_each_at_its_own_addresses(
    site: Site, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Previewer, "list_clusters", lambda previewer, now: ("east", "west"))
    site.watch.put(make("scraper-7d4-a"))
    site.west.put(make("scraper-7d4-w", NEXT), make("honest-0", POD, owner=("StatefulSet", "honest")))
    with pytest.raises(BlockError, match="in east, west; name its kind and its cluster"):
        site.responder.block(BlockRequest(consumer=SCRAPER))
    site.responder.block(BlockRequest(consumer=SCRAPER, clusters=("east", "west")))
    orders = [(order.value, order.clusters) for order in site.responder.orders()]
    assert orders == [(POD, ("east",)), (NEXT, ("west",))]


def test_who_sees_a_part_learns_of_no_pod_whose_public_address_did_not_call_it(site: Site) -> None:
    """Nor of a node: their addresses may be public, as those of IPv6 are."""
    public, outside, scope = "2a00:1450:4001::21", "2a00:1450:4001::99", Scope(namespaces=("shop",))
    site.watch.put(make("scraper-7d4-a", public))
    for ask in (
        lambda: site.responder.preview(public),
        lambda: site.responder.block(BlockRequest(consumer=public, is_confirmed=True)),
    ):
        with use_scope(scope), pytest.raises(BlockError, match="made no call in the last 24 hours to what you see"):
            ask()
    with use_scope(scope):
        assert site.responder.preview(outside).calls == 0
        assert str(site.responder.block(BlockRequest(consumer=outside)).holder or "") == ""
    assert site.responder.block(BlockRequest(consumer=public)).holder is not None

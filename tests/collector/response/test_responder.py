"""Blocks over the API, against the embedded store: previews, the life of a block, the ladder, the audit, the page."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence
from collector.api.services import ApiSettings, Services
from collector.receiver.policy import BlockKind, BlockStatus, EnforcementReport
from collector.response.block import BlockError, BlockState, BlockTarget, parse_service, parse_target
from collector.response.holders import Holders
from collector.response.ladder import Ladder, LadderStep, Rung
from collector.response.preview import BlockCheck, Previewer
from collector.response.responder import Responder
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from collector.trust.audit import AuditFilters, AuditLog
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import NOW, Seed, write_watch
from tests.collector.response import making
from tests.collector.states import create_state

pytestmark = pytest.mark.store

THIEF, SHARED = "203.0.113.7", "198.51.100.1"
PRINCIPAL = f"principal:{77:016x}"


@dataclass
class Room:
    """A responder, its clock, what it told, and a client."""

    responder: Responder
    client: TestClient
    time: SimpleNamespace
    told: list[int]
    state: StateStore

    def post(self, path: str, status: int = 200, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        answer = self.client.post(f"/api/v1/{path}", json=body, headers=headers or {})
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def block(self, consumer: str = THIEF, **body: Any) -> dict[str, Any]:
        return self.post("blocks", 201, consumer=consumer, **body)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{order_id}")
    thief = {"principal": 77, "principal_kind": 3, "authentication": 8, "key_id": 1}
    seed.calls(orders, 60, credential=501, client_address=THIEF, minutes_ago=3, **thief)
    seed.calls(orders, 20, credential=502, client_address=SHARED, minutes_ago=2, **thief)
    seed.calls(orders, 20, principal=88, principal_kind=3, credential=601, client_address=SHARED, key_id=1)
    seed.calls(orders, 100, principal=99, principal_kind=3, credential=701, client_address="192.0.2.1", key_id=1)
    seed.write(opened)
    write_watch(opened)
    yield opened
    opened.close()


def make_responder(state: StateStore, store: EmbeddedStore, time: SimpleNamespace, **more: Any) -> Responder:
    return making.make_responder(
        state,
        previewer=Previewer(store, holders := Holders(more.pop("watches", ()), store), lambda _: [""]),
        holders=holders,
        clock=lambda: time.now + time.step,
        monotonic=lambda: time.now,
        **more,
    )


@pytest.fixture(params=[False])
def room(store: EmbeddedStore, sqlite_state: StateStore, request: pytest.FixtureRequest) -> Iterator[Room]:
    time = SimpleNamespace(now=float(NOW), step=0.0)
    responder = make_responder(sqlite_state, store, time, requires_second_approval=request.param)
    told: list[int] = []
    responder.on_change(lambda: told.append(len(responder.orders())))
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: time.now,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            responder=responder,
            approval_token="second-person" if request.param else None,
        )
    )
    with TestClient(app, base_url="http://localhost") as client:
        yield Room(responder, client, time, told, sqlite_state)


def test_a_preview_names_the_clients_and_changes_nothing(room: Room) -> None:
    alone = room.post("blocks/preview", consumer=THIEF)
    assert (alone["calls"], alone["clients_total"], alone["needs_confirmation"]) == (60, 1, "")
    assert alone["share"] == pytest.approx(0.3)
    shared = room.post("blocks/preview", consumer=SHARED)
    assert {hit["name"]: hit["calls"] for hit in shared["clients"]} == {PRINCIPAL: 20, f"principal:{88:016x}": 20}
    assert "carried 2 clients" in shared["needs_confirmation"]
    principal = room.post("blocks/preview", consumer=PRINCIPAL)
    assert principal["calls"] == 80
    assert principal["shared_addresses"] == [{"name": SHARED, "calls": 20}]
    assert principal["endpoints"][0]["name"].endswith("/orders/{order_id}")
    network = room.post("blocks/preview", consumer="203.0.113.0/24")
    assert network["calls"] == 60 and "network" in network["needs_confirmation"]
    assert room.told == [] and room.client.get("/api/v1/blocks").json()["items"] == []


def test_a_block_lives_and_is_lifted(room: Room) -> None:
    block = room.block(seconds=600, reason="it reads all", services=["shop/cart:8080"], asked_by="ada")
    assert block["state"] == "live" and room.told == [1]
    (order,) = room.responder.orders()
    assert (order.kind, order.value, order.expires_at) == (BlockKind.ADDRESS, THIEF, NOW + 600)
    assert (order.scopes[0].namespace, order.scopes[0].workload, order.scopes[0].port) == ("shop", "cart", 8080)
    lifted = room.post(f"blocks/{block['id']}/lift", asked_by="bob")
    assert (lifted["state"], lifted["ended_by"]) == ("lifted", "no-auth, asked by bob") and room.told == [1, 0]
    assert "is lifted, not live" in room.post(f"blocks/{block['id']}/lift", 409)["detail"]
    actions = [(entry["action"], entry["by"]) for entry in room.client.get("/api/v1/blocks/audit").json()["items"]]
    assert actions == [("lifted", "no-auth, asked by bob"), ("began", "no-auth, asked by ada")]
    over, begun = AuditLog(room.state).list_lines(AuditFilters(), limit=9)
    assert (begun.before, json.loads(begun.after)) == (
        "",
        {
            "state": "live",
            "services": ["shop/cart:8080"],
            "clusters": [],
            "seconds": 600,
            "is_confirmed": False,
            "alert_id": "",
        },
    )
    assert (over.before, over.after) == ('{"state":"live"}', '{"state":"lifted"}')


def test_a_shared_address_needs_a_confirmation(room: Room) -> None:
    assert "confirm" in room.post("blocks", 422, consumer=SHARED)["detail"]
    assert room.told == []
    assert room.block(SHARED, is_confirmed=True)["is_confirmed"]


def test_a_principal_goes_with_its_credentials(room: Room) -> None:
    room.block(PRINCIPAL)
    (order,) = room.responder.orders()
    assert set(order.credentials) == {501, 502} and order.key_id == 1


def test_nothing_is_blocked_twice_and_nobody_unknown(room: Room) -> None:
    block = room.block()
    assert f"already, by block {block['id']}" in room.post("blocks", 409, consumer=THIEF)["detail"]
    assert "no call" in room.post("blocks", 422, consumer=f"credential:{5:016x}")["detail"]


def test_its_time_ends_it(room: Room) -> None:
    block = room.block(seconds=60)
    room.time.now += 59
    room.responder.tick()
    assert room.responder.orders()
    room.time.now += 2
    room.responder.tick()
    assert not room.responder.orders()
    assert room.client.get(f"/api/v1/blocks/{block['id']}").json()["state"] == "expired"


@pytest.mark.parametrize("step", [86_400.0, -86_400.0, 2.0])
def test_a_clock_that_is_moved_changes_nothing(room: Room, step: float) -> None:
    room.block(seconds=600)
    room.time.now += 400
    room.responder.tick()
    room.time.step = step
    room.block("192.0.2.1", seconds=300)
    room.responder.tick()
    left = [order.expires_at - (room.time.now + room.time.step) for order in room.responder.orders()]
    assert left == [pytest.approx(200, abs=0.01), pytest.approx(300, abs=0.01)]
    assert room.told == [1, 2]
    for seconds, count in ((199, 2), (1, 1), (99, 1), (1, 0)):
        room.time.now += seconds
        room.responder.tick()
        assert len(room.responder.orders()) == count


def test_a_clock_that_was_ahead_and_is_put_back_while_it_was_down(room: Room, store: EmbeddedStore) -> None:
    room.time.step = 86_400.0
    room.responder.tick()
    room.block(seconds=600)
    room.time.step = 0.0
    again = make_responder(room.state, store, room.time)
    again.tick()
    assert [order.expires_at - room.time.now for order in again.orders()] == [600]


def test_one_request_lifts_everything(room: Room) -> None:
    room.block(), room.block(PRINCIPAL), room.block("192.0.2.1")
    assert room.post("blocks/lift")["lifted"] == 3
    assert room.told[-1] == 0 and len(room.told) == 4  # One change for all three.


def test_a_restart_keeps_what_is_live(room: Room, store: EmbeddedStore) -> None:
    room.block(seconds=600)
    again = make_responder(room.state, store, room.time)
    assert again.orders() == room.responder.orders()
    assert [entry.action for entry in again.list_audit(10)] == ["began"]


def test_what_sensors_tell_is_shown_and_declined_is_noted_once(room: Room) -> None:
    block = room.block()
    enforced = BlockStatus(
        id=block["id"],
        is_enforced=True,
        reason="",
        stopped_connections=4,
        stopped_bytes=900,
        failed_resets=0,
        spared_requests=0,
        first_stop_at=NOW + 1.5,
    )
    declined = replace(enforced, is_enforced=False, reason="never blocked", stopped_connections=0, first_stop_at=0.0)
    for _ in range(2):
        room.responder.take_report("a", EnforcementReport(epoch=2, is_enabled=True, reason="", blocks=(enforced,)))
        room.responder.take_report("b", EnforcementReport(epoch=2, is_enabled=True, reason="", blocks=(declined,)))
    shown = room.client.get("/api/v1/blocks").json()
    assert shown["items"][0]["stopped_connections"] == 4
    assert [node["is_enforced"] for node in shown["items"][0]["nodes"]] == [True, False]
    assert [entry.action for entry in room.responder.list_audit(10)] == ["declined", "began"]
    room.time.now += 3_600
    room.responder.tick()
    room.responder.take_report("a", EnforcementReport(epoch=3, is_enabled=True, reason="", blocks=()))
    (over,) = room.client.get("/api/v1/blocks").json()["items"]
    assert (over["state"], over["stopped_connections"], over["stopped_bytes"]) == ("expired", 4, 1_800)
    assert room.responder.list_audit(1)[0].why == "after 3600 s; 4 connections were stopped on 2 nodes"


@pytest.mark.parametrize("room", [True], indirect=True)
def test_second_approval(room: Room) -> None:
    block = room.block(asked_by="ada")
    assert block["state"] == "proposed" and room.told == []
    room.post(f"blocks/{block['id']}/approve", 422, asked_by="ada")
    room.post(f"blocks/{block['id']}/approve", 422, headers={"apidae-approval": "guess"}, asked_by="ada")
    approved = room.post(f"blocks/{block['id']}/approve", headers={"apidae-approval": "second-person"}, asked_by="bob")
    assert (approved["state"], approved["approved_by"]) == ("live", "approval-token, asked by bob") and room.told == [1]


def raise_alert(room: Room, consumer: str = PRINCIPAL, **more: Any) -> bool:
    alert = make_alert("x1", kind=AlertKind.ENUMERATION, consumer=consumer, state=AlertState.OPEN, **more)
    return not room.responder.take_alerts([alert])


def test_an_alert_whose_client_is_not_stored_yet_is_to_be_taken_again_before_a_block_begins(room: Room) -> None:
    room.responder.put_rung(
        Rung(kind=AlertKind.ENUMERATION, step=LadderStep.ENFORCE, seconds=900, endpoints=("*",), set_by="ada")
    )
    assert not raise_alert(room, "principal:00000000deadbeef")
    assert raise_alert(room)
    assert [block.state for block in room.responder.list_blocks()] == ["live"]


def make_storm(clients: Sequence[str]) -> list[Alert]:
    return [
        make_alert(f"storm-{number}", kind=AlertKind.ENUMERATION, consumer=client, state=AlertState.OPEN)
        for number, client in enumerate(clients)
    ]


def test_a_storm_of_alerts_that_may_begin_blocks_asks_one_question(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []
    ask = Previewer._select

    def count(previewer: Previewer, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        questions.append(statement)
        return ask(previewer, statement, parameters)

    monkeypatch.setattr(Previewer, "_select", count)
    room.responder.move_rung(AlertKind.ENUMERATION, step=LadderStep.ENFORCE, seconds=60, by="ada")
    rung = replace(room.responder.ladder.find(AlertKind.ENUMERATION), endpoints=("*",))
    room.responder.put_rung(rung)
    unknown = "principal:00000000deadbeef"
    clients = [PRINCIPAL, f"address:{SHARED}", f"address:{THIEF}", unknown, "credential:00000000000002bd", "10.0.0.1"]
    storm = make_storm(clients)
    assert room.responder.take_alerts(storm) == [storm[3]]
    assert len(questions) == 1
    blocks = {block.target.consumer: block for block in room.responder.list_blocks()}
    assert {client: block.state.value for client, block in blocks.items()} == {
        PRINCIPAL: "live",
        f"address:{SHARED}": "proposed",
        f"address:{THIEF}": "live",
        "credential:00000000000002bd": "live",
        "address:10.0.0.1": "live",
    }
    assert set(blocks[PRINCIPAL].credentials) == {501, 502} and blocks[PRINCIPAL].key_id == 1
    assert len(room.told) == 1
    assert len(room.responder.list_audit(9)) == 7


def test_checks_of_many_are_those_of_each(room: Room) -> None:
    previewer = room.responder._previewer
    names = [PRINCIPAL, SHARED, THIEF, "192.0.2.1", "192.0.2.99", "credential:00000000000001f5", "principal:00", "::1"]
    targets = [parse_target(name) for name in names if name != "principal:00"]
    found = previewer.check_all(targets, NOW)
    assert set(found) == set(targets)
    for target, check in found.items():
        alone = previewer.check(target, (), NOW)
        assert replace(check, first_seen=0.0) == replace(alone, credentials=check.credentials)
        assert sorted(check.credentials) == sorted(alone.credentials)
        assert check.first_seen == previewer.find_first_seen(target)
    assert previewer.check_all([parse_target("203.0.113.0/24"), parse_target("workload:shop/cart")], NOW) == {}


def test_a_storm_of_alerts_asks_the_store_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []
    ask = Previewer._select

    def count(previewer: Previewer, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        questions.append(statement)
        return ask(previewer, statement, parameters)

    monkeypatch.setattr(Previewer, "_select", count)
    clients = [PRINCIPAL, SHARED, "principal:00000000deadbeef", *(f"10.0.0.{number}" for number in range(1, 98))]
    assert not room.responder.take_alerts(make_storm(clients))
    blocks = {block.target.consumer: block for block in room.responder.list_blocks()}
    assert len(blocks) == len(clients) and not questions
    assert {(block.state, block.key_id, block.credentials) for block in blocks.values()} == {("proposed", 0, ())}

    def approve(consumer: str, status: int = 200) -> dict[str, Any]:
        return room.post(f"blocks/{blocks[consumer].id}/approve", status, asked_by="ada")

    # What a block needs to know is asked when it begins.
    approve(PRINCIPAL)
    assert questions and approve(f"address:{SHARED}")["is_confirmed"]
    orders = {order.value: order for order in room.responder.orders()}
    assert set(orders[PRINCIPAL.partition(":")[2]].credentials) == {501, 502}
    assert "made no call" in approve("principal:00000000deadbeef", 422)["detail"]


def test_what_is_proposed_or_blocked_in_some_cluster_is_not_proposed_again(room: Room) -> None:
    raise_alert(room)
    (block,) = room.responder.list_blocks()
    live = replace(block, state=BlockState.LIVE, alert_id="", clusters=("east",), expires_at=9e9)
    with room.responder._store.change() as change:
        change.put(live)
    raise_alert(room)
    assert len(room.responder.list_blocks()) == 1


def test_decisions_are_told_as_they_are_audited(room: Room) -> None:
    told: list[tuple[str, str]] = []
    room.responder.on_decision(lambda action, block: told.append((action, block.state)))
    block = room.block()
    room.post(f"blocks/{block['id']}/lift", asked_by="ada")
    room.block()
    room.post("blocks/lift", asked_by="ada")
    room.block()
    room.time.now += 100_000
    room.responder.tick()
    states = ["live", "lifted", "live", "lifted", "live", "expired"]
    assert told == [("began" if state == "live" else state, state) for state in states]


def test_an_alert_proposes_once_and_stops_nobody(room: Room) -> None:
    raise_alert(room), raise_alert(room)
    (block,) = room.client.get("/api/v1/blocks").json()["items"]
    assert (block["state"], block["consumer"], block["alert_id"]) == ("proposed", PRINCIPAL, "x1")
    assert room.told == []
    assert room.post(f"blocks/{block['id']}/approve", asked_by="ada")["state"] == "live"


def test_who_fell_silent_is_not_to_be_stopped(room: Room) -> None:
    rates = ((0.0, 0), (20.0, 1))  # Calls a second where 2 are expected.
    for observed, count in rates:
        alert = make_alert("x2", kind=AlertKind.VOLUME_CONSUMER, consumer=PRINCIPAL, state=AlertState.OPEN)
        assert not room.responder.take_alerts([replace(alert, observed_rate=observed, expected_rate=2.0)])
        assert len(room.responder.list_blocks()) == count


def test_a_person_who_blocks_answers_the_proposal(room: Room) -> None:
    raise_alert(room)
    room.block(PRINCIPAL, asked_by="ada")
    assert [block.state for block in room.responder.list_blocks()] == ["live", "rejected"]
    raise_alert(room)
    assert len(room.responder.list_blocks()) == 2


@pytest.mark.parametrize("step", [LadderStep.OBSERVE, LadderStep.ALERT])
def test_lower_steps_propose_nothing(room: Room, step: LadderStep) -> None:
    answer = room.client.put("/api/v1/ladder/enumeration", json={"step": step, "asked_by": "ada"})
    assert answer.json()["step"] == step
    raise_alert(room)
    assert room.responder.list_blocks() == []


@pytest.mark.parametrize(
    ("is_old", "endpoints", "state"),
    [(False, (), "proposed"), (False, ("ep0001",), "live"), (False, ("*",), "live"), (True, (), "live")],
)
def test_enforce_is_for_old_clients_and_listed_endpoints(
    room: Room, is_old: bool, endpoints: tuple[str, ...], state: str
) -> None:
    room.responder.put_rung(
        Rung(kind=AlertKind.ENUMERATION, step=LadderStep.ENFORCE, seconds=900, endpoints=endpoints, set_by="ada")
    )
    if is_old:
        check_all = room.responder._previewer.check_all

        def check_old(targets: Collection[BlockTarget], now: float) -> dict[BlockTarget, BlockCheck]:
            return {
                target: replace(check, first_seen=NOW - 2 * 86_400) for target, check in check_all(targets, now).items()
            }

        room.responder._previewer.check_all = check_old  # type: ignore[method-assign]
    raise_alert(room, endpoint_id="ep0001")
    (block,) = room.responder.list_blocks()
    assert (block.state, block.seconds) == (state, 900)


def test_a_notice_is_never_enforced(room: Room) -> None:
    room.responder.put_rung(
        Rung(kind=AlertKind.ENUMERATION, step=LadderStep.ENFORCE, seconds=900, endpoints=("ep0001",), set_by="ada")
    )
    raise_alert(room, endpoint_id="ep0001", confidence=Confidence.LOW)
    assert [block.state for block in room.responder.list_blocks()] == ["proposed"]


def test_enforce_leaves_a_shared_address_to_a_person(room: Room) -> None:
    room.responder.put_rung(
        Rung(kind=AlertKind.ENUMERATION, step=LadderStep.ENFORCE, seconds=900, endpoints=("ep0001",), set_by="ada")
    )
    raise_alert(room, consumer=f"address:{SHARED}", endpoint_id="ep0001")
    assert [block.state for block in room.responder.list_blocks()] == ["proposed"]


def test_the_ladder_outlives_a_restart(room: Room) -> None:
    room.client.put("/api/v1/ladder/scanning", json={"step": "enforce", "seconds": 60, "asked_by": "ada"})
    (line,) = AuditLog(room.state).list_lines(AuditFilters(), limit=9)
    assert json.loads(line.before) == {"step": "propose", "seconds": 3_600, "endpoints": []}
    assert json.loads(line.after) == {"step": "enforce", "seconds": 60, "endpoints": []}
    rung = Ladder(room.state).find(AlertKind.SCANNING)
    assert (rung.step, rung.seconds, rung.set_by) == (LadderStep.ENFORCE, 60, "no-auth, asked by ada")
    assert Ladder(room.state).find(AlertKind.ENUMERATION).step is LadderStep.PROPOSE


def test_the_page_decides_how_far_alerts_go(room: Room) -> None:
    listed = ("ep0001",)
    room.responder.put_rung(
        Rung(kind=AlertKind.SCANNING, step=LadderStep.PROPOSE, seconds=900, endpoints=listed, set_by="ada")
    )
    shown = room.client.get("/response").text
    assert 'id="rung-scanning"' in shown and '<option value="900" selected>' in shown
    form = {"kind": "scanning", "step": "enforce", "seconds": "600"}
    assert room.client.post("/response/ladder", data=form, follow_redirects=False).status_code == 303
    rung = room.responder.ladder.find(AlertKind.SCANNING)
    assert (rung.step, rung.seconds, rung.endpoints, rung.set_by) == (LadderStep.ENFORCE, 600, listed, "no-auth")
    for wrong in ({"step": "all"}, {"kind": "x"}, {"seconds": "1"}):
        answer = room.client.post("/response/ladder", data={**form, **wrong}, follow_redirects=False)
        assert answer.status_code == 422 and 'role="alert"' in answer.text
    assert room.responder.ladder.find(AlertKind.SCANNING) == rung


def test_the_page_shows_the_evidence_beside_the_buttons(room: Room) -> None:
    raise_alert(room)
    page = room.client.get("/response").text
    (block,) = room.responder.list_blocks()
    assert block.reason in page and f"approve-{block.id}" in page
    evidence = room.client.get(f"/response/evidence/{block.alert_id}", follow_redirects=False)
    assert evidence.headers["location"].startswith("/incidents/")
    asked = {"consumer": block.target.consumer, "alert": block.alert_id}
    assert f'value="{block.reason}"' in room.client.get("/response/preview", params=asked).text
    preview = room.client.get("/response/preview", params={"consumer": SHARED}).text
    assert "carried 2 clients" in preview and PRINCIPAL in preview and "No sensor has said yet" in preview
    form = {"id": block.id}
    assert room.client.post("/response/approve", data=form, follow_redirects=False).status_code == 303
    assert "lift-all" in room.client.get("/response").text
    assert "enforced nowhere" in room.client.get("/response").text
    status = BlockStatus(
        id=block.id,
        is_enforced=True,
        reason="",
        stopped_connections=3,
        stopped_bytes=2_000,
        failed_resets=0,
        spared_requests=0,
        first_stop_at=NOW - 5,
    )
    off = EnforcementReport(epoch=2, is_enabled=False, reason="off here", blocks=())
    room.responder.take_report("n1", EnforcementReport(epoch=2, is_enabled=True, reason="", blocks=(status,)))
    room.responder.take_report("n2", off)
    shown = room.client.get("/response").text
    assert "enforced at 1 of 1 node: 3 connections stopped" in shown and "enforced nowhere" not in shown
    assert "1 of 2 nodes enforces blocks" in shown and "Not n2: off here" in shown
    assert room.client.post("/response/lift-all", data={}, follow_redirects=False).status_code == 303
    assert room.responder.orders() == ()
    assert "already over" not in room.client.get("/response").text
    assert room.client.post("/response/lift", data=form, follow_redirects=False).status_code == 422


@pytest.mark.parametrize(
    "text", ["x", "workload:cart", "address:1.2.3", "1.2.3.4/8", "principal:zz", "other:", "fe80::1%eth0"]
)
def test_what_cannot_be_blocked(text: str) -> None:
    with pytest.raises(BlockError):
        parse_target(text)


@pytest.mark.parametrize(
    "text", ["", ":", "cart:0", "cart:x", "/", ":99999", "a" * 254, "a" * 254 + "/b", "a:" + "0" * 5_000 + "1"]
)
def test_what_is_no_service(text: str) -> None:
    with pytest.raises(BlockError):
        parse_service(text)


@pytest.mark.parametrize("text", ["2001:db8::1", "address:2001:db8::1", "2001:db8::/64", "203.0.113.7/32"])
def test_addresses_in_any_form(text: str) -> None:
    assert parse_target(text).kind is BlockKind.ADDRESS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("address:::FFFF:cb00:7107", "203.0.113.7"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_ipv4_written_as_ipv6_is_ipv4(text: str, value: str) -> None:
    assert parse_target(text).value == value


def test_a_shared_address_needs_a_confirmation_however_it_is_written(room: Room) -> None:
    refused = room.post("blocks", 422, consumer=f"::ffff:{SHARED}")
    assert "carried 2 clients" in refused["detail"]


def test_only_alerts_that_name_a_client_lead_to_blocks(sqlite_state: StateStore) -> None:
    steps = {rung.kind: rung.step for rung in Ladder(sqlite_state).list_rungs()}
    silent = {kind for kind, step in steps.items() if step is LadderStep.ALERT}
    assert silent >= {AlertKind.VOLUME_ENDPOINT, AlertKind.UNAUTHENTICATED_SENSITIVE_DATA, AlertKind.RISK_SCORE}
    assert silent >= {kind for kind in AlertKind if kind.value.endswith("_certificate")}
    assert steps[AlertKind.INJECTION] is steps[AlertKind.ENUMERATION] is LadderStep.PROPOSE

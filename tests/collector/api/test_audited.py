"""Every route that changes something, and every one that exports, writes an entry of the audit log: a new one, too."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from collector.api import export_log
from collector.api.problem import Problem
from collector.core.rows import Route, Segment, Service
from collector.response.block import BlockState
from collector.storage.arrow import build_routes
from collector.trust.audit import AuditFilters, AuditLine
from collector.trust.principal import Principal, Role, Scope, Way
from tests.collector.api.canaries import PLACES, Installation, open_installation
from tests.collector.api.client import TestClient
from tests.collector.api.principals import become, list_routes
from tests.collector.inventory.seed import NOW

pytestmark = [pytest.mark.store, pytest.mark.full("collector.api", "collector.ui", "collector.trust")]

API: Final = "/api/v1"
# Keep nothing of what they are asked about; the theme is a cookie.
QUESTIONS: Final = frozenset({"POST /consumers/identify", "POST /specs/compare", "POST /blocks/preview", "POST /theme"})
# What needs the whole collector, and where its entry is looked for.
ELSEWHERE: Final = {
    "POST /erasures": "tests/collector/risk/test_erasure.py",
    "GET /backup": "tests/collector/backup/test_backup.py",
}
CONSUMER: Final = "address:203.0.113.77"
TENANTS: Final = [f"{name}.example.com" for name in ("acme", "blue-sky", "contoso", "delta9", "ever", "foxtrot")]
SERVICE: Final = Service(cluster="", namespace="", workload="web", workload_kind=1, host_name="h", port=80)
DOCUMENT: Final = '{"openapi": "3.1.0", "info": {"title": "%s", "version": "1"}, "paths": {}}'


@dataclass
class Walk:
    """Asks routes, and keeps which ones were asked and what of the log they wrote."""

    opened: Installation
    client: TestClient
    asked: set[str] = field(default_factory=set)
    written: dict[str, list[str]] = field(default_factory=dict)
    last: int = 0

    def read(self) -> list[AuditLine]:
        """What is new in the log, the oldest first."""
        lines = self.opened.services.audit.list_lines(AuditFilters(), limit=1_000)
        new = [line for line in reversed(lines) if line.number > self.last]
        self.last = max((self.last, *(line.number for line in new)))
        return new

    def ask(self, route: str, /, *, headers: Mapping[str, str] | None = None, **names: Any) -> Any:
        """Ask `METHOD /path/{name}`, with a `json` or a `data` among the names; whatever is expected of the log."""
        method, _, template = route.partition(" ")
        body = {name: names.pop(name) for name in ("json", "data", "files", "params") if name in names}
        path = re.sub(r"\{([a-z_]+)\}", lambda match: str(names[match[1]]), template)
        answer = self.client.request(method, path, headers=dict(headers or {}), **body)
        assert answer.status_code in (200, 201, 303), (route, answer.status_code, answer.text[:400])
        self.asked.add(route)
        return answer

    def decide(self, route: str, action: str, /, **rest: Any) -> Any:
        """Ask a route that must write one entry, of whoever asked."""
        self.read()
        answer = self.ask(route, **rest)
        lines = self.read()
        assert [line.action for line in lines] == [action], (route, lines)
        (line,) = lines
        assert (line.by, line.way) == ("somebody", "token") and line.target, line
        self.written.setdefault(route, []).append(action)
        return answer


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with open_installation(tmp_path_factory.mktemp("audited")) as opened:
        yield opened


@pytest.fixture
def walk(opened: Installation) -> Iterator[Walk]:
    with TestClient(opened.app, headers={"authorization": "Bearer x"}, follow_redirects=False) as client:
        become(opened.services, Role.ADMIN, Scope())
        yield Walk(opened, client)


def decide_alerts(walk: Walk, names: dict[str, str]) -> None:
    alert = {"alert_id": names["alert_id"]}
    one = f"POST {API}/alerts/{{alert_id}}"
    walk.decide(f"{one}/acknowledge", "alert.acknowledge", json={}, **alert)
    walk.decide(f"{one}/mute", "alert.mute", json={"seconds": 600, "reason": "deploy"}, **alert)
    walk.decide(f"{one}/unsilence", "alert.unmute", json={}, **alert)
    walk.decide(f"{one}/expected", "alert.expect", json={}, **alert)
    walk.decide(f"{one}/unsilence", "alert.unexpect", json={}, **alert)
    walk.decide(f"{one}/verdict", "alert.false_alarm", json={"verdict": "false_alarm", "note": "a test"}, **alert)
    walk.decide(f"{one}/verdict", "alert.no_verdict", json={"verdict": ""}, **alert)
    page = "POST /alerts/{alert_id}/{action}"
    mute = {"expiry": "3600", "confirmed": "yes"}
    walk.decide(page, "alert.acknowledge", data={}, action="acknowledge", **alert)
    walk.decide(page, "alert.mute", data=mute, action="silence", **alert)
    walk.decide(page, "alert.unmute", data={}, action="unsilence", **alert)
    walk.decide(page, "alert.confirmed", data={"verdict": "confirmed"}, action="verdict", **alert)


def decide_detection(walk: Walk, names: dict[str, str]) -> None:
    walk.decide(f"POST {API}/detection/sensitivity", "sensitivity.changed", json={"level": "paranoid"})
    walk.decide("POST /detection/sensitivity", "sensitivity.changed", data={"level": "normal"})
    rule = {"note": "a scanner", "consumer": CONSUMER}
    made = walk.decide(f"POST {API}/detection/known-good", "known-good.added", json=rule).json()
    end = "detection/known-good/{rule_id}/end"
    walk.decide(f"POST {API}/{end}", "known-good.ended", json={}, rule_id=made["id"])
    walk.decide("POST /detection/known-good", "known-good.added", data={**rule, "days": "30"})
    (found, *_) = [one for one, _ in walk.opened.services.detection[0].list_rules() if not one.ended_at]  # type: ignore[index]
    walk.decide(f"POST /{end}", "known-good.ended", data={}, rule_id=found.id)


def decide_findings(walk: Walk, names: dict[str, str]) -> None:
    one = {"finding_id": names["finding_id"]}
    decision = {"state": "accepted", "note": "meant so"}
    walk.decide(f"POST {API}/findings/{{finding_id}}/state", "finding.accepted", json=decision, **one)
    walk.decide("POST /findings/{finding_id}/{state}", "finding.open", data={"note": "again"}, state="open", **one)
    bulk = {"state": "false_positive", "note": "a test", "ids": [names["finding_id"]]}
    made = walk.decide(f"POST {API}/findings/decisions", "finding.false_positive", json=bulk).json()
    undo = "findings/decisions/{decision_id}/undo"
    undone = walk.decide(f"POST {API}/{undo}", "finding.undone", json={}, decision_id=made["id"]).json()
    walk.decide(f"POST /{undo}", "finding.undone", data={}, decision_id=undone["id"])
    form = {"decision": "fixed", "note": "done", "days": "0", "id": names["finding_id"]}
    walk.decide("POST /findings/{rule}", "finding.fixed", data=form, rule=names["rule"])


def decide_inventory(walk: Walk, names: dict[str, str]) -> None:
    label = {"consumer": CONSUMER, "name": "scanner"}
    walk.decide(f"POST {API}/consumers/labels", "label.set", json=label)
    walk.decide("POST /consumers/labels", "label.removed", data={**label, "name": ""})
    view = {"list": "endpoints", "name": "mine", "query": "auth=none"}
    made = walk.decide(f"POST {API}/views", "view.saved", json=view).json()
    walk.decide(f"DELETE {API}/views/{{view_id}}", "view.deleted", view_id=made["id"])
    walk.decide("POST /views", "view.saved", data=view)
    walk.decide("POST /views/{view_id}/delete", "view.deleted", data={}, view_id=made["id"])
    target = {"namespace": names["spec"], "ratio": 0.9}
    walk.decide(f"POST {API}/coverage/targets", "coverage-target.set", json=target)
    walk.decide(f"POST {API}/coverage/targets", "coverage-target.removed", json={**target, "ratio": None})
    form = {"namespace": names["spec"], "cluster": "", "percent": "90", "minutes": "15"}
    price = {"model": "acme-1*", "input": 1.0, "output": 4.0}
    walk.decide(f"POST {API}/models/prices", "model-prices.set", json={"prices": [price]})
    walk.decide("POST /coverage/targets", "coverage-target.set", data=form)
    walk.decide("POST /coverage/targets", "coverage-target.removed", data={"namespace": names["spec"], "cluster": ""})
    metered = "metrics.changed"
    walk.decide(f"POST {API}/metrics/endpoints", metered, json={"add": [names["endpoint_id"]]})
    walk.decide("POST /settings/metrics", metered, data={"query": "risk_min=70"})
    upload = {"name": "new", "document": DOCUMENT % "new"}
    walk.decide(f"POST {API}/specs", "description.uploaded", json=upload)
    walk.decide(f"DELETE {API}/specs/{{name}}", "description.deleted", name="new")
    walk.decide(
        "POST /specs", "description.uploaded", files={"name": (None, "new"), "document": (None, DOCUMENT % "n")}
    )
    walk.decide("POST /specs-removed", "description.deleted", data={"name": "new"})


def decide_templates(walk: Walk, names: dict[str, str]) -> None:
    collector = walk.opened.collector

    def make(number: int, host: str, *texts: str) -> Route:
        """With an integer for each empty text."""
        segments = tuple(Segment(1, text, 0, 0) if text else Segment(3, "", 0, 0) for text in texts)
        service = replace(SERVICE, workload=host.partition(".")[2])
        return Route(
            route_id=number, service=service, host=host, method="GET", segments=segments, has_trailing_slash=False
        )

    def add(*routes: Route) -> None:
        collector.store.insert_arrow("routes", build_routes([(route, int(NOW)) for route in routes]))
        values = ", ".join(f"(1, {route.route_id}, toDateTime({int(NOW)}), 10, 10)" for route in routes)
        columns = "role, route_id, time, calls, success_calls"
        collector.store.execute(f"INSERT INTO routes_day ({columns}) VALUES {values}")
        collector.catalogue.map_routes(routes)

    def find(number: int) -> str:
        return collector.catalogue.list_endpoints()[number]

    add(*(make(number, "h", word, "") for number, word in enumerate(("users", "orders", "carts"), 9_001)))
    made = [
        walk.decide(f"POST {API}/endpoints/{{endpoint_id}}/rename", "template.rename", json={"place": 1, "name": "who"},
                    endpoint_id=find(9_001)),
        walk.decide(f"POST {API}/endpoints/{{endpoint_id}}/pin", "template.pin", json={}, endpoint_id=find(9_001)),
        walk.decide(f"POST {API}/template-edits/merge", "template.merge",
                    json={"endpoints": [find(9_002), find(9_003)]}),
    ]  # fmt: skip
    add(make(9_011, "h", "a", "me"), make(9_012, "h", "a", ""))
    merged = {"endpoints": [find(9_011), find(9_012)]}
    walk.decide(f"POST {API}/template-edits/merge", "template.merge", json=merged)
    split = {"place": 1, "value": "me"}
    walk.decide(f"POST {API}/endpoints/{{endpoint_id}}/split", "template.split", json=split, endpoint_id=find(9_011))
    paths = (("orders",), ("orders", ""), ("users", "me"))
    add(
        *(
            make(9_100 + 10 * number + step, host, *path)
            for number, host in enumerate(TENANTS)
            for step, path in enumerate(paths)
        )
    )
    collector.catalogue.group(is_all=True)
    host = {"host": TENANTS[5]}
    walk.decide(f"POST {API}/endpoints/{{endpoint_id}}/keep-host", "template.host", json=host, endpoint_id=find(9_100))
    undo = f"POST {API}/template-edits/{{edit_id}}/undo"
    walk.decide(undo, "template.undone", json={}, edit_id=made[0].json()["id"])
    page = "POST /endpoints/{endpoint_id}/{action}"
    walk.decide(page, "template.pin", data={}, endpoint_id=find(9_001), action="pin")
    edit = {"edit": made[1].json()["id"]}
    walk.decide(page, "template.undone", data=edit, endpoint_id=find(9_001), action="undo")


def decide_response(walk: Walk, names: dict[str, str]) -> None:
    block = {"consumer": CONSUMER, "reason": "scans", "is_confirmed": True}
    blocks = f"POST {API}/blocks"
    began = walk.decide(blocks, "began", json=block).json()
    walk.decide(f"{blocks}/{{block_id}}/lift", "lifted", json={}, block_id=began["id"])
    responder = walk.opened.services.responder
    assert responder is not None
    for route, action in (("approve", "began"), ("reject", "rejected")):
        responder.requires_second_approval = True
        made = walk.decide(blocks, "proposed", json={**block, "consumer": f"address:198.51.100.{len(route)}"})
        responder.requires_second_approval = False
        walk.decide(f"{blocks}/{{block_id}}/{route}", action, json={}, block_id=made.json()["id"])
    walk.ask(f"{blocks}/lift", json={})
    assert {line.action for line in walk.read()} == {"lifted"}
    rung = {"step": "alert"}
    walk.decide(f"PUT {API}/ladder/{{kind}}", "ladder", json=rung, kind="bola")
    page = "POST /response"
    walk.decide(f"{page}/ladder", "ladder", data={"kind": "bola", "step": "observe"})
    form = {"consumer": CONSUMER, "seconds": "600", "reason": "scans", "confirmed": "yes"}
    walk.decide(f"{page}/block", "began", data=form)
    (live, *_) = [block for block in responder.list_blocks() if block.target.consumer == CONSUMER]
    walk.decide(f"{page}/lift", "lifted", data={"id": live.id})
    for action, written in (("approve", "began"), ("reject", "rejected")):
        responder.requires_second_approval = True
        walk.decide(f"{page}/block", "proposed", data={**form, "consumer": f"address:198.51.100.1{len(action)}"})
        responder.requires_second_approval = False
        (proposed, *_) = [block for block in responder.list_blocks() if block.state is BlockState.PROPOSED]
        walk.decide(f"{page}/{action}", written, data={"id": proposed.id})
    walk.decide(f"{page}/lift-all", "lifted", data={})


def decide_users(walk: Walk, names: dict[str, str]) -> None:
    walk.decide(f"POST {API}/tokens", "token.created", json={"name": "root", "role": "admin"})
    walk.decide(f"PUT {API}/first-token", "first-token.switched", json={"is_on": False})
    walk.decide(f"PUT {API}/first-token", "first-token.switched", json={"is_on": True})
    for is_on in ("no", "yes"):
        walk.decide("POST /settings/first-token", "first-token.switched", data={"is_on": is_on})
    walk.decide(f"DELETE {API}/tokens/{{name}}", "token.revoked", name="root")
    token = {"name": "ci", "role": "viewer", "days": "7"}
    walk.decide("POST /settings/tokens", "token.created", data=token)
    walk.decide("POST /settings/tokens/revoke", "token.revoked", data={"name": "ci"})
    binding = {"kind": "group", "name": "oncall"}
    walk.decide(f"PUT {API}/role-bindings", "binding.created", json={**binding, "role": "viewer"})
    walk.decide(f"POST {API}/role-bindings/remove", "binding.removed", json=binding)
    walk.decide("POST /settings/role-bindings", "binding.created", data={**binding, "role": "viewer"})
    walk.decide("POST /settings/role-bindings/remove", "binding.removed", data=binding)
    own = Principal(actor="somebody", role=Role.ADMIN, scope=Scope(), way=Way.TOKEN)
    sessions = walk.opened.services.authenticator.sessions
    sessions.begin(lambda _: own, until=NOW + 600, address="")
    (session,) = sessions.list_open("somebody")
    walk.decide(f"DELETE {API}/sessions/{{session_id}}", "session.ended", session_id=session.id)
    sessions.begin(lambda _: own, until=NOW + 600, address="")
    walk.decide(f"POST {API}/sessions/end", "session.ended", json={})
    sessions.begin(lambda _: own, until=NOW + 600, address="")
    walk.decide("POST /sessions/end", "session.ended", data={})
    secret = sessions.begin(lambda _: own, until=NOW + 600, address="")
    walk.decide("POST /logout", "session.ended", headers={"cookie": f"apidae_session={secret}"})
    walk.read()
    walk.ask("POST /login", data={"token": walk.opened.services.settings.token})
    assert [line.action for line in walk.read()] == ["session.began"]


def decide_notifiers(walk: Walk, names: dict[str, str]) -> None:
    test = "notifiers/{name}/test"
    walk.decide(f"POST {API}/{test}", "notifier.tested", json={}, name="nobody")
    walk.decide(f"POST /settings/{test}", "notifier.tested", data={}, name="nobody")


DECISIONS: Final[tuple[Callable[[Walk, dict[str, str]], None], ...]] = (
    decide_alerts,
    decide_detection,
    decide_findings,
    decide_inventory,
    decide_templates,
    decide_response,
    decide_users,
    decide_notifiers,
)


def test_every_change_writes_an_entry(walk: Walk) -> None:
    names = walk.opened.name(PLACES[0])
    for decide in DECISIONS:
        decide(walk, names)
    changes = {
        f"{method} {path}"
        for method, path, short in list_routes(walk.opened.app)
        if method not in ("GET", "HEAD") and f"{method} {short}" not in QUESTIONS | ELSEWHERE.keys()
    }
    assert sorted(changes - walk.asked) == [], "say here how they are asked, and which entry they write"
    assert walk.opened.services.audit.check().fault == ""


def test_every_export_writes_an_entry(walk: Walk) -> None:
    names = walk.opened.name(PLACES[0])
    exports = {
        (path, short)
        for method, path, short in list_routes(walk.opened.app)
        if method == "GET"
        and ("/exports/" in short or re.search(r"\.(json|csv|jsonl)$", short))
        and short not in ("/openapi.json",)  # The description of the API itself.
    }
    assert len(exports) > 20
    for path, short in sorted(exports):
        walk.read()
        asked: dict[str, Any] = {**names, "kind": "haproxy"}
        answer = walk.ask(f"GET {path}", **asked)
        (line,) = walk.read()
        assert line.action.startswith("export.") and (line.by, line.way) == ("somebody", "token"), (short, line)
        assert answer.status_code == 200
    others = {short for method, _, short in list_routes(walk.opened.app) if method == "GET"}
    assert {name for name in ELSEWHERE if name.startswith("GET ")} == {"GET /backup"} and "/backup" in others


def test_what_programs_fetch_again_and_again_is_an_entry_an_hour_for_each_actor(walk: Walk) -> None:
    log, now = export_log.ExportLog(walk.opened.services.audit, lambda: clock[0]), NOW + 90_000
    clock = [now]
    walk.read()
    for seconds in (0, 1, 3_599, 3_600):
        clock[0] = now + seconds
        log.note_polled("blocks", "nginx")
    log.note_polled("blocks", "haproxy")
    assert [line.target for line in walk.read()] == ["nginx", "nginx", "haproxy"]


def test_whoever_exports_too_much_waits(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_log, "EXPORTS_MAX", 2)
    log = export_log.ExportLog(walk.opened.services.audit, lambda: NOW)
    for _ in range(2):
        log.note("list", "alerts.csv")
    with pytest.raises(Problem, match="exported 2 times and more; wait 10 s"):
        log.note("list", "alerts.csv")


def test_the_entries_that_other_tests_look_for_are_looked_for_there() -> None:
    root = Path(__file__).parents[3]
    wrong = [path for path in ELSEWHERE.values() if "audit" not in (root / path).read_text()]
    assert wrong == []

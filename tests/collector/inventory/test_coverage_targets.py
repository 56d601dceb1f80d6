"""A target for the share of HTTP that is read raises an alert while it is missed for long enough, and ends it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from collector.alerting.alert import AlertKind, Report
from collector.api.services import ApiSettings, Services
from collector.cli.commands import register
from collector.core.errors import UnknownError
from collector.inventory.coverage.targets import CoverageTargets
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from common.figures import collect_families
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.cli.test_commands import Held
from tests.collector.inventory.seed import NOW, make_coverage
from tests.collector.states import create_state

pytestmark = pytest.mark.store
HTTP, ENCRYPTED, LISTENING = 1, 2, 1
MISSED, WELL = "shop", "pay"


def write_ports(store: EmbeddedStore, namespace: str, read: int, unread: int) -> None:
    for protocol, port, connections in ((HTTP, 80, read), (ENCRYPTED, 443, unread)):
        row = make_coverage("web", port, LISTENING, protocol, "::", 1, connections, 0, "", 60, node=f"of-{namespace}")
        store.insert_records("coverage_rows", [replace(row, namespace=namespace)])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("targets"))
    write_ports(opened, MISSED, 60, 40)
    write_ports(opened, WELL, 100, 0)
    write_ports(opened, "quiet", 1, 9)
    yield opened
    opened.close()


class Watched:
    """The targets with a clock, and what was reported and settled of late."""

    def __init__(self, state: StateStore, store: EmbeddedStore) -> None:
        self.now = NOW
        self.state, self.store = state, store
        self.reports: list[Report] = []
        self.settled: list[tuple[AlertKind, str]] = []
        self.open()

    def open(self) -> None:
        """As another process."""
        self.targets = CoverageTargets(state=self.state, reader=self.store, clock=lambda: self.now)
        self.feature = self.targets.make_feature(
            self.reports.extend, lambda kind, place: self.settled.append((kind, place))
        )

    def put(self, namespace: str, ratio: float) -> None:
        self.targets.put(cluster="", namespace=namespace, ratio=ratio, seconds=600, by="ada")

    def look(self, seconds: float = 0.0) -> list[str]:
        """The places that are reported after this time."""
        self.now += seconds
        self.reports.clear()
        self.settled.clear()
        self.feature.jobs[0].works[0]()
        return [report.node for report in self.reports]


@pytest.fixture
def watched(state: StateStore, store: EmbeddedStore) -> Watched:
    return Watched(state, store)


def test_a_share_below_its_target_is_reported_after_its_time_and_ends_with_it(watched: Watched) -> None:
    watched.put(MISSED, 0.9)
    watched.put(WELL, 0.9)
    assert watched.look() == [] and watched.look(599) == []
    watched.open()  # Another collector goes on.
    assert watched.look(1) == [f"*/{MISSED}"]
    (report,) = watched.reports
    assert (
        "Only 60.0% of the HTTP connections of the namespace shop are read" in report.title
        and "Of 100 connections" in report.why
    )
    assert watched.settled == [(AlertKind.COVERAGE_BELOW_TARGET, f"*/{WELL}")]
    watched.put(MISSED, 0.5)
    assert watched.look() == []
    assert (AlertKind.COVERAGE_BELOW_TARGET, f"*/{MISSED}") in watched.settled
    watched.put(MISSED, 0.9)
    assert watched.look() == [], "it begins anew"


def test_a_target_that_is_taken_away_ends_its_alert(watched: Watched) -> None:
    watched.put(MISSED, 0.9)
    watched.look()
    assert watched.look(600) == [f"*/{MISSED}"]
    watched.targets.remove(cluster="", namespace=MISSED, by="ada")
    assert watched.look() == [] and watched.settled == [(AlertKind.COVERAGE_BELOW_TARGET, f"*/{MISSED}")]
    with pytest.raises(UnknownError, match="no such target"):
        watched.targets.remove(cluster="", namespace=MISSED, by="ada")


def test_few_connections_say_nothing(watched: Watched) -> None:
    watched.put("quiet", 0.9)
    assert watched.look() == [] and watched.look(1_200) == [] and watched.settled == []
    (measured,) = watched.targets.measure()
    assert (measured.connections, measured.recent_ratio) == (10, None)


def test_the_target_of_everything_adds_up_all_namespaces(watched: Watched) -> None:
    watched.put("", 0.8)
    watched.look()
    (measured,) = watched.targets.measure()
    assert (measured.connections, measured.read_connections, measured.is_missed) == (210, 161, True)
    samples = {
        sample.name: sample.value
        for family in collect_families("", watched.feature.figures())
        for sample in family.samples
    }
    assert samples == {"coverage_target_ratio": 0.8, "coverage_recent_ratio": pytest.approx(161 / 210)}


def test_api_command_and_page_set_targets(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    commands = typer.Typer()
    register(commands)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        monkeypatch.setattr(httpx, "Client", lambda **_: Held(client))

        def run(*words: str) -> list[dict[str, object]]:
            result = CliRunner().invoke(commands, [*words, "--url", "http://127.0.0.1", "-o", "json"])
            assert result.exit_code == 0, result.output
            items: list[dict[str, object]] = json.loads(result.stdout)
            return items

        (shown,) = run("set", "coverage-target", "0.9", "--namespace", MISSED, "--minutes", "30")
        assert (shown["recent_ratio"], shown["is_missed"], shown["seconds"]) == (0.6, True, 1_800)
        assert client.post("/coverage/targets", data={"percent": "99.5", "minutes": "5"}).status_code in (200, 303)
        assert [one["ratio"] for one in run("get", "coverage-targets")] == [0.995, 0.9]
        page = client.get("/coverage").text
        assert "99.5" in page and "badge warn" in page
        for form in ({"percent": "0", "minutes": "5"}, {"percent": "nan", "minutes": "5"}, {"percent": "9"}):
            assert client.post("/coverage/targets", data=form).status_code == 422
        assert client.post("/api/v1/coverage/targets", json={"ratio": 1.5}).status_code == 422
        client.post("/coverage/targets", data={"namespace": "", "cluster": ""})
        assert run("set", "coverage-target", "--namespace", MISSED, "--off") == []

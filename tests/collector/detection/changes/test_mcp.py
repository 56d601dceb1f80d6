"""Tools of MCP servers are pinned: what changes, shadows another one or is new is reported once, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from collector.alerting.alert import AlertKind, Report, Severity
from collector.detection.changes.detector import FactTable
from collector.detection.changes.mcp import NAMED_MAX, McpWatch
from collector.detection.changes.rules import Fact, FactKind
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.mcp import McpInventory, McpItem, McpKind, McpServer
from collector.inventory.query import Span
from collector.storage.state.store import StateStore
from tests.collector.inventory.seed import NOW

DAY = 86_400.0


def make_tool(name: str, *, description: str = "d1", schema: str = "s1", kind: McpKind = McpKind.TOOL) -> McpItem:
    """A tool; its id follows from its name."""
    return McpItem(
        kind=kind,
        id=f"{sum(name.encode()):016x}",
        name=name,
        arguments=(),
        is_read_only=False,
        is_destructive=name.startswith("delete"),
        is_open_world=False,
        description_pin=description,
        schema_pin=schema,
        first_seen=0,
        last_seen=0,
    )


def make_server(*items: McpItem, name: str = "weather", service: str = "shop/weather:80", **fields: Any) -> McpServer:
    """A server that was first called just now, unless its fields say otherwise."""
    given = {"key_id": 1, "first_seen": int(NOW), **fields}
    return McpServer(
        id=service, name=name, version="1", protocol_versions=(), transports=(), cluster="", service=service,
        path="/mcp", endpoint_ids=("e1",), items=items, **given,
    )  # fmt: skip


@dataclass
class Servers:
    """What the store would answer."""

    servers: tuple[McpServer, ...] = ()

    def read_all(self, span: Span) -> tuple[McpServer, ...]:
        return self.servers


@dataclass
class Scene:
    """A watch over servers that a test changes. It begins after the day of learning."""

    state: StateStore
    now: float = NOW
    servers: Servers = field(default_factory=Servers)
    told: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.facts = FactTable(self.state)
        self.begin(NOW - 2 * DAY)
        self.watch = McpWatch(
            servers=cast(McpInventory, self.servers), facts=self.facts, clock=lambda: self.now, report=self.take
        )

    def begin(self, at: float) -> None:
        """When the collector's first look was."""
        self.facts.save([Fact(kind=FactKind.START, subject="", first_seen=at, seen_at=at)])

    def take(self, reports: Sequence[Report]) -> None:
        self.told += reports

    def look(self, *servers: McpServer, days: float = 0.0) -> list[AlertKind]:
        """One look so many days later; the kinds that it reports."""
        self.now += days * DAY
        self.servers.servers = servers
        before = len(self.told)
        assert self.watch.look() == len(self.told) - before
        return [report.kind for report in self.told[before:]]


@pytest.fixture
def scene(sqlite_state: StateStore) -> Scene:
    return Scene(sqlite_state)


FORECAST = make_tool("get_forecast")
OLD = {"first_seen": int(NOW - 5 * DAY)}


@pytest.mark.parametrize("change", [{"description": "d2"}, {"schema": "s2"}])
def test_a_changed_tool_is_reported_once(scene: Scene, change: dict[str, str]) -> None:
    assert scene.look(make_server(FORECAST, **OLD)) == []
    changed = make_server(make_tool("get_forecast", **change), **OLD)
    assert scene.look(changed) == [AlertKind.MCP_TOOL_CHANGED]
    report = scene.told[0]
    assert (report.severity, report.endpoint_id) == (Severity.HIGH, "e1")
    assert report.title == "weather changed tool get_forecast"
    assert scene.look(changed) == []


def test_replicas_that_answer_by_turns_are_reported_once(scene: Scene) -> None:
    old, new = make_server(FORECAST, **OLD), make_server(make_tool("get_forecast", description="d2"), **OLD)
    assert [scene.look(one) for one in (old, new, old, new)] == [[], [AlertKind.MCP_TOOL_CHANGED], [], []]


def test_a_changed_prompt_is_reported(scene: Scene) -> None:
    scene.look(make_server(make_tool("greet", kind=McpKind.PROMPT), **OLD))
    changed = make_tool("greet", kind=McpKind.PROMPT, schema="s2")
    assert scene.look(make_server(changed, **OLD)) == [AlertKind.MCP_TOOL_CHANGED]


def test_what_a_resource_says_of_itself_is_not_pinned(scene: Scene) -> None:
    scene.look(make_server(make_tool("report", kind=McpKind.RESOURCE), **OLD))
    assert scene.look(make_server(make_tool("report", kind=McpKind.RESOURCE, description="d2"), **OLD)) == []


def test_hashes_of_another_key_are_pinned_without_a_report(scene: Scene) -> None:
    scene.look(make_server(FORECAST, replace(FORECAST, name="", id="a"), **OLD))
    other = make_tool("get_forecast", description="d9", schema="s9")
    rotated = make_server(other, replace(other, name="", id="b"), key_id=2, **OLD)
    assert scene.look(rotated, days=2) == []
    changed = make_server(make_tool("get_forecast", description="d8", schema="s9"), key_id=2, **OLD)
    assert scene.look(changed) == [AlertKind.MCP_TOOL_CHANGED]


def test_a_new_tool_of_a_known_server_is_reported_after_a_day(scene: Scene) -> None:
    scene.look(make_server(FORECAST, **OLD))
    # The rest of a long list comes in further answers.
    assert scene.look(make_server(FORECAST, make_tool("get_alerts"), **OLD)) == []
    grown = make_server(FORECAST, make_tool("delete_station"), **OLD)
    assert scene.look(grown, days=1.1) == [AlertKind.NEW_MCP_TOOL]
    assert scene.told[0].severity is Severity.MEDIUM  # It may destroy.
    assert scene.look(grown) == []


def test_a_new_server_is_reported(scene: Scene) -> None:
    server = make_server(FORECAST, authentication=AuthenticationLevel.NONE)
    assert scene.look(server) == [AlertKind.NEW_MCP_SERVER]
    assert "no credentials" in scene.told[0].why
    assert scene.look(server) == []


def test_nothing_is_new_on_the_first_day_but_a_change_is_reported(scene: Scene) -> None:
    scene.begin(NOW - 60)
    assert scene.look(make_server(FORECAST)) == []
    assert scene.look(make_server(make_tool("get_forecast", schema="s2"))) == [AlertKind.MCP_TOOL_CHANGED]


def test_a_tool_of_another_servers_name_is_reported_for_the_later_one(scene: Scene) -> None:
    first = make_server(FORECAST, **OLD)
    second = make_server(FORECAST, name="helper", service="lab/helper:80", **OLD)
    assert scene.look(first) == []
    assert scene.look(first, second) == [AlertKind.MCP_TOOL_SHADOWED]
    assert scene.told[0].title.startswith("helper offers get_forecast")
    assert "weather" in scene.told[0].why
    assert scene.look(first, second) == []


def test_the_same_program_in_another_namespace_shadows_nothing(scene: Scene) -> None:
    scene.look(make_server(FORECAST, **OLD))
    assert scene.look(make_server(FORECAST, service="stage/weather:80", **OLD)) == []


def test_a_server_that_takes_the_name_of_another_shadows_its_tools(scene: Scene) -> None:
    scene.look(make_server(FORECAST, **OLD))
    assert scene.look(make_server(FORECAST, service="lab/helper:80", **OLD)) == [AlertKind.MCP_TOOL_SHADOWED]


def test_many_changes_of_a_server_are_one_report(scene: Scene) -> None:
    names = [f"tool_{letter}" for letter in "abcdefghijklm"]
    scene.look(make_server(*(make_tool(name) for name in names), **OLD))
    assert scene.look(make_server(*(make_tool(name, schema="s2") for name in names), **OLD)) == [
        AlertKind.MCP_TOOL_CHANGED
    ]
    assert f"and {len(names) - NAMED_MAX} more" in scene.told[0].why


def test_reports_beyond_the_bound_are_made_at_the_next_look(scene: Scene) -> None:
    servers = [make_server(FORECAST, service=f"shop/weather{number}:80", **OLD) for number in range(25)]
    scene.begin(NOW)  # So that they shadow nothing.
    scene.look(*servers)
    changed = [replace(one, items=(make_tool("get_forecast", schema="s2"),)) for one in servers]
    assert [len(scene.look(*changed)) for _ in range(3)] == [20, 5, 0]

"""Tools of MCP servers are pinned: what changes, shadows another one or is new is reported once, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from collector.alerting.alert import AlertKind, Report, Severity
from collector.core.kinds import Sensitivity
from collector.detection.changes import mcp
from collector.detection.changes.detector import FactTable
from collector.detection.changes.mcp import NAMED_MAX, NAMES_MAX, PINS_MAX, McpWatch
from collector.detection.changes.rules import Fact, FactKind
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.mcp import McpInventory, McpItem, McpServer, McpServers
from collector.inventory.mcp_states import McpKind, McpPin
from collector.inventory.query import Span
from collector.storage.state.store import StateStore
from tests.collector.inventory.seed import NOW

DAY = 86_400.0
CHANGED, SHADOWED = AlertKind.MCP_TOOL_CHANGED, AlertKind.MCP_TOOL_SHADOWED
NEW_SERVER, NEW_TOOL = AlertKind.NEW_MCP_SERVER, AlertKind.NEW_MCP_TOOL


def make_pin(description: str = "d1", schema: str = "s1", **given: int) -> McpPin:
    """Listed just now, unless it says otherwise."""
    times = {"first_seen": int(NOW), "last_seen": int(NOW), "key_id": 1, "version": 1, **given}
    return McpPin(description_hash=description, schema_hash=schema, **times)


def make_tool(name: str, *pins: McpPin, kind: McpKind = McpKind.TOOL, **given: Any) -> McpItem:
    """A tool that only reads; its id follows from its name."""
    given = {"is_read_only": True, "is_destructive": None, "is_open_world": None, **given}
    return McpItem(
        kind=kind, id=f"{sum(name.encode()):016x}", name=name, arguments=(), pins=pins or (make_pin(),), **given
    )


def make_server(*items: McpItem, name: str = "weather", service: str = "shop/weather:80", **fields: Any) -> McpServer:
    """A server that is called for five days, unless its fields say otherwise."""
    given: dict[str, Any] = {"first_seen": int(NOW - 5 * DAY), "id": f"at {service}", **fields}
    given.setdefault("known_ids", frozenset((given["id"],)))
    return McpServer(
        name=name, version="1", protocol_versions=(), transports=(), cluster="", service=service, path="/mcp",
        endpoint_ids=(given["id"],), items=items, **given,
    )  # fmt: skip


@dataclass
class Servers:
    """What the store would answer."""

    servers: tuple[McpServer, ...] = ()
    left_out: int = 0

    def read_all(self, span: Span) -> McpServers:
        return McpServers(servers=self.servers, left_out=self.left_out)


@dataclass
class Scene:
    """A watch over servers that a test changes. It began two days ago."""

    state: StateStore
    now: float = NOW - 2 * DAY
    servers: Servers = field(default_factory=Servers)
    told: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.facts = FactTable(self.state)
        self.watch = McpWatch(
            servers=cast(McpInventory, self.servers), facts=self.facts, clock=lambda: self.now, report=self.take
        )

    def take(self, reports: Sequence[Report]) -> None:
        self.told += reports

    def look(self, *servers: McpServer, days: float = 1 / 1_440) -> list[AlertKind]:
        """One look, a minute or so many days later; the kinds that it reports. A pin of now was listed just then."""
        self.now += days * DAY
        self.servers.servers = tuple(self._shift(one) for one in servers)
        before = len(self.told)
        assert self.watch.look() == len(self.told) - before
        return [report.kind for report in self.told[before:]]

    def figures(self) -> dict[str, float]:
        """By name."""
        return {one.name: one.value for one in self.watch.figures()}

    def _shift(self, server: McpServer) -> McpServer:
        by = int(self.now - NOW)
        items = tuple(
            replace(
                item,
                pins=tuple(
                    replace(pin, first_seen=pin.first_seen + by, last_seen=pin.last_seen + by) for pin in item.pins
                ),
            )
            for item in server.items
        )
        return replace(server, items=items)


@pytest.fixture
def young(sqlite_state: StateStore) -> Scene:
    return Scene(sqlite_state)


@pytest.fixture
def scene(young: Scene) -> Scene:
    """After the day of learning."""
    young.look()
    young.now = NOW
    return young


FORECAST = make_tool("get_forecast")
OTHER_TEXT = make_tool("get_forecast", make_pin("d2"))


@pytest.mark.parametrize("pin", [make_pin("d2"), make_pin(schema="s2")], ids=["description", "schema"])
def test_a_changed_tool_is_reported_once(scene: Scene, pin: McpPin) -> None:
    assert scene.look(make_server(FORECAST)) == []
    changed = make_server(make_tool("get_forecast", pin))
    assert scene.look(changed) == [CHANGED]
    report = scene.told[0]
    assert (report.severity, report.endpoint_id) == (Severity.HIGH, "at shop/weather:80")
    assert report.title == "MCP server weather changed tool get_forecast"
    assert scene.look(changed) == []


def test_replicas_that_answer_by_turns_are_reported_once(scene: Scene) -> None:
    old, new = make_server(FORECAST), make_server(OTHER_TEXT)
    assert [scene.look(one) for one in (old, new, old, new)] == [[], [CHANGED], [], []]


def test_a_text_that_one_client_got_between_two_looks_is_reported(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    # The newest list is as ever; another one, or another sensor, had the bad text in between.
    hidden = make_tool("get_forecast", make_pin(), make_pin("d2", first_seen=int(NOW) - 30, last_seen=int(NOW) - 30))
    assert scene.look(make_server(hidden), days=1) == [CHANGED]


def test_what_a_server_shows_first_is_its_baseline_and_several_texts_are_reported_at_low(scene: Scene) -> None:
    both = make_tool("get_forecast", make_pin(), make_pin("d2"))
    assert scene.look(make_server(both)) == [CHANGED]
    assert (scene.told[0].severity, scene.told[0].quietest) == (Severity.LOW, Sensitivity.PARANOID)
    assert scene.told[0].title == "MCP server weather shows several texts of tool get_forecast"
    assert scene.look(make_server(make_tool("get_forecast", make_pin("d3")))) == [CHANGED]
    assert scene.told[1].severity is Severity.HIGH
    # Another key begins anew, with as many texts as it has.
    rotated = [make_pin(f"d{number}", key_id=2) for number in range(2)]
    assert scene.look(make_server(make_tool("get_forecast", *rotated))) == [CHANGED]
    assert scene.told[2].severity is Severity.LOW


def test_a_change_that_a_sensor_with_a_slow_clock_saw_is_reported(scene: Scene) -> None:
    slow = int(NOW - 30 * DAY)
    assert scene.look(make_server(make_tool("get_forecast", make_pin(first_seen=slow, last_seen=slow)))) == []
    changed = make_tool("get_forecast", make_pin("d2", first_seen=slow, last_seen=slow + 60))
    assert scene.look(make_server(changed)) == [CHANGED]
    assert scene.told[0].severity is Severity.HIGH


def test_releases_of_half_a_year_are_all_reported_and_old_texts_are_forgotten(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    releases = [make_server(make_tool("get_forecast", make_pin(f"r{number}"))) for number in range(PINS_MAX + 9)]
    assert [scene.look(one, days=5) for one in releases] == [[CHANGED]] * len(releases)
    pins = [fact for fact in scene.facts.read(["at shop/weather:80"]) if fact.kind == "mcp_item"]
    assert len(pins) == PINS_MAX
    # One that is gone is as another one.
    assert scene.look(make_server(FORECAST)) == [CHANGED]


def test_of_facts_only_those_that_are_gone_are_deleted(state: StateStore) -> None:
    table = FactTable(state)
    old, kept = (
        Fact(kind=FactKind.MCP_ITEM, subject="e", detail=f"a|{pin}", first_seen=NOW, seen_at=NOW) for pin in "12"
    )
    table.save([old, kept])
    table.save([kept], [old])
    assert table.read(["e"]) == [kept]


def test_a_tool_whose_name_is_not_shown_is_new_again_a_day_after_a_rotation(scene: Scene) -> None:
    def offer(*ids: str, key_id: int) -> McpServer:
        return make_server(*(replace(FORECAST, name="", id=one, pins=(make_pin(key_id=key_id),)) for one in ids))

    scene.look(offer("a", key_id=1))
    assert scene.look(offer("b", key_id=2), days=2) == []
    assert scene.look(offer("b", "c", key_id=2), days=0.5) == []
    assert scene.look(offer("b", "c", "d", key_id=2), days=1) == [NEW_TOOL]


def test_what_was_listed_before_the_watch_began_is_what_it_begins_with(young: Scene) -> None:
    old = make_pin("d0", first_seen=int(NOW - 9 * DAY), last_seen=int(NOW - 8 * DAY))
    assert young.look(make_server(make_tool("get_forecast", old, make_pin()))) == []


def test_a_text_that_returns_after_a_week_is_reported_again(scene: Scene) -> None:
    old, new = make_server(FORECAST), make_server(OTHER_TEXT)
    assert [scene.look(old), scene.look(new, days=1)] == [[], [CHANGED]]
    assert scene.look(new, days=8) == []
    assert scene.look(old) == [CHANGED]
    assert scene.look(old) == []


def test_a_text_that_is_in_old_states_alone_has_not_returned(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    scene.look(make_server(OTHER_TEXT), days=1)
    # A server that is used every two weeks; the sensor sends its old text for as long as it lives.
    listed = int(scene.now - DAY)
    for _ in range(6):
        by = int(scene.now + 14 * DAY - NOW)
        old = make_pin(first_seen=listed - by, last_seen=listed - by)
        assert scene.look(make_server(make_tool("get_forecast", old, make_pin("d2"))), days=14) == []


def test_a_server_that_was_away_for_a_month_has_not_changed(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    assert scene.look(make_server(FORECAST), days=30) == []


def test_a_changed_prompt_is_reported(scene: Scene) -> None:
    scene.look(make_server(make_tool("greet", kind=McpKind.PROMPT)))
    assert scene.look(make_server(make_tool("greet", make_pin("d2"), kind=McpKind.PROMPT))) == [CHANGED]


def test_changed_instructions_are_reported(scene: Scene) -> None:
    scene.look(make_server(make_tool("", kind=McpKind.INSTRUCTIONS)))
    assert scene.look(make_server(make_tool("", make_pin("d2"), kind=McpKind.INSTRUCTIONS))) == [CHANGED]
    assert scene.told[0].title == "MCP server weather changed its instructions"


def test_what_a_resource_says_of_itself_is_not_pinned(scene: Scene) -> None:
    scene.look(make_server(make_tool("report", kind=McpKind.RESOURCE)))
    assert scene.look(make_server(make_tool("report", make_pin("d2"), kind=McpKind.RESOURCE))) == []


@pytest.mark.parametrize("made", [{"key_id": 2}, {"version": 2}], ids=str)
def test_hashes_that_are_made_otherwise_are_pinned_without_a_report(scene: Scene, made: dict[str, int]) -> None:
    scene.look(make_server(FORECAST, replace(FORECAST, name="", id="a")))
    other = make_pin("d9", "s9", **made)
    # Some sensors have the old key still, and its pins stay in states that are kept.
    both = make_tool("get_forecast", other, make_pin())
    rotated = make_server(both, replace(FORECAST, name="", id="b", pins=(other,)))
    assert scene.look(rotated, days=2) == []
    assert scene.look(make_server(make_tool("get_forecast", make_pin("d8", "s9", **made)))) == [CHANGED]


def test_a_text_that_differs_each_time_is_reported_in_these_words_and_then_no_more(scene: Scene) -> None:
    told = [
        scene.look(make_server(make_tool("get_forecast", make_pin(f"d{number}")))) for number in range(PINS_MAX + 9)
    ]
    assert told == [[], *[[CHANGED]] * PINS_MAX, *[[]] * 8]
    assert "differs each time" in scene.told[-1].why
    pins = [fact for fact in scene.facts.read(["at shop/weather:80"]) if fact.kind == "mcp_item"]
    assert len(pins) == PINS_MAX + 1


def test_texts_that_sensors_did_not_keep_are_reported_as_they_grow(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    counts = [1, 1, 3, 2, 3, 40, 41]
    told = [scene.look(make_server(make_tool("get_forecast", pins_left_out=count))) for count in counts]
    assert told == [[CHANGED], [], [CHANGED], [], [], [CHANGED], []]
    assert scene.told[0].title == "MCP server weather changed tool get_forecast, some of whose texts were not kept"


def test_a_server_that_lists_ever_other_names_is_reported_in_these_words_and_then_no_more(scene: Scene) -> None:
    for start in range(0, NAMES_MAX, 512):
        scene.look(make_server(*(make_tool(f"t{number}") for number in range(start, start + 512))))
    more = [make_server(*(make_tool(f"{letter}{number}") for number in range(512))) for letter in "ab"]
    assert [scene.look(one) for one in more] == [[NEW_TOOL], []]
    assert "ever more names" in scene.told[-1].title
    assert len(scene.facts.read(["at shop/weather:80"])) == NAMES_MAX + 2
    # What is known of it is compared as ever, behind a name that is not known too.
    behind = make_tool("a7"), make_tool("t7", make_pin("d2")), make_tool("a8")
    assert scene.look(make_server(*behind)) == [CHANGED]


def test_a_new_tool_of_a_known_server_is_reported_after_a_day(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    # The rest of a long list comes in further answers.
    assert scene.look(make_server(FORECAST, make_tool("get_alerts"))) == []
    grown = make_server(FORECAST, make_tool("drop_station", is_read_only=False))
    assert scene.look(grown, days=1.1) == [NEW_TOOL]
    assert scene.look(grown) == []


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ({"is_read_only": False, "is_destructive": True}, Sensitivity.NORMAL),
        ({"is_read_only": False, "is_destructive": None}, Sensitivity.NORMAL),
        ({"is_read_only": False, "is_destructive": False}, Sensitivity.PARANOID),
        ({"is_read_only": True, "is_destructive": None}, Sensitivity.PARANOID),
    ],
    ids=["may", "does not say", "does not", "reads"],
)
def test_a_new_tool_that_may_destroy_is_sent_at_the_normal_level(
    scene: Scene, said: dict[str, Any], level: Sensitivity
) -> None:
    scene.look(make_server(FORECAST))
    assert scene.look(make_server(FORECAST, make_tool("other", **said)), days=1.1) == [NEW_TOOL]
    assert scene.told[0].quietest is level


def test_a_new_server_is_reported(scene: Scene) -> None:
    server = make_server(FORECAST, authentication=AuthenticationLevel.NONE, first_seen=int(NOW - 60))
    assert scene.look(server) == [NEW_SERVER]
    assert "no credentials" in scene.told[0].why
    assert scene.look(server) == []


def test_a_server_at_an_endpoint_that_was_called_for_longer_is_not_new(scene: Scene) -> None:
    assert scene.look(make_server(FORECAST)) == []


def test_nothing_is_new_on_the_first_day_but_a_change_is_reported(young: Scene) -> None:
    assert young.look(make_server(FORECAST, first_seen=int(young.now))) == []
    assert young.look(make_server(OTHER_TEXT)) == [CHANGED]


def test_a_server_with_another_id_of_its_endpoints_is_compared_with_what_was_known(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    other = make_server(OTHER_TEXT, id="a", known_ids=frozenset(("a", "at shop/weather:80")), first_seen=int(NOW))
    assert scene.look(other) == [CHANGED]


def test_a_tool_of_another_servers_name_is_reported_for_the_later_one(scene: Scene) -> None:
    first = make_server(FORECAST)
    second = make_server(FORECAST, name="helper", service="lab/helper:80")
    assert scene.look(first) == []
    assert scene.look(first, second) == [SHADOWED]
    report = scene.told[0]
    assert (report.title, report.endpoint_id) == (
        "MCP server helper offers get_forecast, a tool of another MCP server",
        "at lab/helper:80",
    )
    # Who reads it may be bound to its namespace.
    assert "weather" not in report.why
    assert "apidae get mcp-servers --tool get_forecast" in report.why
    assert scene.look(first, second) == []


def test_of_two_servers_in_one_look_the_one_that_was_called_later_shadows(scene: Scene) -> None:
    second = make_server(FORECAST, name="helper", service="a/helper:80", first_seen=int(NOW - 4 * DAY))
    assert scene.look(second, make_server(FORECAST)) == [SHADOWED]
    assert scene.told[0].endpoint_id == "at a/helper:80"


def test_an_owner_that_is_away_meanwhile_is_shadowed_when_it_is_back(scene: Scene) -> None:
    first = make_server(FORECAST)
    second = make_server(FORECAST, name="helper", service="lab/helper:80")
    assert [scene.look(first), scene.look(second), scene.look(first, second)] == [[], [], [SHADOWED]]


def test_a_workload_that_got_another_name_shadows_nothing(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    assert scene.look(make_server(FORECAST, name="", service="shop/forecasts:80", id="e2")) == []


def test_names_that_were_shared_when_the_watch_was_new_shadow_nothing(young: Scene) -> None:
    both = make_server(FORECAST), make_server(FORECAST, name="helper", service="lab/helper:80")
    assert [young.look(both[0]), young.look(*both, days=0.5), young.look(*both, days=2)] == [[], [], []]


def test_the_same_program_in_another_namespace_shadows_nothing(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    copy = make_server(FORECAST, service="stage/weather:80")
    assert scene.look(make_server(FORECAST), copy) == []
    # As it is where its own name is not known, or its hashes have another key.
    assert scene.look(make_server(FORECAST), copy, make_server(FORECAST, name="", service="test/weather:80")) == []
    rotated = make_tool("get_forecast", make_pin("d9", key_id=2))
    assert scene.look(make_server(FORECAST), make_server(rotated, service="dev/weather:80")) == []


def test_a_copy_of_name_and_workload_with_other_texts_shadows(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    assert scene.look(make_server(FORECAST), make_server(OTHER_TEXT, service="lab/weather:80")) == [SHADOWED]


def test_a_server_that_takes_the_name_of_another_shadows_its_tools(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    assert scene.look(make_server(FORECAST), make_server(FORECAST, service="lab/helper:80")) == [SHADOWED]


@pytest.mark.parametrize(
    ("name", "item", "level"),
    [
        ("weather", FORECAST, Sensitivity.PARANOID),
        ("weather", make_tool("get_forecast", make_pin("d2"), make_pin(last_seen=int(NOW) - 9)), Sensitivity.NORMAL),
        ("", FORECAST, Sensitivity.NORMAL),
        ("helper", FORECAST, Sensitivity.NORMAL),
    ],
    ids=["same", "other text now", "no name", "other name"],
)
def test_a_server_at_another_place_with_name_and_texts_of_the_first_is_reported_as_that(
    scene: Scene, name: str, item: McpItem, level: Sensitivity
) -> None:
    scene.look(make_server(FORECAST, service="shop/weather-blue:80"))
    other = make_server(item, name=name, service="shop/weather-green:80")
    assert SHADOWED in scene.look(make_server(FORECAST, service="shop/weather-blue:80"), other)
    told = next(report for report in scene.told if report.kind is SHADOWED)
    assert told.quietest is level
    assert ("offers the same texts" in told.why) == (level is Sensitivity.PARANOID)


def test_tools_that_connectors_must_offer_are_reported_at_the_loudest_level_alone(scene: Scene) -> None:
    search = make_tool("search")
    scene.look(make_server(search))
    assert scene.look(make_server(search), make_server(search, name="wiki", service="lab/wiki:80")) == [SHADOWED]
    assert scene.told[0].quietest is Sensitivity.PARANOID


def test_a_tool_that_is_no_longer_listed_shadows_nothing(scene: Scene) -> None:
    scene.look(make_server(FORECAST))
    gone = make_tool("get_forecast", is_listed=False)
    assert scene.look(make_server(FORECAST), make_server(gone, name="helper", service="lab/helper:80")) == []


def test_many_changes_of_a_server_are_one_report(scene: Scene) -> None:
    names = [f"tool_{letter}" for letter in "abcdefghijklm"]
    scene.look(make_server(*(make_tool(name) for name in names)))
    assert scene.look(make_server(*(make_tool(name, make_pin(schema="s2")) for name in names))) == [CHANGED]
    assert f"and {len(names) - NAMED_MAX} more" in scene.told[0].why


def test_reports_beyond_the_bound_are_made_later_though_what_they_are_of_is_gone(scene: Scene) -> None:
    names = [f"tool_{number}" for number in range(25)]
    servers = [make_server(make_tool(name), service=f"shop/{name}:80") for name in names]
    assert scene.look(*servers) == []
    changed = [replace(one, items=(make_tool(one.items[0].name, make_pin("d2")),)) for one in servers]
    assert scene.look(*changed) == [CHANGED] * 20
    assert scene.figures()["mcp_alerts_waiting"] == 5
    assert [scene.look(*servers) for _ in range(2)] == [[CHANGED] * 5, []]
    assert scene.figures()["mcp_alerts_waiting"] == 0


def test_servers_that_are_not_compared_are_counted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "SERVERS_MAX", 2)
    scene.servers.left_out = 3
    scene.look(*(make_server(make_tool("t"), service=f"shop/s{number}:80") for number in range(6)))
    assert scene.figures()["mcp_servers_not_compared"] == 4 + 3


def test_a_server_whose_report_waits_is_known_from_its_first_look(scene: Scene) -> None:
    servers = [
        make_server(make_tool(f"tool_{number}"), service=f"shop/s{number}:80", name="", first_seen=int(NOW))
        for number in range(21)
    ]
    scene.look(*servers)
    assert len(scene.told) == 20
    (waiting,) = [one for one in servers if one.id not in {report.endpoint_id for report in scene.told}]
    grown = replace(waiting, items=(*waiting.items, make_tool("other")))
    assert sorted(scene.look(grown, days=1.1)) == [NEW_SERVER, NEW_TOOL]

"""Agents that repeat the same calls of tools, or try many new ones, are reported; what they do each day is not."""

import pytest

from collector.alerting.alert import AlertKind, Severity
from collector.alerting.wording import report_signal
from collector.inventory.endpoints.bodies import NEW_TOOLS, PLACE_SIZE, TOOL_REPEATS
from sensor.sensitive.kinds import encode_number
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

DAY = 86_400
AGENT = 7


def use(who: int, *, repeats: int = 0, new: int = 0, address: str = "10.1.0.9") -> Row:
    found = [
        place * PLACE_SIZE + encode_number(one) for place, one in ((TOOL_REPEATS, repeats), (NEW_TOOLS, new)) if one
    ]
    return Row(route=1, consumer=who, method="POST", address=address, found=tuple(sorted(found)))


def loop(who: int, most: int) -> list[list[Row]]:
    """As a sensor reports a run: each call has one more."""
    return [[use(who, repeats=repeats)] for repeats in range(10, most + 1)]


@pytest.mark.parametrize(
    ("row", "kind", "risk", "words"),
    [
        (use(AGENT, repeats=30), AlertKind.TOOL_LOOP, "LLM10:2025", "repeats the same calls of tools at"),
        (use(AGENT, new=20), AlertKind.TOOL_FAN_OUT, "LLM06:2025", "calls 19 tools that are new to it"),
    ],
)
def test_an_agent_is_reported_from_its_first_minute(row: Row, kind: AlertKind, risk: str, words: str) -> None:
    (signal,) = AbuseScene().run([[row]])
    assert signal.kind is kind and not signal.is_notice and kind.row.can_block
    report = report_signal(signal)
    assert (report.risk, report.severity) == (risk, Severity.MEDIUM)
    assert words in report.title and report.consumer == f"principal:{AGENT:016x}"


def test_what_ordinary_agents_do_is_not_reported() -> None:
    assert AbuseScene().run([[use(who, repeats=16, new=13) for who in range(40)] for _ in range(50)]) == []


def test_a_run_is_reported_once_and_again_when_it_goes_on() -> None:
    scene = AbuseScene()
    assert [signal.count for signal in scene.run(loop(AGENT, 38))] == [23]
    (again,) = scene.run([[use(AGENT, repeats=60)]], start=START + 300)
    assert again.count == 54
    assert len(scene.run([[use(AGENT, repeats=60)]], start=START + 900)) == 1


def test_runs_that_grow_slowly_raise_nobodys_limit() -> None:
    scene = AbuseScene()
    assert scene.run([row for who in range(100, 130) for row in loop(who, 19)]) == []
    assert scene.run(loop(AGENT, 30))


def test_a_number_that_several_callers_are_reported_for_is_a_release() -> None:
    scene = AbuseScene()
    assert len(scene.run([[use(who, new=20)] for who in range(3)])) == 3
    assert scene.run([[use(who, new=24)] for who in range(3, 9)]) == []


def test_what_a_caller_does_each_day_is_known_after_some_days() -> None:
    scene = AbuseScene()
    told = [len(scene.run([[use(AGENT, repeats=60)]], start=START + day * DAY)) for day in range(6)]
    assert told[0] == 1 and told[2:] == [0, 0, 0, 0]
    assert scene.run([[use(AGENT, repeats=600)]], start=START + 7 * DAY)


def test_a_verdict_allows_the_number_of_its_kind() -> None:
    scene = AbuseScene()
    (signal,) = scene.run([[use(AGENT, repeats=60)]])
    assert scene.engine.expect(signal.kind, signal.endpoint_id, signal.consumer, 0.0)
    assert scene.run([[use(AGENT, repeats=60)]], start=START + 900) == []
    (other,) = scene.run([[use(AGENT, repeats=60, new=20)]], start=START + 1_800)
    assert other.kind is AlertKind.TOOL_FAN_OUT

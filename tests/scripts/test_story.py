"""The demo's story acts by the API: it waits for the alert, blocks, and lifts what it blocked."""

import json
from typing import Any

import httpx
import pytest

from scripts.demo.stage import ACTS, Act
from scripts.live.story import BLOCK_DELAY_SECONDS, Story

SCRAPER = "principal:00c0ffee00c0ffee"
ALERT = {"id": "a1", "kind": "enumeration", "consumer": SCRAPER}


class FakeStage:
    """Starts nothing."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, act: Act) -> float:
        """At no time."""
        self.started.append(act.name)
        return 0.0


class FakeCollector:
    """Answers as the API does; `alerts` are the open ones, `calls` what was asked for."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        self.stopped_connections = 0
        self.is_known = True
        self.calls: list[tuple[str, str]] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        """One response."""
        path = request.url.path.removeprefix("/api/v1")
        self.calls.append((request.method, path))
        if path == "/alerts":
            return httpx.Response(200, json={"items": self.alerts})
        if path == "/blocks/preview":
            return httpx.Response(200, json={"calls": 120})
        if path == "/blocks":
            assert json.loads(request.content)["consumer"] == SCRAPER
            return httpx.Response(201, json={"id": "b1"}) if self.is_known else httpx.Response(422, json={})
        return httpx.Response(200, json={"stopped_connections": self.stopped_connections})


@pytest.fixture
def collector() -> FakeCollector:
    return FakeCollector()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def story(collector: FakeCollector, told: list[str]) -> Story:
    client = httpx.Client(base_url="http://collector", transport=httpx.MockTransport(collector.answer))
    return Story(FakeStage(), client, lambda event, text, **fields: told.append(event))  # type: ignore[arg-type]


def test_acts_start_when_they_are_due(story: Story, told: list[str]) -> None:
    story.step(ACTS[0].seconds - 1)
    assert told == []
    story.step(ACTS[-1].seconds)
    assert told == ["act"] * len(ACTS)


def test_the_scraper_is_flagged_blocked_and_the_block_lifted(
    story: Story, collector: FakeCollector, told: list[str]
) -> None:
    story.step(100)
    collector.alerts = [{**ALERT, "consumer": "address:192.88.99.200", "kind": "credential_stuffing"}, ALERT]
    story.step(101)
    story.step(101 + BLOCK_DELAY_SECONDS - 1)
    assert told[len(ACTS) :] == ["flagged"]
    story.step(101 + BLOCK_DELAY_SECONDS)
    story.step(120)
    collector.stopped_connections = 3
    story.step(121)
    story.end()
    assert told[len(ACTS) :] == ["flagged", "blocked", "enforced", "lifted"]
    assert collector.calls[-1] == ("POST", "/blocks/b1/lift")


def test_a_block_waits_until_the_client_is_known(story: Story, collector: FakeCollector, told: list[str]) -> None:
    collector.alerts, collector.is_known = [ALERT], False
    story.step(100)
    story.step(100 + BLOCK_DELAY_SECONDS)
    assert told[-1] == "flagged"
    collector.is_known = True
    story.step(101 + BLOCK_DELAY_SECONDS)
    assert told[-1] == "blocked"


def test_without_a_block_nothing_is_lifted(story: Story, collector: FakeCollector) -> None:
    story.end()
    assert collector.calls == []

"""`apidae block|approve|lift|blocks|ladder`: what each asks of the collector, and what it prints."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from collector.cli.client import Api
from collector.cli.commands import register

WISH = [
    "--service",
    "shop/cart",
    "--cluster",
    "east",
    "--cluster",
    "-",
    "--seconds",
    "60",
    "--reason",
    "r",
    "--confirm",
]
BLOCK = {
    "id": "b1",
    "state": "live",
    "consumer": "address:203.0.113.7",
    "services": [],
    "stopped_connections": 4,
    "expires_at": "2026-11-25T23:00:00Z",
    "approved_by": "ada",
    "reason": "it reads all",
}


class Collector:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any], dict[str, str]]] = []
        self.state = "live"

    def fetch(self, path: str, asked: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append(("GET", path, dict(asked or {}), {}))
        nodes = [{"node": "n1", "is_enabled": False, "reason": "enforcement is off"}]
        entry = {"time": "2026", "by": "ada", "action": "began", "target": BLOCK["consumer"], "why": "x"}
        rung = {"kind": "scanning", "step": "propose", "seconds": 60, "endpoints": [], "set_by": ""}
        answers = {"blocks": {"items": [BLOCK], "nodes": nodes}, "blocks/audit": {"items": [entry]}}
        return {**answers, "ladder": {"items": [rung]}}.get(path, {**BLOCK, "state": self.state})

    def act(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append(("POST", path, dict(body), dict(headers or {})))
        return {"lifted": 2} if path == "blocks/lift" else BLOCK

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(("PUT", path, dict(body), {}))
        return {"kind": path.rpartition("/")[2], "set_by": "ada", **body}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    made = Collector()
    for name in ("fetch", "act", "put"):
        monkeypatch.setattr(Api, name, staticmethod(getattr(made, name)))
    return made


def run(*arguments: str, status: int = 0) -> str:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == status, done.output
    return done.output


def test_block_says_all_of_the_wish(collector: Collector) -> None:
    printed = run("block", "203.0.113.7", *WISH, "--confirm")
    (_, path, body, _) = collector.asked[0]
    assert path == "blocks" and body.pop("asked_by")
    assert body == {
        "consumer": "203.0.113.7",
        "services": ["shop/cart"],
        "clusters": ["east", "-"],
        "seconds": 60,
        "reason": "r",
        "alert_id": "",
        "is_confirmed": True,
    }
    assert json.loads(printed)["id"] == "b1"


def test_preview_blocks_nobody(collector: Collector) -> None:
    run("block", "203.0.113.7", "--preview")
    assert [path for _, path, _, _ in collector.asked] == ["blocks/preview"]


def test_approve_carries_the_second_token(collector: Collector) -> None:
    run("approve", "b1", "--approval-token", "second")
    assert collector.asked[0][1] == "blocks/b1/approve" and collector.asked[0][3] == {"apidae-approval": "second"}


@pytest.mark.parametrize("verb", ["lift", "reject"])
def test_a_block_is_lifted_and_a_proposal_rejected(collector: Collector, verb: str) -> None:
    run(verb, "b1")
    assert [path for _, path, _, _ in collector.asked] == [f"blocks/b1/{verb}"]


def test_lift_all_is_one_request(collector: Collector) -> None:
    assert json.loads(run("lift", "--all")) == {"lifted": 2}
    assert len(collector.asked) == 1


@pytest.mark.parametrize("arguments", [("lift",), ("lift", "b1", "--all")])
def test_what_is_unclear_asks_nothing(collector: Collector, arguments: tuple[str, ...]) -> None:
    run(*arguments, status=1)
    assert collector.asked == []


def test_lists(collector: Collector) -> None:
    listed = run("get", "blocks")
    assert "address:203.0.113.7" in listed and "enforcement is off" in listed
    assert "began" in run("get", "blocks", "--audit")
    assert "propose" in run("get", "ladder")


def test_ladder_puts_a_rung(collector: Collector) -> None:
    run("set", "ladder", "scanning", "enforce", "--seconds", "60", "--endpoint", "ep1")
    method, path, body, _ = collector.asked[0]
    assert (method, path, body["step"], body["endpoints"]) == ("PUT", "ladder/scanning", "enforce", ["ep1"])

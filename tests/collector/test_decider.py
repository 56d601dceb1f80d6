"""Who decided: the name that commands keep with a decision, also where the user of the process has none."""

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import typer
from typer.testing import CliRunner

from collector.cli.client import AskedByOption, name_decider
from tests.collector.running import RunningCollector, clean_environment

UNKNOWN_UID: Final = 54_321
DECIDER = f"no-auth, asked by uid:{UNKNOWN_UID}"
# getpass.getuser() takes the first of these that is set.
NAMES: Final = ("LOGNAME", "USER", "LNAME", "USERNAME")
COMMAND_SECONDS: Final = 60.0


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    running = RunningCollector(tmp_path_factory.mktemp("collector"), "--no-auth")
    yield running
    assert running.stop() == 0


def run_as_nobody_known(collector: RunningCollector, *arguments: str, status: int = 0) -> str:
    """What a command prints on both outputs, run as a user that has no entry in /etc/passwd."""
    # It may read all files, for the checkout may lie in a home directory that is closed to others.
    reads_all = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    command = ["setpriv", f"--reuid={UNKNOWN_UID}", f"--regid={UNKNOWN_UID}", "--clear-groups", *reads_all]
    command += [sys.executable, "-c", "from common.main import main; main()", *arguments]
    command += ["--url", f"http://{collector.ready['http']}"]
    environment = {name: value for name, value in clean_environment().items() if name not in NAMES}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=COMMAND_SECONDS, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.store
@pytest.mark.skipif(os.geteuid() != 0, reason="another user is taken on by root")
def test_every_command_that_decides_works_without_a_user_name(collector: RunningCollector) -> None:
    wish = ("--seconds", "600", "--reason", "test", "--confirm")
    block: dict[str, Any] = json.loads(run_as_nobody_known(collector, "block", "203.0.113.7", *wish))
    assert block["approved_by"] == DECIDER
    assert "is live, not proposed" in run_as_nobody_known(collector, "approve", block["id"], status=1)
    lifted = json.loads(run_as_nobody_known(collector, "lift", block["id"]))
    assert lifted["ended_by"] == DECIDER
    rung = json.loads(run_as_nobody_known(collector, "set", "ladder", "scanning", "observe", "-o", "json"))
    assert rung[0]["set_by"] == DECIDER
    run_as_nobody_known(collector, "erase", "address:203.0.113.7")
    decisions = collector.get("/blocks/audit").json()["items"]
    assert {one["by"] for one in decisions} == {DECIDER} and decisions[0]["action"] == "erased"
    level = ("set", "sensitivity", "normal")
    run_as_nobody_known(collector, *level)
    assert collector.get("/detection/sensitivity").json()["changed_by"] == DECIDER


def test_decider_is_who_is_given_then_the_user_then_the_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: UNKNOWN_UID)
    assert name_decider() == f"uid:{UNKNOWN_UID}"
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    assert name_decider() == "ada"
    assert name_decider("bob") == "bob"


def test_commands_take_the_name_as_an_option() -> None:
    app = typer.Typer()

    @app.command()
    def decide(asked_by: AskedByOption = "") -> None:
        typer.echo(asked_by)

    assert CliRunner().invoke(app, ["--asked-by", "bob"]).output == "bob\n"
    assert CliRunner().invoke(app, []).output == f"{name_decider()}\n"

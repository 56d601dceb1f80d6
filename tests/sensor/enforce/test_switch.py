"""The local switch and its command."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sensor.cli.commands import register_enforcement
from sensor.enforce.tables import Switch


def run(directory: Path, *arguments: str) -> dict[str, object]:
    app = typer.Typer()
    register_enforcement(app)
    done = CliRunner().invoke(app, ["enforcement", *arguments, "--state-dir", str(directory)])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_off_is_on_disk_with_its_reason_until_on(tmp_path: Path) -> None:
    switch = Switch(tmp_path / "state")
    assert run(switch.path.parent, "status") == {"is_off": False, "reason": ""}
    assert run(switch.path.parent, "off", "--reason", "drill") == {"is_off": True, "reason": "drill"}
    assert switch.read() == "drill"
    assert switch.path.stat().st_mode & 0o777 == 0o600
    assert run(switch.path.parent, "on") == {"is_off": False, "reason": ""}
    assert switch.read() == ""


def test_an_empty_file_and_an_unreadable_one_are_off(tmp_path: Path) -> None:
    switch = Switch(tmp_path)
    switch.path.touch()
    assert "switched off by" in switch.read()
    switch.path.unlink()
    switch.path.mkdir()
    assert "cannot be read" in switch.read()


def test_a_link_in_place_of_the_switch_is_not_written_through(tmp_path: Path) -> None:
    other = tmp_path / "of-somebody-else"
    other.write_text("kept")
    switch = Switch(tmp_path)
    switch.path.symlink_to(other)
    with pytest.raises(OSError):
        switch.turn_off("drill")
    assert other.read_text() == "kept" and switch.read()

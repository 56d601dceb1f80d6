"""The file that says that a sensor is ready."""

import logging
import socket
from pathlib import Path

import pytest

from sensor.agent.exporter import ReadyFile
from sensor.cli import commands as cli
from sensor.core.config import SensorSettings


def test_it_is_there_while_it_is_set(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    file = ReadyFile(path)
    file.clear()
    for _ in range(2):
        file.set()
        assert path.exists()
    file.clear()
    assert not path.exists()


def test_nobody_looks() -> None:
    file = ReadyFile(None)
    file.set()
    file.clear()


def test_what_cannot_be_written_is_one_sentence_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ReadyFile(tmp_path / "none" / "ready").set()
    assert "/none/ready cannot be written (No such file" in caplog.text
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    ReadyFile(tmp_path / "link").set()
    assert "/link cannot be written" in caplog.text
    assert not (tmp_path / "elsewhere").exists()


def test_who_waits_is_ready_though_the_one_before_has_the_metrics_port(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on the network of a node."""
    file = ReadyFile(tmp_path / "ready")
    with socket.create_server(("127.0.0.1", 0)) as before, caplog.at_level(logging.INFO):
        listen = f"127.0.0.1:{before.getsockname()[1]}"
        with cli._tell_waiting(SensorSettings(collector="127.0.0.1:1", metrics_listen=listen), file):
            assert (tmp_path / "ready").exists()
    assert "metrics_listen is not free yet" in caplog.text

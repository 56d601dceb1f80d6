"""The health check of the sensor's image."""

from pathlib import Path

import pytest

from sensor.agent.pause import CaptureState, ControlServer
from sensor.agent.probe import main


class Target:
    def __init__(self, state: CaptureState) -> None:
        self.state = state

    def on_pause(self) -> None:
        raise NotImplementedError

    def on_resume(self) -> None:
        raise NotImplementedError

    def status(self) -> CaptureState:
        return self.state


@pytest.mark.parametrize(
    ("state", "expected"), [(CaptureState.CAPTURING, 0), (CaptureState.PAUSED, 0), (CaptureState.STOPPING, 1)]
)
def test_what_a_running_sensor_says(state: CaptureState, expected: int, tmp_path: Path) -> None:
    server = ControlServer(tmp_path, Target(state))
    server.start()
    try:
        assert main([str(tmp_path)]) == expected
    finally:
        server.stop()


def test_no_sensor_is_not_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "No sensor runs here" in capsys.readouterr().err

"""The health check of the sensor's image."""

from pathlib import Path

import pytest

from sensor.agent.pause import ControlServer
from sensor.agent.probe import main
from sensor.core.state import SensorState


@pytest.mark.parametrize(
    ("state", "expected"), [(SensorState.CAPTURING, 0), (SensorState.PAUSED, 0), (SensorState.STOPPING, 1)]
)
def test_what_a_running_sensor_says(state: SensorState, expected: int, tmp_path: Path) -> None:
    with ControlServer(tmp_path, lambda command: state, lambda asked: (event for event in ())):
        assert main([str(tmp_path)]) == expected


def test_no_sensor_is_not_healthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "No sensor runs here" in capsys.readouterr().err

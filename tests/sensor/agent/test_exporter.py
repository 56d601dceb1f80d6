"""The sensor's HTTP listener: metrics, and what a kubelet asks."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sensor.agent.exporter import serve
from sensor.core.health import HealthReport, StageCount
from sensor.core.state import SensorState


def make_report() -> HealthReport:
    spool = StageCount(stage="spool", seen=10, used=7, dropped=(("spool_full", 3),))
    return HealthReport(
        time_unix_ns=1,
        state=SensorState.CAPTURING,
        stages=(spool,),
        lag_ms=0,
        spool_bytes=0,
        memory_bytes=0,
        cpu_ns=0,
        reason="",
    )


class Sensor:
    """What the listener asks."""

    def __init__(self) -> None:
        self.is_hanging = False
        self.is_capturing = False

    def read_health(self) -> HealthReport:
        if self.is_hanging:
            raise TimeoutError
        return make_report()

    def is_ready(self) -> bool:
        return self.is_capturing


@contextmanager
def listen(sensor: Sensor, host: str = "127.0.0.1") -> Iterator[str]:
    with serve(host=host, port=0, read_health=sensor.read_health, is_ready=sensor.is_ready) as port:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"


def ask(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_metrics_are_served_on_request(host: str) -> None:
    with listen(Sensor(), host) as address:
        status, text = ask(f"{address}/metrics")
    assert status == 200
    assert 'apidae_sensor_dropped_total{reason="spool_full",stage="spool"} 3.0' in text


def test_a_sensor_is_ready_when_it_captures() -> None:
    sensor = Sensor()
    with listen(sensor) as address:
        assert ask(f"{address}/readyz") == (503, "the sensor does not capture yet\n")
        sensor.is_capturing = True
        assert ask(f"{address}/readyz") == (200, "ready\n")


def test_a_sensor_whose_loop_hangs_is_not_healthy() -> None:
    sensor = Sensor()
    with listen(sensor) as address:
        assert ask(f"{address}/healthz") == (200, "healthy\n")
        sensor.is_hanging = True
        assert ask(f"{address}/healthz") == (503, "the sensor's loop does not answer\n")

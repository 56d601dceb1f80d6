"""The control socket: pause, resume, status, and every way it can fail as one sentence."""

import json
import os
import socket
import stat
import threading
from collections.abc import Generator, Iterator, Mapping
from itertools import repeat
from pathlib import Path

import pytest

from sensor.agent.pause import (
    MAX_MESSAGE_BYTES,
    SOCKET_NAME,
    Command,
    ControlError,
    ControlServer,
    ControlStatus,
    request_command,
    request_trace,
)
from sensor.core.state import SensorState


class Sensor:
    """A target that remembers its state, and traces what a test says."""

    def __init__(self) -> None:
        self.state = SensorState.CAPTURING
        self.failure: Exception | None = None
        self.events: list[dict[str, object] | None] = []
        self.asked: Mapping[str, object] = {}
        self.is_closed = threading.Event()

    def carry_out(self, command: Command) -> SensorState:
        if self.failure and command is not Command.STATUS:
            raise self.failure
        if command is not Command.STATUS:
            self.state = SensorState.PAUSED if command is Command.PAUSE else SensorState.CAPTURING
        return self.state

    def trace(self, asked: Mapping[str, object]) -> Generator[dict[str, object] | None]:
        self.asked = asked
        if self.failure:
            raise self.failure
        try:
            yield from self.events
        finally:
            self.is_closed.set()


@pytest.fixture
def sensor() -> Sensor:
    return Sensor()


@pytest.fixture
def server(tmp_path: Path, sensor: Sensor) -> Iterator[ControlServer]:
    with ControlServer(tmp_path, sensor.carry_out, sensor.trace) as server:
        yield server


def test_pause_and_resume(server: ControlServer, sensor: Sensor, tmp_path: Path) -> None:
    assert request_command(tmp_path, Command.PAUSE) == ControlStatus(state=SensorState.PAUSED, pid=os.getpid())
    assert sensor.state is SensorState.PAUSED
    assert request_command(tmp_path, Command.STATUS).state is SensorState.PAUSED
    assert request_command(tmp_path, Command.RESUME).state is SensorState.CAPTURING
    assert sensor.state is SensorState.CAPTURING


def test_socket_is_the_owners_alone(server: ControlServer, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("failure", [OSError("the ring is gone"), RuntimeError("a bug")])
def test_failure_is_told_and_the_next_command_served(
    server: ControlServer, sensor: Sensor, tmp_path: Path, failure: Exception
) -> None:
    sensor.failure = failure
    with pytest.raises(ControlError, match=f"The sensor could not pause: {failure}"):
        request_command(tmp_path, Command.PAUSE)
    assert request_command(tmp_path, Command.STATUS).state is SensorState.CAPTURING


def test_no_sensor_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"No sensor runs here .* start one with `apidae sensor`"):
        request_command(tmp_path, Command.PAUSE)


def test_socket_of_a_dead_sensor_is_one_sentence_and_is_replaced(tmp_path: Path, sensor: Sensor) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / SOCKET_NAME))
    with pytest.raises(ControlError, match="No sensor runs here"):
        request_command(tmp_path, Command.STATUS)
    with ControlServer(tmp_path, sensor.carry_out, sensor.trace):
        assert request_command(tmp_path, Command.STATUS).pid == os.getpid()
    assert not (tmp_path / SOCKET_NAME).exists()


@pytest.mark.parametrize(
    "request_line",
    [b"\n", b"{}\n", b"[1]\n", b'{"command": "explode"}\n', b"\xff" * MAX_MESSAGE_BYTES, b"[" * 4_095 + b"\n"],
)
def test_malformed_request_is_refused(server: ControlServer, tmp_path: Path, request_line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(tmp_path / SOCKET_NAME))
        channel.sendall(request_line)
        assert "pause, resume, status" in json.loads(channel.recv(MAX_MESSAGE_BYTES))["error"]
    assert request_command(tmp_path, Command.STATUS).state is SensorState.CAPTURING


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b'{"state": "dancing", "pid": 1}\n', "is no sensor of this version"),
        (b"[]\n", "is no sensor of this version"),
        (b"HTTP/1.1 400", "ended while it was asked to pause"),
        (b"", "ended while it was asked to pause"),
    ],
)
def test_answer_of_something_else_is_one_sentence(tmp_path: Path, answer: bytes, sentence: str) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / SOCKET_NAME))
        bound.listen()

        def serve() -> None:
            channel, _ = bound.accept()
            with channel:
                channel.recv(MAX_MESSAGE_BYTES)
                channel.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlError, match=sentence):
            request_command(tmp_path, Command.PAUSE)
        thread.join()


def test_long_directory_is_one_sentence(tmp_path: Path, sensor: Sensor) -> None:
    deep = tmp_path / ("d" * 120)
    with (
        pytest.raises(ControlError, match="too long for a unix socket"),
        ControlServer(deep, sensor.carry_out, sensor.trace),
    ):
        pass
    with pytest.raises(ControlError, match="too long for a unix socket"):
        request_command(deep, Command.PAUSE)


def test_unmakeable_socket_is_one_sentence(tmp_path: Path, sensor: Sensor) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ControlError, match=r"cannot be made \(File exists\)"),
        ControlServer(tmp_path / "file", sensor.carry_out, sensor.trace),
    ):
        pass


def test_events_of_a_trace_come_until_its_end(server: ControlServer, sensor: Sensor, tmp_path: Path) -> None:
    sensor.events = [{"event": "begin"}, {"event": "end", "why": "x" * 100_000}]
    assert list(request_trace(tmp_path, {"port": 80})) == sensor.events
    assert sensor.asked["port"] == 80
    assert sensor.is_closed.wait(60)


def test_a_trace_that_is_refused_is_one_sentence(server: ControlServer, sensor: Sensor, tmp_path: Path) -> None:
    sensor.failure = ValueError("port is 'x'")
    with pytest.raises(ControlError, match="The sensor could not trace: port is 'x'"):
        list(request_trace(tmp_path, {"port": "x"}))


def test_a_trace_ends_with_its_client_and_other_commands_go_on_beside_it(
    server: ControlServer, sensor: Sensor, tmp_path: Path
) -> None:
    sensor.trace = lambda asked: endless(sensor)  # type: ignore[method-assign]
    server._trace = sensor.trace
    events = request_trace(tmp_path, {"port": 80})
    assert next(events) == {"event": "begin"}
    assert request_command(tmp_path, Command.PAUSE).state is SensorState.PAUSED
    events.close()  # type: ignore[attr-defined]
    assert sensor.is_closed.wait(60)


def endless(sensor: Sensor) -> Generator[dict[str, object] | None]:
    try:
        yield {"event": "begin"}
        yield from repeat(None)
    finally:
        sensor.is_closed.set()


def test_a_trace_ends_with_its_sensor(sensor: Sensor, tmp_path: Path) -> None:
    with ControlServer(tmp_path, sensor.carry_out, lambda asked: endless(sensor)):
        events = request_trace(tmp_path, {"port": 80})
        assert next(events) == {"event": "begin"}
    assert sensor.is_closed.is_set()
    with pytest.raises(ControlError, match="ended while it traced"):
        next(events)


def test_a_client_that_reads_late_gets_every_event(server: ControlServer, sensor: Sensor, tmp_path: Path) -> None:
    sensor.events = [{"event": "call", "number": number, "text": "x" * 1_000} for number in range(1_000)]
    sensor.events.append({"event": "end"})
    events = request_trace(tmp_path, {"port": 80})
    assert next(events)["number"] == 0
    # The server waits for room: nothing ends it meanwhile, and other commands are served.
    for _ in range(3):
        assert request_command(tmp_path, Command.STATUS).state is SensorState.CAPTURING
    assert not sensor.is_closed.is_set()
    assert len(list(events)) == 1_000

"""Pauses, resumes and asks a running sensor from another process: the control socket, its server and its client.

A unix stream socket `control.sock` (0600) in the run directory. One request a connection: a JSON line `{"command":
"pause"}` with pause, resume or status. The answer is a JSON line `{"state": ..., "pid": ...}` or `{"error": ...}`. It
is sent when the command is done: after `pause` nothing of the sensor is attached any more.

`{"command": "trace", ...}` is answered by JSON lines, one an event, until the trace ends (`sensor.agent.trace`). It
ends too when the client closes the connection. Other commands are served meanwhile.
"""

import contextlib
import enum
import json
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sensor.core.state import SensorState

logger = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
# Detaching takes milliseconds; what takes longer than this is stuck and the person at the terminal should know.
CLIENT_TIMEOUT_SECONDS = 10.0
# A client that connects and says nothing is cut off: one is served at a time.
REQUEST_TIMEOUT_SECONDS = 1.0
MAX_MESSAGE_BYTES = 4_096
# An event of a trace has at most some dozen rows of the coverage.
MAX_EVENT_BYTES = 256 * 1024
# So long a trace without news waits until it looks again.
TRACE_WAIT_SECONDS = 0.25
# A client of a trace that reads nothing for so long has stopped: another one may trace then.
CLIENT_PATIENCE_SECONDS = 60.0
# sockaddr_un.sun_path less its NUL (unix(7)).
_MAX_SOCKET_PATH_BYTES = 107


class ControlError(Exception):
    """A command could not be given or was refused; the text is one sentence for the operator."""


class Command(enum.Enum):
    """What a client may ask."""

    PAUSE = "pause"
    RESUME = "resume"
    STATUS = "status"
    TRACE = "trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStatus:
    """The sensor's answer."""

    state: SensorState
    pid: int


class ControlServer:
    """Serves the control socket in a thread of its own, as a context manager.

    Enter it under the node's lock: it replaces a dead sensor's socket.
    """

    def __init__(
        self,
        run_directory: Path,
        carry_out: Callable[[Command], SensorState],
        trace: Callable[[Mapping[str, object]], Generator[Mapping[str, object] | None]],
    ) -> None:
        """`carry_out` is called in the server's thread, one command at a time, and returns when it is done. `trace`
        gets the request and is read in a thread of its own; None means that there is nothing now. What they raise is
        the client's answer."""
        self._path = run_directory / SOCKET_NAME
        self._carry_out = carry_out
        self._trace = trace
        self._tracing: list[threading.Thread] = []
        self._is_ending = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="apidae-control", daemon=True)

    def __enter__(self) -> Self:
        """Raises ControlError where the socket cannot be made."""
        try:
            _check_path(self._path)
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
            self._socket.bind(str(self._path))
            # Between bind and chmod nobody can connect: the socket does not listen yet.
            self._path.chmod(0o600)
            self._socket.listen(8)
        except OSError as error:
            self._socket.close()
            raise ControlError(
                f"The control socket {self._path} cannot be made ({error.strerror}): "
                "choose a run directory that can be written."
            ) from error
        except ControlError:
            self._socket.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread and removes the socket; a command that is being carried out is finished first."""
        self._is_ending.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for thread in self._tracing:
            thread.join()
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                channel, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.ExitStack() as stack:
                stack.enter_context(channel)
                try:
                    channel.settimeout(REQUEST_TIMEOUT_SECONDS)
                    request = _parse_request(_receive_line(channel))
                    if request is not None and request["command"] == Command.TRACE.value:
                        stack.pop_all()  # The thread closes it.
                        self._start_trace(channel, request)
                    else:
                        _send_line(channel, self._answer(request))
                except OSError:
                    continue  # Whoever asked has gone.
                except Exception:
                    # A loop boundary: the next command is served.
                    logger.exception("a command on the control socket failed")

    def _start_trace(self, channel: socket.socket, request: Mapping[str, object]) -> None:
        self._tracing = [thread for thread in self._tracing if thread.is_alive()]
        thread = threading.Thread(target=self._send_trace, args=(channel, request), name="apidae-trace", daemon=True)
        self._tracing.append(thread)
        thread.start()

    def _send_trace(self, channel: socket.socket, request: Mapping[str, object]) -> None:
        with channel, contextlib.suppress(OSError):  # Whoever asked has gone.
            try:
                with contextlib.closing(self._trace(request)) as events:
                    for event in events:
                        if event is not None:
                            self._send_event(channel, event)
                        # A client says no more: what can be read is the end of its side.
                        elif _is_readable(channel, TRACE_WAIT_SECONDS) or self._is_ending.is_set():
                            break
            except OSError:
                raise
            except Exception as error:
                # A loop boundary: the client gets what went wrong.
                _send_line(channel, {"error": f"The sensor could not trace: {error}"})

    def _send_event(self, channel: socket.socket, event: Mapping[str, object]) -> None:
        """Waits for a client that reads slowly, as long as this server lives. Raises OSError."""
        unsent = json.dumps(event).encode() + b"\n"
        channel.settimeout(TRACE_WAIT_SECONDS)
        deadline = time.monotonic() + CLIENT_PATIENCE_SECONDS
        while unsent:
            try:
                unsent = unsent[channel.send(unsent) :]
            except TimeoutError:
                if self._is_ending.is_set() or time.monotonic() > deadline:
                    raise

    def _answer(self, request: Mapping[str, object] | None) -> dict[str, object]:
        if request is None:
            return {
                "error": f"The request must be one JSON line with a command of {', '.join(c.value for c in Command)}."
            }
        command = Command(request["command"])
        try:
            state = self._carry_out(command)
        except Exception as error:
            # A loop boundary: the command's answer says what went wrong, and the next one is served.
            return {"error": f"The sensor could not {command.value}: {error}"}
        return {"state": state.name.lower(), "pid": os.getpid()}


def _parse_request(line: bytes) -> Mapping[str, object] | None:
    """The request of a line; None where it is not one."""
    try:
        request = json.loads(line)
        Command(request["command"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def request_command(run_directory: Path, command: Command) -> ControlStatus:
    """Has the sensor carry out a command; returns when it is done. Raises ControlError."""
    path = run_directory / SOCKET_NAME
    with _connect(path, command) as channel:
        _send_line(channel, {"command": command.value})
        answer = json.loads(_receive_line(channel))
    return _parse_status(answer, path)


def request_trace(run_directory: Path, asked: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Events of a trace, the last one `end`. Raises ControlError, also where the sensor refuses it or ends before."""
    path = run_directory / SOCKET_NAME
    with _connect(path, Command.TRACE) as channel:
        _send_line(channel, {**asked, "command": Command.TRACE.value})
        # Between two events a trace may be silent for all of its time.
        channel.settimeout(None)
        with channel.makefile("rb") as lines:
            while line := lines.readline(MAX_EVENT_BYTES):
                event = json.loads(line)
                if "error" in event:
                    raise ControlError(str(event["error"]))
                yield event
                if event["event"] == "end":
                    return
    raise ControlError(f"The sensor at {path} ended while it traced: see its log.")


@contextlib.contextmanager
def _connect(path: Path, command: Command) -> Iterator[socket.socket]:
    """The sensor's socket; what goes wrong with it is a ControlError."""
    _check_path(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(CLIENT_TIMEOUT_SECONDS)
            channel.connect(str(path))
            yield channel
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlError(
            f"No sensor runs here (nothing answers at {path}): "
            "start one with `apidae sensor`, or name its run directory."
        ) from error
    except PermissionError as error:
        raise ControlError(f"The control socket {path} is the sensor's alone: run this as root.") from error
    except TimeoutError as error:
        raise ControlError(
            f"The sensor at {path} did not {command.value} within {CLIENT_TIMEOUT_SECONDS:.0f} s: "
            "it may hang; restart it."
        ) from error
    except (OSError, ValueError) as error:
        raise ControlError(f"The sensor at {path} ended while it was asked to {command.value}: see its log.") from error


def _parse_status(answer: object, path: Path) -> ControlStatus:
    if isinstance(answer, dict) and "error" in answer:
        raise ControlError(str(answer["error"]))
    try:
        if isinstance(answer, dict):
            return ControlStatus(state=SensorState[str(answer["state"]).upper()], pid=int(answer["pid"]))
    except (KeyError, ValueError, TypeError):
        pass
    raise ControlError(f"What answers at {path} is no sensor of this version: stop it or name another run directory.")


def _send_line(channel: socket.socket, message: Mapping[str, object]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def _is_readable(channel: socket.socket, seconds: float) -> bool:
    """Whether something came, or the end, within so long. `select` takes no file past number 1,023."""
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    return bool(waiting.poll(seconds * 1e3))


def _receive_line(channel: socket.socket) -> bytes:
    """One line of at most `MAX_MESSAGE_BYTES`, or what came before the other side closed. Raises OSError."""
    received = b""
    while not received.endswith(b"\n") and len(received) < MAX_MESSAGE_BYTES:
        part = channel.recv(MAX_MESSAGE_BYTES)
        if not part:
            break
        received += part
    return received


def _check_path(path: Path) -> None:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        raise ControlError(
            f"The run directory {path.parent} is too long for a unix socket: choose one of at most "
            f"{_MAX_SOCKET_PATH_BYTES - len(SOCKET_NAME) - 1} bytes."
        )

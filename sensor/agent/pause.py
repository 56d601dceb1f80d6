"""Pauses and resumes a running sensor from another process: the control socket, its server and its client.

A unix stream socket `control.sock` (0600) in the run directory. One request a connection: a JSON line `{"command":
"pause"}` with pause, resume or status. The answer is a JSON line `{"state": ..., "pid": ...}` or `{"error": ...}`. It
is sent when the command is done: after `pause` nothing of the sensor is attached any more.
"""

import contextlib
import enum
import json
import logging
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

logger = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
# Detaching takes milliseconds; what takes longer than this is stuck and the person at the terminal should know.
CLIENT_TIMEOUT_SECONDS = 10.0
# A client that connects and says nothing is cut off: one is served at a time.
REQUEST_TIMEOUT_SECONDS = 1.0
MAX_MESSAGE_BYTES = 4_096
# sockaddr_un.sun_path less its NUL (unix(7)).
_MAX_SOCKET_PATH_BYTES = 107


class ControlError(Exception):
    """A command could not be given or was refused; the text is one sentence for the operator."""


class CaptureState(enum.Enum):
    """Whether the sensor's programs are attached."""

    CAPTURING = "capturing"
    PAUSED = "paused"
    STOPPING = "stopping"


class Command(enum.Enum):
    """What a client may ask."""

    PAUSE = "pause"
    RESUME = "resume"
    STATUS = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStatus:
    """The sensor's answer."""

    state: CaptureState
    pid: int


class ControlTarget(Protocol):
    """What the sensor does on command. Called in the server's thread, one at a time; pausing twice is one pause."""

    def on_pause(self) -> None:
        """Detaches everything and returns when it is done. What it raises is told to the client."""
        ...

    def on_resume(self) -> None:
        """Attaches everything again and returns when it is done. What it raises is told to the client."""
        ...

    def status(self) -> CaptureState: ...


class ControlServer:
    """Serves the control socket in a thread of its own.

    Start it under the node's lock: it replaces a dead sensor's socket.
    """

    def __init__(self, run_directory: Path, target: ControlTarget) -> None:
        self._path = run_directory / SOCKET_NAME
        self._target = target
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises ControlError where the socket cannot be made."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            _check_path(self._path)
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            bound.bind(str(self._path))
            # Between bind and chmod nobody can connect: the socket does not listen yet.
            self._path.chmod(0o600)
            bound.listen(8)
        except OSError as error:
            bound.close()
            raise ControlError(
                f"The control socket {self._path} cannot be made ({error.strerror}): "
                "choose a run directory that can be written."
            ) from error
        except ControlError:
            bound.close()
            raise
        self._socket = bound
        self._thread = threading.Thread(target=self._serve, args=(bound,), name="apidae-control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and removes the socket; a command that is being carried out is finished first."""
        if self._socket is None or self._thread is None:
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._socket, self._thread = None, None
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _serve(self, bound: socket.socket) -> None:
        while True:
            try:
                channel, _ = bound.accept()
            except OSError:
                return
            with channel:
                try:
                    channel.settimeout(REQUEST_TIMEOUT_SECONDS)
                    channel.sendall(json.dumps(self._answer(_receive_line(channel))).encode() + b"\n")
                except OSError:
                    continue  # Whoever asked has gone.
                except Exception:
                    # A loop boundary: the next command is served.
                    logger.exception("a command on the control socket failed")

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            command = Command(json.loads(line)["command"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return {
                "error": f"The request must be one JSON line with a command of {', '.join(c.value for c in Command)}."
            }
        try:
            if command is Command.PAUSE:
                self._target.on_pause()
            elif command is Command.RESUME:
                self._target.on_resume()
        except Exception as error:
            # A loop boundary: the command's answer says what went wrong, and the next one is served.
            return {"error": f"The sensor could not {command.value}: {error}"}
        return {"state": self._target.status().value, "pid": os.getpid()}


def request_pause(run_directory: Path) -> ControlStatus:
    """Has the sensor detach; returns when it has. Raises ControlError."""
    return _request(run_directory, Command.PAUSE)


def request_resume(run_directory: Path) -> ControlStatus:
    """Has the sensor attach again; returns when it has. Raises ControlError."""
    return _request(run_directory, Command.RESUME)


def request_status(run_directory: Path) -> ControlStatus:
    """Asks whether the sensor captures. Raises ControlError."""
    return _request(run_directory, Command.STATUS)


def _request(run_directory: Path, command: Command) -> ControlStatus:
    path = run_directory / SOCKET_NAME
    _check_path(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(CLIENT_TIMEOUT_SECONDS)
            channel.connect(str(path))
            channel.sendall(json.dumps({"command": command.value}).encode() + b"\n")
            told = json.loads(_receive_line(channel))
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
    return _parse_status(told, path)


def _parse_status(told: object, path: Path) -> ControlStatus:
    if isinstance(told, dict) and "error" in told:
        raise ControlError(str(told["error"]))
    try:
        if isinstance(told, dict):
            return ControlStatus(state=CaptureState(told["state"]), pid=int(told["pid"]))
    except (KeyError, ValueError, TypeError):
        pass
    raise ControlError(f"What answers at {path} is no sensor of this version: stop it or name another run directory.")


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

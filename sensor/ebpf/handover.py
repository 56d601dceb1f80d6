"""The next sensor takes over what this one holds: a unix socket on which it waits, and over which all of it goes.

The socket `succession.sock` (0600) lies in the run directory. Who waits says which kernel side and which form of state
it can take (`sensor.ebpf.pins`); a sensor that stops looks who waits, and gives the newest one that fits the open
descriptors of its programs, links and maps (SCM_RIGHTS, unix(7)) and its state. Where none fits, the newest that waits
is told that the node is free as soon as capture has ended here: its own programs, loaded beforehand, are attached then,
while this one still sends what it counted. Nothing is pinned and no file is written: with the last process that holds
the descriptors the kernel takes everything down, kill -9 included. Whoever has another user than this process's is not
spoken to.

    heir      connects, {"lineage": ..}\n
    testator  {"names": [..], "size": n}\n with the descriptors, then n bytes; no names, 0: the node is free
    heir      one byte: it has all of it (of a free node it says nothing)
"""

import contextlib
import json
import logging
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

logger = logging.getLogger(__name__)

SOCKET_NAME: Final = "succession.sock"
# Sensors that wait at once; more are refused, and then start as if nobody had been before them.
BACKLOG: Final = 8
# An heir has said who it is when it is looked for; what it is given it takes within so long.
HELLO_SECONDS: Final = 0.5
GIVE_SECONDS: Final = 5.0
# A sensor that has just started lets nobody wait yet.
RETRY_SECONDS: Final = 1.0
# Of a hello, and of what announces the state.
LINE_BYTES_MAX: Final = 4_096
DESCRIPTORS_MAX: Final = 64
# Tables of HTTP/2 (64 MiB at most, docs/http2.md) and heads of open calls (32 MiB), twice.
STATE_BYTES_MAX: Final = 192 << 20
_ACCEPTED: Final = b"\1"
_PEER_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid.


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What passes: open descriptors by name, and state that only `sensor.capture.packets.state` reads."""

    descriptors: Mapping[str, int]
    state: bytes

    def __repr__(self) -> str:
        return f"Estate({len(self.descriptors)} descriptors, state redacted)"

    def close(self) -> None:
        """Nobody takes it."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)


class Heir:
    """A sensor that waits for this one to stop."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def give(self, estate: Estate) -> bool:
        """Sends everything; whether the heir says that it has it. Blocks for `GIVE_SECONDS` at most."""
        channel = self._channel
        channel.settimeout(GIVE_SECONDS)
        announced = {"names": list(estate.descriptors), "size": len(estate.state)}
        try:
            line = json.dumps(announced).encode() + b"\n"
            socket.send_fds(channel, [line], list(estate.descriptors.values()))
            channel.sendall(estate.state)
            return channel.recv(1) == _ACCEPTED
        except OSError as error:
            logger.warning("the next sensor did not take over: %s", error)
            return False
        finally:
            channel.close()


class Taker(Protocol):
    """Whoever goes on with capture, now or later."""

    def give(self, estate: Estate) -> bool:
        """Whether it has all of it."""
        ...


class Heirs:
    """Those who wait, as the running sensor sees them; a listening socket that is looked at only at the end."""

    def __init__(self, run_directory: Path, lineage: str, otherwise: Taker | None = None) -> None:
        """`otherwise`: takes it where nobody waits."""
        self._path = run_directory / SOCKET_NAME
        self._lineage = lineage
        self._otherwise = otherwise
        self._listener: socket.socket | None = None
        self._unfit: socket.socket | None = None  # The newest that waits and cannot take it.

    def open(self) -> None:
        """Lets others wait. Where that cannot be, the next sensor begins anew; the log says so."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # The node's lock is held: a socket that is there is one of a sensor that was killed.
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            logger.warning("the next sensor cannot take over: %s: %s", self._path, error.strerror)
            return
        listener.setblocking(False)
        self._listener = listener

    def find(self) -> Taker | None:
        """The newest that waits and can take what this sensor holds. Where nobody waits at all, whoever takes it
        otherwise. Waits `HELLO_SECONDS` at most for each."""
        found: socket.socket | None = None
        while self._listener is not None:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                break
            lineage = _read_lineage(channel)
            if lineage == self._lineage:
                found = _replace(found, channel)
            elif lineage:
                logger.info("the next sensor has another kernel side or version: it begins anew")
                self._unfit = _replace(self._unfit, channel)
            else:
                channel.close()
        if found is not None:
            return Heir(found)
        return self._otherwise if self._unfit is None else None

    def release(self) -> bool:
        """Nothing is captured here any more: the newest that waits and could not take it begins now, whether there is
        one. Nobody can wait any more; who hears it can so tell the next sensor's socket from this one's."""
        unfit, self._unfit = self._unfit, None
        self.close()
        if unfit is None:
            return False
        with unfit:
            try:
                unfit.sendall(json.dumps({"names": [], "size": 0}).encode() + b"\n")
            except OSError as error:
                logger.warning("the next sensor does not hear that the node is free: %s", error)
                return False
        logger.info("the next sensor begins to capture")
        return True

    def close(self) -> None:
        """Nobody can wait any more."""
        if self._unfit is not None:
            self._unfit.close()
            self._unfit = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


class Claim:
    """What a sensor that waits may be given. `poll` it; then `estate` is there, or is not. `is_free`: nothing was given
    and the sensor before does not capture any more."""

    def __init__(self, run_directory: Path, lineage: str) -> None:
        self._path = run_directory / SOCKET_NAME
        self._lineage = lineage
        self._channel: socket.socket | None = None
        self._tried = -RETRY_SECONDS
        self.estate: Estate | None = None
        self.is_free = False

    def _open(self) -> None:
        """Waits, where the sensor before this one has the socket."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        channel.settimeout(GIVE_SECONDS)
        try:
            channel.connect(str(self._path))
            if not _is_own(channel):
                raise PermissionError("somebody else's socket")
            channel.sendall(json.dumps({"lineage": self._lineage}).encode() + b"\n")
        except OSError as error:
            channel.close()
            logger.debug("nothing can be taken over yet: %s", error)
            return
        logger.info("goes on where the sensor before stops, if that one can give its capture away")
        self._channel = channel
        self.is_free = False

    def poll(self) -> None:
        """Takes what has been given. Does not wait unless something is under way."""
        if self._channel is None and self.estate is None and time.monotonic() - self._tried >= RETRY_SECONDS:
            self._tried = time.monotonic()
            self._open()
        channel = self._channel
        if channel is None or not _has_something(channel):
            return
        self._channel = None
        with channel:
            try:
                estate = _receive(channel)
                if estate is None or not estate.descriptors:
                    self.is_free = estate is not None
                    return
                self.estate = estate
                channel.sendall(_ACCEPTED)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("what the sensor before gave is not whole: %s", error)
                self.close()

    def close(self) -> None:
        """Nothing is wanted any more."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.estate is not None:
            self.estate.close()
            self.estate = None


def _receive(channel: socket.socket) -> Estate | None:
    """None where the other end closed without giving anything. Raises OSError, ValueError, KeyError or TypeError."""
    first, descriptors, _, _ = socket.recv_fds(channel, LINE_BYTES_MAX, DESCRIPTORS_MAX)
    try:
        if not first:
            return None
        line, newline, state = first.partition(b"\n")
        announced = json.loads(line)
        names, size = announced["names"], int(announced["size"])
        if not newline or len(names) != len(descriptors) or not len(state) <= size <= STATE_BYTES_MAX:
            raise ValueError(f"{len(names)} names, {len(descriptors)} descriptors, {size} bytes")
        held = bytearray(state)
        while len(held) < size:
            part = channel.recv(min(size - len(held), 1 << 20))
            if not part:
                raise ConnectionError(f"ended after {len(held)} of {size} bytes")
            held += part
        return Estate(descriptors=dict(zip(map(str, names), descriptors, strict=True)), state=bytes(held))
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _replace(older: socket.socket | None, newer: socket.socket) -> socket.socket:
    """The newer of two that wait."""
    if older is not None:
        older.close()
    return newer


def _read_lineage(channel: socket.socket) -> str:
    """Of a sensor that waits; empty where it is not one, or has gone."""
    channel.settimeout(HELLO_SECONDS)
    if not _is_own(channel):
        return ""
    try:
        lineage = json.loads(_read_line(channel))["lineage"]
        # It says nothing more before it is given something: what could be read is its end.
        return "" if _has_something(channel) else str(lineage)
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read_line(channel: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
        part = channel.recv(LINE_BYTES_MAX - len(line))
        if not part:
            break
        line += part
    return line


def _has_something(channel: socket.socket) -> bool:
    """Whether there is something to be read, or an end. Not select(): a sensor may hold more than its 1,024 files."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))


def _is_own(channel: socket.socket) -> bool:
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return bool(_PEER_CREDENTIALS.unpack(raw)[1] == os.geteuid())

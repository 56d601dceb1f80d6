"""Puts the Java agent into a running JVM by HotSpot's attach mechanism: `python -m sensor.capture.java.attach`.

The sensor starts it as a program of its own for each JVM, with the directory of /proc, the process and the jar, and
reads its last line where it fails. It becomes the JVM's
user within the JVM's root directory before it writes or opens anything there, so links lead no further than they would
lead the JVM. It refuses what is not known to have the mechanism: SIGQUIT ends a process that does not handle it.

Source: the JDK's src/hotspot/os/posix/attachListener_posix.cpp and VirtualMachineImpl.java (Linux).
"""

import contextlib
import os
import secrets
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

# How long a JVM may take for each step: it answers at a safepoint.
WAIT_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.05
_ANSWER_BYTES_MAX: Final = 1 << 16
_MAPS_BYTES_MAX: Final = 1 << 22
# Places for the jar, which lies there until it is loaded.
_DIRECTORIES: Final = ("/dev/shm", "/tmp")
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class AttachError(Exception):
    """The agent is not in the process. One sentence, which is the reason in the coverage."""


def read_target(status: str, maps: bytes) -> tuple[int, int, int]:
    """User, group, and number in its own namespace of a JVM that can be attached to, given texts of its directory in
    /proc. Raises AttachError."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if b"/libj9vm" in maps:
        raise AttachError("OpenJ9 is not read: the Java agent needs HotSpot.")
    if not int(fields["SigCgt"], 16) >> (signal.SIGQUIT - 1) & 1:
        raise AttachError("This JVM does not handle SIGQUIT (-Xrs), so nothing can be attached to it.")
    # Real, effective, saved, of files; the JVM compares with its effective ones.
    user, group = (int(fields[name].split()[1]) for name in ("Uid", "Gid"))
    return user, group, int(fields.get("NSpid", fields["Pid"]).split()[-1])


def attach(proc: str, pid: int, jar: bytes) -> None:
    """Raises AttachError, OSError. Changes who this process is and where its root is."""
    directory = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    user, group, number = read_target(
        _read(directory, "status", 1 << 16).decode(errors="replace"), _read(directory, "maps", _MAPS_BYTES_MAX)
    )
    os.chdir(f"{proc}/{pid}/root")
    os.chroot(".")
    os.chdir("/")
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    with _put_jar(jar) as path:
        answer = _ask(_listen(directory, pid, user, number), path)
    # `0`, then what the library that starts agents says.
    lines = answer.split()
    if not lines or lines[0] != b"0" or lines[-1] != b"0":
        raise AttachError(f"This JVM refused the Java agent: {answer[:100].decode(errors='replace').strip()!r}.")


def _read(directory: int, name: str, bytes_max: int) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), "rb") as file:
        return file.read(bytes_max)


@contextlib.contextmanager
def _put_jar(content: bytes) -> Iterator[str]:
    error = OSError("no directory")
    for directory in _DIRECTORIES:
        path = f"{directory}/apidae-{secrets.token_hex(8)}.jar"
        try:
            descriptor = os.open(path, _FRESH, 0o600)
        except OSError as failed:
            error = failed
            continue
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            yield path
        finally:
            os.unlink(path)  # noqa: PTH108
        return
    raise AttachError(f"The Java agent has no place at {' or '.join(_DIRECTORIES)} of this process: {error.strerror}.")


def _listen(directory: int, pid: int, user: int, number: int) -> socket.socket:
    """A connection to the JVM, which begins to listen when it is asked to."""
    path, request = f"/tmp/.java_pid{number}", f"/tmp/.attach_pid{number}"
    if not _is_socket(path, user):
        os.close(os.open(request, _FRESH, 0o600))
        try:
            signal.pidfd_send_signal(directory, signal.SIGQUIT)
            end = time.monotonic() + WAIT_SECONDS
            while not _is_socket(path, user):
                if time.monotonic() > end:
                    raise AttachError("This JVM does not let anybody attach (-XX:+DisableAttachMechanism), or is busy.")
                time.sleep(_PAUSE_SECONDS)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(request)  # noqa: PTH108
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(WAIT_SECONDS)
    connection.connect(path)
    (peer,) = struct.unpack_from("i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if peer != pid:
        raise AttachError(
            f"Process {peer} listens in place of this JVM, or has another number in the sensor's namespace."
        )
    return connection


def _is_socket(path: str, user: int) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == user


def _ask(connection: socket.socket, jar: str) -> bytes:
    """The answer to the command that loads the agent."""
    with connection:
        words = ("1", "load", "instrument", "false", jar)  # The protocol's version, command, library, no path, agent.
        connection.sendall(b"".join(word.encode() + b"\0" for word in words))
        answer = b""
        while len(answer) < _ANSWER_BYTES_MAX and (more := connection.recv(4_096)):
            answer += more
        return answer


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(1)  # What was written is removed on the way.


def main(proc: str, pid: str, jar: str) -> int:
    """1 where it failed, with the reason as the last line of standard error."""
    signal.signal(signal.SIGTERM, _end)
    try:
        attach(proc, int(pid), Path(jar).read_bytes())
    except AttachError as error:
        print(error, file=sys.stderr)
    except (OSError, KeyError, ValueError) as error:
        print(f"The Java agent could not be attached: {error}.", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

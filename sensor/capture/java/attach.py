"""Puts the Java agent into a running JVM by HotSpot's attach mechanism: `python -m sensor.capture.java.attach`.

The sensor starts it as a program of its own for each JVM, with the process, a descriptor of its directory in /proc, the
cgroup that consents, and the jar. It reads the exit code, and the last line of standard error where it failed.

A JVM is not trusted. Before anything is written or opened that the JVM's user may have put there, the program has the
JVM's root directory and user, no capability, and imports nothing more: it runs one list of calls. Directories are
resolved before that, on file systems of the kernel's own only, so none makes it wait for ever. It refuses what is not
known to have the mechanism: SIGQUIT ends a process that does not handle it, and means something else to many.

The jar's name stays taken as long as the JVM lives, because the JVM may open it once more: by an empty file of the
JVM's user, which the agent removes when the JVM ends.

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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Final

from sensor.capture.java.search import read_at, read_cgroup, read_start
from sensor.core.sandbox import forbid_tracing, give_up_capabilities
from sensor.enrich.user_files import UserTree

# All of it: a JVM answers at a safepoint.
SECONDS_MAX: Final = 45
# How long a JVM may take to begin to listen.
LISTEN_SECONDS: Final = 15.0
# Exit codes. ASKED: it failed after the JVM was asked to load the jar, so it is never asked again.
ATTACHED, FAILED, ASKED = 0, 1, 2
_PAUSE_SECONDS: Final = 0.05
_ANSWER_BYTES_MAX: Final = 1 << 16
_STATUS_BYTES_MAX: Final = 1 << 16
_MAPS_BYTES_MAX: Final = 1 << 22
_THREADS_MAX: Final = 1 << 16
_NAMES_MAX: Final = 1 << 16
# Places for the jar; the second is where the JVM listens.
_MEMORY, _TEMPORARY = "/dev/shm", "/tmp"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLER: Final = b"Signal Dispatch"  # The thread of HotSpot that SIGQUIT wakes up; names have 15 bytes.
_LAUNCHER: Final = b"/libjli.so"  # Of the JDK: a program that embeds a JVM has its own handlers.
_FORBIDDEN: Final = b"+DisableAttachMechanism"


class AttachError(Exception):
    """The agent is not in the process. One sentence, which is the reason in the coverage."""


class AskedError(AttachError):
    """The JVM was asked to load the agent, and may do it late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A JVM that can be attached to."""

    user: int
    group: int
    number: int  # In its own namespace.


def read_target(status: str, maps: bytes, threads: frozenset[bytes], options: bytes) -> Target:
    """Given texts of its directory in /proc: `threads` are names, `options` its command line and environment. Raises
    AttachError."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if b"/libj9vm" in maps:
        raise AttachError("OpenJ9 is not read: the Java agent needs HotSpot.")
    if _FORBIDDEN in options:
        raise AttachError("This JVM lets nobody attach (-XX:+DisableAttachMechanism).")
    if _LAUNCHER not in maps:
        raise AttachError("This program embeds a JVM, and only what a launcher of the JDK started is attached to.")
    if not int(fields["SigCgt"], 16) >> (signal.SIGQUIT - 1) & 1 or _HANDLER not in threads:
        raise AttachError("This JVM does not handle SIGQUIT (-Xrs), so nothing can be attached to it.")
    # Real, effective, saved, of files; the JVM compares with its effective ones.
    user, group = (int(fields[name].split()[1]) for name in ("Uid", "Gid"))
    return Target(user=user, group=group, number=int(fields.get("NSpid", fields["Pid"]).split()[-1]))


def list_threads(directory: int) -> frozenset[bytes]:
    """Names of a process's threads. Raises OSError."""
    tasks = os.open("task", _DIRECTORY, dir_fd=directory)
    try:
        names = set()
        with os.scandir(tasks) as entries:
            for entry in islice(entries, _THREADS_MAX):
                with contextlib.suppress(OSError):  # It has ended.
                    names.add(read_at(tasks, f"{entry.name}/comm", 32).strip())
        return frozenset(names)
    finally:
        os.close(tasks)


def attach(pid: int, directory: int, cgroup: str, jar: bytes) -> None:
    """Raises AttachError, OSError. Changes for good who this process is, where its root is and what it may do."""
    options = read_at(directory, "cmdline", _MAPS_BYTES_MAX) + b"\0" + read_at(directory, "environ", _MAPS_BYTES_MAX)
    status = read_at(directory, "status", _STATUS_BYTES_MAX).decode(errors="replace")
    target = read_target(status, read_at(directory, "maps", _MAPS_BYTES_MAX), list_threads(directory), options)
    prefix = f"apidae-{target.number}-{read_start(directory)}-"
    way = f"/proc/self/fd/{directory}"
    tree = UserTree(Path(f"{way}/root"), Path(f"{way}/mountinfo"))
    places = {}
    for name in (_MEMORY, _TEMPORARY):
        with contextlib.suppress(OSError):
            places[name] = tree.open_directory(name)
    if _TEMPORARY not in places:
        raise AttachError("This JVM's /tmp cannot be used: it needs to be a directory on a local file system.")
    root = os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    # It is the process that consent covers, still there.
    if read_cgroup(directory) != cgroup:
        raise AttachError("This JVM was moved to another cgroup.")
    _enter(root, target)
    _check_not_loaded(places.values(), prefix, target.user)
    with _listen(places[_TEMPORARY], directory, pid, target) as connection, _put_jar(places, prefix, jar) as path:
        answer = ask(connection, path)
    # `0`, then what the library that starts agents says.
    lines = answer.split()
    if not lines or lines[0] != b"0" or lines[-1] != b"0":
        said = answer[:100].decode(errors="replace").strip()
        raise AskedError(f"This JVM loaded the Java agent, which did not start, or refused it: {said!r}.")


def _enter(root: int, target: Target) -> None:
    """From here on the program is the JVM's user in its root directory. Nothing is imported any more: it would come
    from there."""
    sys.path[:] = []
    sys.meta_path.clear()
    forbid_tracing()
    os.fchdir(root)
    os.chroot(".")
    os.setgroups([])
    os.setresgid(target.group, target.group, target.group)
    os.setresuid(target.user, target.user, target.user)
    forbid_tracing()  # Another user may be traced again.
    give_up_capabilities()


def _check_not_loaded(places: Iterable[int], prefix: str, user: int) -> None:
    for place in places:
        try:
            names = os.open(".", _DIRECTORY, dir_fd=place)
        except OSError:
            continue
        try:
            with os.scandir(names) as entries:
                found = [entry.name for entry in islice(entries, _NAMES_MAX) if entry.name.startswith(prefix)]
        finally:
            os.close(names)
        if any(_find_owner(place, name) == user for name in found):
            raise AskedError("This JVM was asked to load the Java agent before, and has none: restart the JVM.")


def _find_owner(place: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=place, follow_symlinks=False).st_uid
    except OSError:
        return -1


@contextlib.contextmanager
def _put_jar(places: Mapping[str, int], prefix: str, content: bytes) -> Iterator[str]:
    name, error = f"{prefix}{secrets.token_hex(8)}.jar", OSError("no directory")
    for directory, place in places.items():
        try:
            _write(place, name, content)
        except OSError as failed:
            error = failed
            continue
        try:
            yield f"{directory}/{name}"
        finally:
            _keep_name(place, name)
        return
    raise AttachError(f"The Java agent has no place at {' or '.join(places)} of this process: {error.strerror}.")


def _write(place: int, name: str, content: bytes) -> None:
    descriptor = os.open(name, _FRESH, 0o400, dir_fd=place)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        os.unlink(name, dir_fd=place)
        raise


def _keep_name(place: int, name: str) -> None:
    """An empty file in place of the jar. Where that fails, the jar stays."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        empty = f"{name}.empty"
        os.close(os.open(empty, _FRESH, 0o400, dir_fd=place))
        os.rename(empty, name, src_dir_fd=place, dst_dir_fd=place)


def _listen(place: int, directory: int, pid: int, target: Target) -> socket.socket:
    """A connection to the JVM, which begins to listen when it is asked to."""
    path, request = f".java_pid{target.number}", f".attach_pid{target.number}"
    if not _is_socket(place, path, target.user):
        os.close(os.open(request, _FRESH, 0o600, dir_fd=place))
        try:
            signal.pidfd_send_signal(directory, signal.SIGQUIT)
            end = time.monotonic() + LISTEN_SECONDS
            while not _is_socket(place, path, target.user):
                if time.monotonic() > end:
                    raise AttachError("This JVM does not begin to listen: it lets nobody attach, or is busy.")
                time.sleep(_PAUSE_SECONDS)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(request, dir_fd=place)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.fchdir(place)
    connection.connect(path)
    check_peer(connection, pid)
    return connection


def check_peer(connection: socket.socket, pid: int) -> None:
    """Raises AttachError where another process listens in place of the JVM."""
    (peer,) = struct.unpack_from("i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if peer != pid:
        raise AttachError(
            f"Process {peer} listens in place of this JVM, or has another number in the sensor's namespace."
        )


def _is_socket(place: int, name: str, user: int) -> bool:
    try:
        status = os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == user


def ask(connection: socket.socket, jar: str) -> bytes:
    """The answer to the command that loads the agent. Raises AskedError where there is none."""
    words = ("1", "load", "instrument", "false", jar)  # The protocol's version, command, library, no path, agent.
    answer = b""
    try:
        connection.sendall(b"".join(word.encode() + b"\0" for word in words))
        while len(answer) < _ANSWER_BYTES_MAX and (more := connection.recv(4_096)):
            answer += more
    except (OSError, AttachError) as error:
        raise AskedError(f"This JVM was asked to load the Java agent, and did not answer: {error}") from None
    return answer


def _end(number: int, frame: FrameType | None) -> None:
    """What was written is put in order on the way."""
    raise AttachError(f"This JVM did not answer within {SECONDS_MAX} s, or the sensor ended.")


def main(pid: str, directory: str, cgroup: str, jar: str) -> int:
    """The exit code; where it failed, the reason is the last line of standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(SECONDS_MAX)
    code, reason = ATTACHED, ""
    try:
        attach(int(pid), int(directory), cgroup, Path(jar).read_bytes())
    except AttachError as error:
        code, reason = ASKED if isinstance(error, AskedError) else FAILED, str(error)
    except Exception as error:
        code, reason = FAILED, f"The Java agent could not be attached: {error}."
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{reason}\n".encode(errors="replace"))
    return code


if __name__ == "__main__":
    # Without what the interpreter does at its end: its modules would come from the JVM's root directory.
    os._exit(main(*sys.argv[1:]))

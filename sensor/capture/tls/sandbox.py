"""Searches files of others in processes without rights, which return nothing but places for probes.

`FileSearcher` is used by the sensor's thread. It starts `serve` as a program of its own, which reads no file: it forks
a process for each one and passes its descriptor. So no file can change what is found in another. The program ends when
it is not used for a while.

The process has no capabilities, cannot get any, and can do nothing but read the descriptor: a seccomp filter refuses
every other system call. Its memory and processor time are bounded. What it returns is not trusted either:
`sensor.capture.tls.attacher` compares the bytes at each place before a probe goes in.

Sources: prctl(2), seccomp(2), capabilities(7), include/uapi/linux/audit.h.
"""

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Final

import msgspec
import numpy.ma  # noqa: F401 - numpy imports it at its first use, and a confined process opens no file.

from sensor.capture.tls.finder import Found, search_file

# Of one file: data (RLIMIT_DATA), processor time, and time by the clock, on a node that is busy.
MEMORY_BYTES_MAX: Final = 256 << 20
FILE_SECONDS_MAX: Final = 10.0
ANSWER_SECONDS_MAX: Final = 60.0
IDLE_SECONDS: Final = 30.0
_REPLY_BYTES_MAX: Final = 1 << 20
_NAME_BYTES_MAX: Final = 4_096


class SearchError(Exception):
    """A file could not be searched: it took too much, or it ended its worker. One sentence."""


class _Answer(msgspec.Struct):
    found: Found | None = None
    error: str = ""
    is_os_error: bool = False


_REFUSED: Final = msgspec.msgpack.encode(
    _Answer(
        error=f"the file took more than {FILE_SECONDS_MAX:.0f} s or {MEMORY_BYTES_MAX >> 20} MB, or ended its search"
    )
)


class FileSearcher:
    """One thread at a time."""

    def __init__(self) -> None:
        """Starts nothing before the first search."""
        self._program: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._used_at = 0.0

    def search(self, fd: int, name: str) -> Found:
        """As `search_file`, of an open file. Raises OSError where it cannot be read, SearchError where it cannot be
        searched within the bounds."""
        link = self._open()
        self._used_at = time.monotonic()
        try:
            socket.send_fds(link, [name.encode("utf-8", "replace")[:_NAME_BYTES_MAX]], [fd])
            answer = msgspec.msgpack.decode(link.recv(2 * _REPLY_BYTES_MAX), type=_Answer)
        except (OSError, msgspec.DecodeError) as error:
            self.close()
            raise SearchError(f"the program that searches files gave no answer ({error})") from error
        if answer.found is not None:
            return answer.found
        raise OSError(answer.error) if answer.is_os_error else SearchError(answer.error)

    def close_idle(self) -> None:
        """Ends the program where nothing was searched for a while."""
        if self._program is not None and time.monotonic() - self._used_at > IDLE_SECONDS:
            self.close()

    def close(self) -> None:
        """Ends the program, and waits for it."""
        if self._socket is not None:
            self._socket.close()
        if self._program is not None:
            self._program.kill()
            self._program.wait()
        self._program = self._socket = None

    def _open(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REPLY_BYTES_MAX)
        ours.settimeout(2 * ANSWER_SECONDS_MAX)
        with theirs:
            self._program = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # Libraries of numpy start threads, which a fork would not have.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._socket = ours
        return ours


def serve(link: socket.socket) -> None:
    """The program: has each file searched by a process of its own until its other end is closed. It reads no file."""
    give_up_capabilities()
    gc.freeze()  # Pages that nobody writes are not copied.
    while True:
        task, descriptors, _, _ = socket.recv_fds(link, _NAME_BYTES_MAX * 2, 1)
        if not descriptors:
            return
        link.send(_search_apart(descriptors[0], task.decode("utf-8", "replace")) or _REFUSED)
        os.close(descriptors[0])


def _search_apart(fd: int, name: str) -> bytes:
    """The encoded answer; empty where there is none."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            _write_all(writing, msgspec.msgpack.encode(_answer(fd, name)))
        os._exit(0)
    os.close(writing)
    try:
        return _read_all(reading, time.monotonic() + ANSWER_SECONDS_MAX)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def _read_all(fd: int, deadline: float) -> bytes:
    """What comes until the end; nothing where that is too late, or too much."""
    parts: list[bytes] = []
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(fd, 65_536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        if sum(map(len, parts)) > _REPLY_BYTES_MAX:
            break
    return b""


def _answer(fd: int, name: str) -> _Answer:
    try:
        confine()
    except OSError as error:
        return _Answer(error=error.strerror or "its rights cannot be given up")
    try:
        return _Answer(found=search_file(fd, name))
    except OSError as error:
        return _Answer(error=error.strerror or "it cannot be read", is_os_error=True)
    except MemoryError:
        return _Answer(error=f"the file took more than {MEMORY_BYTES_MAX >> 20} MB")
    except Exception as error:
        return _Answer(error=f"the search failed: {type(error).__name__}")


_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 4, 38, 22, 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_AUDIT_ARCH_X86_64: Final = 0xC000003E
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM.
# x86-64, where TLS is read at all: reading, answering, memory, time and the end.
_ALLOWED: Final = (
    *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 20, 25, 28),  # read .. madvise
    *(44, 45, 46, 47, 60, 97, 98, 160, 186, 202, 228, 231, 302, 318, 334),  # sendto .. rseq
)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


_libc: Final = ctypes.CDLL(None, use_errno=True)


def give_up_capabilities() -> None:
    """None are left, and none are to be had. Raises OSError where the kernel refuses."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), _libc.capset(header, bytes(24)))


def confine() -> None:
    """So much memory and time, and no system calls but those above. Raises OSError where the kernel refuses."""
    for limit, most in (
        (resource.RLIMIT_DATA, MEMORY_BYTES_MAX),
        (resource.RLIMIT_CPU, int(FILE_SECONDS_MAX)),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    _check(
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0),
        _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_make_filter()), 0, 0),
    )


def _check(*results: int) -> None:
    if any(results):
        raise OSError(ctypes.get_errno(), "the kernel does not let a process give up its rights")


def _make_filter() -> _Filter:
    """Classic BPF over struct seccomp_data: the number at 0, the architecture at 4."""
    load_number, load_architecture = (0x20, 0, 0, 0), (0x20, 0, 0, 4)
    program = [load_architecture, (0x15, 1, 0, _AUDIT_ARCH_X86_64), (0x06, 0, 0, _REFUSE), load_number]
    for place, number in enumerate(_ALLOWED):
        program.append((0x15, len(_ALLOWED) - place, 0, number))
    program += [(0x06, 0, 0, _REFUSE), (0x06, 0, 0, _ALLOW)]
    return _Filter(len(program), b"".join(struct.pack("=HBBI", *step) for step in program))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(socket.socket(fileno=int(sys.argv[1])))

"""Has files of others read by processes without rights, which return nothing but a small answer.

`Sandbox` is used by the sensor. It starts `serve` as a program of its own, which reads no file: it forks a worker for
each one and passes its descriptor. So no file can change what is found in another. The program ends when it is not used
for a while.

A worker has no capabilities and cannot get any. It holds two descriptors, the file and the end of a pipe for its
answer. A seccomp filter refuses every system call but those to read the one and write to the other. Its memory and
processor time are bounded. What it returns is not trusted either: its type and size are checked, and whoever asked
checks the rest.

Sources: prctl(2), seccomp(2), capabilities(7), getrlimit(2), include/uapi/linux/audit.h,
Documentation/scheduler/sched-stats.rst.
"""

import contextlib
import ctypes
import gc
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

import msgspec

from sensor.core.printable import make_printable

# Of one file, beside what the program has: memory of every kind (RLIMIT_AS).
MEMORY_BYTES_MAX: Final = 256 << 20
# Processor time of one file, and so many times as much by the clock, on a node that is busy.
FILE_SECONDS_MAX: Final = 10
BUSY_FACTOR: Final = 6
IDLE_SECONDS: Final = 30.0
# A message of a socket has at most some 200 KB where nobody raised net.core.wmem_max.
ANSWER_BYTES_MAX: Final = 1 << 17
_ARGUMENT_BYTES_MAX: Final = 4_096
# What of the environment finds modules; the rest may hold tokens. Libraries of numpy start threads, which a fork would
# not have.
VARIABLES: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
_OWN_VARIABLES: Final = {"OPENBLAS_NUM_THREADS": "1"}

# Before each answer of the program: what its worker used.
_SECONDS: Final = struct.Struct("=d")

_T = TypeVar("_T")
# What a worker does with a descriptor and a text. It may raise OSError where the file cannot be read.
Task = Callable[[int, str], _T]


class SandboxError(Exception):
    """A file could not be read: it took too much, or it ended its worker. One sentence."""


class NoAnswerError(SandboxError):
    """The program that starts workers gave no answer, through no fault of the file."""


class _Answer(msgspec.Struct):
    content: bytes = b""
    error: str = ""
    is_os_error: bool = False


_REFUSED: Final = msgspec.msgpack.encode(_Answer(error="the file took too much time or memory, or ended its worker"))


class Sandbox:
    """One thread at a time."""

    def __init__(self, *tasks: Task[Any], seconds_max: int = FILE_SECONDS_MAX) -> None:
        """Starts nothing before the first file. `tasks` are functions of modules; `seconds_max`: of processor time, of
        a file."""
        self._numbers = {task: number for number, task in enumerate(tasks)}
        self._decoders = {
            task: msgspec.msgpack.Decoder(get_type_hints(task, include_extras=True)["return"]) for task in tasks
        }
        self._seconds_max = seconds_max
        self._program: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._used_at = 0.0
        # Of the last file. Waiting for a processor is no doing of a file's; where nobody answered, all time is taken.
        self.used_seconds = 0.0

    def run(self, task: Task[_T], fd: int, argument: str) -> _T:
        """What the task makes of an open file. Raises OSError where it cannot be read, SandboxError where it cannot be
        read within the bounds."""
        link = self._open()
        self._used_at = time.monotonic()
        try:
            request = bytes([self._numbers[task]]) + argument.encode("utf-8", "replace")[:_ARGUMENT_BYTES_MAX]
            socket.send_fds(link, [request], [fd])
            reply = link.recv(2 * ANSWER_BYTES_MAX)
        except OSError:
            reply = b""
        if not reply:
            self.close()
            self.used_seconds = time.monotonic() - self._used_at
            raise NoAnswerError("the program that reads files gave no answer")
        (self.used_seconds,) = _SECONDS.unpack_from(reply)
        try:
            answer = msgspec.msgpack.decode(reply[_SECONDS.size :], type=_Answer)
            if not answer.error:
                found: _T = self._decoders[task].decode(answer.content)
                return found
        except (ValueError, RecursionError) as error:  # Of msgspec, and of text that is not UTF-8.
            raise SandboxError("the worker of the file gave an answer of another form") from error
        error_text = make_printable(answer.error)
        raise OSError(error_text) if answer.is_os_error else SandboxError(error_text)

    def close_idle(self) -> None:
        """Ends the program where no file was read for a while."""
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
        ours.settimeout(2 * BUSY_FACTOR * self._seconds_max)
        names = [f"{task.__module__}:{task.__name__}" for task in self._numbers]
        with theirs:
            self._program = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(self._seconds_max), *names],
                pass_fds=[theirs.fileno()],
                env={name: os.environ[name] for name in VARIABLES if name in os.environ} | _OWN_VARIABLES,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._socket = ours
        return ours


def serve(link: socket.socket, tasks: list[Task[Any]], seconds_max: int) -> None:
    """The program: has each file read by a worker of its own until its other end is closed. It reads no file."""
    give_up_capabilities()
    gc.freeze()  # Pages that nobody writes are not copied.
    while True:
        request, descriptors, _, _ = socket.recv_fds(link, _ARGUMENT_BYTES_MAX * 2, 1)
        if not descriptors:
            return
        argument = request[1:].decode("utf-8", "replace")
        answer, used_seconds = run_apart(tasks[request[0]], descriptors[0], argument, seconds_max)
        link.send(_SECONDS.pack(used_seconds) + (answer or _REFUSED))
        os.close(descriptors[0])


def run_apart(task: Task[Any], fd: int, argument: str, seconds_max: int) -> tuple[bytes, float]:
    """The encoded answer of a worker, empty where there is none, and the seconds that it ran or waited for the file."""
    reading, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            # Nothing else: neither the log, nor the sensor's socket, on which a later answer could be given already.
            os.dup2(fd, 0)
            os.dup2(writing, 1)
            os.closerange(2, os.sysconf("SC_OPEN_MAX"))
            _write_all(1, msgspec.msgpack.encode(_make_answer(task, 0, argument, seconds_max)))
        os._exit(0)
    os.close(writing)
    try:
        answer = _read_all(reading, began + BUSY_FACTOR * seconds_max)
        return answer, max(0.0, time.monotonic() - began - _read_delay(pid))
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _read_delay(pid: int) -> float:
    """Seconds for which a process was ready to run and had no processor; 0 where the kernel does not count them."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def _read_all(fd: int, deadline: float) -> bytes:
    """What comes until the end; nothing where that is too late, or too much."""
    parts: list[bytes] = []
    waiting = select.poll()  # A sensor may have more open files than `select` takes.
    waiting.register(fd, select.POLLIN)
    while waiting.poll(max(0.0, deadline - time.monotonic()) * 1e3):
        part = os.read(fd, 65_536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        if sum(map(len, parts)) > ANSWER_BYTES_MAX:
            break
    return b""


def _make_answer(task: Task[Any], fd: int, argument: str, seconds_max: int) -> _Answer:
    try:
        confine(seconds_max)
    except OSError as error:
        return _Answer(error=error.strerror or "its rights cannot be given up")
    try:
        return _Answer(content=msgspec.msgpack.encode(task(fd, argument)))
    except OSError as error:
        return _Answer(error=error.strerror or "it cannot be read", is_os_error=True)
    except MemoryError:
        return _Answer(error=f"the file took more than {MEMORY_BYTES_MAX >> 20} MB")
    except Exception as error:
        return _Answer(error=f"reading the file failed: {type(error).__name__}")


_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 4, 38, 22, 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM.
# By machine, its AUDIT_ARCH and the numbers of: read, write, close, fstat, lseek, pread64; mmap, mprotect, munmap, brk,
# mremap, madvise; rt_sigaction, rt_sigprocmask, rt_sigreturn; futex, clock_gettime, getrandom; exit, exit_group.
# What takes the id of another process is not among them, as prlimit64: root's would be within reach.
_ALLOWED: Final = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 17, 9, 10, 11, 12, 25, 28, 13, 14, 15, 202, 228, 318, 60, 231),
    ),
    "aarch64": (
        0xC00000B7,
        (63, 64, 57, 80, 62, 67, 222, 226, 215, 214, 216, 233, 134, 135, 139, 98, 113, 278, 93, 94),
    ),
}


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


_libc: Final = ctypes.CDLL(None, use_errno=True)


def give_up_capabilities() -> None:
    """None are left, and none are to be had. Raises OSError where the kernel refuses."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), _libc.capset(header, bytes(24)))


def forbid_tracing() -> None:
    """From now on, or until this process changes its user, only who has CAP_SYS_PTRACE reads or traces it. Raises
    OSError where the kernel refuses."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def confine(seconds_max: int) -> None:
    """So much memory and time, and no system calls but those above; where memory is short, the kernel ends this process
    before the sensor. Raises OSError where the kernel refuses."""
    with contextlib.suppress(OSError):  # Not every user may.
        Path("/proc/self/oom_score_adj").write_text("1000")
    has_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    for limit, most in (
        (resource.RLIMIT_AS, has_bytes + MEMORY_BYTES_MAX),
        (resource.RLIMIT_CPU, seconds_max),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    forbid_tracing()
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_make_filter()), 0, 0))


def _check(*results: int) -> None:
    if any(results):
        raise OSError(ctypes.get_errno(), "the kernel does not let a process give up its rights")


def _make_filter() -> _Filter:
    """Classic BPF over struct seccomp_data: the number at 0, the architecture at 4. Raises OSError."""
    architecture, allowed = _ALLOWED.get(platform.machine(), (0, ()))
    if not allowed:
        raise OSError(f"no filter of system calls is known for {platform.machine()}")
    load_number, load_architecture = (0x20, 0, 0, 0), (0x20, 0, 0, 4)
    program = [load_architecture, (0x15, 1, 0, architecture), (0x06, 0, 0, _REFUSE), load_number]
    for place, number in enumerate(allowed):
        program.append((0x15, len(allowed) - place, 0, number))
    program += [(0x06, 0, 0, _REFUSE), (0x06, 0, 0, _ALLOW)]
    return _Filter(len(program), b"".join(struct.pack("=HBBI", *step) for step in program))


def find_task(name: str) -> Task[Any]:
    """The function of `module:name`."""
    module, _, function = name.partition(":")
    found: Task[Any] = getattr(import_module(module), function)
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(socket.socket(fileno=int(sys.argv[1])), [find_task(name) for name in sys.argv[3:]], int(sys.argv[2]))

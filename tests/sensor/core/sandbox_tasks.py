"""What a hostile file might make its worker do. Functions of a module, as the program of a sandbox imports them."""

import contextlib
import ctypes
import mmap
import os
import resource
import socket
import sys
import threading
import time
from typing import Any

import msgspec

from sensor.core import sandbox

NAME = "small answer"


def read_start(fd: int, argument: str) -> str:
    return f"{argument}: {os.pread(fd, 8, 0)!r}"


def take_memory(fd: int, argument: str) -> str:
    return str(len(bytearray(sandbox.MEMORY_BYTES_MAX + (1 << 20))))


def share_memory(fd: int, argument: str) -> str:
    """Memory that is no process's own, as the kernel counts it."""
    with contextlib.suppress(OSError):
        return str(len(mmap.mmap(-1, sandbox.MEMORY_BYTES_MAX + (1 << 20))))
    raise MemoryError


def take_time(fd: int, argument: str) -> str:
    while True:
        pass


def compute(fd: int, argument: str) -> str:
    """So many seconds of a processor."""
    ends_at = time.process_time() + float(argument)
    while time.process_time() < ends_at:
        pass
    return "done"


def wait(fd: int, argument: str) -> str:
    """As for a file system that is slow to answer."""
    lock = threading.Lock()
    lock.acquire()
    return str(lock.acquire(timeout=float(argument)))


def open_file(fd: int, argument: str) -> str:
    return str(os.open("/etc/passwd", os.O_RDONLY))


def run_program(fd: int, argument: str) -> str:
    os.execv("/bin/true", ["true"])


def connect(fd: int, argument: str) -> str:
    return str(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def start_process(fd: int, argument: str) -> str:
    return str(os.fork())


def signal_parent(fd: int, argument: str) -> str:
    os.kill(int(argument), 0)
    return "done"


def limit_others(fd: int, argument: str) -> str:
    """Root's limits are within reach of every process of root's."""
    resource.prlimit(int(argument), resource.RLIMIT_CPU, (3_600, 3_600))
    return "done"


def write_elsewhere(fd: int, argument: str) -> str:
    """On the log, and on every other descriptor that a worker may have been left."""
    reached = []
    for number in range(2, 64):
        with contextlib.suppress(OSError):
            os.write(number, b"forged")
            reached.append(number)
    with contextlib.suppress(OSError):
        sys.stderr.write("forged")
        sys.stderr.flush()
    return f"reached {reached}"


def answer_twice(fd: int, argument: str) -> str:
    """One that stands for the answer of the next file, on a socket."""
    libc, forged = ctypes.CDLL(None, use_errno=True), b"forged"
    sent = [number for number in range(64) if libc.send(number, forged, len(forged), 0) >= 0]
    return f"sent {sent}"


def answer_at_length(fd: int, argument: str) -> str:
    return "x" * (sandbox.ANSWER_BYTES_MAX + 1)


def answer_in_another_form(fd: int, argument: str) -> str:
    answer: Any = [{"offset": 1 << 80}] if argument == "bug" else {"a": 1}
    return answer  # type: ignore[no-any-return]


def answer_raw(fd: int, argument: str) -> str:
    """Bytes that are no answer at all."""
    os.write(1, b"\xc1" * 100)
    os._exit(0)


def answer_in_no_utf8(fd: int, argument: str) -> str:
    """A text, as its length says, of a byte that is not UTF-8."""
    os.write(1, msgspec.msgpack.encode({"content": b"\xa1\xfe"}))
    os._exit(0)


def read_environment(fd: int, argument: str) -> str:
    return str(os.environ.get(argument))


def refuse_at_length(fd: int, argument: str) -> str:
    """With a reason of its own words, which is shown."""
    os.write(1, msgspec.msgpack.encode({"error": "\x1b[31m" * 5_000, "is_os_error": bool(argument)}))
    os._exit(0)


def end(fd: int, argument: str) -> str:
    os._exit(3)

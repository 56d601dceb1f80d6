"""`apidae top` in a pseudo-terminal, read by a terminal emulator: sizes, keys, a resize, the end."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyte
import pytest

from tests.collector.cli.top.test_frame import ALERT, ENDPOINT
from tests.waiting import is_readable

DEADLINE_SECONDS = 30.0
ENDPOINTS = [
    {**ENDPOINT, "id": f"e{number}", "template": f"/n{number}", "calls": 1_000 - number, "consumers": number}
    for number in range(60)
]
ALERTS = [{**ALERT, "id": "low", "severity": "low", "title": "a low notice"}, {**ALERT, "id": "1"}]


class Answers(BaseHTTPRequestHandler):
    """The two lists."""

    def do_GET(self) -> None:
        items = ENDPOINTS if self.path.startswith("/api/v1/endpoints") else ALERTS
        body = json.dumps({"items": items, "total": len(items)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Emulator:
    """A terminal of a size, with a program in it."""

    process: subprocess.Popen[bytes]
    master: int
    screen: pyte.Screen
    written: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.stream = pyte.ByteStream(self.screen)

    def wait_for(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """The lines of the screen once they hold."""
        end = time.monotonic() + DEADLINE_SECONDS
        while not holds(list(self.screen.display)):
            assert time.monotonic() < end, "\n".join(self.screen.display)
            self.read(end - time.monotonic())
        return list(self.screen.display)

    def read(self, seconds: float) -> bool:
        """Whether there was more, or the end was not reached."""
        if is_readable(self.master, seconds):
            try:
                found = os.read(self.master, 65_536)
            except OSError:  # EIO: the program ended.
                return False
            self.written += found
            self.stream.feed(found)
        return True

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self) -> int:
        """The exit code, after all that it wrote."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self.read(end - time.monotonic()) and time.monotonic() < end:
            pass
        return self.process.wait(DEADLINE_SECONDS)


def _take_terminal() -> None:
    """As a shell starts a program in the foreground: who runs the tests may ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextlib.contextmanager
def open_top(url: str, columns: int, lines: int, **environment: str) -> Iterator[Emulator]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    kept = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-c", "from common.main import main; main()", "top", "--url", url, "--interval", "0.5"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", **environment},
        preexec_fn=_take_terminal,
    )
    os.close(slave)  # With the program's own it is closed, and who reads the other end sees the end.
    emulator = Emulator(process, master, pyte.Screen(columns, lines))
    try:
        yield emulator
        assert termios.tcgetattr(master) == kept  # What the program left (the kernel gives those of the slave).
    finally:
        process.kill()
        process.wait()
        os.close(master)


def count(lines: list[str], text: str) -> int:
    return sum(text in line for line in lines)


def is_drawn(lines: list[str]) -> bool:
    return "apidae top" in lines[0] and "quit" in lines[-1]


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40), (200, 50)])
def test_it_fits_the_terminal_and_follows_keys(url: str, columns: int, lines: int) -> None:
    with open_top(url, columns, lines) as top:
        shown = top.wait_for(is_drawn)
        assert shown[1].startswith("high") and shown[2].startswith("low")
        assert any("Calls/s ▼" in line for line in shown)
        assert "/n0 " in next(line for line in shown if "/n" in line)
        top.press("s" * 5 + "r")
        top.wait_for(lambda found: any("Consumers ▲" in line for line in found) and any("/n0 " in one for one in found))
        top.press("/n59\r")
        top.wait_for(lambda found: ["/n59 " in one for one in found if "/n" in one] == [True] and "n59" in found[-1])
        top.press("\r")
        top.wait_for(lambda found: any("apidae describe endpoint e59" in line for line in found))
        top.press("\x1b")
        top.wait_for(lambda found: not any("apidae describe" in line for line in found))
        top.press("a\r")
        top.wait_for(lambda found: any("apidae describe alert 1" in line for line in found))
        top.press("q")
        assert top.end() == 0
    assert top.written.endswith(b"\x1b[?25h\x1b[?1049l")


def test_a_resize_leaves_no_traces(url: str) -> None:
    with open_top(url, 120, 40) as top:
        top.wait_for(is_drawn)
        for columns, lines in ((80, 24), (200, 50), (80, 24)):
            top.resize(columns, lines)
            shown = top.wait_for(lambda found: is_drawn(found) and count(found, "Credentials") == 1)
            assert count(shown, "apidae top") == count(shown, "quit") == 1
            assert len(shown) == lines and max(map(len, shown)) <= columns
        os.kill(top.process.pid, signal.SIGINT)
        assert top.end() == 0


def test_the_end_by_a_signal_gives_the_terminal_back(url: str) -> None:
    with open_top(url, 80, 24) as top:
        top.wait_for(is_drawn)
        os.kill(top.process.pid, signal.SIGTERM)
        assert top.end() == 128 + signal.SIGTERM
    assert top.written.endswith(b"\x1b[?25h\x1b[?1049l")


def test_without_colours_there_are_none(url: str) -> None:
    with open_top(url, 100, 30, NO_COLOR="1") as top:
        top.wait_for(is_drawn)
        top.press("q")
        top.end()
    assert not [code for code in ("[31m", "[32m", "[36m", "[1;31m") if code.encode() in top.written]


def test_in_a_pipe_it_prints_a_table_and_ends(url: str) -> None:
    command = [sys.executable, "-c", "from common.main import main; main()", "top", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True)
    assert "\x1b" not in done.stdout and done.stdout.count("/n") == len(ENDPOINTS)

"""The terminal while `apidae top` runs: the alternate screen, single keys, and the size, also after a change.

`Terminal` owns the terminal from `open` to `close`, which leaves it as it was, whatever happens in between. `TopScreen`
draws frames on it and gives keys to the state. Keys: xterm control sequences, as all terminals, ssh and tmux send them.
"""

import codecs
import os
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

from collector.cli.top.frame import View, draw_frame
from collector.cli.top.state import State, press

ESCAPE_SECONDS = 0.05  # A key's sequence arrives together; an Escape alone does not go on.
READ_BYTES = 4_096
ENTER = "\x1b[?1049h\x1b[?25l"  # The alternate screen, without a cursor.
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
SEQUENCES = {
    "[A": "up",
    "OA": "up",
    "[B": "down",
    "OB": "down",
    "[C": "right",
    "OC": "right",
    "[D": "left",
    "OD": "left",
    "[5~": "page-up",
    "[6~": "page-down",
    "[H": "home",
    "OH": "home",
    "[1~": "home",
    "[F": "end",
    "OF": "end",
    "[4~": "end",
    "[Z": "tab",
}
NAMES = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x03": "ctrl-c"}
_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|O.)")
SIZE_DEFAULT = (80, 24)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def split_keys(text: str) -> Iterator[str]:
    """The keys in what a terminal sent; sequences of other keys are dropped."""
    place = 0
    while place < len(text):
        match = _SEQUENCE.match(text, place)
        if match is not None:
            place = match.end()
            if match[1] in SEQUENCES:
                yield SEQUENCES[match[1]]
            continue
        yield "escape" if text[place] == "\x1b" else NAMES.get(text[place], text[place])
        place += 1


class Terminal:
    """Standard input and output of a person."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._kept: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._wake: tuple[int, int] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def open(self) -> None:
        """Takes the terminal: single keys without echo, and the alternate screen. Ctrl-C stays a signal."""
        self._kept = termios.tcgetattr(self._source)
        mode = termios.tcgetattr(self._source)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        mode[6][termios.VSUSP] = b"\x00"  # A stop would leave the alternate screen to the shell.
        termios.tcsetattr(self._source, termios.TCSADRAIN, mode)
        self._wake = os.pipe()
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._note_size)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # It would end us without giving the terminal back.
                self._handlers[number] = signal.signal(number, _end)
        self.write(ENTER)

    def close(self) -> None:
        """Gives it back."""
        if self._kept is None or self._wake is None:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.write(LEAVE)
        termios.tcsetattr(self._source, termios.TCSADRAIN, self._kept)
        for descriptor in self._wake:
            os.close(descriptor)
        self._kept = self._wake = None

    def _note_size(self, number: int, frame: FrameType | None) -> None:
        if self._wake is not None:
            os.write(self._wake[1], b"\0")

    def read_size(self) -> tuple[int, int]:
        """Columns and lines now."""
        try:
            columns, lines = os.get_terminal_size(self._target)
        except OSError:
            return SIZE_DEFAULT
        return (columns, lines) if columns and lines else SIZE_DEFAULT

    def write(self, text: str) -> None:
        """All of it."""
        left = text.encode()
        while left:
            left = left[os.write(self._target, left) :]

    def wait(self, seconds: float) -> list[str] | None:
        """Keys, an empty list after a change of the size, or None when the time is over."""
        assert self._wake is not None
        ready, _, _ = select.select([self._source, self._wake[0]], [], [], max(0.0, seconds))
        if not ready:
            return None
        keys: list[str] = []
        if self._wake[0] in ready:
            os.read(self._wake[0], READ_BYTES)
        if self._source in ready:
            text = self._read()
            if text.endswith("\x1b") and select.select([self._source], [], [], ESCAPE_SECONDS)[0]:
                text += self._read()
            keys += split_keys(text)
        return keys

    def _read(self) -> str:
        found = os.read(self._source, READ_BYTES)
        return self._decoder.decode(found) if found else "\x03"  # The terminal is gone.


@dataclass(slots=True)
class TopScreen:
    """Shows views and follows keys. `show` gives it the newest figures; `wait` handles keys until the time is over."""

    terminal: Terminal
    clock: Callable[[], float] = time.monotonic
    state: State = field(default_factory=State)
    _view: View | None = None
    _rows: Sequence[str] = ()
    is_open: bool = False  # The terminal is ours.
    _answered_at: float = 0.0

    @property
    def search(self) -> str:
        """The filter, for the next question to the collector."""
        return self.state.search

    def show(self, view: View) -> None:
        """Draws it. After an error the last figures stay, dim, with the sentence above them."""
        if not self.is_open:
            self.terminal.open()
            self.is_open = True
        now = self.clock()
        if view.snapshot.error:
            stale = now - (self._answered_at or now)
            last = self._view or view
            view = replace(
                view, snapshot=last.snapshot, rates=last.rates, error=view.snapshot.error, stale_seconds=stale
            )
        else:
            self._answered_at = now
        if not self.state.is_paused:
            self._view = view
        self._draw()

    def wait(self, seconds: float) -> bool:
        """Whether the person quits."""
        end = self.clock() + seconds
        while not self.state.is_over:
            left = end - self.clock()
            if left <= 0:
                return False
            keys = self.terminal.wait(left)
            if keys is None:
                return False
            for key in keys:
                self.state = press(self.state, key, self._rows)
                if not self.state.is_over:
                    self._draw()  # The next key is about the rows that this one made.
            if not keys:
                self._draw()
        return True

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self.is_open:
            self.is_open = False
            self.terminal.close()

    def _draw(self) -> None:
        if self._view is None:
            return
        width, height = self.terminal.read_size()
        frame = draw_frame(self._view, self.state, width, height)
        self._rows = frame.rows
        console = Console(width=width + 1, force_terminal=True)
        lines = [write_line(console, line) for line in frame.lines]
        self.terminal.write(HOME + f"{END_OF_LINE}\r\n".join(lines) + END_OF_LINE + END_OF_SCREEN)


def write_line(console: Console, line: Text) -> str:
    """With the terminal's colours, or none where NO_COLOR is set."""
    with console.capture() as captured:
        console.print(line, end="", no_wrap=True, crop=False, highlight=False)
    return captured.get()


def open_screen() -> TopScreen | None:
    """On standard input and output, or None where one of them is not a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return TopScreen(Terminal(sys.stdin.fileno(), sys.stdout.fileno()))

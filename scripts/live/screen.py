"""Where a session shows itself: a live table in a terminal, plain lines in a pipe, JSON lines for programs."""

import json
import sys
from dataclasses import replace

from rich.console import Console
from rich.live import Live

from scripts.live.table import View, draw

PLAIN_SECONDS = 30.0  # Between two tables where there is no terminal to redraw.


class TerminalScreen:
    """A table that is drawn again in place; what happens is printed above it and stays in the scrollback."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop")
        self._is_started = False

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Prints the sentence above the table."""
        if event in ("seen", "stopped", "stop_failed"):
            self.close()
        self._console.print(text, highlight=False, markup=False)

    def show(self, view: View) -> None:
        """Draws the table again, as high as the terminal."""
        if not self._is_started:
            self._live.start()
            self._is_started = True
        size = self._console.size
        self._live.update(draw(replace(view, height=size.height, width=size.width)), refresh=True)

    def close(self) -> None:
        """Leaves the last table on the screen."""
        if self._is_started:
            self._live.stop()
            self._is_started = False


class PlainScreen:
    """For a pipe or a log: sentences, and a whole table every PLAIN_SECONDS."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_seconds = 0.0

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Prints the sentence."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, view: View) -> None:
        """Prints a table when it is time."""
        if view.elapsed_seconds >= self._next_seconds:
            self._next_seconds = view.elapsed_seconds + PLAIN_SECONDS
            self._console.print(draw(replace(view, width=self._console.width)))


class JsonScreen:
    """`--headless`: one JSON object a line for everything that happens."""

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Prints the event; `text` is left to people."""
        print(json.dumps({"event": event, **fields}), file=sys.stdout, flush=True)

    def show(self, view: View) -> None:
        """Nothing: the last `seen` event holds the totals."""


def choose_screen(*, is_headless: bool) -> TerminalScreen | PlainScreen | JsonScreen:
    """What fits standard output."""
    if is_headless:
        return JsonScreen()
    console = Console()
    return TerminalScreen(console) if console.is_terminal else PlainScreen(Console(width=140))

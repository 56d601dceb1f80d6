"""Where a session shows itself: `apidae top` in a terminal, plain lines in a pipe, JSON lines for programs."""

import json
import sys
from threading import Event

from rich.console import Console

from collector.cli.top.command import print_view
from collector.cli.top.frame import View
from collector.cli.top.terminal import TopScreen, open_screen

PLAIN_SECONDS = 30.0  # Between two tables where there is no terminal to redraw.
LAST_EVENTS = ("seen", "stopped", "stop_failed")


class TerminalScreen:
    """`apidae top`; what happens before and after it is printed, and stays in the scrollback."""

    def __init__(self, top: TopScreen) -> None:
        self._top = top

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Prints the sentence, where the terminal is not the table's."""
        if event in LAST_EVENTS:
            self.close()
        if not self._top.is_open:
            print(text, flush=True)

    def show(self, view: View) -> None:
        """Draws the newest figures."""
        self._top.show(view)

    def wait(self, seconds: float) -> bool:
        """Whether the person quits; keys work meanwhile."""
        return self._top.wait(seconds)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self._top.close()


class _Lines:
    """No terminal: nothing to take or to give back."""

    def __init__(self, is_stopped: Event) -> None:
        self._is_stopped = is_stopped

    def wait(self, seconds: float) -> bool:
        """Whether the session was stopped."""
        return self._is_stopped.wait(seconds)

    def close(self) -> None:
        """Nothing."""


class PlainScreen(_Lines):
    """For a pipe or a log: sentences, and a whole table every PLAIN_SECONDS."""

    def __init__(self, is_stopped: Event) -> None:
        super().__init__(is_stopped)
        self._console = Console(width=140)
        self._next_seconds = 0.0

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Prints the sentence."""
        self._console.print(text, highlight=False, markup=False)

    def show(self, view: View) -> None:
        """Prints a table when it is time."""
        if view.elapsed_seconds >= self._next_seconds:
            self._next_seconds = view.elapsed_seconds + PLAIN_SECONDS
            print_view(view)


class JsonScreen(_Lines):
    """`--headless`: one JSON object a line for everything that happens."""

    def tell(self, event: str, text: str, **fields: object) -> None:
        """Prints the event; `text` is left to people."""
        print(json.dumps({"event": event, **fields}), file=sys.stdout, flush=True)

    def show(self, view: View) -> None:
        """Nothing: the last `seen` event holds the totals."""


def choose_screen(is_stopped: Event, *, is_headless: bool) -> TerminalScreen | PlainScreen | JsonScreen:
    """What fits standard output."""
    if is_headless:
        return JsonScreen(is_stopped)
    top = open_screen()
    return PlainScreen(is_stopped) if top is None else TerminalScreen(top)

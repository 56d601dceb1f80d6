"""A bar for what takes a while: on standard error where that is a terminal, and nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """A bar on standard error where that is a terminal; nothing elsewhere."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task: Any = None
        self._find_bytes: Callable[[str], int] | None = None
        self._entry = ""
        self._done = self._of_entry = 0

    def begin(self, what: str, size: int, find_bytes: Callable[[str], int] | None = None) -> None:
        """Another bar of so many bytes; `find_bytes`: of an entry, where these are not those that `advance` gets."""
        self._find_bytes, self._entry, self._done, self._of_entry = find_bytes, "", 0, 0
        if self._bar is not None:
            self._task = self._bar.add_task(what, total=size)

    def advance(self, entry: str, size: int) -> None:
        """A part of an entry."""
        if self._bar is None:
            return
        if self._find_bytes is None:
            self._bar.advance(self._task, size)
            return
        if entry != self._entry:
            self._done += self._find_bytes(self._entry) if self._entry else 0
            self._entry, self._of_entry = entry, 0
        self._of_entry += size
        self._bar.update(self._task, completed=self._done + min(self._of_entry, self._find_bytes(entry)))


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Gone at the end of its block."""
    if not sys.stderr.isatty():
        yield Progress(None)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        yield Progress(bar)

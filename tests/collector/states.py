"""A new state for a test that takes no fixture of it: a file of SQLite, closed and deleted with the test's module."""

import tempfile
from functools import cache
from pathlib import Path

from collector.storage.state.store import FILE_NAME, StateStore, open_state

_opened: list[tuple[StateStore, tempfile.TemporaryDirectory[str]]] = []


def create_state() -> StateStore:
    """An empty one of its own."""
    directory = tempfile.TemporaryDirectory(prefix="apidae-state-")
    (Path(directory.name) / FILE_NAME).write_bytes(_read_empty())
    state = open_state(Path(directory.name))
    _opened.append((state, directory))
    return state


def close_states() -> None:
    """All that were made."""
    while _opened:
        state, directory = _opened.pop()
        state.close()
        directory.cleanup()


@cache
def _read_empty() -> bytes:
    """The file after all migrations, which take far longer than a copy."""
    with tempfile.TemporaryDirectory(prefix="apidae-state-") as directory:
        open_state(Path(directory)).close()
        return (Path(directory) / FILE_NAME).read_bytes()

"""What the person at the terminal chose: sort, filter, selection, what is expanded, paused; and what each key does.

Pure: a key in, the next state out. `rows` are the ids of what is on the screen, in order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

FILTER_CHARACTERS_MAX = 100
PAGE_ROWS = 10


class Sort(StrEnum):
    """What endpoints are sorted by; the first is the one at the start."""

    RATE = "calls/s"
    CALLS = "calls"
    ERRORS = "status"
    LATENCY = "p95 ms"
    RISK = "risk"
    CONSUMERS = "consumers"
    ENDPOINT = "endpoint"
    SERVICE = "service"


NAMES = frozenset({Sort.ENDPOINT, Sort.SERVICE})  # Sorted A to Z; all others with the most first.


class Pane(StrEnum):
    """What the rows are."""

    ENDPOINTS = "endpoints"
    ALERTS = "alerts"
    HELP = "help"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that keys change."""

    sort: Sort = Sort.RATE
    is_reversed: bool = False
    search: str = ""
    is_typing: bool = False
    pane: Pane = Pane.ENDPOINTS
    selected: str = ""  # Id of a row; the first where it is not on the screen.
    expanded: str = ""
    is_paused: bool = False
    is_over: bool = False


def press(state: State, key: str, rows: Sequence[str]) -> State:
    """The state after a key: one character, or a name such as `up`. Other keys change nothing."""
    if key == "ctrl-c":
        return replace(state, is_over=True)
    if state.is_typing:
        return _type(state, key)
    if state.pane is Pane.HELP and key not in ("q", "a"):
        return replace(state, pane=Pane.ENDPOINTS)
    if key in STEPS:
        return _move(state, rows, STEPS[key])
    change = KEYS.get(key)
    return state if change is None else change(state, rows)


def _type(state: State, key: str) -> State:
    """Of the filter, until Enter or Escape."""
    if key == "enter":
        return replace(state, is_typing=False)
    if key == "escape":
        return replace(state, is_typing=False, search="")
    if key == "backspace":
        return replace(state, search=state.search[:-1])
    if len(key) == 1 and key.isprintable():
        return replace(state, search=(state.search + key)[:FILTER_CHARACTERS_MAX])
    return state


def _move(state: State, rows: Sequence[str], step: int) -> State:
    if not rows:
        return state
    place = rows.index(state.selected) if state.selected in rows else 0
    return replace(state, selected=rows[min(max(place + step, 0), len(rows) - 1)])


def _expand(state: State, rows: Sequence[str]) -> State:
    selected = state.selected if state.selected in rows else rows[0] if rows else ""
    return replace(state, selected=selected, expanded="" if state.expanded == selected else selected)


def _leave(state: State, rows: Sequence[str]) -> State:
    """Out of what is open, the innermost first."""
    if state.expanded:
        return replace(state, expanded="")
    if state.search:
        return replace(state, search="")
    return replace(state, pane=Pane.ENDPOINTS)


def _turn(state: State, step: int) -> State:
    sorts = list(Sort)
    return replace(state, sort=sorts[(sorts.index(state.sort) + step) % len(sorts)], is_reversed=False)


def _show(state: State, pane: Pane) -> State:
    return replace(state, pane=Pane.ENDPOINTS if state.pane is pane else pane, selected="", expanded="")


MANY = 1 << 30
STEPS: Mapping[str, int] = {
    "up": -1,
    "k": -1,
    "down": 1,
    "j": 1,
    "page-up": -PAGE_ROWS,
    "page-down": PAGE_ROWS,
    "home": -MANY,
    "g": -MANY,
    "end": MANY,
    "G": MANY,
}
KEYS: Mapping[str, Callable[[State, Sequence[str]], State]] = {
    "q": lambda state, rows: replace(state, is_over=True),
    "/": lambda state, rows: replace(state, is_typing=True, pane=Pane.ENDPOINTS),
    "s": lambda state, rows: _turn(state, 1),
    "right": lambda state, rows: _turn(state, 1),
    "S": lambda state, rows: _turn(state, -1),
    "left": lambda state, rows: _turn(state, -1),
    "r": lambda state, rows: replace(state, is_reversed=not state.is_reversed),
    "enter": _expand,
    "escape": _leave,
    "a": lambda state, rows: _show(state, Pane.ALERTS),
    "tab": lambda state, rows: _show(state, Pane.ALERTS),
    "p": lambda state, rows: replace(state, is_paused=not state.is_paused),
    " ": lambda state, rows: replace(state, is_paused=not state.is_paused),
    "?": lambda state, rows: _show(state, Pane.HELP),
    "h": lambda state, rows: _show(state, Pane.HELP),
}
HELP = (
    ("q", "quit"),
    ("/", "filter: words that must all occur in method, host, path or service; Esc clears"),
    ("s S, ← →", "sort by the next or previous column"),
    ("r", "reverse the order"),
    ("↑ ↓, j k, PgUp PgDn, g G", "select a row"),
    ("Enter", "show or hide the details of the row"),
    ("a, Tab", "alerts, the gravest first, or endpoints"),
    ("p, Space", "pause or go on"),
)

"""What keys do, without a terminal."""

import pytest

from collector.cli.top.state import Pane, Sort, State, press
from collector.cli.top.terminal import split_keys

ROWS = ("a", "b", "c")


def press_all(*keys: str, state: State | None = None) -> State:
    state = state or State()
    for key in keys:
        state = press(state, key, ROWS)
    return state


@pytest.mark.parametrize(
    ("keys", "selected"),
    [
        (("down",), "b"),
        (("j", "j", "j"), "c"),
        (("down", "up"), "a"),
        (("end",), "c"),
        (("G", "g"), "a"),
        (("page-down",), "c"),
    ],
)
def test_keys_move_the_selection_within_the_rows(keys: tuple[str, ...], selected: str) -> None:
    assert press_all(*keys).selected == selected


def test_a_filter_is_typed_kept_and_cleared() -> None:
    typed = press_all("/", "q", "s", "x", "backspace", "enter")
    assert (typed.search, typed.is_typing, typed.is_over) == ("qs", False, False)
    assert press_all("escape", state=typed).search == ""
    assert press_all("/", "a", "escape") == State(search="", pane=Pane.ENDPOINTS)


def test_sorting_goes_around_and_reverses() -> None:
    assert press_all("s").sort is Sort.CALLS
    assert press_all(*"s" * len(Sort)).sort is Sort.RATE
    assert press_all("S").sort is Sort.SERVICE
    assert press_all("r").is_reversed and not press_all("r", "s").is_reversed


def test_enter_opens_and_closes_the_details() -> None:
    assert press_all("enter").expanded == "a"
    assert press_all("down", "enter").expanded == "b"
    assert press_all("enter", "enter").expanded == ""
    assert press_all("enter", "escape").expanded == ""


def test_alerts_help_pause_and_the_end() -> None:
    assert press_all("a").pane is Pane.ALERTS and press_all("a", "tab").pane is Pane.ENDPOINTS
    assert press_all("?").pane is Pane.HELP and press_all("?", "x").pane is Pane.ENDPOINTS
    assert press_all("p").is_paused and not press_all("p", " ").is_paused
    assert press_all("q").is_over and press_all("/", "ctrl-c").is_over and not press_all("/", "q").is_over


def test_rows_that_are_gone_and_no_rows_are_no_error() -> None:
    assert press(State(selected="gone"), "down", ROWS).selected == "b"
    for key in ("down", "enter", "end"):
        assert press(State(), key, ()).expanded == ""


def test_sequences_of_keys_are_split_and_unknown_ones_dropped() -> None:
    assert list(split_keys("\x1b[A\x1bOBq\x1b[5~\x1b[15~\x1b[1;5C/\r\x7f")) == [
        *("up", "down", "q", "page-up", "/", "enter", "backspace")
    ]
    assert list(split_keys("\x1b")) == ["escape"]

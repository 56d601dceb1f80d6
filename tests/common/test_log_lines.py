"""The log of both sides: text from outside stays in the line of its record."""

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.log_lines import LineFormatter, open_log

FORGED = 'no\n{"level": "info"}\n2026-11-29T08:00:00.000+00:00 INFO    collector: all is well\x1b[2K\r\u202e\x85\u2028'
ANY_TEXT = st.text(st.characters(exclude_categories=()))


def write(message: str, *arguments: object, error: Exception | None = None, is_json: bool) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(is_json=is_json))
    record = logging.LogRecord("test", logging.WARNING, "f", 1, message, arguments, None)
    if error is not None:
        try:
            raise error
        except Exception:
            record.exc_info = sys.exc_info()
    handler.handle(record)
    return stream.getvalue()


def test_what_a_sensor_says_is_no_line_of_its_own_on_a_terminal() -> None:
    written = write("The sensor on %s refused policy %d: %s", "node", 4, FORGED, is_json=False)
    assert len(written.splitlines()) == 1
    assert " WARNING test: The sensor on node refused policy 4: no\\n{" in written
    assert written.removesuffix("\n").isprintable()


def test_what_a_sensor_says_is_no_line_of_its_own_in_json() -> None:
    written = write("The sensor on %s refused policy %d: %s", "node", 4, FORGED, is_json=True)
    assert len(written.splitlines()) == 1 and written.isascii()
    line = json.loads(written)
    assert (line["level"], line["logger"]) == ("warning", "test")
    assert line["message"] == f"The sensor on node refused policy 4: {FORGED}"


@pytest.mark.parametrize("is_json", [False, True])
@given(text=ANY_TEXT)
def test_any_text_is_one_printable_line(is_json: bool, text: str) -> None:
    written = write("%s", text, is_json=is_json)
    assert written.endswith("\n") and written[:-1].isprintable()


def test_no_line_of_a_traceback_looks_like_a_record() -> None:
    head, *lines = write("it failed", error=ValueError(FORGED), is_json=False).splitlines()
    assert head.endswith(" WARNING test: it failed")
    assert len(lines) >= 3 and all(line.startswith("\t") and line[1:].isprintable() for line in lines)


def test_a_traceback_is_a_field_in_json() -> None:
    written = write("it failed", error=ValueError(FORGED), is_json=True)
    assert len(written.splitlines()) == 1 and "ValueError" in json.loads(written)["traceback"]


class _Stream(io.StringIO):
    """Standard error, on a terminal or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_program_gets_json_and_a_person_gets_text(is_terminal: bool) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    stream = _Stream(is_terminal)
    try:
        open_log("info", stream=stream)
        logging.getLogger("here").info("said")
        logging.getLogger("here").debug("not said")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    written = stream.getvalue()
    assert len(written.splitlines()) == 1
    assert written.startswith("{") is not is_terminal and "said" in written

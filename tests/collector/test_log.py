"""The collector's log: text from outside stays in the line of its record."""

import io
import logging
import sys

from hypothesis import given
from hypothesis import strategies as st

from collector.cli.commands import LineFormatter

FORGED = "no\n2026-11-29 08:00:00,000 INFO collector.server.run: all is well\x1b[2K\r\u202e"


def write(message: str, *arguments: object, error: Exception | None = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    record = logging.LogRecord("test", logging.WARNING, "f", 1, message, arguments, None)
    if error is not None:
        try:
            raise error
        except Exception:
            record.exc_info = sys.exc_info()
    handler.handle(record)
    return stream.getvalue()


def test_what_a_sensor_says_is_no_line_of_its_own() -> None:
    written = write("The sensor on %s refused policy %d: %s", "node", 4, FORGED)
    assert written.count("\n") == 1 and written.startswith("WARNING test: The sensor on node refused policy 4: no\\n")
    assert "\x1b" not in written and "\r" not in written and "\u202e" not in written


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_one_printable_line(text: str) -> None:
    written = write("%s", text)
    assert written.endswith("\n") and written[:-1].isprintable()


def test_no_line_of_a_traceback_looks_like_a_record() -> None:
    head, *lines = write("it failed", error=ValueError(FORGED)).splitlines()
    assert head == "WARNING test: it failed"
    assert len(lines) >= 3 and all(line.startswith("\t") for line in lines)
    assert "\x1b" not in "".join(lines)

"""Lines of the log: JSON for programs, escaped text for a terminal. Both sides write their logs so.

Messages hold text from outside: names, paths, and what a peer gives as a reason. A line end in it would begin a line of
its own, and an escape sequence would steer the terminal of whoever reads the log. So one record is one line, whatever
its message holds. Only a traceback on a terminal has more lines, and each of them begins with a tab.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

_LEVEL_WIDTH: Final = 7  # Of "WARNING", so that loggers stand in one column.

DescribeFailure = Callable[[BaseException], str]


class LineFormatter(logging.Formatter):
    """Of a record its time (RFC 3339), level, logger and message; of a failure its traceback too, and how often it came
    so far where somebody counts that (`record.failures`)."""

    def __init__(self, *, is_json: bool, describe_failure: DescribeFailure | None = None) -> None:
        """`describe_failure` gives the text of an exception; by default Python's traceback with all messages."""
        super().__init__()
        self._is_json = is_json
        self._describe_failure = describe_failure or self._describe_traceback

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            if (failures := getattr(record, "failures", None)) is not None:
                line["failures"] = failures
            line["traceback"] = self._describe_failure(error)
        return json.dumps(line) if self._is_json else _write_text(line)

    def _describe_traceback(self, error: BaseException) -> str:
        return self.formatException((type(error), error, error.__traceback__))


def _write_text(line: dict[str, Any]) -> str:
    level = line["level"].upper().ljust(_LEVEL_WIDTH)
    lines = [escape(f"{line['time']} {level} {line['logger']}: {line['message']}")]
    lines += (f"\t{escape(text)}" for text in line.get("traceback", "").splitlines())
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text with its line ends, escape sequences and other unprintable characters written as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def open_log(
    level: str,
    *,
    stream: TextIO | None = None,
    describe_failure: DescribeFailure | None = None,
    record_filter: logging.Filter | None = None,
) -> None:
    """Sends all records from `level` on to `stream` (standard error), in place of what was configured before."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(is_json=not stream.isatty(), describe_failure=describe_failure))
    if record_filter is not None:
        handler.addFilter(record_filter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)

"""What a failing program tells of itself: stack traces and errors of databases, in any text. A table; pure.

Each form is that of a runtime or database of its own, with the words that only it writes.
"""

import re
from dataclasses import dataclass
from typing import Final

from sensor.classify.sensitive.kinds import DataKind


@dataclass(frozen=True, slots=True)
class Leak:
    """One way to complain. `sign` is of RE2 (sensor.classify.sensitive.signs)."""

    kind: DataKind
    sign: str
    pattern: re.Pattern[str]


LEAKS: Final = tuple(
    Leak(kind, sign, re.compile(pattern))
    for kind, sign, pattern in (
        (DataKind.STACK_TRACE, r"Traceback \(", r"Traceback \(most recent call last\)"),
        (DataKind.STACK_TRACE, r'File "[^"\n]+", line \d', r'File "[^"\n]{1,200}", line \d+, in '),
        # The JVM's languages, JavaScript, .NET.
        (
            DataKind.STACK_TRACE,
            r"at [^()\n]+\([^()\n]+\.[a-z]+:\d",
            r"\bat [\w.$/<>]{3,200}\([\w$]{1,100}\.(?:java|kt|scala|groovy|clj):\d+\)",
        ),
        (DataKind.STACK_TRACE, r"at [^()\n]+ \([^()\n]+:\d", r"\bat [^()\n]{1,200} \([^()\n]{1,200}:\d+:\d+\)"),
        (DataKind.STACK_TRACE, r":line \d", r"\.(?:cs|vb|fs):line \d+"),
        (DataKind.STACK_TRACE, r"goroutine \d", r"goroutine \d+ \[[a-z ]+"),
        (DataKind.STACK_TRACE, r"\.php(?:[(:]\d| on line )", r"\.php(?:\(\d+\)|:\d+| on line \d+)"),
        (DataKind.STACK_TRACE, r"\.rb:\d", r"\.rb:\d+:in [`']"),
        (DataKind.STACK_TRACE, r"panicked at", r"thread '[^'\n]{1,80}' (?:\(\d+\) )?panicked at"),
        (DataKind.DATABASE_ERROR, r"SQL syntax", r"error in your SQL syntax"),
        (DataKind.DATABASE_ERROR, r"ORA-\d", r"\bORA-\d{5}\b"),
        (DataKind.DATABASE_ERROR, r"SQLSTATE", r"SQLSTATE[\[:= ]{1,2}[0-9A-Z]{5}"),
        (
            DataKind.DATABASE_ERROR,
            r"syntax error",
            r'syntax error at or near "|near "[^"\n]{0,80}": syntax error',
        ),
        (DataKind.DATABASE_ERROR, r"quotation mark", r"Unclosed quotation mark after the character string"),
        (DataKind.DATABASE_ERROR, r"E11000", r"E11000 duplicate key error"),
        (DataKind.DATABASE_ERROR, r'" does not exist', r'(?:relation|column) "[^"\n]{1,80}" does not exist'),
    )
)

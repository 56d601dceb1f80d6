"""What a failing program tells of itself: stack traces and errors of databases, in any text. Pure.

Each form is that of a runtime or database of its own, with the words that only it writes.
"""

import re
from typing import Final

from sensor.classify.sensitive.kinds import DataKind

# Word that must occur, and the form.
_FORMS: Final = tuple(
    (kind, hint, re.compile(pattern))
    for kind, hint, pattern in (
        (DataKind.STACK_TRACE, "Traceback", r"Traceback \(most recent call last\)"),
        (DataKind.STACK_TRACE, 'File "', r'File "[^"\n]{1,200}", line \d+, in '),
        # The JVM's languages, JavaScript, .NET.
        (DataKind.STACK_TRACE, "at ", r"\bat [\w.$/<>]{3,200}\([\w$]{1,100}\.(?:java|kt|scala|groovy|clj):\d+\)"),
        (DataKind.STACK_TRACE, "at ", r"\bat [^()\n]{1,200} \([^()\n]{1,200}:\d+:\d+\)"),
        (DataKind.STACK_TRACE, ":line ", r"\.(?:cs|vb|fs):line \d+"),
        (DataKind.STACK_TRACE, "goroutine ", r"goroutine \d+ \[[a-z ]+"),
        (DataKind.STACK_TRACE, ".php", r"\.php(?:\(\d+\)|:\d+| on line \d+)"),
        (DataKind.STACK_TRACE, ".rb:", r"\.rb:\d+:in [`']"),
        (DataKind.STACK_TRACE, "panicked at", r"thread '[^'\n]{1,80}' (?:\(\d+\) )?panicked at"),
        (DataKind.DATABASE_ERROR, "SQL syntax", r"error in your SQL syntax"),
        (DataKind.DATABASE_ERROR, "ORA-", r"\bORA-\d{5}\b"),
        (DataKind.DATABASE_ERROR, "SQLSTATE", r"SQLSTATE[\[:= ]{1,2}[0-9A-Z]{5}"),
        (DataKind.DATABASE_ERROR, "syntax error", r'syntax error at or near "|near "[^"\n]{0,80}": syntax error'),
        (DataKind.DATABASE_ERROR, "quotation mark", r"Unclosed quotation mark after the character string"),
        (DataKind.DATABASE_ERROR, "E11000", r"E11000 duplicate key error"),
        (DataKind.DATABASE_ERROR, "does not exist", r'(?:relation|column) "[^"\n]{1,80}" does not exist'),
    )
)  # fmt: skip


def find_leaks(text: str) -> set[DataKind]:
    """Kinds of traces in a text. Cost: 1 us a text without any."""
    if " " not in text:  # Programs complain in sentences.
        return set()
    return {kind for kind, hint, pattern in _FORMS if hint in text and pattern.search(text)}

"""Finds and blanks what a pattern of Python names in texts of the state. Both databases know other patterns."""

import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, select, update

ERASED: Final = "erased"


def find_mentions(connection: Connection, table: Table, columns: Sequence[str], pattern: re.Pattern[str]) -> set[Any]:
    """Primary keys, of one column, of the rows in which one of the columns names it."""
    (key,) = table.primary_key.columns
    rows = connection.execute(select(key, *(table.c[name] for name in columns)))
    return {own for own, *texts in rows if any(pattern.search(text) for text in texts)}


def blank_texts(connection: Connection, table: Table, column: str, pattern: re.Pattern[str]) -> int:
    """Blank it in a column; in how many rows."""
    (key,) = table.primary_key.columns
    rows = connection.execute(select(key, table.c[column]))
    changed = [{"own": own, "text": pattern.sub(ERASED, text)} for own, text in rows if pattern.search(text)]
    if changed:
        blank = update(table).where(key == bindparam("own")).values({column: bindparam("text")})
        connection.execute(blank, changed)
    return len(changed)

"""Rows of a message, each written for itself: one that cannot be written keeps no other from the collector."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

logger = logging.getLogger(__name__)

_Row = TypeVar("_Row")
_Message = TypeVar("_Message")


def write_rows(write: Callable[[_Row], _Message], rows: Iterable[_Row]) -> list[_Message]:
    """The rows that can be written; each other one is dropped, logged and counted (sensor.failures)."""
    written: list[_Message] = []
    for row in rows:
        try:
            written.append(write(row))
        except Exception:
            logger.exception("a row of a message cannot be written and is dropped", stacklevel=2)
    return written

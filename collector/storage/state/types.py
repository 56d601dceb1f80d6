"""Types of columns that mean the same in SQLite and PostgreSQL.

SQLite keeps a text of any length where PostgreSQL refuses one that is too long. PostgreSQL refuses a NUL byte and half
of a surrogate pair where SQLite keeps them. SQLite keeps no NaN. Neither has integers of 64 bits without a sign, and
drivers raise errors of their own where one is larger.
"""

import math
from typing import Any, Final

from sqlalchemy import BigInteger, Dialect, Float, String
from sqlalchemy.types import TypeDecorator

_SIGN: Final = 2**63


class BoundedText(TypeDecorator[str]):
    """A text of at most so many characters; a longer one ends with an ellipsis. Enums are kept by their value."""

    impl = String
    cache_ok = True

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        text = str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        return text if len(text) <= self.length else f"{text[: self.length - 1]}…"


class Number(TypeDecorator[float]):
    """A float of 64 bits; what is not a number is kept as 0."""

    impl = Float(53)
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        return 0.0 if value is not None and math.isnan(value) else value


class Integer64(TypeDecorator[int]):
    """An integer of 64 bits; one that is too large, as a sensor may send, is kept as the largest."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return None if value is None else max(-_SIGN, min(value, _SIGN - 1))


class Hash64(TypeDecorator[int]):
    """An integer of 64 bits without a sign."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return value - 2 * _SIGN if value is not None and value >= _SIGN else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        return value + 2 * _SIGN if value is not None and value < 0 else value

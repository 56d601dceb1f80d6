"""The place in a sorted list where the next page starts: a keyset (last sort value, last id), written as one opaque
word.

A keyset stays right while rows come and go: it asks for what sorts after the last row shown, not for a row number.
The word also
carries the question it belongs to, so that a cursor used with another sort or filter is refused instead of skipping
rows.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import TypeGuard

CURSOR_CHARACTERS_MAX = 2_048  # A template and an id fit several times; more is not ours.
QUESTION_BYTES = 6


class CursorError(ValueError):
    """The word is not a cursor of this question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last row shown: its sort value and its id (which breaks ties)."""

    value: float | str
    id: str


def digest_question(*parts: str) -> str:
    """A short fingerprint of what was asked: sort, order, span and filters."""
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=QUESTION_BYTES).hexdigest()


def write_cursor(cursor: Cursor, question: str) -> str:
    """The cursor as one URL-safe word."""
    text = json.dumps([question, cursor.value, cursor.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(word: str, question: str, value_type: type[float] | type[str]) -> Cursor:
    """The cursor behind a word; raises CursorError with a sentence for a person. Never trusts the word: it comes
    from the client."""
    if len(word) > CURSOR_CHARACTERS_MAX:
        raise CursorError("it is longer than any cursor this collector gives")
    try:
        parts = json.loads(base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise CursorError("it is not a cursor this collector gave") from None
    if not isinstance(parts, list) or len(parts) != 3 or not _is_text(parts[2]):
        raise CursorError("it is not a cursor this collector gave")
    if parts[0] != question:
        raise CursorError("it belongs to another sort, filter or time span")
    value = parts[1]
    if value_type is float and isinstance(value, int | float) and not isinstance(value, bool):
        return Cursor(value=_finite(value), id=parts[2])
    if value_type is str and _is_text(value):
        return Cursor(value=value, id=parts[2])
    raise CursorError("it is not a cursor this collector gave")


def _is_text(value: object) -> TypeGuard[str]:
    """Text that can be written in UTF-8; JSON may hold halves of a pair of surrogates."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _finite(value: int | float) -> float:
    """A finite float, or refusal: NaN and infinities compare with nothing."""
    try:
        number = float(value)
    except OverflowError:
        raise CursorError("it is not a cursor this collector gave") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise CursorError("it is not a cursor this collector gave")
    return number

"""Which names of fields may leave the node: a name is told, told once three consumers used it, or is a value itself.

Names of fields are chosen when an API is written, but the keys of a map are data: `{"4f1e..": {...}}`, `{"alice": 7}`.
So a name leaves at once only where all of it is API words; other words only after three consumers had them, as words of
paths do (sensor/reveal.py); ids, persons' names and whatever looks like neither are told by their pattern.
"""

import enum
import re
from functools import lru_cache
from typing import Final

from sensor.calls import SegmentKind
from sensor.classify.sensitive.names import find_rule
from sensor.classify.sensitive.values import find_kinds
from sensor.shapes import classify_segment
from sensor.vocabulary import Vocabulary, split_word

# The longest property of the published descriptions has 61 characters.
MAX_NAME_CHARACTERS: Final = 64
MAX_WORDS: Final = 12
MAX_DIGITS: Final = 4
_CACHE_ENTRIES: Final = 8_192
_IDENTIFIER: Final = re.compile(r"[@$_]{0,2}[A-Za-z][A-Za-z0-9_\-.:$\[\]]*\Z")
_ODD_NUMBER: Final = re.compile(r"\d{4}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{8,}\Z")
_SEPARATORS: Final = re.compile(r"[^A-Za-z0-9]+")
_VOWEL: Final = re.compile(r"[aeiouy]", re.IGNORECASE)
# Abbreviations that stand in fields and in no dictionary.
_ABBREVIATIONS: Final = frozenset(
    (
        *("href", "hrefs", "qty", "desc", "seq", "idx", "len", "ttl", "vat", "ean", "gtin", "isbn", "bic", "iban"),
        *("utc", "tz", "csrf", "xsrf", "ctx", "cfg", "cnt", "num", "pct", "amt", "addr", "req", "res", "resp", "err"),
        *("msg", "ts", "dt", "kwargs", "args", "etag", "mime", "cvv", "jsonrpc", "graphql", "sku", "skus", "dto"),
    )
)
# How a key of each shape is told: `{uuid}`.
_PATTERNS: Final = {
    SegmentKind.INTEGER: "integer",
    SegmentKind.UUID: "uuid",
    SegmentKind.HEX: "hex",
    SegmentKind.ULID: "ulid",
    SegmentKind.DATE: "date",
    SegmentKind.EMAIL: "email",
    SegmentKind.TOKEN: "token",
}
WORD_PATTERN: Final = "word"


class Telling(enum.Enum):
    """When a name may leave."""

    NOW = enum.auto()
    SHARED = enum.auto()  # After three consumers.
    NEVER = enum.auto()  # Only its pattern.


@lru_cache(maxsize=_CACHE_ENTRIES)
def judge_name(name: str, vocabulary: Vocabulary) -> tuple[Telling, str]:
    """When a field's name may leave, and the pattern that stands for it until then. Some 10 us, once a name."""
    if not _IDENTIFIER.match(name) or len(name) > MAX_NAME_CHARACTERS or _ODD_NUMBER.search(name):
        return Telling.NEVER, _find_pattern(name, vocabulary)
    if _HEX.match(name):  # Without a digit too.
        return Telling.NEVER, "hex"
    if find_kinds(name):  # A key of a vendor's own form, made of letters too.
        return Telling.NEVER, "token"
    words = [word for part in _SEPARATORS.split(name) for word in split_word(part)]
    letters = [word for word in words if not word.isdigit()]
    digits = sum(character.isdigit() for character in name)
    if not letters or len(words) > MAX_WORDS or digits > MAX_DIGITS or digits * 2 >= len(name):
        return Telling.NEVER, _find_pattern(name, vocabulary)
    if find_rule(name) is not None or all(_is_known(word, vocabulary) for word in letters):
        # Letters and digits in turn are random, whatever single letters they make: a1b2c3.
        is_random = len(letters) > 2 and sum(len(word) == 1 for word in letters) * 2 > len(letters)
        return (Telling.NEVER, "token") if is_random else (Telling.NOW, WORD_PATTERN)
    pattern = _find_pattern(name, vocabulary)
    if pattern != WORD_PATTERN or any(vocabulary.is_name(word) for word in letters):
        return Telling.NEVER, pattern
    is_wordlike = all(len(word) < 5 or len(_VOWEL.findall(word)) * 8 >= len(word) for word in letters)
    return (Telling.SHARED if is_wordlike else Telling.NEVER), WORD_PATTERN


def _is_known(word: str, vocabulary: Vocabulary) -> bool:
    return word in _ABBREVIATIONS or len(word) == 1 or vocabulary.is_api_word(word)


def _find_pattern(name: str, vocabulary: Vocabulary) -> str:
    if name.lstrip("-").isdigit():
        return "integer"
    return _PATTERNS.get(classify_segment(name, vocabulary).kind, WORD_PATTERN)

"""Decides whether the last two segments of an RPC's path may be revealed: `grpc.health.v1.Health`, `Check`.

Names of services and methods are chosen when an API is written, so they are not values. But the caller sends the path,
and also the content type that makes the call an RPC. The server's answer decides:

- The method itself answered: its name is revealed, unless its form is that of an id, a key or an address.
- The answer speaks the protocol, but the sensor cannot see whether the server knows the method: a name is revealed if
  it is made of API words and words of the dictionary. In `package.Service/Method` the first may have other words, too.
- Everything else (not implemented, not allowed, not read): the segments are treated like those of any path.

A name that is not revealed stays a word of the path, reported by its hash (docs/use/privacy.md).
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from sensor.core.calls import SegmentKind
from sensor.routes.segments import classify_segment, is_version
from sensor.routes.shared_use import Telling
from sensor.routes.vocabulary import Vocabulary, split_word
from sensor.sensitive.values import find_kinds

# The longest full name of a service in googleapis has some 90 characters.
MAX_NAME_CHARACTERS: Final = 160
MAX_PARTS: Final = 12
MAX_WORDS: Final = 12
MAX_DIGITS: Final = 4
_CACHE_ENTRIES: Final = 4_096
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Numbers in names are short and belong to a word: OAuth2, V1Beta1, Sha256Sum.
_ODD_NUMBER: Final = re.compile(r"\d{4}|_\d")
_VOWEL: Final = re.compile(r"[aeiouy]")
# Shorter words are abbreviations, which say nothing of anybody: KV, Txn.
_MIN_WORD_CHARACTERS: Final = 4
# Words that are not known and as long have a vowel.
_MIN_UNKNOWN_CHARACTERS: Final = 5
_MAX_WORD_CHARACTERS: Final = 24
# Letters cut apart by upper case are a word each; of random text most are shorter than this.
_SHORT_CHARACTERS: Final = 3
# Hex ids of at least so many characters are not names.
_HEX_ID: Final = re.compile(r"[0-9A-Fa-f]{16,}\Z")
_NAME_MARKS: Final = frozenset("._-$")


class Naming(IntEnum):
    """What is known of the names at the end of a path."""

    NONE = 0  # The path ends in other segments, or only the caller says that they are names.
    ANSWERED = 1  # The server's answer speaks the protocol.
    SERVED = 2  # The answer comes from the method itself.


@lru_cache(maxsize=_CACHE_ENTRIES)
def find_names(service: str, method: str, naming: Naming, vocabulary: Vocabulary) -> tuple[str, str]:
    """The texts to reveal for the last two segments of a path; empty for one that stays hidden. Cost: some 10 us a
    part, once a name."""
    names = _decode(service), _decode(method)
    if naming is Naming.SERVED:
        revealed = _is_plain(names[0]), _is_plain(names[1])
    elif naming is Naming.ANSWERED:
        service_telling, method_telling = (judge_schema_name(name, vocabulary) for name in names)
        is_qualified = is_full_method(*names) and service_telling is Telling.SHARED
        revealed = is_qualified or service_telling is Telling.NOW, method_telling is Telling.NOW
    else:
        revealed = False, False
    return names[0] if revealed[0] else "", names[1] if revealed[1] else ""


def is_full_method(service: str, method: str) -> bool:
    """Whether names are written as protobuf's style guide has them, `package.Service/Method`: paths of plain HTTP
    hardly ever are."""
    package, _, name = service.rpartition(".")
    return bool(package) and name[:1].isupper() and method[:1].isupper()


def _decode(segment: str) -> str:
    """The text of a segment of a path; the segment itself if it is not UTF-8."""
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode()
    except UnicodeError:
        return segment


def _is_plain(name: str) -> bool:
    """Whether a name that the server knows has the form of one."""
    return (
        0 < len(name) <= MAX_NAME_CHARACTERS
        and all(character.isalnum() or character in _NAME_MARKS for character in name)
        and any(map(str.isalpha, name))
        and _HEX_ID.match(name) is None
        and not find_kinds(name)
    )


def judge_schema_name(text: str, vocabulary: Vocabulary) -> Telling:
    """When a name of a service, method or operation may leave that a caller sent and no server confirmed: at once if it
    is made of known words, and never if it is not made of words, or of persons' names only."""
    return _judge(text, vocabulary) if len(text) <= MAX_NAME_CHARACTERS else Telling.NEVER


@lru_cache(maxsize=_CACHE_ENTRIES)
def _judge(text: str, vocabulary: Vocabulary) -> Telling:
    parts = text.split(".")
    if len(parts) > MAX_PARTS or not all(_is_part(part, vocabulary) for part in parts) or find_kinds(text):
        return Telling.NEVER
    words = (word for part in parts if not is_version(part) for word in split_word(part))
    return Telling.NOW if all(_is_known(word, vocabulary) for word in words) else Telling.SHARED


def _is_known(word: str, vocabulary: Vocabulary) -> bool:
    if vocabulary.is_name(word):
        return False
    return len(word) < _MIN_WORD_CHARACTERS or word.isdigit() or vocabulary.is_dictionary_word(word)


def _is_part(part: str, vocabulary: Vocabulary) -> bool:
    if is_version(part):
        return True
    digits = sum(character.isdigit() for character in part)
    if not _IDENTIFIER.match(part) or digits > MAX_DIGITS or digits * 2 >= len(part) or _ODD_NUMBER.search(part):
        return False
    if classify_segment(part, vocabulary).kind is SegmentKind.HEX:
        return False
    words = [word for word in split_word(part) if not word.isdigit()]
    short = sum(len(word) < _SHORT_CHARACTERS for word in words)
    if not words or len(words) > MAX_WORDS or short > max(1, len(words) // 3):
        return False
    return all(_is_word(word, vocabulary) for word in words) and not all(map(vocabulary.is_name, words))


def _is_word(word: str, vocabulary: Vocabulary) -> bool:
    if len(word) < _MIN_UNKNOWN_CHARACTERS or vocabulary.is_api_word(word):
        return True
    return len(word) <= _MAX_WORD_CHARACTERS and len(_VOWEL.findall(word)) * 8 >= len(word)

"""Whether a segment of an RPC's path is a name of its schema that may be told: `grpc.health.v1.Health`, `Check`.

Service and method names are chosen when an API is written, not by who calls it, so they are no values and need not be
in a vocabulary. But the path comes from the caller. A name is told where it is an identifier of protobuf and each of
its parts is made of words, whatever words: no person's name, no id, nothing random (docs/privacy.md). All others stay
words of the path, told by their hash.
"""

import re
from functools import lru_cache
from typing import Final

from sensor.calls import SegmentKind
from sensor.classify.sensitive.values import find_kinds
from sensor.shapes import classify_segment, is_version
from sensor.vocabulary import Vocabulary, split_word

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
# Words that are not known and as long have a vowel.
_MIN_UNKNOWN_CHARACTERS: Final = 5
_MAX_WORD_CHARACTERS: Final = 24
# Letters cut apart by upper case are a word each; of random text most are shorter than this.
_SHORT_CHARACTERS: Final = 3


@lru_cache(maxsize=_CACHE_ENTRIES)
def is_schema_name(text: str, vocabulary: Vocabulary) -> bool:
    """Whether the name of a service or method may leave the node. Cost: some 10 us a part, once a name."""
    parts = text.split(".")
    if len(text) > MAX_NAME_CHARACTERS or len(parts) > MAX_PARTS:
        return False
    return all(_is_part(part, vocabulary) for part in parts) and not find_kinds(text)


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

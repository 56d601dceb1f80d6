"""Decides which words of a path may leave the node in clear.

`Vocabulary`: a segment is an API word if each part of it is in `words/api.txt` or is an inflection of such a word.
Parts are those of camelCase, snake_case and kebab-case, or two words written as one. A word that is in
`words/names.txt` (given names and surnames), or is made of such names, is never revealed. `words/english.txt` has the
other words of a small English dictionary, and of programs: they are no API words, but say nothing of who uses them.
scripts/vocabulary makes these files. `words/private_places.txt` and `words/secret_places.txt` have the names of
segments behind which no word is revealed; behind those of the second, an API word has to be one of
`words/public_words.txt`.
"""

import re
from collections.abc import Collection
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final
from urllib.parse import unquote

# The longest literal segment of the development documents has 62 characters; longer ones are values.
MAX_WORD_CHARACTERS: Final = 80
MAX_WORD_PARTS: Final = 12
# More words of the dictionary one behind the other may be a passphrase.
MAX_DICTIONARY_PARTS: Final = 3

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_WORDLIKE = re.compile(r"[.$~_!-]?[A-Za-z][A-Za-z0-9]*(?:[-_.!$~][A-Za-z0-9]+)*[-_.$]?\Z")
# Marks that travel with API words: versions, protocol and format names with digits.
_NUMBERED = frozenset(
    (
        "oauth2", "oauth1", "v1", "v2", "v3", "s3", "ec2", "mp3", "mp4", "h264", "ipv4", "ipv6", "k8s", "p2p", "b2b",
        "b2c", "c2c", "f1", "utf8", "sha1", "sha256", "sha512", "md5", "base64", "base32", "x509", "i18n", "l10n",
        "a11y", "web3", "http2", "oauth10", "saml2", "level3", "hl7", "psd2", "3ds", "3d", "2d", "2fa", "3ds2", "2step",
        "360",
    )
)  # fmt: skip
# (ending, what stands there in the base form): plurals, past and present participles, agents.
_INFLECTIONS: Final = (
    ("ies", "y"), ("es", ""), ("s", ""), ("ed", ""), ("ed", "e"), ("ied", "y"), ("ing", ""), ("ing", "e"), ("er",
                  ""), ("er", "e"),
    ("or", "e"), ("able", ""), ("able", "e"),
)  # fmt: skip
_PREFIXES: Final = ("un", "re", "pre", "multi", "sub", "auto", "non")


def split_word(text: str) -> list[str]:
    """`listUserKeys-v2` as list, user, keys, v, 2: lower case."""
    return [part.lower() for part in _PARTS.findall(text)]


class Vocabulary:
    """The word lists and the questions asked of them."""

    def __init__(self, api_words: frozenset[str], names: frozenset[str], english: frozenset[str] = frozenset()) -> None:
        self._api = api_words
        self._names = names
        self._english = english

    def is_api_word(self, text: str) -> bool:
        """Whether `text` is plainly an API word. Costs 2-10 us: callers cache."""
        if len(text) > MAX_WORD_CHARACTERS or not _WORDLIKE.match(text):
            return False
        if text.lower() in _NUMBERED:
            return True
        parts = split_word(text)
        if not 0 < len(parts) <= MAX_WORD_PARTS or sum(part.isdigit() for part in parts) > 1:
            return False
        letters = [part for part in parts if not part.isdigit()]
        if sum(len(part) == 1 for part in letters) > max(1, len(letters) // 3):
            return False
        digits = next((part for part in parts if part.isdigit()), "")
        return len(digits) <= 2 and all(self._is_known(part) for part in letters)

    def is_dictionary_word(self, text: str, others: Collection[str] = ()) -> bool:
        """Whether `text` is made of few API words, words of the dictionary and `others`, and holds no number."""
        parts = split_word(text)
        return 0 < len(parts) <= MAX_DICTIONARY_PARTS and all(
            len(part) > 1 and (part in others or self._is_known(part) or is_inflected(part, self._english))
            for part in parts
        )

    def is_name(self, text: str) -> bool:
        """Whether `text` is a person's name or made of one (johnsmith, j-garcia, chen42) that is no API

        word.
        """
        return any(self._is_name_part(part) for part in split_word(text))

    def _is_name_part(self, part: str) -> bool:
        """A name, two names as one, or a name with an initial before or behind it."""
        if part in self._api:
            return False
        # Names of up to three letters end too many words.
        is_initialled = (len(part) > 4 and part[1:] in self._names) or (len(part) > 6 and part[:-1] in self._names)
        if part in self._names or is_initialled:
            return not self._is_known(part) or part in self._names
        return any(part[:cut] in self._names and part[cut:] in self._names for cut in range(3, len(part) - 2))

    def _is_known(self, word: str) -> bool:
        if len(word) == 1 or is_inflected(word, self._api):
            return True
        if any(word.startswith(prefix) and is_inflected(word[len(prefix) :], self._api) for prefix in _PREFIXES):
            return True
        # Two words written as one: updatestatus, paymentmethod.
        return any(
            is_inflected(word[:cut], self._api) and is_inflected(word[cut:], self._api)
            for cut in range(3, len(word) - 2)
            if len(word) >= 7
        )


def is_inflected(word: str, words: frozenset[str]) -> bool:
    """Whether a word is one of `words`, or an inflection of one."""
    if word in words:
        return True
    return any(
        len(word) > len(ending) + 2 and word.endswith(ending) and word[: -len(ending)] + base in words
        for ending, base in _INFLECTIONS
    )


def _read_words(name: str) -> frozenset[str]:
    text = files("sensor.routes").joinpath("words", name).read_text("utf-8")
    return frozenset(line for line in text.split("\n") if line and not line.startswith("#"))


@cache
def load_vocabulary() -> Vocabulary:
    """The vocabulary shipped with the package."""
    return Vocabulary(_read_words("api.txt"), _read_words("names.txt"), _read_words("english.txt"))


@cache
def _read_places(*names: str) -> frozenset[str]:
    return frozenset().union(*map(_read_words, names))


@lru_cache(maxsize=4_096)
def is_private_place(text: str) -> bool:
    """Whether a word right behind this segment may be a person's name, a secret or a state: its last part says so."""
    return _ends_in(text, _read_places("private_places.txt", "secret_places.txt"))


@lru_cache(maxsize=4_096)
def is_secret_place(text: str) -> bool:
    """Whether it may be a secret or a state, which people make of words that APIs use, too."""
    return _ends_in(text, _read_places("secret_places.txt"))


def is_public_word(text: str) -> bool:
    """Whether an API word is one where a secret may stand as well. A pattern (`{}.json`) shows no value."""
    words = _read_places("public_words.txt")
    return "{}" in text or all(part.isdigit() or part in words for part in split_word(text))


def _ends_in(text: str, places: frozenset[str]) -> bool:
    """Of a segment as it stands in the path, percent-encoded and with matrix parameters."""
    name = unquote(text).partition(";")[0]
    parts = split_word(name)
    is_service = "." in name and name.rpartition(".")[2][:1].isupper()  # Of an RPC: a method is behind it.
    return bool(parts) and parts[-1] in places and not is_service

"""Decides which words of a path and which host names may leave the node in clear.

`Vocabulary`: a segment is an API word if each part of it is in `words/api.txt` or is an inflection of such a word.
Parts are those of camelCase, snake_case and kebab-case, or two words written as one. A word that is in
`words/names.txt` (given names and surnames), or is made of such names, is never revealed. scripts/vocabulary makes both
files.

`HostNames`: an attacker can choose the Host header, so a service has at most 100 host names, then `other`. A host that
was served (2xx) goes first: others get what is left, and the oldest of them is dropped when served ones need the room.

`Reveal`: a collector may ask for the text of other words. It gets those that were served (2xx) to three consumers or
more and do not look like values. It also gets names of RPCs that their server knows (sensor/routes/schema_names.py).
The count keeps on the node what one or two callers know, such as a user name in /users/{name} or a secret link. The
form keeps names, ids and addresses there, however many call them. A text once revealed may be revealed again.
"""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final

from common.bounded import BoundedDict

# The longest literal segment of the development documents has 62 characters; longer ones are values.
MAX_WORD_CHARACTERS: Final = 80
MAX_WORD_PARTS: Final = 12

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_WORDLIKE = re.compile(r"[.$@~_!-]?[A-Za-z][A-Za-z0-9]*(?:[-_.:!$~][A-Za-z0-9]+)*[-_.$]?\Z")
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
    """The two word lists and the questions asked of them."""

    def __init__(self, api_words: frozenset[str], names: frozenset[str]) -> None:
        self._api = api_words
        self._names = names

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
        if len(word) == 1 or self._is_inflected(word):
            return True
        if any(word.startswith(prefix) and self._is_inflected(word[len(prefix) :]) for prefix in _PREFIXES):
            return True
        # Two words written as one: updatestatus, paymentmethod.
        return any(
            self._is_inflected(word[:cut]) and self._is_inflected(word[cut:])
            for cut in range(3, len(word) - 2)
            if len(word) >= 7
        )

    def _is_inflected(self, word: str) -> bool:
        if word in self._api:
            return True
        return any(
            len(word) > len(ending) + 2 and word.endswith(ending) and word[: -len(ending)] + base in self._api
            for ending, base in _INFLECTIONS
        )


def _read_words(name: str) -> frozenset[str]:
    text = files("sensor.routes").joinpath("words", name).read_text("utf-8")
    return frozenset(line for line in text.split("\n") if line and not line.startswith("#"))


@cache
def load_vocabulary() -> Vocabulary:
    """The vocabulary shipped with the package."""
    return Vocabulary(_read_words("api.txt"), _read_words("names.txt"))


MAX_HOSTS: Final = 100  # Per service: real ones have a handful; virtual hosting above it is folded.
OTHER: Final = "other"


class HostNames:
    """The names of one service. A name admitted as served is never folded again."""

    __slots__ = ("_served", "_unserved")

    def __init__(self) -> None:
        self._served: set[str] = set()
        self._unserved: dict[str, None] = {}

    def admit(self, host: str, is_served: bool) -> tuple[str, str | None]:
        """(the name to report: `host`, or `other` past the cap; the name evicted for it). Amortised one look-up."""
        if host in self._served:
            return host, None
        if is_served and len(self._served) < MAX_HOSTS:
            self._served.add(host)
            self._unserved.pop(host, None)
            evicted = None
            if len(self._served) + len(self._unserved) > MAX_HOSTS:
                evicted = next(iter(self._unserved))
                del self._unserved[evicted]
            return host, evicted
        if host in self._unserved:
            return host, None
        if not is_served and len(self._served) + len(self._unserved) < MAX_HOSTS:
            self._unserved[host] = None
            return host, None
        return OTHER, None


# Consumers that must have been served a word before its text may leave the node (docs/use/privacy.md).
MIN_CONSUMERS: Final = 3
# Words remembered; an entry costs ~300 bytes. The oldest goes first: an active word is soon back.
MAX_CANDIDATES: Final = 20_000
MAX_REVEALED: Final = 20_000
MAX_REVEALED_CHARACTERS: Final = 64


def is_tellable(text: str, vocabulary: Vocabulary) -> bool:
    """Whether a word's text looks like part of an API: letters with separators, few digits, no person's name."""
    if len(text) > MAX_REVEALED_CHARACTERS or not text.isascii():
        return False
    if not all(character.isalnum() or character in "-_.$~!" for character in text):
        return False
    digits = sum(character.isdigit() for character in text)
    return digits <= 4 and digits * 2 < len(text) and not vocabulary.is_name(text) and len(split_word(text)) <= 12


class Reveal:
    """Counts who was served which word, and answers requests for texts."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._candidates: BoundedDict[int, tuple[str, set[int]]] = BoundedDict(MAX_CANDIDATES)
        self.revealed: dict[int, str] = {}

    def observe(self, text: str, word_hash: int, consumer: int) -> None:
        """Notes that `consumer` was served (2xx) a path with this word."""
        entry = self._candidates.get(word_hash)
        if entry is None:
            self._candidates[word_hash] = (text, {consumer})
        elif len(entry[1]) < MIN_CONSUMERS:
            entry[1].add(consumer)

    def allow(self, word_hash: int, text: str) -> None:
        """Reveals a word whoever was served it: a server has shown that it is a name of its schema."""
        if len(self.revealed) < MAX_REVEALED:
            self.revealed[word_hash] = text

    def answer(self, hashes: Iterable[int]) -> dict[int, str]:
        """Texts of those of `hashes` that may be revealed, by hash."""
        revealed = {}
        for word_hash in hashes:
            text = self.revealed.get(word_hash)
            if text is None:
                entry = self._candidates.get(word_hash)
                if entry is None or len(entry[1]) < MIN_CONSUMERS or not is_tellable(entry[0], self._vocabulary):
                    continue
                text = entry[0]
                if len(self.revealed) < MAX_REVEALED:
                    self.revealed[word_hash] = text
            revealed[word_hash] = text
        return revealed

    def __repr__(self) -> str:
        return f"Reveal({len(self._candidates)} candidates, {len(self.revealed)} revealed, texts redacted)"

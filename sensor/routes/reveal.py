"""Decides which words of paths leave the node as text, and answers a collector that asks for them.

A collector asks for the text of words that it takes for fixed names. It gets those that the server answered as if they
existed, that callers share (sensor/routes/shared_use.py), and that do not look like values. One caller is enough where
all parts are words of the dictionary, or of the name of the service, which leaves the node anyway, and for the name of
an API where paths begin (`/gradio_api`). It also gets names of RPCs that their server knows
(sensor/routes/schema_names.py). It never gets:

- a word right behind `users`, `token` and the like. Its hash is one of that place (`hash_private_word`), so that the
  same word elsewhere does not reveal it.
- a word at a place with more than `MAX_SIBLINGS` unknown words: it is a value of a parameter.

A text that was revealed may be revealed again.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from common.bounded import BoundedDict
from sensor.core.calls import Origin
from sensor.routes.shared_use import MAX_SIBLINGS, SharedUse
from sensor.routes.trie import Node
from sensor.routes.vocabulary import Vocabulary, split_word

# Words remembered; an entry costs ~400 bytes. The oldest goes first: an active word is soon back.
MAX_CANDIDATES: Final = 20_000
MAX_REVEALED: Final = 20_000
MAX_REVEALED_CHARACTERS: Final = 64
# No text of a segment has it, so that no hash of a private word is one of another text.
_PRIVATE_MARK: Final = b"/"


def is_tellable(text: str, vocabulary: Vocabulary) -> bool:
    """Whether a word's text looks like part of an API: letters with separators, few digits, no person's name."""
    if len(text) > MAX_REVEALED_CHARACTERS or not text.isascii():
        return False
    if not all(character.isalnum() or character in "-_.$~!" for character in text):
        return False
    digits = sum(character.isdigit() for character in text)
    return digits <= 4 and digits * 2 < len(text) and not vocabulary.is_name(text) and len(split_word(text)) <= 12


def hash_private_word(hash_bytes: Callable[[bytes], int], encoded: bytes) -> int:
    """The hash of a word where it may say something of a person: no text has it, so nobody can reveal it."""
    return hash_bytes(_PRIVATE_MARK + encoded)


# How the name of an API ends that is the first segment of its paths.
_API_NAMES: Final = frozenset(("api", "apis", "graphql", "rest", "rpc"))


class _Candidate(msgspec.Struct):
    text: str
    use: SharedUse
    parent: Node  # Where the word was used last.
    is_value: bool = False  # It had too many siblings.
    is_named: bool = False  # By the service, or as an API.

    def __repr__(self) -> str:
        return f"_Candidate(is_value={self.is_value}, text redacted)"


class Reveal:
    """Counts who was served which word, and answers requests for texts."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._candidates: BoundedDict[int, _Candidate] = BoundedDict(MAX_CANDIDATES)
        self.revealed: dict[int, str] = {}

    def observe(self, text: str, word_hash: int, parent: Node, workload: str, origin: Origin, time_ns: int) -> None:
        """Notes that a service answered a path with this word below `parent` as one that exists."""
        candidate = self._candidates.get(word_hash)
        if candidate is None or candidate.parent is not parent:
            if candidate is None:
                candidate = self._candidates[word_hash] = _Candidate(text, SharedUse(), parent)
            candidate.parent = parent
            candidate.is_named = candidate.is_named or self._is_named(text, parent, workload)
        candidate.is_value = candidate.is_value or _has_many_words(parent, text)
        candidate.use.note(origin, time_ns)

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
                candidate = self._candidates.get(word_hash)
                if candidate is None or not self._may_leave(candidate):
                    continue
                text = candidate.text
                self.allow(word_hash, text)
            revealed[word_hash] = text
        return revealed

    def _may_leave(self, candidate: _Candidate) -> bool:
        text = candidate.text
        if not is_tellable(text, self._vocabulary):
            return False
        if self._vocabulary.is_dictionary_word(text):
            return True
        is_value = candidate.is_value or _has_many_words(candidate.parent, text)
        return (candidate.use.is_shared or candidate.is_named) and not is_value

    def _is_named(self, text: str, parent: Node, workload: str) -> bool:
        parts = split_word(text)
        is_api = not parent.segments and len(parts) > 1 and parts[-1] in _API_NAMES
        return is_api or self._vocabulary.is_dictionary_word(text, split_word(workload))

    def __repr__(self) -> str:
        return f"Reveal({len(self._candidates)} candidates, {len(self.revealed)} revealed, texts redacted)"


def _has_many_words(parent: Node, text: str) -> bool:
    """Whether a word has many siblings. What a scanner guessed counts only beside words that were never served."""
    child = parent.children.get(text)
    return parent.count_words(with_unserved=child is None or not child.is_served) > MAX_SIBLINGS

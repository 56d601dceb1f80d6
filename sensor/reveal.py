"""Which words may be revealed to a collector that asks: those served 2xx to three consumers or more that do not look
like values, and names of RPCs that their server knows (sensor/schema_names.py).

A word is remembered from its first 2xx on, with the first few consumers that got it, in a bounded table. The rule keeps
what only one or two callers know (a user name in /users/{name}, a secret link) on the node; the classifier keeps names,
ids and addresses there even when many call them. Text once told stays tellable.
"""

from collections.abc import Iterable
from typing import Final

from sensor.vocabulary import Vocabulary, split_word

# Consumers that must have been served a word before its text may leave the node (docs/privacy.md).
MIN_CONSUMERS: Final = 3
# Words remembered; an entry costs ~300 bytes. The oldest goes first: an active word is soon back.
MAX_CANDIDATES: Final = 20_000
MAX_REVEALED: Final = 20_000
MAX_WORD_CHARACTERS: Final = 64


def is_tellable(text: str, vocabulary: Vocabulary) -> bool:
    """Whether a word's text looks like part of an API: letters with separators, few digits, no person's name."""
    if len(text) > MAX_WORD_CHARACTERS or not text.isascii():
        return False
    if not all(character.isalnum() or character in "-_.$~!" for character in text):
        return False
    digits = sum(character.isdigit() for character in text)
    return digits <= 4 and digits * 2 < len(text) and not vocabulary.is_name(text) and len(split_word(text)) <= 12


class Reveal:
    """Counts who was served which word, and answers requests for texts."""

    __slots__ = ("_candidates", "_vocabulary", "revealed")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._candidates: dict[int, tuple[str, set[int]]] = {}
        self.revealed: dict[int, str] = {}

    def observe(self, text: str, word_hash: int, consumer: int) -> None:
        """Notes that `consumer` was served (2xx) a path with this word."""
        entry = self._candidates.get(word_hash)
        if entry is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                self._candidates.pop(next(iter(self._candidates)))
            self._candidates[word_hash] = (text, {consumer})
        elif len(entry[1]) < MIN_CONSUMERS:
            entry[1].add(consumer)

    def allow(self, word_hash: int, text: str) -> None:
        """Reveals a word whoever was served it: a server has shown that it is a name of its schema."""
        if len(self.revealed) < MAX_REVEALED:
            self.revealed[word_hash] = text

    def answer(self, hashes: Iterable[int]) -> dict[int, str]:
        """Texts of those of `hashes` that may be told, by hash."""
        told = {}
        for word_hash in hashes:
            text = self.revealed.get(word_hash)
            if text is None:
                entry = self._candidates.get(word_hash)
                if entry is None or len(entry[1]) < MIN_CONSUMERS or not is_tellable(entry[0], self._vocabulary):
                    continue
                text = entry[0]
                if len(self.revealed) < MAX_REVEALED:
                    self.revealed[word_hash] = text
            told[word_hash] = text
        return told

    def __repr__(self) -> str:
        return f"Reveal({len(self._candidates)} candidates, {len(self.revealed)} revealed, texts redacted)"

"""Which words the collector would like to know: hashes of path words in routes whose text no sensor has told yet.

A sensor answers only for words it may tell (docs/privacy.md), so questions repeat; the book is bounded, the oldest
question goes first.
"""

from collections.abc import Iterable, Iterator, Sequence
from threading import Lock

from collector.ingest.reports import RevealedWord
from collector.rows import Route

WORD_KIND = 2  # proto SegmentKind.
QUESTION_LIMIT = 10_000
REQUEST_LIMIT = 1_000  # Hashes a message (proto RevealRequest).


class RevealBook:
    """Open questions. Thread-safe: the store's writer adds, the streams ask and answer."""

    def __init__(self, question_limit: int = QUESTION_LIMIT) -> None:
        """Empty."""
        self._open: dict[int, None] = {}
        self._limit = question_limit
        self._lock = Lock()

    def add_routes(self, routes: Iterable[Route]) -> None:
        """Ask for the unnamed words of these routes."""
        with self._lock:
            for route in routes:
                for segment in route.segments:
                    if segment.kind == WORD_KIND and not segment.text and segment.hash:
                        self._open[segment.hash] = None
            while len(self._open) > self._limit:
                self._open.pop(next(iter(self._open)))

    def forget(self, hashes: Iterable[int]) -> None:
        """Close questions that are answered already."""
        with self._lock:
            for word in hashes:
                self._open.pop(word, None)

    def list_questions(self) -> Iterator[list[int]]:
        """All open hashes in portions of REQUEST_LIMIT."""
        with self._lock:
            hashes = list(self._open)
        for start in range(0, len(hashes), REQUEST_LIMIT):
            yield hashes[start : start + REQUEST_LIMIT]

    def take(self, words: Sequence[RevealedWord]) -> list[RevealedWord]:
        """The answers that were asked for; their questions close. What nobody asked is dropped."""
        with self._lock:
            answers = [word for word in words if word.hash in self._open]
            for word in answers:
                self._open.pop(word.hash, None)
        return answers

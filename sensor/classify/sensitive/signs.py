"""Which of many texts are worth reading, and for what: one pass of one automaton over all of them, however many.

Each form (sensor.classify.sensitive.values, .leaks) leaves a sign that is cheap to see: its first characters, or those
that it cannot do without. All signs together are one pattern of RE2, whose time is linear and which nothing that a text
holds can slow down; the texts are joined by line ends, and each with a sign is then read by the forms whose signs it
shows. A sign may be seen where no such value is, never the other way round (a test says so of every form).
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import re2

# In front of what must not be a part of something longer; for the first character of a text that is a line end. As
# signs are told, characters beyond ASCII are question marks.
APART: Final = r"[^0-9A-Za-z_.+/=-]"
_MEMORY_BYTES: Final = 8 << 20  # Of each automaton, which grows with what it meets; when full it starts anew.


class Signs:
    """Signs as patterns of RE2, known by their indices. None may look for a line end."""

    __slots__ = ("_any", "_each")

    def __init__(self, signs: Sequence[str]) -> None:
        # The rest of the line too, so that the next match is of another text.
        self._any: Any = re2.compile(f"(?:{'|'.join(signs)})[^\\n]*".encode(), _make_options())
        self._each: Any = re2.Set.SearchSet(_make_options())
        for sign in signs:
            self._each.Add(sign.encode())
        self._each.Compile()

    def find_texts(self, texts: Sequence[str]) -> list[int]:
        """Indices of the texts that show any sign, ascending. Cost: 5 ns a character, and 2 us a text that is found."""
        found: list[int] = []
        starts: list[int] | None = None
        for match in self._any.finditer(_encode("\n".join(texts))):
            if starts is None:
                starts = list(accumulate((len(text) + 1 for text in texts), initial=1))
            # By its last character: its first one may be the line end before the text.
            index = bisect_right(starts, match.end() - 1) - 1
            if not found or found[-1] != index:
                found.append(index)
        return found

    def find_signs(self, text: str) -> list[int]:
        """Indices of the signs that a text shows, ascending. Cost: 1 us."""
        return sorted(self._each.Match(_encode(text)) or ())


def _encode(text: str) -> bytes:
    """A byte a character, so that places are the same, behind a line end."""
    return b"\n" + text.encode("ascii", "replace")


def _make_options() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY_BYTES
    options.never_capture = True
    options.log_errors = False
    return options

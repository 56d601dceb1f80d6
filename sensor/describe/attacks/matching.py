"""Matches all attack rules with one text, by RE2: in time linear in its length, and within bounded memory.

An automaton must remember for each expression with a gap (`union.*select`) whether its beginning was met. Twelve such
expressions together have thousands of states. A hundred have more than memory holds, so states are built anew for each
text. So expressions with gaps go into sets of SPANS_MAX, phrases into a set of their own, and all others into one.

Measured on 6,933 payloads: at most 45 us and 31 MB, where one set for all took 160 us and 67 MB. Values of harmless
queries take 5 us and 7 MB.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import re2

from sensor.describe.attacks.classes import AttackClass, Part


@dataclass(frozen=True, slots=True)
class Rule:
    """One expression: case does not matter, a dot takes line ends too."""

    name: str
    attack_class: AttackClass
    pattern: str
    is_sure: bool  # It alone is enough for high confidence.
    part: Part | None = None  # Only values that stand there; None: wherever.
    is_loose: bool = False  # Prose about programs and code match it, too.


SPANS_MAX: Final = 17
_PHRASES_BYTES: Final = 8 << 20  # That RE2 may use for one set; what is past it is forgotten and made anew.
SET_BYTES: Final = 5 << 20
_PHRASES_MIN: Final = 4_000  # Characters of an expression that is a list.
_GAP: Final = re.compile(r"\.[*+{]|\[\^[^\]]*\][*+{]|\[\\s\\S\][*+]|\\[WS][*+]")


class RuleMatcher:
    """Rules compiled once. Not thread-safe."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Rules that RE2 has no syntax for are left out and counted."""
        phrases = [rule for rule in rules if len(rule.pattern) >= _PHRASES_MIN]
        others = [rule for rule in rules if len(rule.pattern) < _PHRASES_MIN]
        spans = [rule for rule in others if _GAP.search(rule.pattern)]
        plain = [rule for rule in others if not _GAP.search(rule.pattern)]
        self._plain = [RuleSet(plain, SET_BYTES), RuleSet(phrases, _PHRASES_BYTES)]
        starts = range(0, len(spans), SPANS_MAX)
        self._spans = [RuleSet(spans[start : start + SPANS_MAX], SET_BYTES) for start in starts]
        self.left_out = [name for own in (*self._plain, *self._spans) for name in own.left_out]

    def match(self, text: str) -> list[Rule]:
        """Rules that match somewhere in `text`."""
        found = self.match_plain(text)
        for own in self._spans:
            found += own.match(text)
        return found

    def match_plain(self, text: str) -> list[Rule]:
        """Those without gaps only."""
        first, second = self._plain
        return first.match(text) + second.match(text)


class ExpressionSet:
    """Expressions that are matched at once."""

    def __init__(self, patterns: Sequence[str], memory_bytes: int = SET_BYTES) -> None:
        options = re2.Options()
        options.log_errors = False  # Patterns that it has no syntax for are reported instead.
        options.max_mem = memory_bytes
        self._taken: list[int] = []
        self.left_out: list[int] = []
        self._set = re2.Set.SearchSet(options)
        for place, pattern in enumerate(patterns):
            try:
                self._set.Add(f"(?is:{pattern})")
            except re2.error:
                self.left_out.append(place)
            else:
                self._taken.append(place)
        if self._taken:
            self._set.Compile()

    def match(self, text: str | bytes) -> list[int]:
        """Places of those that match somewhere in `text`."""
        # An escape may stand for half a pair of surrogates, which has no UTF-8.
        text = text.encode("utf-8", "replace") if isinstance(text, str) else text
        found = self._set.Match(text) if self._taken else None
        return [self._taken[index] for index in found] if found else []


class RuleSet:
    """Rules that are matched at once."""

    def __init__(self, rules: Sequence[Rule], memory_bytes: int = SET_BYTES) -> None:
        self._rules = rules
        self._set = ExpressionSet([rule.pattern for rule in rules], memory_bytes)
        self.left_out = [rules[place].name for place in self._set.left_out]

    def match(self, text: str) -> list[Rule]:
        """Rules that match somewhere in `text`."""
        return [self._rules[place] for place in self._set.match(text)]

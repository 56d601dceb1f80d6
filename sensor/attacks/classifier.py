"""Requests in, attacks out: every value is held against all rules at once by RE2, in time linear in its length.

The class is that of most rules that match; the first in the order of `AttackClass` where several have as many.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import re2

from sensor.attacks.classes import Attack, AttackClass, AttackConfidence
from sensor.attacks.core_rules import Rule
from sensor.attacks.own_rules import OWN_RULES
from sensor.attacks.values import list_values

_ORDER = {kind: place for place, kind in enumerate(AttackClass)}


class AttackClassifier:
    """Rules compiled once: some 30 ms and 10 MB with the core rules. Not thread-safe."""

    def __init__(self, keyed_hash: Callable[[bytes], int], core_rules: Sequence[Rule] = ()) -> None:
        """`keyed_hash` gives 64 bits, never 0. Rules that RE2 has no syntax for are left out and counted."""
        self._hash = keyed_hash
        self._rules: list[Rule] = []
        self.left_out: list[str] = []
        self._set = re2.Set.SearchSet(_make_options())
        for rule in (*core_rules, *OWN_RULES):
            try:
                self._set.Add(f"(?is:{rule.pattern})")
            except re2.error:
                self.left_out.append(rule.name)
            else:
                self._rules.append(rule)
        self._set.Compile()

    def classify(self, path: str, query: str, others: tuple[str, ...] = (), body: str = "") -> Attack | None:
        """The attack in a request, the surest of its values; None where there is none. `others`: values of headers."""
        found = self.find(list_values(path, query, others, body))
        return found[0] if found is not None else None

    def find(self, values: Iterable[str]) -> tuple[Attack, str] | None:
        """The surest attack in decoded values, and the value, which is not to leave the node."""
        found: tuple[Attack, str] | None = None
        for value in values:
            attack = self.classify_value(value)
            if attack is not None and (found is None or attack.confidence > found[0].confidence):
                found = attack, value
        return found

    def classify_value(self, value: str) -> Attack | None:
        """The same of one decoded value."""
        if value.isalnum():
            return None
        matched = [self._rules[index] for index in self._set.Match(value) or ()]
        if not matched:
            return None
        votes = Counter(rule.attack_class for rule in matched)
        kind = min(votes, key=lambda kind: (-votes[kind], _ORDER[kind]))
        is_sure = len(matched) > 1 or any(rule.is_sure for rule in matched)
        confidence = AttackConfidence.HIGH if is_sure else AttackConfidence.MEDIUM
        return Attack(kind, confidence, self._hash(value.encode("utf-8", "surrogatepass")))


def _make_options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False  # Patterns that it has no syntax for are counted instead.
    options.max_mem = 64 << 20
    return options

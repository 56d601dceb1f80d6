"""Requests in, attacks out: every value is held against all rules (`matching`).

The class is that of most rules that match; the first in the order of `AttackClass` where several have as many. Those of
a narrow class go before all others.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from sensor.attacks.classes import Attack, AttackClass, AttackConfidence
from sensor.attacks.conduct import find_misconduct
from sensor.attacks.matching import RuleMatcher, RuleSet
from sensor.attacks.own_rules import OWN_RULES
from sensor.attacks.request import Part, Request, Value
from sensor.attacks.rules import Rule
from sensor.attacks.shell import strip_quoting
from sensor.attacks.values import list_values

_ORDER = {kind: place for place, kind in enumerate(AttackClass)}
_NARROW = frozenset({AttackClass.LOG4SHELL, AttackClass.XXE})  # What is like them is often of a wider class, too.
_WORD = re.compile(r"[\w.-]*\Z", re.ASCII)  # Rules with gaps are not asked of it.
# A product of a User-Agent (RFC 9110, section 10.1.5): a name, a slash and a version that begins with a digit.
_PRODUCT = re.compile(r"\b[A-Za-z][\w.-]*/v?\d[\w.+~-]*", re.ASCII)
_SHORT = 3  # Words of so many letters are no payload.


class AttackClassifier:
    """Rules compiled once: with the core rules some 80 ms and 7 MB, 31 MB where many payloads come. Not thread-safe."""

    def __init__(self, keyed_hash: Callable[[bytes], int], core_rules: Sequence[Rule] = ()) -> None:
        """`keyed_hash` gives 64 bits, never 0. Rules that RE2 has no syntax for are left out and counted."""
        self._hash = keyed_hash
        rules = (*core_rules, *OWN_RULES)
        self._everywhere = RuleMatcher([rule for rule in rules if rule.part is None])
        placed = {rule.part for rule in rules if rule.part is not None}
        self._placed = {part: RuleSet([rule for rule in rules if rule.part is part]) for part in placed}
        self.left_out = [*self._everywhere.left_out, *(name for own in self._placed.values() for name in own.left_out)]

    def classify(self, request: Request) -> Attack | None:
        """The attack in a request, the surest of its values; None where there is none."""
        found = self.find(request)
        return found[0] if found is not None else None

    def find(self, request: Request) -> tuple[Attack, str] | None:
        """The surest attack of a request, and its value, which is not to leave the node."""
        return self.find_in(list_values(request)) or self._find_misconduct(request)

    def find_in(self, values: Iterable[Value]) -> tuple[Attack, str] | None:
        """The surest attack in decoded values, and the value."""
        found: tuple[Attack, str] | None = None
        for value in values:
            attack = self.classify_value(value.text, value.part)
            if attack is not None and (found is None or attack.confidence > found[0].confidence):
                found = attack, value.text
        return found

    def is_odd(self, text: str) -> bool:
        """Whether a text that is not decoded holds what a rule looks for; a first look at plain ones."""
        return bool(self._everywhere.match_plain(text))

    def classify_value(self, text: str, part: Part = Part.TEXT) -> Attack | None:
        """The same of one decoded value."""
        if len(text) <= _SHORT and text.isalnum():
            return None
        matched = self._match(text, part)
        if not matched:
            return None
        votes = Counter(rule.attack_class for rule in matched)
        kind = min(votes, key=lambda kind: (kind not in _NARROW, -votes[kind], _ORDER[kind]))
        return self._make_attack(kind, len(matched) > 1 or any(rule.is_sure for rule in matched), text)

    def _match(self, text: str, part: Part) -> list[Rule]:
        whole = text
        if part is Part.AGENT:
            text = _PRODUCT.sub(" ", text)  # `Docker-Client/27.3`, `APT-HTTP/1.3` are no commands and no protocols.
        is_word = _WORD.match(text)
        found = self._everywhere.match_plain(text) if is_word else self._everywhere.match(text)
        placed = self._placed.get(part)
        if placed is not None:
            found += placed.match(whole)
        bare = None if is_word else strip_quoting(text)
        if bare is not None:
            found += [rule for rule in self._everywhere.match(bare) if rule.attack_class is AttackClass.RCE]
        if part is Part.ORIGIN:
            found = [rule for rule in found if rule.attack_class is not AttackClass.SSRF]
        return found

    def _find_misconduct(self, request: Request) -> tuple[Attack, str] | None:
        """What is wrong with a request as a whole, where no value is."""
        found = find_misconduct(request)
        return None if found is None else (self._make_attack(found.attack_class, False, found.text), found.text)

    def _make_attack(self, kind: AttackClass, is_sure: bool, text: str) -> Attack:
        confidence = AttackConfidence.HIGH if is_sure else AttackConfidence.MEDIUM
        return Attack(kind, confidence, self._hash(text.encode("utf-8", "surrogatepass")))

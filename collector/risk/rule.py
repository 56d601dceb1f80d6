"""What a rule is: circumstances of an endpoint in, evidence out where it is broken. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from collector.risk.circumstances import Circumstances


class Severity(StrEnum):
    """How bad, gravest first; the names of `findings` in weights.json."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """`why`: a sentence with the figures. `signs`: what it rests on, without figures, so that growth shows.
    `severity`: where the evidence makes it graver or milder than the rule is."""

    why: str
    signs: tuple[str, ...]
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that should not be. `owasp` is of the API Security Top 10 of 2023."""

    id: str
    title: str
    severity: Severity
    owasp: str
    advice: str
    find: Callable[[Circumstances], Evidence | None]


def list_words(words: Iterable[str]) -> str:
    """`a, b and c`, by alphabet, as people read."""
    named = sorted(word.replace("_", " ") for word in words)
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"

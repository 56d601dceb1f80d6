"""A fact: something that is there, since when, and whether somebody was told that it came. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Stands for all details: there are too many of them for another one to be news.
OPEN: Final = "*"


class FactKind(StrEnum):
    """What is there."""

    START = "start"  # The first look of all; its subject is empty.
    SERVICE = "service"
    ENDPOINT = "endpoint"  # It was served.
    DATA = "data"  # `detail`: a class of data in responses; empty: responses were read at all.
    CONSUMER = "consumer"  # `detail`: who was served by an endpoint.
    OUTBOUND = "outbound"  # `subject`: a workload as a consumer; `detail`: a host it called.
    LOGIN = "login"  # `detail`: when the finding was opened.


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A row of `change_facts`; times are unix seconds. `scope`: what is told of together, a service or a workload;
    `anchor`: the subject or detail that its alert began with, empty where nobody was told (`told_at` is 0 then)."""

    kind: FactKind
    subject: str
    detail: str = ""
    scope: str = ""
    label: str = ""
    anchor: str = ""
    first_seen: float
    seen_at: float
    told_at: float = 0.0
    key_id: int = 0  # Of hashes in `detail`.


class Known:
    """The facts about some subjects."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self._facts: dict[tuple[FactKind, str], dict[str, Fact]] = {}
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> None:
        """The newest holds."""
        self._facts.setdefault((fact.kind, fact.subject), {})[fact.detail] = fact

    def find(self, kind: FactKind, subject: str, detail: str = "") -> Fact | None:
        """One fact."""
        return self.of(kind, subject).get(detail)

    def of(self, kind: FactKind, subject: str) -> Mapping[str, Fact]:
        """All of a subject, by detail."""
        return self._facts.get((kind, subject), {})

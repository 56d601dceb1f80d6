"""What a payload tries, what is said of it, and how that travels: a payload is a keyed hash whose lowest 4 bits are its
class and the next 4 the evidence, by the wire's numbers (proto AttackClass, AttackEvidence)."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class AttackClass(StrEnum):
    """What a payload is made for."""

    SQLI = "sqli"
    XSS = "xss"
    TRAVERSAL = "traversal"  # Paths out of a directory, files of the system.
    RCE = "rce"  # Commands and code of a shell or a language.
    SSRF = "ssrf"  # Addresses that the server is to call.
    SSTI = "ssti"  # Expressions of a template language.
    XXE = "xxe"
    NOSQL = "nosql"
    LDAP = "ldap"
    LOG4SHELL = "log4shell"
    SPLITTING = "splitting"  # Header lines in a value.
    PROBING = "probing"  # Files that no client asks for, tools that look for weaknesses.
    PROTOCOL = "protocol"  # A request that two programs may read differently, or that goes round a check.
    FIXATION = "fixation"  # A session chosen by another site.


class AttackEvidence(IntEnum):
    """How the response says that a payload worked, weakest last; values are those of the wire."""

    NONE = 0
    SERVER_ERROR = 1  # Status 500.
    REFLECTED = 2  # It came back unescaped in a page.
    LEAKED = 3  # The body holds what such a payload is after.
    DELAYED = 4  # It took as long as the payload asked for.
    LARGE = 5  # Far more bytes than the route's answers have.


_CLASS_NUMBERS: Final = {kind: number for number, kind in enumerate(AttackClass, 1)}  # As on the wire.
_CLASS_BITS: Final = 0xF
EVIDENCE_MASK: Final = 0xF0
_HASH_MASK: Final = (1 << 64) - (1 << 8)


class AttackConfidence(IntEnum):
    """How many rules agree."""

    MEDIUM = 1
    HIGH = 2  # Two or more, or one of the core rules' first level.


@dataclass(frozen=True, slots=True)
class Attack:
    """What was found in a request. Its `repr` shows nothing of the payload, for it holds nothing of it."""

    attack_class: AttackClass
    confidence: AttackConfidence
    payload_hash: int  # Keyed, of the decoded value; never 0.


def pack_payload(attack: Attack, evidence: AttackEvidence) -> int:
    """The 64 bits that are told of a payload; never 0."""
    return attack.payload_hash & _HASH_MASK | evidence << 4 | _CLASS_NUMBERS[attack.attack_class]


def read_class(payload: int) -> AttackClass | None:
    """The class in what `pack_payload` gave; None of 0."""
    number = payload & _CLASS_BITS
    return next((kind for kind, own in _CLASS_NUMBERS.items() if own == number), None)


def read_evidence(payload: int) -> AttackEvidence:
    """The evidence in what `pack_payload` gave."""
    return AttackEvidence((payload & EVIDENCE_MASK) >> 4)

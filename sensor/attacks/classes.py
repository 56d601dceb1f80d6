"""What a payload tries, and what is said of it."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


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

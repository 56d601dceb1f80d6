"""What sensors tell of attacks, in words: classes of payloads, and how a response confirms one.

The lowest 4 bits of a payload's hash are its class, the next 4 the evidence; numbers are those of the wire
(proto/apidae/v1/data.proto, AttackClass and AttackEvidence). A newer sensor's numbers are `other`.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

CLASSES: Final = (
    *("", "sqli", "xss", "traversal", "rce", "ssrf", "ssti", "xxe", "nosql", "ldap", "log4shell", "splitting"),
    *("probing", "protocol", "fixation"),
)
_EVIDENCE: Final = (
    "",
    "it was answered with status 500",
    "the payload came back unescaped in a page",
    "the response holds what such a payload is after",
    "the response took as long as the payload asked for",
    "the response is far larger than this endpoint's are",
)
_OTHER: Final = "other"
LOW_BITS: Final = 8  # Of a payload, that are no hash.


def name_class(payload: int) -> str:
    """The class of a payload."""
    number = payload & 0xF
    return CLASSES[number] if 0 < number < len(CLASSES) else _OTHER


def read_evidence(payload: int) -> int:
    """The number of what confirms a payload; 0: nothing."""
    return payload >> 4 & 0xF


def explain_evidence(number: int) -> str:
    """What confirms a payload, as a clause; empty for 0."""
    return _EVIDENCE[number] if number < len(_EVIDENCE) else "its sensor says so"


def count_classes(payloads: Iterable[int]) -> str:
    """`3 sqli, 2 xss`: different payloads by class, most first."""
    distinct = {payload >> LOW_BITS: name_class(payload) for payload in payloads}
    return ", ".join(f"{count} {name}" for name, count in Counter(distinct.values()).most_common())

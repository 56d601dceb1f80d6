"""The types of attack detection: classes, evidence, the packed payload, and a request as its reader sees it.

A payload travels as a keyed hash of 64 bits. Its lowest 4 bits are the class and the next 4 the evidence, by the wire's
numbers (proto AttackClass, AttackEvidence). `Request` holds the parts in which payloads travel. It is private to the
node and ends in `sensor.describe.attacks`.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple


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
    INSIDE_CONTACTED = 6  # The service made a call to the inner host that the request named,
    METADATA_CONTACTED = 7  # or to the address that gives credentials to cloud instances.


_CLASS_NUMBERS: Final = {kind: number for number, kind in enumerate(AttackClass, 1)}  # As on the wire.
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
    """The 64 bits that are reported of a payload; never 0."""
    return attack.payload_hash & _HASH_MASK | evidence << 4 | _CLASS_NUMBERS[attack.attack_class]


# Headers with a grammar of their own, that applications hand to no interpreter, and credentials.
PLAIN_HEADERS: Final = frozenset(
    (
        *("accept", "accept-charset", "accept-encoding", "accept-language", "access-control-request-headers"),
        *("access-control-request-method", "authorization", "cache-control", "connection", "content-encoding"),
        *(
            "content-length",
            "date",
            "dnt",
            "expect",
            "host",
            "if-match",
            "if-modified-since",
            "if-none-match",
            "if-range",
        ),
        *("if-unmodified-since", "keep-alive", "origin", "pragma", "priority", "proxy-authorization", "range", "te"),
        *("traceparent", "tracestate", "transfer-encoding", "upgrade", "upgrade-insecure-requests", "via"),
    )
)
_CREDENTIALS: Final = frozenset(("authorization", "proxy-authorization"))
_STRANGE: Final = re.compile(r"[$'<`\\|]")  # The same as of N_HEADER_QUOTED in bpf/attack_signs.h.
_PLAIN_PREFIX: Final = "sec-"  # Fetch metadata, client hints, WebSockets.
_FILE_HEADERS: Final = re.compile(r"x[-_.]file[-_.]?name\Z|content-disposition\Z")


class Part(IntEnum):
    """Where in a request a value stands."""

    TEXT = 0  # Names and values of JSON, XML, text and cookies, and headers.
    PATH = 1
    QUERY_NAME = 2
    QUERY = 3
    FILE = 4  # The name of a file that is sent.
    AGENT = 5  # Of the client: User-Agent.
    CHARSET = 6  # Of one part of a form.
    FIELD = 7  # Name or value of a form of pairs.
    ORIGIN = 8  # Where a request says it came from; such addresses are often inner ones.


class Value(NamedTuple):
    """A value and where it stands."""

    part: Part
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What was copied of a request; what was not is empty."""

    path: str = ""
    query: str = ""
    method: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # Names in lower case.
    body: str = ""
    content_type: str = ""  # Of the body, with its parameters.
    host: str = ""  # As the client called it, with its port.
    is_own_host: bool = False  # It is the address and port where the service got the call, whatever the client says.

    def __repr__(self) -> str:
        return "Request(redacted)"

    def get(self, name: str) -> str:
        """Value of the first header `name`, or empty."""
        return next((value for own, value in self.headers if own == name), "")


_ORIGINS: Final = frozenset(
    (
        *("referer", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-server", "x-original-host"),
        *("x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip", "client-ip", "x-envoy-external-address"),
    )
)


def find_part(name: str) -> Part:
    """Where the value of a header (lower case) stands."""
    if _FILE_HEADERS.match(name):
        return Part.FILE
    if name in _ORIGINS:
        return Part.ORIGIN
    return Part.AGENT if name == "user-agent" else Part.TEXT


def is_plain_header(name: str) -> bool:
    """Whether a header (lower case) has a grammar of its own."""
    return name in PLAIN_HEADERS or name.startswith(_PLAIN_PREFIX)


def is_passed_over(name: str, value: str) -> bool:
    """Whether a header (name in lower case) is not looked at: credentials, and what has a grammar of its own, where no
    mark stands that such a grammar has no use for."""
    return is_plain_header(name) and (name in _CREDENTIALS or not _STRANGE.search(value))

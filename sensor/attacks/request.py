"""A request as its reader looks at it: the parts in which payloads travel. Private to the node; ends in `attacks`."""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

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
_STRANGE: Final = re.compile(r"[$'<`\\|]")  # The same as of N_HEADER_QUOTED in bpf/odd.h.
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

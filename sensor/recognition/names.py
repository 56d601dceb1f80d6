"""What the name of a header or of a query parameter says by itself: whether its value can be skipped unread, or told.

The kernel reads heads by names only. A name may be ignored there only where Python would read nothing of it whatever
its value and whatever else is in the head; a query name that announces a key has its value folded into the profile,
and one that names an object into the object. Of headers that carry keys and signatures the kernel tells or skips the
value (bpf/told.h). The value of an ignored header is looked at for signs of an attack (bpf/odd.h): a line that has one
is part of the profile, like every other header line. Every other query name makes the call unknown. The answers come
from `sensor.classify`, so that both ways of a call agree.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from sensor.attacks.request import is_plain_header
from sensor.classify.authentication import (
    is_context_parameter,
    is_key_header,
    is_key_parameter,
    is_signature_header,
    is_unread_header,
)
from sensor.classify.client_address import FORWARDING_HEADERS
from sensor.classify.objects import names_object
from sensor.kernel.abi import NameKind
from sensor.protocols import marks
from sensor.protocols.grpc import CONNECT_PARAMETER, CONNECT_VERSION_HEADER
from sensor.protocols.http1 import UNREAD_NAMES

# Read by `sensor.protocols` itself.
_PARSED: Final = frozenset((b"host", b"content-type", b"upgrade", CONNECT_VERSION_HEADER))
_CACHE_ENTRIES: Final = 4_096


class NameJudge:
    """Judges names. `is_forwarding_read`: whether trusted networks are configured, so that forwarding headers count."""

    __slots__ = ("_is_forwarding_read",)

    def __init__(self, *, is_forwarding_read: bool) -> None:
        self._is_forwarding_read = is_forwarding_read

    def judge_header(self, name: bytes) -> NameKind | None:
        """Kind of a header by its name in lower case; None where its line belongs to the profile."""
        if name == b"host":
            return NameKind.HEADER_HOST
        if name in marks.NAMES:  # What software wrote the head is part of the profile; else nothing is read of them.
            return NameKind.HEADER_AGENT if name == marks.AGENT else NameKind.HEADER_SHAPE
        if name in _PARSED or (self._is_forwarding_read and name in FORWARDING_HEADERS):
            return None
        if name in UNREAD_NAMES or is_unread_header(name):
            is_quoted = is_plain_header(name.decode("latin-1"))
            return NameKind.HEADER_QUOTED if is_quoted else NameKind.HEADER_IGNORED
        if name == b"authorization":
            return NameKind.HEADER_AUTHORIZATION
        if is_signature_header(name):
            return NameKind.HEADER_PRESENT
        return NameKind.HEADER_KEY if is_key_header(name) else None

    def initial_headers(self) -> Iterator[tuple[bytes, NameKind]]:
        """Names that are told before the first call."""
        for name in sorted({b"host", b"authorization", b"x-api-key", *UNREAD_NAMES, *FORWARDING_HEADERS}):
            kind = self.judge_header(name)
            if kind is not None:
                yield name, kind


@lru_cache(maxsize=_CACHE_ENTRIES)
def judge_parameter(name: str) -> NameKind | None:
    """Kind of a query parameter by its name; None where it says nothing without the others, as a signature does."""
    if is_context_parameter(name) or name == CONNECT_PARAMETER:
        return None
    if is_key_parameter(name):
        return NameKind.QUERY_CREDENTIAL
    return NameKind.QUERY_OBJECT if names_object(name) else NameKind.QUERY_IGNORED

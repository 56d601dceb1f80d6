"""SipHash-2-4 (64 bits) of values under a key, and the ids of routes, which sensors and collector compute alike.

Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
"""

from collections.abc import Iterable
from typing import Final, Protocol

from siphash24 import siphash24

_MASK = 0xFFFFFFFFFFFFFFFF
# Hashes that are equal in every installation (route ids): a published constant, no secret.
PUBLIC_KEY: Final = b"apidae route ids"
_LITERAL, _WORD = 1, 2  # The wire's SegmentKind.


class HashedService(Protocol):
    """What of a service is part of a route's id."""

    @property
    def cluster(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def workload(self) -> str: ...
    @property
    def workload_kind(self) -> int: ...
    @property
    def host_name(self) -> str: ...
    @property
    def port(self) -> int: ...


class HashedSegment(Protocol):
    """What of a path segment is part of a route's id: of a literal its text, of a word its hash."""

    @property
    def kind(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def hash(self) -> int: ...


def hash_siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 of `message` under a 16-byte `key`, as the little-endian 64-bit integer of the paper."""
    return int(siphash24(message, key=key).intdigest()) & _MASK


def hash_value(key: bytes, value: bytes) -> int:
    """The same, but never 0, which is "none" everywhere on the wire."""
    return hash_siphash(key, value) or 1


def compute_route_id(
    service: HashedService, host: str, method: str, segments: Iterable[HashedSegment], has_trailing_slash: bool
) -> int:
    """64 bits, equal on every node of an installation, since word hashes are keyed alike.

    A revealed word's text is not part of it, so an id survives the reveal.
    """
    parts = [service.cluster, service.namespace, service.workload, str(int(service.workload_kind)), service.host_name]
    parts += [str(service.port), host, method, "/" if has_trailing_slash else ""]
    for segment in segments:
        if segment.kind == _LITERAL:
            parts.append(f"={segment.text}")
        elif segment.kind == _WORD:
            parts.append(f"#{segment.hash:x}")
        else:
            parts.append(f"*{int(segment.kind)}")
    return hash_value(PUBLIC_KEY, "\0".join(parts).encode("utf-8", "replace"))

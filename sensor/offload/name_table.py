"""The names of headers and query parameters that the kernel may skip or must fold in, and the plain heads that it
reads.

The kernel reads heads by names only. `NameClassifier` classifies a name with `sensor.describe`, so that both ways of a
call agree:

- A header may be ignored only where Python reads nothing of it, whatever its value and the rest of the head.
- A parameter that announces a key has its value folded into the profile, one that names an object into the object.
- Values of headers with keys and signatures are reported or skipped (`bpf/varying_fields.h`).
- Cookies that are never a credential are ignored, and values of sessions and keys are reported (`bpf/cookies.h`).
- An ignored header with signs of an attack (bpf/attack_signs.h) is part of the profile, like every other header.
- Every other parameter makes the call unknown.

`NameTable` keeps names in the kernel's buckets. A full bucket evicts the name that was installed there first, never an
initial one. Calls with an evicted name become unknown, so the name soon returns.

`read_plain_head` reads heads in the plain form that the kernel matches (RFC 9112 with CRLF, origin-form). Others give
None.
"""

import re
import struct
from collections.abc import Iterator
from enum import Enum, auto
from functools import lru_cache
from typing import Final

import msgspec

from sensor.describe.attacks.classes import is_plain_header
from sensor.describe.auth.authentication import (
    is_context_parameter,
    is_key_header,
    is_key_parameter,
    is_signature_header,
    is_unread_header,
)
from sensor.describe.auth.schemes import classify_cookie_name as read_cookie_name
from sensor.describe.client_address import FORWARDING_HEADERS
from sensor.describe.objects import names_object
from sensor.ebpf import hashes
from sensor.ebpf.abi import NAME_WAYS, NameKind
from sensor.http.grpc import CONNECT_PARAMETER, CONNECT_VERSION_HEADER
from sensor.http.http1.head import AGENT, MARK_NAMES, UNREAD_NAMES
from sensor.offload.kernel_cache import KernelCache, MapName

# Read by `sensor.http` itself.
_PARSED: Final = frozenset((b"host", b"content-type", b"upgrade", CONNECT_VERSION_HEADER))
_CACHE_ENTRIES: Final = 4_096


class NameClassifier:
    """Judges names. `is_forwarding_read`: whether trusted networks are configured, so that forwarding headers count."""

    def __init__(self, *, is_forwarding_read: bool) -> None:
        self._is_forwarding_read = is_forwarding_read

    def classify_header(self, name: bytes) -> NameKind | None:
        """Kind of a header by its name in lower case; None where its line belongs to the profile."""
        if name == b"host":
            return NameKind.HEADER_HOST
        if name in MARK_NAMES:  # What software wrote the head is part of the profile; else nothing is read of them.
            return NameKind.HEADER_AGENT if name == AGENT else NameKind.HEADER_SHAPE
        if name in _PARSED or (self._is_forwarding_read and name in FORWARDING_HEADERS):
            return None
        if name in UNREAD_NAMES or is_unread_header(name):
            is_quoted = is_plain_header(name.decode("latin-1"))
            return NameKind.HEADER_QUOTED if is_quoted else NameKind.HEADER_IGNORED
        if name == b"authorization":
            return NameKind.HEADER_AUTHORIZATION
        if name == b"cookie":
            return NameKind.HEADER_COOKIE
        if is_signature_header(name):
            return NameKind.HEADER_PRESENT
        return NameKind.HEADER_KEY if is_key_header(name) else None

    def initial_headers(self) -> Iterator[tuple[bytes, NameKind]]:
        """Names that are installed before the first call."""
        for name in sorted({b"host", b"authorization", b"cookie", b"x-api-key", *UNREAD_NAMES, *FORWARDING_HEADERS}):
            kind = self.classify_header(name)
            if kind is not None:
                yield name, kind


def classify_cookie_name(name: bytes) -> NameKind | None:
    """Kind of a cookie by its name as it is sent; None where its value decides, or the name is not a plain one."""
    if not _COOKIE_NAME.match(name):
        return None
    kind = read_cookie_name(name)
    if kind is None:
        return None
    return NameKind.COOKIE_TOLD if kind else NameKind.COOKIE_IGNORED


@lru_cache(maxsize=_CACHE_ENTRIES)
def classify_parameter(name: str) -> NameKind | None:
    """Kind of a query parameter by its name; None where it says nothing without the others, as a signature does."""
    if is_context_parameter(name) or name == CONNECT_PARAMETER:
        return None
    if is_key_parameter(name):
        return NameKind.QUERY_CREDENTIAL
    return NameKind.QUERY_OBJECT if names_object(name) else NameKind.QUERY_IGNORED


# Names without a mark that attacks are made of: of these the name alone is read (sensor.describe.attacks).
_COOKIE_NAME: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}\Z")
# Methods as registered ones are written, which fit into the kernel's eight bytes.
_METHOD = re.compile(rb"[A-Z-]{1,8}")
# What the kernel leaves to user space: percent-encoding, fragments, matrix parameters.
_UNPLAIN = re.compile(rb"[%#;]|[^\x21-\x7e]")
_DOTS: Final = (b".", b"..")
_COOKIES: Final = re.compile(rb"\r\ncookie:([^\r\n]*)", re.IGNORECASE)
# A line feed and the name of the field that follows it (RFC 9110 section 5.1).
_NAME = re.compile(rb"\r\n([!#$%&'*+\-.^_`|~0-9A-Za-z]+):")
HEAD_BYTES_MAX: Final = 2_048


class PlainHead(msgspec.Struct, frozen=True, gc=False):
    """The parts of a head, in bytes as they were sent."""

    method: bytes
    segments: tuple[bytes, ...]
    has_slash: bool
    query: bytes
    header_names: tuple[bytes, ...]
    cookie_names: tuple[bytes, ...] = ()  # As the kernel reads them: up to the first equals sign.

    @property
    def path(self) -> str:
        """The path as it was sent."""
        return "/" + "/".join(segment.decode("ascii") for segment in self.segments) + "/" * self.has_slash

    def __repr__(self) -> str:
        return f"PlainHead(method={self.method!r}, redacted)"


def read_plain_head(data: bytes) -> PlainHead | None:
    """The head at the start of `data`; None where the kernel would leave it to user space or another name might be
    meant."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end <= HEAD_BYTES_MAX - 4:
        return None
    feed = data.find(b"\r\n")
    parts = data[:feed].split(b" ")
    if len(parts) != 3 or not _METHOD.fullmatch(parts[0]) or not parts[1].startswith(b"/"):
        return None
    method, target, _ = parts
    path, _, query = target.partition(b"?")
    if _UNPLAIN.search(path) or b"#" in query:
        return None
    segments = path[1:].split(b"/")
    has_slash = len(segments) > 1 and segments[-1] == b""
    if segments[-1] == b"":
        del segments[-1]
    if any(not segment or segment in _DOTS for segment in segments):
        return None
    fields = data[feed:end]
    names = _NAME.findall(fields.lower())
    if len(names) != fields.count(b"\n"):
        return None  # A line without a name, or one that goes on.
    if names.count(b"host") != 1:
        return None  # Two would be two services to two readers.
    cookies = tuple(_list_cookie_names(fields)) if b"cookie" in names else ()
    return PlainHead(method, tuple(segments), has_slash, query, tuple(names), cookies)


def _list_cookie_names(fields: bytes) -> Iterator[bytes]:
    for line in _COOKIES.findall(fields):
        for cookie in line.split(b";"):
            name, equals, _ = cookie.partition(b"=")
            if equals:
                yield name.lstrip(b" \t")


_BUCKET: Final = struct.Struct(f"<{NAME_WAYS}Q")
_INDEX: Final = struct.Struct("<I")
# As `sensor.describe` reads them.
_PARAMETERS_MAX: Final = 200
# Longer names are left to user space: whoever invents them only fills buckets.
_NAME_BYTES_MAX: Final = 64
_CLASSIFIED_MAX: Final = 2_048


class NamesKnown(Enum):
    """What the kernel knew of a head's names when it read the head."""

    KNOWN = auto()  # All that can be known: its profile stands for all that Python reads.
    NEW = auto()  # Not all: the next head like it has another profile.
    OPEN = auto()  # Some parameter says nothing by itself, and never will.


class NameTable:
    """The names installed so far. Not thread-safe."""

    def __init__(self, cache: KernelCache, classifier: NameClassifier, *, seed: int) -> None:
        """Installs the initial names at once. `seed`: of name hashes, as the kernel has it in its settings."""
        self._cache = cache
        self._classifier = classifier
        self.seed = seed
        self._buckets: dict[int, list[int]] = {}
        self._classified: dict[bytes, tuple[int, int]] = {}
        self._cookies: dict[bytes, tuple[int, int]] = {}
        self._known: set[int] = set()  # Entries, kinds included.
        self._fixed: dict[int, int] = {}  # Entries of a bucket that never give way: they are its first.
        self.evicted_count = 0
        for name, kind in classifier.initial_headers():
            if self._add(hashes.hash_header_name(seed, name), kind):
                bucket = hashes.find_bucket(hashes.hash_header_name(seed, name))
                self._fixed[bucket] = self._fixed.get(bucket, 0) + 1

    def __len__(self) -> int:
        return len(self._known)

    def install_names(self, head: PlainHead) -> NamesKnown:
        """Install the names of a head, as far as they say something by themselves."""
        is_new = False
        for name in head.header_names:
            name_hash, kind = self._classified.get(name) or self._classify_header(name)
            if kind and name_hash & ~0xFF | kind not in self._known:
                is_new |= self._add(name_hash, kind)
        for name in head.cookie_names:
            name_hash, kind = self._cookies.get(name) or self._classify_cookie(name)
            if kind and name_hash & ~0xFF | kind not in self._known:
                is_new |= self._add(name_hash, kind)
        is_open = False
        if head.query:
            pairs = head.query.split(b"&")
            is_open = len(pairs) > _PARAMETERS_MAX
            for pair in () if is_open else pairs:
                name = pair.partition(b"=")[0]
                parameter = classify_parameter(name.decode("latin-1")) if len(name) <= _NAME_BYTES_MAX else None
                if parameter is None:
                    is_open = True
                else:
                    is_new |= self._add(hashes.hash_parameter_name(self.seed, name), parameter)
        if is_open:
            return NamesKnown.OPEN
        return NamesKnown.NEW if is_new else NamesKnown.KNOWN

    def _classify_header(self, name: bytes) -> tuple[int, int]:
        """Hash and kind (0: none) of a field's name; remembered, as a classification takes some microseconds."""
        kind = self._classifier.classify_header(name) if len(name) <= _NAME_BYTES_MAX else None
        classified = (hashes.hash_header_name(self.seed, name), int(kind or 0))
        if len(self._classified) >= _CLASSIFIED_MAX:
            self._classified.clear()
        self._classified[name] = classified
        return classified

    def _classify_cookie(self, name: bytes) -> tuple[int, int]:
        """The same of a cookie's name."""
        classified = (hashes.hash_cookie_name(self.seed, name), int(classify_cookie_name(name) or 0))
        if len(self._cookies) >= _CLASSIFIED_MAX:
            self._cookies.clear()
        if len(name) <= _NAME_BYTES_MAX:
            self._cookies[name] = classified
        return classified

    def _add(self, name_hash: int, kind: int) -> bool:
        entry = name_hash & ~0xFF | kind
        if entry in self._known:
            return False
        index = hashes.find_bucket(name_hash)
        bucket = self._buckets.setdefault(index, [])
        if len(bucket) >= NAME_WAYS:
            fixed = self._fixed.get(index, 0)
            if fixed >= NAME_WAYS:
                return False
            self._known.discard(bucket.pop(fixed))
            self.evicted_count += 1
        bucket.append(entry)
        self._known.add(entry)
        padded = bucket + [0] * (NAME_WAYS - len(bucket))
        self._cache.write(MapName.NAMES, {_INDEX.pack(index): _BUCKET.pack(*padded)})
        return True

"""A request head as the kernel reads it: names and values by line, no meaning. For those that teach and check.

Reads only heads in the plain form that the kernel recognises (RFC 9112 with CRLF, origin-form, one segment a slash);
anything else is None and never taught.
"""

import re
from typing import Final

import msgspec

# Methods as registered ones are written, which fit into the kernel's eight bytes.
_METHOD = re.compile(rb"[A-Z-]{1,8}")
# What the kernel leaves to user space: percent-encoding, fragments, matrix parameters.
_UNPLAIN = re.compile(rb"[%#;]|[^\x21-\x7e]")
_DOTS: Final = (b".", b"..")
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
    return PlainHead(method, tuple(segments), has_slash, query, tuple(names))

"""How long a compressed body is once decoded: its bytes in, a number out; nothing of it is kept.

gzip and deflate (RFC 9110, section 8.4.1; deflate also without its zlib wrapper, as some servers send it). Bounded: a
body that grows past `MAX_DECODED_BYTES` is not decoded further and has no size.
"""

import zlib
from typing import Final

# A second of CPU; 10 MB of zeros in gzip would make 10 GB.
MAX_DECODED_BYTES: Final = 256 << 20
_STEP_BYTES: Final = 1 << 16
_HEADER_BYTES: Final = 2
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate"))


class DecodedSize:
    """Mutable state of one body."""

    __slots__ = ("_decoder", "_held", "size_bytes")

    def __init__(self) -> None:
        self._decoder: zlib._Decompress | None = None
        self._held = b""  # Of the header's first two bytes, which tell what wraps the rest.
        self.size_bytes: int | None = 0  # None: not what it says, or too long.

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        if self._decoder is None:
            data, self._held = self._held + data, b""
            if len(data) < _HEADER_BYTES:
                self._held = data
                return
            self._decoder = zlib.decompressobj(_ZLIB_OR_GZIP if _is_wrapped(data) else -zlib.MAX_WBITS)
        while data and self.size_bytes is not None and not self._decoder.eof:
            try:
                decoded = self._decoder.decompress(data, _STEP_BYTES)
            except zlib.error:
                self.size_bytes = None
                return
            self.size_bytes += len(decoded)
            if self.size_bytes > MAX_DECODED_BYTES:
                self.size_bytes = None
            data = self._decoder.unconsumed_tail


def _is_wrapped(data: bytes) -> bool:
    """Whether a gzip (RFC 1952, section 2.3.1) or zlib header (RFC 1950, section 2.2) begins here."""
    return data.startswith(b"\x1f\x8b") or (data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0)


def make_decoded_size(content_encoding: bytes | None) -> DecodedSize | None:
    """For a body in this coding; None where it has none that is known."""
    return DecodedSize() if (content_encoding or b"").strip().lower() in _CODINGS else None

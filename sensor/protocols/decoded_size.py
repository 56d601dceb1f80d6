"""How long a compressed body is once decoded: its bytes in, a number out; nothing of it is kept.

gzip and deflate (RFC 9110, section 8.4.1; deflate also without its zlib wrapper, as some servers send it). Bounded: a
body that grows past `MAX_DECODED_BYTES` is not decoded further and has no size.
"""

import zlib
from typing import Final

# A second of CPU; 10 MB of zeros in gzip would make 10 GB.
MAX_DECODED_BYTES: Final = 256 << 20
_STEP_BYTES: Final = 1 << 16
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate"))


class DecodedSize:
    """Mutable state of one body."""

    __slots__ = ("_decoder", "_is_first", "size_bytes")

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._is_first = True
        self.size_bytes: int | None = 0  # None: not what it says, or too long.

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        while data and self.size_bytes is not None and not self._decoder.eof:
            try:
                decoded = self._decoder.decompress(data, _STEP_BYTES)
            except zlib.error:
                if not self._is_first:
                    self.size_bytes = None
                    return
                self._is_first, self._decoder = False, zlib.decompressobj(-zlib.MAX_WBITS)
                continue
            self._is_first = False
            self.size_bytes += len(decoded)
            if self.size_bytes > MAX_DECODED_BYTES:
                self.size_bytes = None
            data = self._decoder.unconsumed_tail


def make_decoded_size(content_encoding: bytes | None) -> DecodedSize | None:
    """For a body in this coding; None where it has none that is known."""
    return DecodedSize() if (content_encoding or b"").strip().lower() in _CODINGS else None

"""Where frames of HTTP/2 start in a stream whose place was lost: bytes in, a position out once one is certain enough.

A frame's header says where the next one is. So a start is a chain: a plausible header, one plausible again where its
frame ends, and so on. A random nine bytes pass for a header once in five million; the chain is believed when

- it has three headers in a row, or
- two, and the second one's frame ends where the bytes end (peers send whole frames, then wait), or
- one that starts where a segment starts, and its frame ends where the bytes end.

All chains are followed at once, each byte is looked at once, and what is kept is bounded. What is skipped is lost to
the reader, which counts it. Only bytes that imitate frames (HTTP/2 carried as the payload of HTTP/2) can mislead it.
"""

import re
from typing import Final

from sensor.protocols.http2_frames import HEADER_BYTES, is_plausible, unpack_header

# Kept while searching, so that the first frames of a chain are not lost. A chain whose start fell out still counts.
MAX_KEPT_BYTES: Final = 64 << 10
# Followed at once; hostile bytes can start one at every place, then the oldest is given up.
MAX_CHAINS: Final = 64
CHAIN_HEADERS: Final = 3
# How far above the highest stream seen a new one may be. Streams count up by two, and a gap hides only so many.
STREAMS_AHEAD: Final = 8_192
MAX_STREAM: Final = (1 << 31) - 1

# All that can be said of a header by its bytes alone: length where the kind has one, kind, flags, and an odd stream or
# none. What else must hold is asked of the few places that match.
_ODD: Final = b"[" + b"".join(b"\\x%02x" % byte for byte in range(1, 256, 2)) + b"]"
_CANDIDATE = re.compile(
    rb"(?s)(?="
    rb"(?:...(?:\x00[\x00\x01\x08\x09]|\x01[\x00\x01\x04\x05\x08\x09\x0c\x0d\x20\x21\x24\x25\x28\x29\x2c\x2d]"
    rb"|\x05[\x00\x04\x08\x0c]|\x09[\x00\x04])|\x00\x00(?:\x05\x02|\x04\x03|\x04\x08)\x00)[\x00-\x7f].." + _ODD + rb"|"
    rb"\x00(?:\x00.\x04[\x00\x01]|\x00\x08\x06[\x00\x01]|..\x07\x00|\x00\x04\x08\x00)\x00\x00\x00\x00)"
)


class _Chain:
    __slots__ = ("count", "is_segment_start", "next", "start")

    def __init__(self, start: int, is_segment_start: bool) -> None:
        self.start = start  # Position of its first header.
        self.is_segment_start = is_segment_start
        self.next = start  # Position where the next header is due.
        self.count = 0  # Headers so far.


class BoundarySearch:
    """Mutable state of one search; `kept` are the bytes before `position`, the newest last."""

    __slots__ = ("_chains", "_max_stream", "_segment_start", "kept", "position")

    def __init__(self, position: int, max_stream: int) -> None:
        """`position` is that of the next byte; `max_stream` the highest stream seen, 0 where none was."""
        self.position = position
        self.kept = bytearray()
        self._max_stream = max_stream + STREAMS_AHEAD if max_stream else MAX_STREAM
        self._chains: list[_Chain] = []
        self._segment_start = position

    def add(self, data: bytes) -> int | None:
        """Takes the bytes of one segment; gives the position of a frame's start within `kept`, or None.

        Cost: ~0.1 us a byte; of bytes that imitate headers up to ~2 us.
        """
        # A header may have begun in the segment before.
        first_new = max(self.position - HEADER_BYTES + 1, self.position - len(self.kept))
        self._segment_start = self.position
        self.kept += data
        self.position += len(data)
        base = self.position - len(self.kept)
        found = self._follow(base)
        if found is None:
            found = self._start_chains(first_new, base)
        self._trim()
        return found

    def _start_chains(self, first_new: int, base: int) -> int | None:
        for match in _CANDIDATE.finditer(self.kept, first_new - base):
            start = base + match.start()
            chain = _Chain(start, start == self._segment_start)
            if self._advance(chain, base):
                if self._is_believed(chain):
                    return self._place(chain, base)
                if len(self._chains) >= MAX_CHAINS:
                    del self._chains[0]
                self._chains.append(chain)
        return None

    def _follow(self, base: int) -> int | None:
        """Goes on with the chains that there are."""
        self._chains = [chain for chain in self._chains if self._advance(chain, base)]
        for chain in self._chains:
            if self._is_believed(chain):
                return self._place(chain, base)
        return None

    def _advance(self, chain: _Chain, base: int) -> bool:
        """Reads the headers that are due; False where one is none."""
        while chain.next + HEADER_BYTES <= self.position and chain.count < CHAIN_HEADERS:
            at = chain.next - base
            header = bytes(self.kept[at : at + HEADER_BYTES])
            if not is_plausible(header, self._max_stream):
                return False
            chain.count += 1
            chain.next += HEADER_BYTES + unpack_header(header, 0)[0]
        return True

    def _is_believed(self, chain: _Chain) -> bool:
        needed = CHAIN_HEADERS
        if chain.next == self.position:
            needed = 1 if chain.is_segment_start else 2
        return chain.count >= needed

    def _place(self, chain: _Chain, base: int) -> int:
        """The chain's first header, or the place after all its frames where that fell out."""
        return chain.start if chain.start >= base else chain.next

    def _trim(self) -> None:
        excess = len(self.kept) - MAX_KEPT_BYTES
        if excess > 0:
            del self.kept[:excess]

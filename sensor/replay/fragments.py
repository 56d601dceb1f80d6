"""IP fragments put together (RFC 815; RFC 8200, section 4.5): a fragment in, a whole datagram's payload out or nothing.

Bounded: so many datagrams at a time, the oldest given up and counted, as are those whose last fragment does not come
within 30 s (RFC 1122, section 3.3.2 asks for 60 to 120; Linux keeps 30). Bytes that came first win.
"""

from typing import Final

import msgspec

MAX_DATAGRAMS: Final = 1_024
TIMEOUT_NS: Final = 30_000_000_000
MAX_PAYLOAD_BYTES: Final = 65_535
MAX_FRAGMENTS: Final = 8_192  # 65,535 bytes in pieces of 8.

FragmentKey = tuple[bytes, bytes, int, int]  # Source, destination, identification, protocol.


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """One piece of a datagram."""

    key: FragmentKey
    offset: int  # In bytes.
    has_more: bool
    data: bytes
    time_ns: int


class _Datagram:
    __slots__ = ("end", "parts", "time_ns")

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns
        self.end: int | None = None
        self.parts: dict[int, bytes] = {}


class Defragmenter:
    """Mutable state between fragments."""

    def __init__(self) -> None:
        self._pending: dict[FragmentKey, _Datagram] = {}  # Oldest first.
        self.given_up = 0  # Datagrams that were never whole.

    def add(self, fragment: Fragment) -> bytes | None:
        """The payload, once all of it is here."""
        self._expire(fragment.time_ns)
        datagram = self._pending.get(fragment.key)
        if datagram is None:
            datagram = self._pending[fragment.key] = _Datagram(fragment.time_ns)
            if len(self._pending) > MAX_DATAGRAMS:
                self._give_up(next(iter(self._pending)))
        end = fragment.offset + len(fragment.data)
        if end > MAX_PAYLOAD_BYTES or len(datagram.parts) >= MAX_FRAGMENTS:
            self._give_up(fragment.key)
            return None
        if not fragment.has_more and datagram.end is None:
            datagram.end = end
        datagram.parts.setdefault(fragment.offset, fragment.data)
        payload = _join(datagram)
        if payload is not None:
            del self._pending[fragment.key]
        return payload

    def finish(self) -> None:
        """No more fragments come."""
        for key in list(self._pending):
            self._give_up(key)

    def _expire(self, now_ns: int) -> None:
        while self._pending:
            key = next(iter(self._pending))
            if now_ns - self._pending[key].time_ns <= TIMEOUT_NS:
                return
            self._give_up(key)

    def _give_up(self, key: FragmentKey) -> None:
        del self._pending[key]
        self.given_up += 1


def _join(datagram: _Datagram) -> bytes | None:
    if datagram.end is None:
        return None
    whole = bytearray()
    for offset in sorted(datagram.parts):
        if offset > len(whole):
            return None
        whole += datagram.parts[offset][len(whole) - offset :]
    return bytes(whole[: datagram.end]) if len(whole) >= datagram.end else None

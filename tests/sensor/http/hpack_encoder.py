"""A small HPACK encoder (RFC 7541) for tests: it writes any representation that is asked of it, at any table size.

Written apart from the decoder, with a table that evicts as the RFC says, so that a story of it is the truth for both.
"""

from collections import deque

from sensor.http.hpack import HUFFMAN_CODE_LENGTHS, STATIC_TABLE

Pair = tuple[bytes, bytes]


def make_huffman_codes() -> list[str]:
    """The code of each symbol as ones and zeros, shortest first, counting up."""
    codes = [""] * len(HUFFMAN_CODE_LENGTHS)
    code = 0
    for length in range(1, max(HUFFMAN_CODE_LENGTHS) + 1):
        code *= 2
        for symbol, bits in enumerate(HUFFMAN_CODE_LENGTHS):
            if bits == length:
                codes[symbol] = format(code, f"0{length}b")
                code += 1
    return codes


HUFFMAN_CODES = make_huffman_codes()


def encode_huffman(text: bytes) -> bytes:
    bits = "".join(HUFFMAN_CODES[byte] for byte in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def encode_integer(value: int, prefix_bits: int, first: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = bytearray([first | limit]), value - limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def encode_string(text: bytes, is_huffman: bool) -> bytes:
    data = encode_huffman(text) if is_huffman else text
    return encode_integer(len(data), 7, 0x80 if is_huffman else 0) + data


class Encoder:
    """One direction's encoder; `table` is newest first."""

    def __init__(self) -> None:
        self.table: deque[Pair] = deque()
        self.capacity = 4_096

    def resize(self, capacity: int) -> bytes:
        self.capacity = capacity
        self._evict(0)
        return encode_integer(capacity, 5, 0x20)

    def encode(self, pairs: list[Pair], *, is_huffman: bool = True, unindexed: frozenset[bytes] = frozenset()) -> bytes:
        """Indexes what it can; fields named in `unindexed` stay literals."""
        return b"".join(self._encode(pair, is_huffman, pair[0] in unindexed) for pair in pairs)

    def _encode(self, pair: Pair, is_huffman: bool, is_unindexed: bool) -> bytes:
        entries = [*STATIC_TABLE, *self.table]
        if pair in entries:
            return encode_integer(entries.index(pair) + 1, 7, 0x80)
        name, value = pair
        names = [entry[0] for entry in entries]
        prefix_bits, first = (4, 0x10) if is_unindexed else (6, 0x40)
        out = (
            encode_integer(names.index(name) + 1, prefix_bits, first)
            if name in names
            else bytes([first]) + encode_string(name, is_huffman)
        )
        if not is_unindexed:
            self._insert(pair)
        return out + encode_string(value, is_huffman)

    def _insert(self, pair: Pair) -> None:
        size = _measure(pair)
        self._evict(size)
        if size <= self.capacity:
            self.table.appendleft(pair)

    def _evict(self, added: int) -> None:
        while self.table and sum(map(_measure, self.table)) + added > self.capacity:
            self.table.pop()


def _measure(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1]) + 32

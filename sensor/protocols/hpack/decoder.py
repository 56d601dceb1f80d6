"""HPACK (RFC 7541) for a listener that may come late: header blocks of one direction in, fields out. Never raises.

A decoder of an endpoint holds the whole table from the first block on. A sensor may join in the middle of a connection,
or miss a block. Both are one state here, the *incomplete* table:

    index      62 .. 62 + k - 1      62 + k ..
    entry      the k newest          older ones
    known      exactly               as placeholders

Entries are inserted at index 62 and everything older moves up by one (section 2.3.2), so the index of an entry that was
inserted before the join says which of them it is: entry number `inserted - 1 - (index - 62)`, negative before the join.
That number is the placeholder, and it never changes its meaning. Three more facts make this exact:

- The static table is known: GET, POST, 200, https and so on are right from the first block.
- An encoder never names an entry it evicted (section 4). Holding entries for too long is therefore harmless, and the
  real size of the table need not be known. Indices stay right even where an entry was too large for the table and
  emptied it: then nothing older than it is ever named again.
- Once the known entries alone exceed the table's size, all older ones are gone and the table is complete.

What cannot be read (a wrong index, a broken string) means that the place in the stream was lost: the block is an error
and the table incomplete from then on. Nothing is guessed.
"""

from typing import Final

import msgspec

from sensor.protocols.hpack.field import Field, HeaderBlock, Placeholder, Text
from sensor.protocols.hpack.huffman import HuffmanStrings
from sensor.protocols.hpack.tables import STATIC_TABLE

DEFAULT_TABLE_BYTES: Final = 4_096  # RFC 9113, section 6.5.2.
# Held of a table, in the RFC's bytes: Chrome announces 65,536, servers keep to 4,096. Older entries become unknown.
MAX_TABLE_BYTES: Final = 65_536
# How far behind the known entries an unknown one may be: as many as MAX_TABLE_BYTES hold. Beyond, the block is broken.
MAX_UNKNOWN_DEPTH: Final = MAX_TABLE_BYTES // 32
ENTRY_OVERHEAD_BYTES: Final = 32  # Section 4.1.

# Blocks that name entries only are the same bytes for the same call while the table stands still.
_MEMO_ENTRIES: Final = 64
_MEMO_BLOCK_BYTES: Final = 256
_MEMO_FIELDS: Final = 64
# What Python needs for an entry beside its text, and for a block that is kept with what was read of it: measured.
_ENTRY_HELD_BYTES: Final = 96
_MEMO_HELD_BYTES: Final = 1_200

ERROR_INDEX: Final = "hpack_index"
ERROR_INTEGER: Final = "hpack_integer"
ERROR_STRING: Final = "hpack_string"
ERROR_SHORT: Final = "hpack_short"

_FIRST_DYNAMIC: Final = len(STATIC_TABLE) + 1
_MAX_INTEGER_BYTES: Final = 5  # After the prefix: sizes of tables are 32 bits in SETTINGS.


class _Lasting(msgspec.Struct, frozen=True, gc=False):
    """A block that names no entry of the table, so that it always means the same, and puts the same into the table."""

    block: HeaderBlock
    entries: list[Field]
    sizes: list[int]
    table_bytes: int


class _BrokenError(Exception):
    """Ends the decoding of one block; never leaves this module."""


def _read_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """Section 5.1, after a prefix that is all ones: (value, place after it)."""
    value = prefix
    for shift in range(0, 7 * _MAX_INTEGER_BYTES, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _BrokenError(ERROR_INTEGER)


_STATIC: Final[list[Field]] = [(b"", b""), *STATIC_TABLE]
_STATIC_NAMES: Final = [name for name, _ in _STATIC]


class HpackDecoder:
    """The table of one direction of one connection. `strings` may serve many decoders."""

    __slots__ = (
        "_capacity",
        "_entries",
        "_inserted",
        "_is_lasting",
        "_lasting",
        "_limit",
        "_memo",
        "_sizes",
        "_strings",
        "epoch",
        "is_complete",
        "table_bytes",
    )

    def __init__(self, strings: HuffmanStrings, *, is_complete: bool) -> None:
        self._strings = strings
        self._entries: list[Field] = []  # The newest last.
        self._sizes: list[int] = []  # Of each, as the RFC counts; an unknown name counts nothing.
        self.table_bytes = 0  # Their sum.
        self._inserted = 0  # Since the start of the epoch.
        # Of the peer's table; -1 where unknown, which may be until the next size update.
        self._capacity = DEFAULT_TABLE_BYTES if is_complete else -1
        self._limit = DEFAULT_TABLE_BYTES if is_complete else MAX_TABLE_BYTES  # Bytes of entries held.
        self._memo: dict[bytes, HeaderBlock] = {}
        self._lasting: dict[bytes, _Lasting] = {}
        self._is_lasting = False  # The block that was read last names no entry of the table.
        self.is_complete = is_complete
        self.epoch = 0  # Losses so far.

    def forget(self) -> None:
        """A block may have been missed: all entries become unknown."""
        self._entries.clear()
        self._sizes.clear()
        self._memo.clear()
        self.table_bytes = self._inserted = 0
        self._capacity, self._limit = -1, MAX_TABLE_BYTES
        self.is_complete = False
        self.epoch += 1

    def decode(self, block: bytes) -> HeaderBlock:
        """Fields of one whole block (all fragments joined), in order. Costs: docs/http2.md."""
        known = self._memo.get(block) or self.repeat(block)
        if known is not None:
            return known
        inserted, capacity = self._inserted, self._capacity
        try:
            fields = self._read(block)
        except IndexError:
            self.forget()
            return HeaderBlock([], ERROR_SHORT)
        except _BrokenError as broken:
            self.forget()
            return HeaderBlock([], str(broken))
        decoded = HeaderBlock(fields)
        is_short = len(block) <= _MEMO_BLOCK_BYTES and len(fields) <= _MEMO_FIELDS
        if is_short and self._inserted == inserted and self._capacity == capacity:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            self._memo[block] = decoded
        elif is_short and self._is_lasting and 0 < self._inserted - inserted <= len(self._entries):
            self._keep_lasting(block, decoded, self._inserted - inserted)
        return decoded

    def repeat(self, block: bytes) -> HeaderBlock | None:
        """Takes a block that was met before, adds to the table and names nothing of it, as each answer of nginx is;
        None, and nothing done, for all others."""
        kept = self._lasting.get(block)
        if kept is None:
            return None
        if self._memo:
            self._memo.clear()
        self._inserted += len(kept.entries)
        self._entries += kept.entries
        self._sizes += kept.sizes
        self.table_bytes += kept.table_bytes
        if self.table_bytes > self._limit:
            self._evict()
        return kept.block

    def _keep_lasting(self, block: bytes, decoded: HeaderBlock, count: int) -> None:
        if len(self._lasting) >= _MEMO_ENTRIES:
            self._lasting.clear()
        sizes = self._sizes[-count:]
        self._lasting[block] = _Lasting(decoded, self._entries[-count:], sizes, sum(sizes))

    @property
    def known(self) -> dict[bytes, HeaderBlock]:
        """Blocks that mean what they meant when they were decoded, as long as they are here."""
        return self._memo

    @property
    def held_bytes(self) -> int:
        """About what it holds: the table, and the blocks that are kept."""
        kept = len(self._memo) + len(self._lasting)
        return self.table_bytes + _ENTRY_HELD_BYTES * len(self._entries) + _MEMO_HELD_BYTES * kept

    def _read(self, block: bytes) -> list[Field]:
        # Strings are read in place: as calls they would be half of the cost. One that ends after the block makes `at`
        # too large, which is found at the end; what it put into the table goes then.
        fields: list[Field] = []
        append, entries, decode_huffman = fields.append, self._entries, self._strings.decode
        at, end, is_lasting = 0, len(block), True
        while at < end:
            byte = block[at]
            at += 1
            if byte & 0x80:  # Indexed field, section 6.1.
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _read_integer(block, at, 0x7F)
                if index >= _FIRST_DYNAMIC:
                    depth, is_lasting = index - _FIRST_DYNAMIC, False
                    append(entries[-1 - depth] if depth < len(entries) else self._find_unknown(depth))
                elif index:
                    append(_STATIC[index])
                else:
                    raise _BrokenError(ERROR_INDEX)
                continue
            if byte & 0xE0 == 0x20:  # Table size update, section 6.3.
                index = byte & 0x1F
                if index == 0x1F:
                    index, at = _read_integer(block, at, 0x1F)
                self._resize(index)
                is_lasting = False
                continue
            # Literal with incremental indexing, without, or never indexed: section 6.2.
            prefix = 0x3F if byte & 0x40 else 0x0F
            index = byte & prefix
            name: Text | None
            if index:
                if index == prefix:
                    index, at = _read_integer(block, at, prefix)
                depth = index - _FIRST_DYNAMIC
                if depth < 0:
                    name = _STATIC_NAMES[index]
                else:
                    is_lasting = False
                    name = (entries[-1 - depth] if depth < len(entries) else self._find_unknown(depth))[0]
            else:
                first = block[at]
                length, at = first & 0x7F, at + 1
                if length == 0x7F:
                    length, at = _read_integer(block, at, 0x7F)
                name = block[at : at + length] if first < 0x80 else decode_huffman(block[at : at + length])
                at += length
            first = block[at]
            length, at = first & 0x7F, at + 1
            if length == 0x7F:
                length, at = _read_integer(block, at, 0x7F)
            value = block[at : at + length] if first < 0x80 else decode_huffman(block[at : at + length])
            at += length
            if name is None or value is None:
                raise _BrokenError(ERROR_STRING)
            field = (name, value)
            append(field)
            if byte & 0x40:
                self._insert(field, name, value)
        if at > end:
            raise _BrokenError(ERROR_SHORT)
        self._is_lasting = is_lasting
        return fields

    def _find_unknown(self, depth: int) -> Field:
        """An entry behind the known ones, `depth` entries older than the newest."""
        if self.is_complete or depth >= len(self._entries) + MAX_UNKNOWN_DEPTH:
            raise _BrokenError(ERROR_INDEX)
        entry = self._inserted - 1 - depth
        return Placeholder(self.epoch, entry, False), Placeholder(self.epoch, entry, True)

    def _insert(self, field: Field, name: Text, value: bytes) -> None:
        """Section 4.4; an entry of unknown name counts without it, so that eviction here is never early."""
        if self._memo:
            self._memo.clear()
        size = len(value) + ENTRY_OVERHEAD_BYTES
        if type(name) is bytes:
            size += len(name)
        self._inserted += 1
        self._entries.append(field)
        self._sizes.append(size)
        self.table_bytes += size
        if self.table_bytes > self._limit:
            self._evict()

    def _resize(self, size: int) -> None:
        self._memo.clear()
        self._capacity = size
        self._limit = min(size, MAX_TABLE_BYTES)
        if self.table_bytes > self._limit:
            self._evict()
        if size < ENTRY_OVERHEAD_BYTES:  # No entry fits, so none of the unknown ones is left.
            self.is_complete = True

    def _evict(self) -> None:
        """Drops the oldest while the table is larger than its capacity, or than what is held of one."""
        size, sizes, count = self.table_bytes, self._sizes, 0
        while size > self._limit:
            size -= sizes[count]
            count += 1
        del self._entries[:count], sizes[:count]
        self.table_bytes = size
        # What was dropped for the capacity's sake is gone there too, and with it all that was older.
        self.is_complete = self._limit == self._capacity

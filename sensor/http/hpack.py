"""HPACK (RFC 7541) for a listener that may join late: header blocks of one direction in, fields out. Never raises.

A decoder at an endpoint has the whole table from the first block on. A sensor may join in the middle of a connection or
miss a block. Both are one state here, the *incomplete* table:

    index      62 .. 62 + k - 1      62 + k ..
    entry      the k newest          older ones
    known      exactly               as placeholders

A new entry gets index 62 and moves all older entries by one (section 2.3.2). So the index of an older entry identifies
it: it is entry number `inserted - 1 - (index - 62)`, negative before the join. A `Placeholder` carries this number,
which never changes its meaning. Three more facts make this exact:

- The static table is known: GET, POST, 200, https and so on are right from the first block.
- An encoder never names an entry that it evicted (section 4). So it is harmless to keep entries for too long, and the
  real size of the table need not be known. This holds too where an entry was too large for the table and emptied it.
- Once the known entries alone exceed the table's size, all older ones are gone and the table is complete.

A wrong index or a broken string means that the place in the stream was lost. The block is then an error, and the table
is incomplete from there on. Nothing is guessed.

The static table is appendix A. The Huffman code of appendix B is canonical ("Generating a canonical prefix encoding",
Schwartz and Kallick 1964), so the lengths of the codes define it. Tests compare the codes with appendix C and with a
second implementation. The Huffman decoder (section 5.2) reads a byte a step. It computes the 256 steps of a state when
it first meets the state, so nothing is built at the start. There are 256 states, which take 6 MB if all are met.
"""

from functools import cache
from typing import Annotated, Final

import msgspec


class Placeholder(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """The name or the value of a table entry that was inserted before the decoder joined, or that it had to forget.

    Within one decoder equal placeholders are equal text, for good, so that what is unknown can still be told apart.
    """

    epoch: int  # How often the decoder had lost its table.
    entry: int  # Counted from the first entry inserted after that; negative for those before.
    is_value: bool


# Name and value of a header field; names are lower case, as HTTP/2 demands (RFC 9113, section 8.2), not checked here.
# A plain tuple: objects would cost a quarter of the decoding. Blocks that name the same table entry share it.
Text = bytes | Placeholder
Field = tuple[Text, Text]
Entry = tuple[Text, bytes]  # Of a table.


class HeaderBlock(msgspec.Struct, gc=False):
    """One decoded block. Shared between equal blocks while the table stands still; nobody changes it but what is
    kept of its reading."""

    fields: list[Field]
    error: str = ""  # Why it could not be decoded, a fixed word; then `fields` is empty.
    reading: object = None  # Of sensor.http.http2.heads, which knows its type.
    is_plain: bool | None = None  # Whether it begins a request or a response as most do; None: not looked at.

    def __repr__(self) -> str:
        return f"HeaderBlock({len(self.fields)} fields, error={self.error!r})"


# Index 1 is the first (appendix A).
STATIC_TABLE: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""), (b"accept", b""),
    (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""), (b"authorization", b""),
    (b"cache-control", b""), (b"content-disposition", b""), (b"content-encoding", b""), (b"content-language", b""),
    (b"content-length", b""), (b"content-location", b""), (b"content-range", b""), (b"content-type", b""),
    (b"cookie", b""), (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
    (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""),
    (b"max-forwards", b""), (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""),
    (b"referer", b""), (b"refresh", b""), (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""),
    (b"via", b""), (b"www-authenticate", b""),
)  # fmt: skip

# Bits of the code of each byte, then of the end of string (appendix B, column "len in bits").
HUFFMAN_CODE_LENGTHS: Final[tuple[int, ...]] = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20,
    20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23,
    24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27,
    24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26,
    26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)  # fmt: skip

END_OF_STRING: Final = 256


# Strings kept in each of two generations. Names, paths and tokens repeat; a hostile peer's strings come once, and only
# what is met again is carried over, so they cannot push out what repeats. Together both hold at most ~6 MB.
_CACHE_ENTRIES: Final = 2_048
_CACHE_BYTES: Final = 1 << 20
_CACHED_STRING_BYTES: Final = 2_048  # Coded. JWTs have up to 2 KB.
_MAX_PADDING_BITS: Final = 7

# A node of the code's tree: its two branches, each a node or a symbol; None where no code goes on.
_Tree = list["_Tree | int | None"]


def _make_codes() -> list[tuple[int, int]]:
    """(code, length in bits) of each symbol: the canonical code of these lengths."""
    codes = [(0, 0)] * len(HUFFMAN_CODE_LENGTHS)
    code = previous = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(HUFFMAN_CODE_LENGTHS)):
        code <<= length - previous
        codes[symbol] = (code, length)
        code, previous = code + 1, length
    return codes


def encode_huffman(text: bytes) -> bytes:
    """The string coded, as every encoder that codes it does."""
    bits, size = 0, 0
    codes = _find_codes()
    for byte in text:
        code, length = codes[byte]
        bits, size = bits << length | code, size + length
    padding = -size % 8
    return (bits << padding | (1 << padding) - 1).to_bytes((size + padding) // 8, "big")


@cache
def _find_codes() -> list[tuple[int, int]]:
    return _make_codes()


def _make_tree() -> _Tree:
    root: _Tree = [None, None]
    for symbol, (code, length) in enumerate(_make_codes()):
        node = root
        for place in range(length - 1, 0, -1):
            branch = node[code >> place & 1]
            if not isinstance(branch, list):
                branch = node[code >> place & 1] = [None, None]
            node = branch
        node[code & 1] = symbol
    return root


# The 256 steps of a state, by byte: (steps of the next state, bytes completed). Empty before it is met.
_Steps = list["_Step"]
_Step = tuple[_Steps, bytes]


class _Machine:
    __slots__ = ("_dead", "_ends", "_nodes", "_root", "_start", "_states")

    def __init__(self) -> None:
        self._root = _make_tree()
        self._states: dict[int, _Steps] = {}  # By id of their node.
        self._nodes: dict[int, _Tree] = {}  # By id of their steps.
        self._start = self._find(self._root)
        self._dead: _Steps = []  # Where no code goes on.
        self._dead += [(self._dead, b"")] * 256
        # A string may end in a state that is left with ones, fewer than a byte of them.
        self._ends = {id(self._start)}
        node = self._root
        for _ in range(_MAX_PADDING_BITS):
            branch = node[1]
            assert isinstance(branch, list)  # No code is seven ones or fewer.
            node = branch
            self._ends.add(id(self._find(node)))

    def decode(self, coded: bytes) -> bytes | None:
        """The string, or None."""
        while True:
            step: _Step = (self._start, b"")
            try:
                text = b"".join([(step := step[0][byte])[1] for byte in coded])
            except IndexError:  # A state that was never met.
                self._fill(step[0])
            else:
                return text if id(step[0]) in self._ends else None

    def _find(self, node: _Tree) -> _Steps:
        steps = self._states.get(id(node))
        if steps is None:
            steps = self._states[id(node)] = []
            self._nodes[id(steps)] = node
        return steps

    def _fill(self, steps: _Steps) -> None:
        node = self._nodes[id(steps)]
        steps += [self._work_out(node, byte) for byte in range(256)]

    def _work_out(self, node: _Tree, byte: int) -> _Step:
        """What eight more bits complete, and lead to."""
        completed = bytearray()
        for place in range(7, -1, -1):
            branch = node[byte >> place & 1]
            if isinstance(branch, list):
                node = branch
            elif branch is None or branch == END_OF_STRING:
                return self._dead, b""
            else:
                completed.append(branch)
                node = self._root
        return self._find(node), bytes(completed)


@cache
def _make_machine() -> _Machine:
    """The one there is."""
    return _Machine()


class HuffmanStrings:
    """Decodes Huffman strings and remembers those met lately. One serves all connections of a sensor."""

    __slots__ = ("_machine", "_new", "_new_bytes", "_old")

    def __init__(self) -> None:
        self._machine = _make_machine()
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._new_bytes = 0

    def decode(self, coded: bytes) -> bytes | None:
        """The string; None where a code is unknown, or its padding is none.

        Cost: 0.1 us for a string met lately, else ~0.06 us a byte.
        """
        text = self._new.get(coded)
        if text is not None:
            return text
        text = self._old.get(coded)
        if text is None:
            text = self._machine.decode(coded)
            if text is None or len(coded) > _CACHED_STRING_BYTES:
                return text
        if len(self._new) >= _CACHE_ENTRIES or self._new_bytes > _CACHE_BYTES:
            self._old, self._new, self._new_bytes = self._new, {}, 0
        self._new[coded] = text
        self._new_bytes += len(coded) + len(text)
        return text


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
    entries: list[Entry]
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


class HpackTable(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a decoder knows of its table, for a decoder of another process. Private to the node: holds header values."""

    entries: Annotated[list[Entry], msgspec.Meta(max_length=MAX_TABLE_BYTES // ENTRY_OVERHEAD_BYTES)]
    inserted: int
    capacity: Annotated[int, msgspec.Meta(ge=-1)]
    is_complete: bool
    epoch: int

    def __repr__(self) -> str:
        return f"HpackTable({len(self.entries)} entries, redacted)"


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
        self._entries: list[Entry] = []  # The newest last.
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

    @classmethod
    def load(cls, strings: HuffmanStrings, table: HpackTable) -> "HpackDecoder":
        """A decoder that continues with this table."""
        decoder = cls(strings, is_complete=table.is_complete)
        decoder._capacity = table.capacity
        decoder._limit = MAX_TABLE_BYTES if table.capacity < 0 else min(table.capacity, MAX_TABLE_BYTES)
        for name, value in table.entries:
            decoder._insert((name, value), name, value)
        decoder._inserted, decoder.epoch = table.inserted, table.epoch
        return decoder

    def save(self) -> HpackTable:
        """What `load` takes."""
        return HpackTable(self._entries, self._inserted, self._capacity, self.is_complete, self.epoch)

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
        """Fields of one whole block (all fragments joined), in order. Costs: docs/internals/http2.md."""
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

    def _insert(self, field: Entry, name: Text, value: bytes) -> None:
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

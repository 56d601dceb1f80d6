"""Huffman strings of HPACK (RFC 7541, section 5.2): coded bytes in, bytes out, or None where they are no such string.

The machine reads a byte a step. A state is a prefix of a code, and for each state and byte there is what the byte
completes and the state after it. There are 256 states; the 256 steps of one are worked out when it is first met, so
that nothing is built at start, and memory holds the states that real strings lead to (6 MB for all of them).
"""

from functools import cache
from typing import Final

from sensor.protocols.hpack.tables import END_OF_STRING, HUFFMAN_CODE_LENGTHS

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

    def __reduce__(self) -> "tuple[type[HuffmanStrings], tuple[()]]":
        """Another process begins with none."""
        return HuffmanStrings, ()

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

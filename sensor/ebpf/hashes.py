"""The kernel's hashes computed in Python, so that user space installs entries under the numbers that the kernel looks
up.

There are two kinds. Values (segments, hosts, header fields) go through SipHash under the installation key. Names of
header fields and query parameters go through a fast hash under a secret seed: a collision there can only cause a wrong
match among the installed names. `fold` joins hashes. tests/data/recognition_hashes.json holds vectors for both sides.
"""

import re
from typing import Final

from sensor.core.addresses import pack_address
from sensor.core.keyed import fold
from sensor.ebpf.abi import EDGE_SIGNS, NAME_BUCKETS, SegmentClass, TokenKind

_MASK: Final = 0xFFFFFFFFFFFFFFFF
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
# Of packet.h: `mix`, and the last word of `endpoint_key`.
_END_MULTIPLIER: Final = 0x9FB21C651E98DF25
_END: Final = 0x61706964616531
_CASE: Final = 0x2020202020202020
_COOKIE_SEED: Final = 2
_WORD: Final = 8
_SIGN_BITS: Final = 6
_SIGN_SHIFT: Final = 64 - _SIGN_BITS - (EDGE_SIGNS.bit_length() - 1)

# Shapes with a length of their own in the key, and where it stands.
_LENGTH_SHIFT: Final = 8
_KINDS_SHIFT: Final = 24
_CLASSES: Final = (
    (SegmentClass.DIGITS, re.compile(rb"[0-9]{1,18}\Z"), False),
    (
        SegmentClass.UUID_LOWER,
        re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"),
        False,
    ),
    (
        SegmentClass.UUID_UPPER,
        re.compile(rb"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}\Z"),
        False,
    ),
    (SegmentClass.HEX_LOWER, re.compile(rb"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{8,}\Z"), True),
    (SegmentClass.HEX_UPPER, re.compile(rb"(?=.*[0-9])(?=.*[A-F])[0-9A-F]{8,}\Z"), True),
    (SegmentClass.ULID, re.compile(rb"(?=.*[A-Z])[0-7][0-9A-HJKMNP-TV-Z]{25}\Z"), False),
    (SegmentClass.TOKEN, re.compile(rb"(?=(?:.*[0-9]){2})[0-9A-Za-z_-]{20,}\Z"), True),
)
_KINDS: Final = (
    (TokenKind.DIGIT, re.compile(rb"[0-9]")),
    (TokenKind.LOWER, re.compile(rb"[a-z]")),
    (TokenKind.UPPER, re.compile(rb"[A-Z]")),
    (TokenKind.DASH, re.compile(rb"-")),
    (TokenKind.UNDERSCORE, re.compile(rb"_")),
)


def find_sign(node: int, segment: int) -> tuple[int, int]:
    """Word of `edge_signs`, and the bit in it, of an edge from a node by the hash of a segment."""
    sign = segment + node * _MULTIPLIER & _MASK
    return sign >> _SIGN_SHIFT + _SIGN_BITS, 1 << (sign >> _SIGN_SHIFT & 63)


def _hash_name(start: int, name: bytes) -> int:
    hashed = start
    for at in range(0, len(name), _WORD):
        word = int.from_bytes(name[at : at + _WORD].ljust(_WORD, b"\0"), "little") | _CASE
        hashed = (hashed ^ word) * _MULTIPLIER & _MASK
        hashed ^= hashed >> 32
    hashed = (hashed ^ len(name)) * _MULTIPLIER & _MASK
    return hashed ^ hashed >> 32


def hash_header_name(seed: int, name: bytes) -> int:
    """Of a field name, whatever its case."""
    return _hash_name(seed, name)


def hash_parameter_name(seed: int, name: bytes) -> int:
    """Of the name of a query parameter, whatever its case."""
    return _hash_name(seed ^ 1, name)


def hash_cookie_name(seed: int, name: bytes) -> int:
    """Of the name of a cookie, in which case matters (bpf/cookies.h)."""
    hashed = seed ^ _COOKIE_SEED
    for at in range(0, len(name), _WORD):
        word = int.from_bytes(name[at : at + _WORD].ljust(_WORD, b"\0"), "little")
        hashed = (hashed ^ word ^ _CASE) * _MULTIPLIER & _MASK
        hashed ^= hashed >> 32
    hashed = (hashed ^ len(name)) * _MULTIPLIER & _MASK
    return hashed ^ hashed >> 32


def find_bucket(name_hash: int) -> int:
    """Index into the `names` map."""
    return (name_hash >> 8) % NAME_BUCKETS


def find_shape(segment: bytes) -> int:
    """`shape` of an edge that takes every segment of this one's class; SegmentClass.EXACT where there is none."""
    for segment_class, pattern, is_sized in _CLASSES:
        if pattern.match(segment):
            shape = int(segment_class)
            if is_sized:
                shape |= len(segment) << _LENGTH_SHIFT
            if segment_class is SegmentClass.TOKEN:
                kinds = sum(kind for kind, byte in _KINDS if byte.search(segment))
                shape |= kinds << _KINDS_SHIFT
            return shape
    return int(SegmentClass.EXACT)


def fold_address(packed: bytes) -> int:
    """`address` of a root, and the client's part of an actor."""
    if len(packed) == 4:
        return int.from_bytes(packed, "little")
    return fold(int.from_bytes(packed[:8], "little"), int.from_bytes(packed[8:], "little"))


def hash_connection(local_address: str, local_port: int, remote_address: str, remote_port: int) -> int:
    """`key` of bpf/packet.h: of a connection, the same from both of its ends."""
    return (_hash_end(local_address, local_port) + _hash_end(remote_address, remote_port)) & _MASK


def _hash_end(address: str, port: int) -> int:
    packed = pack_address(address)
    high, low = (packed[:8], packed[8:]) if len(packed) > 4 else (b"", packed)
    hashed = port
    for word in (int.from_bytes(high, "little"), int.from_bytes(low, "little"), _END):
        hashed = (hashed ^ word) * _END_MULTIPLIER & _MASK
        hashed ^= hashed >> 35
    return hashed

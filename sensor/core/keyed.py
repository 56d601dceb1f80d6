"""Keyed hashes under the installation key: the only form in which a value may leave the node.

Takes bytes and gives integers in 1 .. 2**64 - 1, because 0 means "none" everywhere on the wire. A hash costs 0.5 us and
a look-up 0.1 us. Results are kept in a bounded cache, because credentials, words and hot objects repeat. `fold` joins
two hashes in the same way as the kernel. tests/data/siphash.json holds test vectors for both sides.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from common.keyed_hash import hash_value

_MASK = 0xFFFFFFFFFFFFFFFF
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
KEY_BYTES: Final = 16

# One entry costs ~170 bytes and its text; longer values are hashed anew, so the cache stays under 2 MB whatever
# clients send.
CACHE_ENTRIES = 4_096
_CACHED_VALUE_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationKey:
    """The secret under which an installation hashes; held in memory and in one 0600 file."""

    key_id: int
    secret: bytes = field(repr=False)

    @property
    def is_valid(self) -> bool:
        """Whether it can be hashed under: an id of its own and 16 bytes."""
        return self.key_id > 0 and len(self.secret) == KEY_BYTES


class KeyedHash:
    """`hash_value` under one installation key, cached; never 0.

    `key_id` travels in each batch so that both hashes can be told apart while the key is rotated. The cache is dropped
    whole when full: cheaper than tracking use, and a hot value is back after one call.
    """

    __slots__ = ("_cache", "_secret", "key_id")

    def __init__(self, key_id: int, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"installation key {key_id} has {len(secret)} bytes; give it {KEY_BYTES}")
        self.key_id = key_id
        self._secret = secret
        self._cache: dict[bytes, int] = {}

    def __call__(self, value: bytes) -> int:
        found = self._cache.get(value)
        if found is not None:
            return found
        hashed = hash_value(self._secret, value)
        if len(value) <= _CACHED_VALUE_BYTES:
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            self._cache[value] = hashed
        return hashed

    def compute(self, value: bytes) -> int:
        """The same without the cache: for values that seldom repeat, as the objects of a path."""
        return hash_value(self._secret, value)

    def __repr__(self) -> str:
        return f"KeyedHash(key_id={self.key_id}, secret redacted)"


def fold(left: int, right: int) -> int:
    """One 64-bit hash of two, in order; never 0. The left one is rotated by a bit: else equal ones would cancel out,
    and /users/5/orders/5 and /users/6/orders/6 would be one object."""
    mixed = ((left << 1 | left >> 63) ^ right) * _MULTIPLIER & _MASK
    return (mixed ^ mixed >> 32) | 1


def fold_all(hashes: Iterable[int]) -> int:
    """The first, folded with each further one; 0 of none. So are a path's values joined to its object."""
    folded = 0
    for one in hashes:
        folded = fold(folded, one) if folded else one
    return folded

"""SipHash-2-4 (64 bit) under the installation key: the only form in which a value may leave the node.

Takes bytes, gives integers in 1 .. 2**64 - 1 (0 means "none" everywhere on the wire). Pure Python costs about 1 us for
each eight bytes, so results are kept in a bounded cache: credentials, words and hot objects repeat. The kernel computes
the same function; both are held to tests/data/siphash.json. Source: Aumasson and Bernstein, "SipHash: a fast
short-input PRF", 2012.
"""

from struct import unpack_from

_MASK = 0xFFFFFFFFFFFFFFFF
_KEY_BYTES = 16

# One entry costs ~100 bytes and its text; values over _CACHED_VALUE_BYTES are hashed anew, so the cache stays under ~20
# MB.
CACHE_ENTRIES = 32_768
_CACHED_VALUE_BYTES = 2_048

# Hashes that are equal in every installation (route ids): a published constant, no secret.
PUBLIC_KEY = b"apidae route ids"


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK
    v1 = ((v1 << 13) & _MASK | v1 >> 51) ^ v0
    v0 = (v0 << 32) & _MASK | v0 >> 32
    v2 = (v2 + v3) & _MASK
    v3 = ((v3 << 16) & _MASK | v3 >> 48) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = ((v3 << 21) & _MASK | v3 >> 43) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = ((v1 << 17) & _MASK | v1 >> 47) ^ v2
    v2 = (v2 << 32) & _MASK | v2 >> 32
    return v0, v1, v2, v3


def hash_siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 of `message` under a 16-byte `key`, as the little-endian 64-bit integer of the paper."""
    k0, k1 = unpack_from("<QQ", key)
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    length = len(message)
    whole = length >> 3
    last = int.from_bytes(message[whole << 3 :], "little") | (length & 0xFF) << 56
    for word in (*unpack_from(f"<{whole}Q", message), last):
        v3 ^= word
        v0, v1, v2, v3 = _round(*_round(v0, v1, v2, v3))
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return int(v0 ^ v1 ^ v2 ^ v3)


class KeyedHash:
    """`hash_siphash` under one installation key, cached; never 0.

    `key_id` travels in each batch so that both hashes can be told apart while the key is rotated. The cache is dropped
    whole when full: cheaper than tracking use, and a hot value is back after one call.
    """

    __slots__ = ("_cache", "_secret", "key_id")

    def __init__(self, key_id: int, secret: bytes) -> None:
        if len(secret) != _KEY_BYTES:
            raise ValueError(f"installation key {key_id} has {len(secret)} bytes; give it {_KEY_BYTES}")
        self.key_id = key_id
        self._secret = secret
        self._cache: dict[bytes, int] = {}

    def __call__(self, value: bytes) -> int:
        found = self._cache.get(value)
        if found is not None:
            return found
        hashed = hash_siphash(self._secret, value) or 1
        if len(value) <= _CACHED_VALUE_BYTES:
            if len(self._cache) >= CACHE_ENTRIES:
                self._cache.clear()
            self._cache[value] = hashed
        return hashed

    def __repr__(self) -> str:
        return f"KeyedHash(key_id={self.key_id}, secret redacted)"

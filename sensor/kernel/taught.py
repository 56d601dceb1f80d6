"""Has the kernel forget what another sensor taught it: the maps of bpf/learned.h and of bpf/enforce.h, emptied.

First of all what turns recognition and enforcement on, so that nothing is taken, and nobody stopped, by what is only
half there.
"""

from collections.abc import Mapping
from typing import Final

from sensor.kernel.abi import (
    BLOCK_KEY,
    BLOCKS_SIZE,
    EDGE,
    EDGE_KEY,
    EDGE_SIGNS,
    EDGES_SIZE,
    LEAF,
    LEAF_KEY,
    LEAVES_SIZE,
    NAME_BUCKET,
    NAME_BUCKETS,
    NODE_NUMBER,
    PROFILE,
    PROFILE_KEY,
    PROFILES_SIZE,
    ROOT_KEY,
    ROOTS_SIZE,
    SETTINGS,
    TAUGHT_BLOCK,
)
from sensor.kernel.stop_abi import ADDRESS_KEY, CREDENTIAL_KEY, ENFORCEMENT, NETWORK_KEY, SLOT, VERDICT_SCOPE
from sensor.kernel.syscalls import clear_map, delete_elements, read_batch, update_batch, update_map

# Name and size of the key.
_STOPS: Final = (
    ("blocked_addresses", ADDRESS_KEY.size),
    ("blocked_networks", NETWORK_KEY.size),
    ("blocked_credentials", CREDENTIAL_KEY.size),
    ("spared_networks", NETWORK_KEY.size),
    ("verdicts", SLOT.size),
    ("verdict_scopes", VERDICT_SCOPE.size),
    ("stop_counts", SLOT.size),
)
# Name, sizes of key and value, elements at most.
_HASHES: Final = (
    ("roots", ROOT_KEY.size, NODE_NUMBER.size, ROOTS_SIZE),
    ("leaves", LEAF_KEY.size, LEAF.size, LEAVES_SIZE),
    ("edges", EDGE_KEY.size, EDGE.size, EDGES_SIZE),
    ("blocks", BLOCK_KEY.size, TAUGHT_BLOCK.size, BLOCKS_SIZE),
    ("profiles", PROFILE_KEY.size, PROFILE.size, PROFILES_SIZE),
)


def forget_taught(maps: Mapping[str, int]) -> None:
    """Some 20 ms, and 1 us an element. Raises OSError."""
    update_map(maps["settings"], bytes(4), bytes(SETTINGS.size))
    update_map(maps["enforcement"], bytes(4), bytes(ENFORCEMENT.size))
    for name, key_size in _STOPS:
        clear_map(maps[name], key_size)
    for name, key_size, value_size, size in _HASHES:
        delete_elements(maps[name], [key for key, _ in read_batch(maps[name], key_size, value_size, size)])
    update_batch(maps["edge_signs"], {number.to_bytes(4, "little"): bytes(8) for number in range(EDGE_SIGNS)})
    empty = bytes(NAME_BUCKET.size)
    update_batch(maps["names"], {number.to_bytes(4, "little"): empty for number in range(NAME_BUCKETS)})

"""User space's copy of the kernel route cache: names, profiles, and for each root the trie of its paths.

Only this module writes these maps, and nothing is read back. Changes are collected and written in batches (`flush`):
leaves before edges before roots, so that the kernel never follows a path that ends nowhere. All tables are bounded.
Past a bound, the roots of which user space described no call for longest are evicted whole, and counted.

`Issued` numbers nodes, routes and profiles for the records. A number is never used again. It keeps its meaning for a
while after the entry was removed, because a call that began before may end after.
"""

import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from common.bounded import BoundedDict
from sensor.core.calls import AuthenticationKind, CallKind, Hop, PrincipalKind, Route, Service
from sensor.ebpf.abi import (
    EDGE,
    EDGE_KEY,
    EDGE_SIGNS,
    LEAF,
    LEAF_KEY,
    NODE_NUMBER,
    PROFILE,
    PROFILE_KEY,
    ROOT_KEY,
    EdgeFlag,
)
from sensor.ebpf.hashes import find_sign
from sensor.routes.trie import Node

# Forgotten things that still have a name; a call in flight outlives its route by its own duration only.
RETIRED_MAX: Final = 16_384

T = TypeVar("T")


class Issued(Generic[T]):
    """Things by their number, from 1 on; 0 stands for none. Bounded by whoever adds and retires, plus RETIRED_MAX."""

    __slots__ = ("_last", "_retired", "_things")

    def __init__(self) -> None:
        self._things: dict[int, T] = {}
        self._retired: BoundedDict[int, T] = BoundedDict(RETIRED_MAX)
        self._last = 0

    def __len__(self) -> int:
        return len(self._things)

    def next_number(self) -> int:
        """The number that the next `add` gives."""
        return self._last + 1

    def add(self, thing: T) -> int:
        """Gives it the next number."""
        self._last += 1
        self._things[self._last] = thing
        return self._last

    def find(self, number: int) -> T | None:
        """The thing, or None where it never was or was forgotten long ago."""
        thing = self._things.get(number)
        return thing if thing is not None else self._retired.get(number)

    def forget_all(self) -> None:
        """Nothing is known of any number given so far."""
        self._things.clear()
        self._retired.clear()

    def retire(self, number: int) -> None:
        """The entry was removed from the kernel."""
        thing = self._things.pop(number, None)
        if thing is not None:
            self._retired[number] = thing


# The share that goes when a bound is reached, so that eviction is paid once for many.
_NO_CLASSES: Final = 0  # Of bodies, that the kernel has seen.
_EVICTED_PART: Final = 8


class MapName(StrEnum):
    """The kernel's maps that are filled from here."""

    ROOTS = "roots"
    EDGES = "edges"
    EDGE_SIGNS = "edge_signs"
    LEAVES = "leaves"
    PROFILES = "profiles"
    NAMES = "names"
    SETTINGS = "settings"
    WEBSOCKETS = "websockets"  # By what reads TLS (sensor.capture.tls.capture).


# In this order: nothing is found before what it leads to.
_WRITTEN: Final = (
    *(MapName.SETTINGS, MapName.NAMES, MapName.LEAVES, MapName.EDGE_SIGNS, MapName.EDGES),
    *(MapName.ROOTS, MapName.PROFILES),
)
_WORD_KEY: Final = struct.Struct("<I")
_WORD: Final = struct.Struct("<Q")


class KernelMaps(Protocol):
    """The maps of the loaded program, or a fake. Both calls take whole batches."""

    def update(self, name: MapName, elements: Mapping[bytes, bytes]) -> None:
        """Writes elements. Raises OSError where the kernel refuses."""
        ...

    def delete(self, name: MapName, keys: Iterable[bytes]) -> None:
        """Removes elements; one that is not there is no error."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """Below the sizes of the kernel's maps; what a full cache takes is in
    tests/sensor/offload/test_kernel_cache.py."""

    roots: int = 8_192
    edges: int = 65_536
    routes: int = 32_768
    profiles: int = 65_536


class RootKey(NamedTuple):
    """Where a trie begins: `struct root_key`."""

    cgroup_id: int
    host: int  # Keyed hash of the Host header as it was sent.
    method: int  # Its first eight bytes, zero padded.
    address: int  # Of the server's end: sensor.ebpf.hashes.fold_address.
    port: int  # Of the server end.
    role: int
    family: int


class EdgeKey(NamedTuple):
    """`struct edge_key`: from a node by the hash of a segment (shape 0), or by its class and length (hash 0)."""

    node: int
    shape: int
    hash: int


@dataclass(slots=True, eq=False)
class Root:
    """One root and all that is installed below it."""

    key: RootKey
    trie: Node
    node: int
    service: Service
    hop: Hop
    local_address: str  # Of the socket seen, whichever its role.
    generation: int
    nodes: dict[Node, int] = field(default_factory=dict)
    edges: dict[EdgeKey, int] = field(default_factory=dict)
    leaves: dict[tuple[int, bool], int] = field(default_factory=dict)
    value_edges: int = 0  # Of `edges`: by the hash of a parameter's value.

    def __post_init__(self) -> None:
        self.nodes[self.trie] = self.node


@dataclass(frozen=True, slots=True, eq=False)
class CachedRoute:
    """What a route number stands for."""

    root: Root
    node: Node
    key: tuple[str, bool]

    @property
    def route(self) -> Route:
        """The route as it is reported now: a reveal changes its texts."""
        return self.node.routes[self.key]


class Profile(msgspec.Struct, frozen=True, gc=False):
    """What Python reads in a head apart from method, host and path: equal for all heads of one profile hash."""

    principal: int
    principal_kind: PrincipalKind
    credential: int
    authentication: AuthenticationKind
    protocol_version: str
    request_content_type: str
    kind: CallKind
    is_reported: bool  # Principal and credential are the record's `credential`, and 0 here.
    hops: tuple[bytes, ...]  # Of forwarding headers, where a trusted network is configured. Never reported.
    client_software: str = ""  # As of a CallRecord.
    carriers: str = ""  # As of Credentials.

    def __repr__(self) -> str:
        return "Profile(redacted)"


class KernelCache:
    """The kernel's tables. Not thread-safe."""

    def __init__(self, limits: CacheLimits = CacheLimits()) -> None:
        self._limits = limits
        self._roots: dict[RootKey, Root] = {}
        self._profiles: dict[int, int] = {}  # Profile hash -> number, oldest first.
        self._updates: dict[MapName, dict[bytes, bytes]] = {name: {} for name in MapName}
        self._deletes: dict[MapName, dict[bytes, None]] = {name: {} for name in MapName}
        self._has_changes = False
        self._signs = _make_signs()  # Of all edges by a hash, and of some that are no more.
        self._last_node = 0
        self._generation = 0
        self.edge_count = 0
        self.routes: Issued[CachedRoute] = Issued()
        self.profiles: Issued[Profile] = Issued()
        self.evicted_roots = 0
        self.evicted_profiles = 0

    # What is known

    def find_root(self, key: RootKey) -> Root | None:
        """The root, which thereby counts as used."""
        root = self._roots.get(key)
        if root is not None:
            root.generation = self._generation
        return root

    @property
    def root_count(self) -> int:
        """Roots known."""
        return len(self._roots)

    def all_roots(self) -> list[Root]:
        """Every root."""
        return list(self._roots.values())

    def find_profile(self, profile_hash: int) -> Profile | None:
        """The profile of a hash, which thereby counts as used."""
        number = self._profiles.pop(profile_hash, None)
        if number is None:
            return None
        self._profiles[profile_hash] = number
        return self.profiles.find(number)

    # What is installed

    def add_root(self, key: RootKey, trie: Node, *, service: Service, hop: Hop, local_address: str) -> Root:
        """A root without paths."""
        if len(self._roots) >= self._limits.roots:
            self._evict_roots()
        root = Root(key, trie, self._number_node(), service, hop, local_address, self._generation)
        self._roots[key] = root
        self._put(MapName.ROOTS, ROOT_KEY.pack(*key), NODE_NUMBER.pack(root.node))
        return root

    def add_edge(self, root: Root, key: EdgeKey, child: Node, *, is_parameter: bool) -> int:
        """The number of the child; `key` had no edge."""
        number = root.nodes.get(child)
        if number is None:
            number = root.nodes[child] = self._number_node()
        root.edges[key] = number
        self.edge_count += 1
        if not key.shape:
            self._sign(key)
        self._put(MapName.EDGES, EDGE_KEY.pack(*key), EDGE.pack(number, EdgeFlag.PARAMETER if is_parameter else 0))
        return number

    def add_leaf(self, root: Root, node: int, cached: CachedRoute, *, next_head_ns: int, first_samples: int = 0) -> int:
        """Gives the route its number. From `next_head_ns` on its calls are sampled, the first ones all."""
        number = self.routes.add(cached)
        root.leaves[node, cached.key[1]] = number
        leaf = LEAF.pack(next_head_ns, number, first_samples, 0, _NO_CLASSES)
        self._put(MapName.LEAVES, LEAF_KEY.pack(node, cached.key[1]), leaf)
        return number

    def sample_next(self, number: int, calls: int = 1) -> None:
        """Have the next calls of a route copied as samples, and bodies of every class looked at anew."""
        cached = self.routes.find(number)
        if cached is None:
            return
        root, has_slash = cached.root, cached.key[1]
        node = root.nodes.get(cached.node)
        if node is not None and root.leaves.get((node, has_slash)) == number:
            self._put(MapName.LEAVES, LEAF_KEY.pack(node, has_slash), LEAF.pack(0, number, calls - 1, 0, _NO_CLASSES))

    def add_profile(self, profile_hash: int, profile: Profile) -> int:
        """Install a profile, or another in its place."""
        self.forget_profile(profile_hash)
        if len(self._profiles) >= self._limits.profiles:
            for oldest in list(self._profiles)[: max(1, self._limits.profiles // _EVICTED_PART)]:
                self.forget_profile(oldest)
                self.evicted_profiles += 1
        number = self._profiles[profile_hash] = self.profiles.add(profile)
        self._put(MapName.PROFILES, PROFILE_KEY.pack(profile_hash), PROFILE.pack(number))
        return number

    def write(self, name: MapName, elements: Mapping[bytes, bytes]) -> None:
        """Elements of the maps that are arrays: names, settings."""
        for key, value in elements.items():
            self._put(name, key, value)

    def make_room(self) -> None:
        """Keeps to the bounds; call it before a path is installed, since it may forget the very root."""
        self._generation += 1
        if self.edge_count >= self._limits.edges or len(self.routes) >= self._limits.routes:
            self._evict_roots()

    # What is invalidated

    def forget_root(self, root: Root) -> None:
        """The root and its subtree; its routes keep their numbers."""
        if self._roots.pop(root.key, None) is None:
            return
        self._drop(MapName.ROOTS, ROOT_KEY.pack(*root.key))
        for key in root.edges:
            self._drop(MapName.EDGES, EDGE_KEY.pack(*key))
        for (node, has_trailing_slash), number in root.leaves.items():
            self._drop(MapName.LEAVES, LEAF_KEY.pack(node, has_trailing_slash))
            self.routes.retire(number)
        self.edge_count -= len(root.edges)

    def evict_root(self, root: Root) -> None:
        """Because there is too much below it, or too much in all."""
        self.forget_root(root)
        self.evicted_roots += 1

    def forget_profile(self, profile_hash: int) -> None:
        """Where there is one."""
        number = self._profiles.pop(profile_hash, None)
        if number is not None:
            self._drop(MapName.PROFILES, PROFILE_KEY.pack(profile_hash))
            self.profiles.retire(number)

    def clear(self) -> None:
        """All roots and profiles, and what their numbers stood for: the key of all hashes changes."""
        for root in self.all_roots():
            self.forget_root(root)
        for profile_hash in list(self._profiles):
            self.forget_profile(profile_hash)
        self._sign_anew()
        self.routes.forget_all()
        self.profiles.forget_all()

    def flush(self, maps: KernelMaps) -> bool:
        """Write the changes to the kernel; whether there were any. Costs nothing where nothing changed. Raises OSError
        where the kernel refuses."""
        if not self._has_changes:
            return False
        self._has_changes = False
        for name in (MapName.ROOTS, MapName.PROFILES, MapName.EDGES, MapName.LEAVES):
            if self._deletes[name]:
                keys, self._deletes[name] = self._deletes[name], {}
                maps.delete(name, keys)
        for name in _WRITTEN:
            if self._updates[name]:
                elements, self._updates[name] = self._updates[name], {}
                maps.update(name, elements)
        return True

    def _sign(self, key: EdgeKey) -> None:
        """Mark that there is an edge by this hash."""
        word, bit = find_sign(key.node, key.hash)
        if not self._signs[word] & bit:
            self._signs[word] |= bit
            self._put(MapName.EDGE_SIGNS, _WORD_KEY.pack(word), _WORD.pack(self._signs[word]))

    def _sign_anew(self) -> None:
        """Of what was forgotten the bits stay, each of which costs the kernel a look; not for ever. Cost: 1 us an
        edge."""
        old, self._signs = self._signs, _make_signs()
        for root in self._roots.values():
            for key in root.edges:
                if not key.shape:
                    word, bit = find_sign(key.node, key.hash)
                    self._signs[word] |= bit
        for word, (before, now) in enumerate(zip(old, self._signs, strict=True)):
            if before != now:
                self._put(MapName.EDGE_SIGNS, _WORD_KEY.pack(word), _WORD.pack(now))

    def _number_node(self) -> int:
        self._last_node += 1
        return self._last_node

    def _put(self, name: MapName, key: bytes, value: bytes) -> None:
        self._has_changes = True
        self._updates[name][key] = value

    def _drop(self, name: MapName, key: bytes) -> None:
        """An update that has not gone yet goes no more; the kernel may have an older one."""
        self._has_changes = True
        self._updates[name].pop(key, None)
        self._deletes[name][key] = None

    def _evict_roots(self) -> None:
        """The roots of which the slow path has heard least lately, until a part of each bound is free."""
        limits, part = self._limits, _EVICTED_PART
        for root in sorted(self._roots.values(), key=lambda root: root.generation):
            if (
                len(self._roots) <= limits.roots - max(1, limits.roots // part)
                and self.edge_count <= limits.edges - limits.edges // part
                and len(self.routes) <= limits.routes - limits.routes // part
            ):
                break
            self.evict_root(root)
        self._sign_anew()


def _make_signs() -> array[int]:
    return array("Q", bytes(8 * EDGE_SIGNS))

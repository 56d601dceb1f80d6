"""Decides what a described call installs in the kernel route cache, and checks samples of matched calls against it.

A call installs its names, path and profile only if it was served (2xx) and its head lay in one piece and is plain. Each
hash is compared with what Python computes of the same bytes, so that both sides read alike.

Matched calls are sampled now and then. Where Python's route is no longer the installed one, the whole root is
invalidated.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from sensor.core.addresses import pack_address
from sensor.core.calls import CallRecord, Exchange, Role, Route, SegmentKind, Service, WorkloadKind
from sensor.core.keyed import fold_all
from sensor.describe.client_address import ClientAddresses
from sensor.describe.objects import read_objects
from sensor.ebpf import hashes
from sensor.ebpf.abi import METHOD_BYTES, SegmentClass, TokenKind
from sensor.offload.kernel_cache import CachedRoute, EdgeKey, KernelCache, Profile, Root, RootKey
from sensor.offload.name_table import NamesKnown, NameTable, PlainHead, read_plain_head
from sensor.routes.host_names import OTHER
from sensor.routes.segments import MAX_SEGMENT_CHARACTERS
from sensor.routes.templating import Templater
from sensor.routes.trie import MAX_VERSION_DIGITS, VERSION_DEPTH, Step, Trace

# Edges by values of no class that one root may have: names, dates, slugs. Past them the root starts anew.
VALUE_EDGES_MAX: Final = 8_192
# Heads copied at once of a route with a hashed word. Whether the word may be revealed depends on who was served
# (sensor.routes.reveal), and records do not say that.
WORD_HEADS: Final = 8
# Where Python's own rule asks for nothing but the class (`is_decided` says what else).
CLASSES: Final = {
    SegmentKind.INTEGER: frozenset((SegmentClass.DIGITS,)),
    SegmentKind.UUID: frozenset((SegmentClass.UUID_LOWER, SegmentClass.UUID_UPPER)),
    SegmentKind.HEX: frozenset((SegmentClass.HEX_LOWER, SegmentClass.HEX_UPPER)),
    SegmentKind.ULID: frozenset((SegmentClass.ULID,)),
    SegmentKind.TOKEN: frozenset((SegmentClass.TOKEN,)),
}
_ULID_CHARACTERS: Final = 26
_UUID_CHARACTERS: Final = 36
_KINDS_SHIFT: Final = 24
_BOTH_CASES: Final = TokenKind.LOWER | TokenKind.UPPER
_ADDRESSES: Final = 4_096  # Server ends lately met.


class EntryInstaller:
    """Installs described calls in a `KernelCache`, under one installation key."""

    def __init__(
        self,
        *,
        cache: KernelCache,
        names: NameTable,
        templater: Templater,
        hash_segment: Callable[[bytes], int],
        addresses: ClientAddresses,
        is_probed: Callable[[Service, str], bool] = lambda service, path: False,
    ) -> None:
        """`hash_segment`: the keyed hash; `is_probed`: paths of a service that probes ask for too, which only a whole
        head distinguishes from other calls."""
        self._is_probed = is_probed
        self._cache = cache
        self._names = names
        self._templater = templater
        self._hash = hash_segment
        self._addresses = addresses
        self.contradicted_count = 0  # Of installed entries.

    def install_call(
        self,
        exchange: Exchange,
        record: CallRecord,
        *,
        next_head_ns: int,
        first_samples: int = 0,
        more_samples: int = 0,
    ) -> None:
        """Takes one call of the slow path. `next_head_ns`: when the kernel may sample what is installed now, and then
        so many calls in a row. `more_samples`: so many calls in a row of a route that is installed already."""
        figures, hashes = exchange.figures, exchange.hashes
        is_whole = not (exchange.is_request_head_truncated or figures.is_lossy or figures.is_ambiguous)
        head = read_plain_head(exchange.request_head) if is_whole and 200 <= figures.status_code < 300 else None
        if head is None or self._names.install_names(head) is not NamesKnown.KNOWN:
            return  # The profile of this head does not stand for all of it.
        if not hashes.profile or not hashes.host:
            return
        key, trace = _find_root_key(exchange, head), self._trace(head, record)
        if trace is None:
            self._check_host(key, record)
            return
        is_installed = self._install_path(key, exchange, record, head, trace, next_head_ns, first_samples, more_samples)
        if is_installed and not record.contents.payload:  # Of an attack each head is copied, within the budget.
            self._install_profile(exchange, record)

    def _trace(self, head: PlainHead, record: CallRecord) -> Trace | None:
        """The way of the path, where the kernel would make the same of it."""
        route = record.target.route
        if route.host == OTHER or route.method.encode() != head.method or len(head.method) > METHOD_BYTES:
            return None
        if record.ends.role is Role.SERVER and route.service.workload_kind is WorkloadKind.UNSPECIFIED:
            return None  # Not named yet.
        if self._is_probed(route.service, head.path):
            return None
        trace = self._templater.trace(route.service, route.host, route.method, head.path)
        if trace is None or trace.route is not route:
            return None
        values = [segment for segment, step in zip(head.segments, trace.steps, strict=True) if step.node.is_parameter]
        values += [value.encode("latin-1") for value in read_objects(head.query.decode("latin-1"))]
        object_hash = fold_all(self._hash(value) for value in values)
        return trace if object_hash == record.target.object_hash else None

    def _check_host(self, key: RootKey, record: CallRecord) -> None:
        """The kernel forgets a host that lost its place among the names of its service."""
        root = self._cache.find_root(key) if record.target.route.host == OTHER else None
        if root is not None and not self._templater.holds(root.service, root.trie):
            self._contradict(root)

    def _install_path(
        self,
        key: RootKey,
        exchange: Exchange,
        record: CallRecord,
        head: PlainHead,
        trace: Trace,
        next_head_ns: int,
        first_samples: int,
        more_samples: int,
    ) -> bool:
        """Whether the kernel now knows the path; False also where it knew another way."""
        cache = self._cache
        cache.make_room()
        root = cache.find_root(key)
        if root is None:
            root = cache.add_root(
                key,
                trace.root,
                service=record.target.route.service,
                hop=record.ends.hop,
                local_address=exchange.ends.local_address,
            )
        elif root.trie is not trace.root or root.hop is not record.ends.hop:
            return self._contradict(root)
        node = root.node
        for depth, (segment, step) in enumerate(zip(head.segments, trace.steps, strict=True)):
            edge = self._find_edge(node, depth, segment, step)
            known = root.edges.get(edge)
            if known is None:
                if not edge.shape and not step.is_exact and not self._take_value_edge(root):
                    return False
                known = cache.add_edge(root, edge, step.node, is_parameter=step.node.is_parameter)
            elif known != root.nodes.get(step.node):
                return self._contradict(root)
            node = known
        return self._install_leaf(root, node, trace, next_head_ns, first_samples, more_samples)

    def _install_leaf(
        self, root: Root, node: int, trace: Trace, next_head_ns: int, first_samples: int, more_samples: int
    ) -> bool:
        number = root.leaves.get((node, trace.key[1]))
        cached = self._cache.routes.find(number) if number is not None else None
        if cached is None:
            cached = CachedRoute(root, trace.node, trace.key)
            if _has_word(trace.route):
                next_head_ns, first_samples = 0, max(first_samples, WORD_HEADS)
            first_samples = max(first_samples, more_samples)
            self._cache.add_leaf(root, node, cached, next_head_ns=next_head_ns, first_samples=first_samples)
        elif cached.node is not trace.node:
            return self._contradict(root)
        elif number is not None and more_samples:
            self._cache.sample_next(number, more_samples)
        return True

    def _install_profile(self, exchange: Exchange, record: CallRecord) -> None:
        who, value = record.credentials, exchange.hashes.credential
        is_reported = bool(value) and value == who.principal == who.credential
        if value and not is_reported and (not who.principal or value in (who.principal, who.credential)):
            # The reported value is not in the profile's hash: another client with it would be taken for this caller.
            return
        profile = Profile(
            0 if is_reported else who.principal,
            who.principal_kind,
            0 if is_reported else who.credential,
            who.authentication,
            record.ends.protocol_version,
            record.contents.request_content_type,
            record.protocol.kind,
            is_reported,
            self._addresses.parse_hops(exchange.request_head),
            record.ends.client_software,
            who.carriers,
        )
        known = self._cache.find_profile(exchange.hashes.profile)
        if known == profile:
            return
        if known is not None:
            self.contradicted_count += 1
        self._cache.add_profile(exchange.hashes.profile, profile)

    def _find_edge(self, node: int, depth: int, segment: bytes, step: Step) -> EdgeKey:
        kind = step.node.segments[-1].kind
        if not step.is_exact and len(segment) <= MAX_SEGMENT_CHARACTERS:
            shape = hashes.find_shape(segment)
            if shape & 0xFF in CLASSES.get(kind, ()) and is_decided(shape, depth, segment):
                return EdgeKey(hash=0, node=node, shape=shape)
        return EdgeKey(hash=self._hash(segment), node=node, shape=SegmentClass.EXACT)

    def _take_value_edge(self, root: Root) -> bool:
        """Whether one more edge by a value may be made; else the root has too many and is forgotten."""
        root.value_edges += 1
        if root.value_edges <= VALUE_EDGES_MAX:
            return True
        self._cache.evict_root(root)
        return False

    def _contradict(self, root: Root) -> bool:
        """An installed entry no longer holds."""
        self._cache.forget_root(root)
        self.contradicted_count += 1
        return False


def is_decided(shape: int, depth: int, segment: bytes) -> bool:
    """Whether the shape alone decides at this depth what a segment is, among those that may be cached by it."""
    length = len(segment)
    match shape & 0xFF:
        case SegmentClass.DIGITS:  # A short one may be a version.
            return length > MAX_VERSION_DIGITS or depth > VERSION_DEPTH
        case SegmentClass.HEX_UPPER:  # May be a ULID.
            return length != _ULID_CHARACTERS
        case SegmentClass.TOKEN:  # With both cases; may be a UUID in both, or where an API is mounted.
            kinds = shape >> _KINDS_SHIFT
            is_uuid = length == _UUID_CHARACTERS and bool(kinds & TokenKind.DASH)
            return depth > 0 and not is_uuid and kinds & _BOTH_CASES == _BOTH_CASES
    return True


def _has_word(route: Route) -> bool:
    return any(segment.kind is SegmentKind.WORD for segment in route.segments)


@lru_cache(maxsize=_ADDRESSES)
def _fold_address(address: str) -> tuple[int, int]:
    """`address` and `family` of a root."""
    packed = pack_address(address)
    return hashes.fold_address(packed), 4 if len(packed) == 4 else 6


def _find_root_key(exchange: Exchange, head: PlainHead) -> RootKey:
    ends = exchange.ends
    is_server = ends.role is Role.SERVER
    folded, family = _fold_address(ends.local_address if is_server else ends.remote_address)
    return RootKey(
        cgroup_id=ends.cgroup_id,
        host=exchange.hashes.host,
        method=int.from_bytes(head.method[:METHOD_BYTES], "little"),
        address=folded,
        port=ends.local_port if is_server else ends.remote_port,
        role=int(ends.role),
        family=family,
    )

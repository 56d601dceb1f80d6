"""The block: one client that is stopped, or that a person or a rule proposes to stop. Pure.

`collect_denied` gives the blocked networks for proxies and firewalls: for everything, and for single workloads. Only
addresses are exported, because nobody but the sensors can know a credential by its hash.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from collector.core.kinds import ConsumerKind
from collector.inventory.consumers.consumer import ConsumerError, parse_consumer
from collector.kubernetes.rows import PodHolder, WorkloadName
from collector.receiver.policy import BlockKind, BlockOrder, BlockScope

SECONDS_MIN: Final = 10
SECONDS_MAX: Final = 7 * 86_400
SCOPES_MAX: Final = 64
CLUSTERS_MAX: Final = 64
NAME_CHARACTERS_MAX: Final = 253  # Sensors refuse every block where one names a service by more.
EXPORT_SHARE_MAX: Final = 0.5  # Of all calls; a sensor measures its own share, and proxies measure none.
PART_MARK: Final = "/"  # Between a block's id and an address of its workload, where sensors get several.
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")  # Where IPv6 writes IPv4.


class BlockState(StrEnum):
    """Where it stands in its life."""

    PROPOSED = "proposed"  # Waits for a person.
    LIVE = "live"  # Sensors stop it.
    LIFTED = "lifted"
    EXPIRED = "expired"
    REJECTED = "rejected"  # Of a proposal.


class BlockError(ValueError):
    """A block cannot be; one sentence."""


class UnknownClientError(BlockError):
    """The client made no call that is stored, or not yet: alerts are made of calls on their way to the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTarget:
    """A client. `value`: an address or network, 16 hex digits, or `NAMESPACE/KIND/NAME` of a workload."""

    kind: BlockKind
    value: str

    @property
    def consumer(self) -> str:
        """`kind:value`, as consumers are written."""
        return f"{self.kind}:{self.value}"

    @property
    def is_by_address(self) -> bool:
        """Whether sensors know it by addresses."""
        return self.kind in (BlockKind.ADDRESS, BlockKind.WORKLOAD)

    @property
    def is_address(self) -> bool:
        """One address, which somebody may hold."""
        return self.kind is BlockKind.ADDRESS and "/" not in self.value

    @property
    def workload(self) -> WorkloadName:
        """The name of a workload."""
        namespace, *kind, name = self.value.split("/")
        return WorkloadName(namespace=namespace, kind="".join(kind), name=name)

    @property
    def is_local(self) -> bool:
        """An address or network that may be somebody else's in another cluster."""
        return self.kind is BlockKind.ADDRESS and not ipaddress.ip_network(self.value).is_global


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """As kept and shown; a change makes a new one. Times are unix seconds."""

    id: str
    target: BlockTarget
    key_id: int  # Installation key of a hash; 0 for addresses.
    credentials: tuple[int, ...]  # A principal is known by.
    services: tuple[str, ...]  # `[NAMESPACE/]WORKLOAD[:PORT]`, `NAMESPACE/` or `:PORT`; none: all.
    seconds: int  # How long it lasts once live.
    state: BlockState
    reason: str
    alert_id: str
    proposed_by: str
    proposed_at: float
    approved_by: str = ""
    began_at: float = 0.0
    expires_at: float = 0.0
    ended_by: str = ""
    ended_at: float = 0.0
    is_confirmed: bool = False  # Who asked has seen that others would be hit.
    clusters: tuple[str, ...] = ()  # Where it holds, as sensors name them (`-`: none); none: in all of them.
    holder: PodHolder | None = None  # Of an address: the Pod with which the block ends.
    accused: str = ""  # The consumer that an alert names, where the block is of its holder's workload.
    share: float = 0.0  # Of all calls at servers in the 24 hours before it began.
    nodes: tuple[str, ...] = ()  # Whose sensors' word it rests on, where an alert proposed it.
    stopped_connections: int = 0  # At all nodes; counted up once it is over.
    stopped_bytes: int = 0

    def begin(self, by: str, now: float) -> "Block":
        """Live from now on."""
        return replace(self, state=BlockState.LIVE, approved_by=by, began_at=now, expires_at=now + self.seconds)

    def end(self, state: BlockState, by: str, now: float) -> "Block":
        """No longer."""
        return replace(self, state=state, ended_by=by, ended_at=now)

    def move(self, seconds: float) -> "Block":
        """The same times after the clock was moved by so much."""
        return replace(self, began_at=self.began_at + seconds, expires_at=self.expires_at + seconds)

    @property
    def follows_holder(self) -> bool:
        """Whether what it stops changes with who holds which address."""
        return self.holder is not None or self.target.kind is BlockKind.WORKLOAD

    @property
    def is_exported(self) -> bool:
        """Whether proxies get it too."""
        return self.target.is_by_address and (self.share <= EXPORT_SHARE_MAX or self.is_confirmed)

    def make_order(self, address: str = "", cluster: str = "") -> BlockOrder:
        """What sensors get; of a workload, of one `address` that its Pods hold in a cluster: elsewhere it may be
        somebody else's."""
        return BlockOrder(
            id=f"{self.id}{PART_MARK}{address}" if address else self.id,
            kind=BlockKind.ADDRESS if address else self.target.kind,
            value=address or self.target.value,
            key_id=self.key_id,
            credentials=self.credentials,
            scopes=tuple(parse_service(text) for text in self.services),
            expires_at=self.expires_at,
            is_confirmed=self.is_confirmed,
            is_exported=self.is_exported,
            clusters=(cluster,) if cluster else self.clusters,
        )


def parse_target(text: str) -> BlockTarget:
    """The client behind `kind:value`, or a bare address or network. Raises BlockError."""
    bare = text.removeprefix(f"{ConsumerKind.ADDRESS}:")
    try:
        return BlockTarget(kind=BlockKind.ADDRESS, value=_write_network(bare))
    except ValueError as error:
        if bare != text or ":" not in text:
            raise BlockError(f"{text[:80]!r} is no address, network or consumer: {error}.") from None
    try:
        name = parse_consumer(text)
    except ConsumerError as error:
        raise BlockError(f"{error}.") from None
    if name.kind is ConsumerKind.WORKLOAD:
        parts = name.value.split("/")
        if len(parts) not in (2, 3) or not all(0 < len(part) <= NAME_CHARACTERS_MAX for part in parts):
            shown = name.value[:80]
            raise BlockError(f"The workload {shown!r} is not NAMESPACE/[KIND/]NAME, as in shop/Deployment/cart.")
    elif name.kind not in (ConsumerKind.PRINCIPAL, ConsumerKind.CREDENTIAL):
        raise BlockError(f"No {name.kind} can be blocked; block an address, workload, credential or principal.")
    return BlockTarget(kind=BlockKind(name.kind.value), value=name.value)


def _write_network(text: str) -> str:
    """As sensors write addresses: IPv4 that is written as IPv6 is IPv4 (RFC 4291, 2.5.5.2). Raises ValueError."""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id is not None:
            raise ValueError("a zone is one host's own, and sensors do not report it")
        if network.subnet_of(_MAPPED):
            first = int(network.network_address) - int(_MAPPED.network_address)
            network = ipaddress.IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def parse_service(text: str) -> BlockScope:
    """`[NAMESPACE/]WORKLOAD[:PORT]`, or `NAMESPACE/` or `:PORT` alone. Raises BlockError."""
    rest, colon, port = text.rpartition(":")
    if not colon:
        rest, port = text, ""
    namespace, _, workload = rest.rpartition("/")
    is_port = not colon or (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65_535)
    is_name = max(len(namespace), len(workload)) <= NAME_CHARACTERS_MAX
    if not is_port or not is_name or not (namespace or workload or port):
        raise BlockError(
            f"The service {text[:80]!r} is not [NAMESPACE/]WORKLOAD[:PORT], as in shop/cart:8080, nor NAMESPACE/."
        )
    return BlockScope(namespace=namespace, workload=workload, port=int(port) if port else 0)


Place = tuple[str, str]  # Namespace and workload.


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Networks as CIDR, in order. `by_workload`: only at these, beside those denied everywhere."""

    everywhere: tuple[str, ...]
    by_workload: dict[Place, tuple[str, ...]]


def collect_denied(orders: Sequence[BlockOrder], cluster: str) -> Denied:
    """Of all live blocks that hold in a cluster. One of services that are not named by namespace and workload is
    nobody's here."""
    everywhere: set[str] = set()
    found: defaultdict[Place, set[str]] = defaultdict(set)
    for order in orders:
        if order.kind is not BlockKind.ADDRESS or not order.is_exported or not order.holds_in(cluster):
            continue
        network = str(ipaddress.ip_network(order.value))
        if not order.scopes:
            everywhere.add(network)
        for scope in order.scopes:
            if scope.namespace and scope.workload:
                found[scope.namespace, scope.workload].add(network)
    by_workload = {place: tuple(sorted(networks)) for place, networks in sorted(found.items())}
    return Denied(everywhere=tuple(sorted(everywhere)), by_workload=by_workload)

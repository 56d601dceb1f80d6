"""Turns blocks in force into elements of the kernel's maps (bpf/enforce.h), and reads the local off switch.

A *target* is what the kernel compares: an address, a network or a credential. Blocks of one target share its slot. The
slot lasts as long as the longest of them, and holds wherever one of them does. The kernel finds the narrowest network
only, so a network inside other blocked networks has their blocks too.

The switch is a file in the state directory. While it exists nothing is enforced, whatever anybody asks. `apidae
enforcement off` makes it, also where the sensor hangs or does not run. The sensor looks for it every second. Its
content is the reason, in one line.
"""

import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.networks import Network
from sensor.core.printable import make_printable
from sensor.ebpf.abi import (
    ADDRESS_KEY,
    CREDENTIAL_KEY,
    NETWORK_KEY,
    SCOPES_MAX,
    SLOT,
    STOP_COUNT,
    VERDICT,
    VERDICT_SCOPE,
    EnforcementMark,
)
from sensor.enforce.block import Block, BlockKind, Scope

_IS_STREAMED: Final = 2  # Place in VERDICT.
_MAPPED_BITS: Final = 96  # ::ffff:0:0/96 holds IPv4.

Target = Network | int  # A network, or the hash of a credential.
Tables = dict[str, dict[bytes, bytes]]
# Order of writing: what a target means before the target itself. Removed in the reverse order.
NAMES: Final = (
    *("spared_networks", "stop_counts", "verdicts", "verdict_scopes"),
    *("blocked_addresses", "blocked_networks", "blocked_credentials"),
)
# Written once and then the kernel's.
COUNTED: Final = "stop_counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A listening socket as the kernel names it, and the service behind it."""

    cgroup_id: int
    port: int
    namespace: str
    workload: str


@dataclass(slots=True, kw_only=True)
class Held:
    """A block in force. `learned`: credentials of its principal that were seen here, and how HTTP/2 writes them."""

    block: Block
    deadline_ns: int
    learned: set[int] = field(default_factory=set)
    is_streamed: bool = False  # It was seen on an HTTP/2 connection that it had for itself, and on no other.
    is_sharing: bool = False
    is_measured: bool = True  # Its share of the node's calls is known to be within the limit.

    @property
    def targets(self) -> list[Target]:
        """What the kernel is to compare."""
        block = self.block
        if block.kind is BlockKind.ADDRESS:
            assert block.network is not None
            return [block.network]
        if block.kind is BlockKind.CREDENTIAL:
            return sorted({block.hash, *self.learned})
        # A key or an opaque token is its own principal.
        return sorted({block.hash, *block.credentials, *self.learned})


class SlotBook:
    """Numbers of targets: kept while a target is held, never used for another."""

    def __init__(self) -> None:
        self._last = 0
        self.by_target: dict[Target, int] = {}

    def find(self, target: Target) -> int:
        """The target's slot, a new one where it has none."""
        slot = self.by_target.get(target)
        if slot is None:
            self._last += 1
            slot = self.by_target[target] = self._last
        return slot

    def keep(self, targets: Iterable[Target]) -> None:
        """Forget all others."""
        kept = set(targets)
        self.by_target = {target: slot for target, slot in self.by_target.items() if target in kept}


def pack_network(network: Network) -> bytes:
    """Key of a trie."""
    if network.version == 4:
        return NETWORK_KEY.pack(network.prefixlen + _MAPPED_BITS, pack_address(network.network_address))
    return NETWORK_KEY.pack(network.prefixlen, network.network_address.packed)


def pack_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """IPv4 mapped into IPv6."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def build_tables(
    held: Iterable[Held], slots: SlotBook, servers: Iterable[Server], never_block: Iterable[Network]
) -> Tables:
    """Everything that the kernel is to hold."""
    tables: Tables = {name: {} for name in NAMES}
    by_target: dict[Target, list[Held]] = {}
    for one in held:
        for target in one.targets:
            by_target.setdefault(target, []).append(one)
    slots.keep(by_target)
    if not by_target:
        return tables
    _add_wider(by_target)
    for network in never_block:
        tables["spared_networks"][pack_network(network)] = SLOT.pack(1)
    known = list(servers)
    for target, blocks in by_target.items():
        slot = SLOT.pack(slots.find(target))
        scopes = None if any(not one.block.scopes for one in blocks) else [s for o in blocks for s in o.block.scopes]
        tables[COUNTED][slot] = bytes(STOP_COUNT.size)
        tables["verdicts"][slot] = VERDICT.pack(
            max(one.deadline_ns for one in blocks), scopes is not None, any(one.is_streamed for one in blocks)
        )
        for server in known if scopes is not None else ():
            if any(is_within(scope, server) for scope in scopes or ()) and len(tables["verdict_scopes"]) < SCOPES_MAX:
                key = VERDICT_SCOPE.pack(server.cgroup_id, slots.find(target), server.port)
                tables["verdict_scopes"][key] = SLOT.pack(1)
        _put_target(tables, target, slot)
    return tables


def _add_wider(by_target: dict[Target, list[Held]]) -> None:
    networks = [one for one in by_target if not isinstance(one, int) and one.num_addresses > 1]
    lengths = sorted({(network.version, network.prefixlen) for network in networks})
    for network in sorted(networks, key=lambda one: -one.prefixlen):  # The narrowest first: none has others' yet.
        for version, length in lengths:
            if version == network.version and length < network.prefixlen:
                by_target[network] += by_target.get(network.supernet(new_prefix=length), [])


def _put_target(tables: Tables, target: Target, slot: bytes) -> None:
    if isinstance(target, int):
        tables["blocked_credentials"][CREDENTIAL_KEY.pack(target)] = slot
    elif target.num_addresses == 1:
        tables["blocked_addresses"][ADDRESS_KEY.pack(pack_address(target.network_address))] = slot
    else:
        tables["blocked_networks"][pack_network(target)] = slot


def is_within(scope: Scope, server: Server) -> bool:
    """Whether a scope holds for a server."""
    return (
        scope.namespace in ("", server.namespace)
        and scope.workload in ("", server.workload)
        and scope.port in (0, server.port)
    )


def find_marks(tables: Mapping[str, Mapping[bytes, bytes]]) -> EnforcementMark:
    """What the kernel has to look at."""
    marks = EnforcementMark(0)
    if tables["blocked_networks"]:
        marks |= EnforcementMark.NETWORKS
    if tables["blocked_credentials"]:
        marks |= EnforcementMark.CREDENTIALS
    if any(VERDICT.unpack(value)[_IS_STREAMED] for value in tables["verdicts"].values()):
        marks |= EnforcementMark.STREAMED
    return marks


def is_blocking(tables: Mapping[str, Mapping[bytes, bytes]]) -> bool:
    """Whether there is anything to stop."""
    return bool(tables["verdicts"])


def make_empty() -> Tables:
    """Nothing is blocked."""
    return {name: {} for name in NAMES}


FILE_NAME: Final = "enforcement.off"
_REASON_BYTES: Final = 512


class Switch:
    """The switch of one sensor."""

    def __init__(self, state_directory: Path) -> None:
        self.path = state_directory / FILE_NAME

    def read(self) -> str:
        """Why enforcement is switched off; empty where it is not. A file that cannot be read counts as off."""
        try:
            with self.path.open("rb") as file:
                text = file.read(_REASON_BYTES).strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self.path} cannot be read ({error.strerror})"
        return make_printable(text.splitlines()[0]) if text else f"switched off by {self.path}"

    def turn_off(self, reason: str) -> None:
        """Nothing is enforced from the next look on. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(reason.splitlines()[0] if reason else "")

    def turn_on(self) -> None:
        """What the settings allow is enforced again. Raises OSError."""
        self.path.unlink(missing_ok=True)

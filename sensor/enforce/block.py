"""The types of enforcement: blocks, their validation, local limits, reports, and the interfaces of the enforcer.

A `Block` is what a collector asks to stop. `find_fault` rejects a set of blocks as a whole. This sensor's limits are
`EnforcementSettings`, which no collector can raise.

`KnownBlocks` remembers in a 0600 file of the state directory which blocks were in force before the last start. Their
share of the calls was measured then. An id is kept with what it names, so an id reused for another client is unknown.
"""

import enum
import ipaddress
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.durable import read_json, write_durably
from common.networks import Network, explain_limit, unmap
from sensor.core.config import EnforcementSettings

# Of one policy message: more is a fault or an attack, whatever a sensor's own limit is.
BLOCKS_LIMIT: Final = 10_000
CREDENTIALS_LIMIT: Final = 64
SCOPES_LIMIT: Final = 64
TEXT_LIMIT: Final = 253
_SHOWN_CHARACTERS: Final = 40


class BlockKind(enum.Enum):
    """What names the client."""

    ADDRESS = "address"
    CREDENTIAL = "credential"
    PRINCIPAL = "principal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Servers at which a client is stopped; empty and 0 fit all."""

    namespace: str = ""
    workload: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One client. `network` is of an address, the hashes are of the others; `left_ms` counts from the arrival."""

    id: str
    kind: BlockKind | None  # None: this sensor does not know it.
    network: Network | None = None
    hash: int = 0
    key_id: int = 0
    credentials: tuple[int, ...] = ()
    scopes: tuple[Scope, ...] = ()
    left_ms: int = 0
    # Whoever asked has seen that its HTTP/2 connections carry others: they are cut all the same.
    is_confirmed: bool = False


def parse_network(text: str) -> Network | None:
    """An address or network as the wire has it, IPv4 that is written as IPv6 as IPv4; None where it is neither, or has
    bits set behind its prefix."""
    try:
        return unmap(ipaddress.ip_network(text))
    except ValueError:
        return None


def find_fault(blocks: tuple[Block, ...]) -> str:
    """Why these blocks cannot be taken up at all, in one sentence; empty where they can."""
    if len(blocks) > BLOCKS_LIMIT:
        return f"the policy has {len(blocks)} blocks; at most {BLOCKS_LIMIT} fit"
    seen: set[str] = set()
    for block in blocks:
        name = repr(block.id[:_SHOWN_CHARACTERS])
        if not block.id or len(block.id) > TEXT_LIMIT or not block.id.isprintable() or block.id in seen:
            return f"the block id {name} is empty, not printable, too long or given twice"
        seen.add(block.id)
        if fault := _find_block_fault(block):
            return f"block {name} {fault}"
    return ""


def _find_block_fault(block: Block) -> str:
    if block.kind is None:
        return "is of a kind that this sensor does not know"
    if block.kind is BlockKind.ADDRESS and block.network is None:
        return "has no address or network that can be read"
    if block.kind is not BlockKind.ADDRESS and not block.hash:
        return "has no hash"
    if len(block.credentials) > CREDENTIALS_LIMIT or len(block.scopes) > SCOPES_LIMIT:
        return f"names over {CREDENTIALS_LIMIT} credentials or {SCOPES_LIMIT} services"
    for scope in block.scopes:
        if max(len(scope.namespace), len(scope.workload)) > TEXT_LIMIT or scope.port > 65_535:
            return "names a service that cannot be one"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStatus:
    """One block. Counts since it was taken up."""

    id: str
    is_enforced: bool
    reason: str = ""  # Why it is not.
    stopped_connections: int = 0
    stopped_bytes: int = 0
    failed_resets: int = 0
    spared_requests: int = 0
    first_stop_unix_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementReport:
    """All of them, and whether anything is enforced here at all."""

    epoch: int
    is_enabled: bool
    reason: str
    blocks: tuple[BlockStatus, ...]


logger = logging.getLogger(__name__)

FILE_NAME: Final = "enforced.json"


class KnownBlocks:
    """Read once, at the start; written after each change."""

    def __init__(self, path: Path | None) -> None:
        """`path` None: nothing is kept."""
        self._path = path
        self._known = _read(path) if path is not None else frozenset()

    def is_known(self, block: Block) -> bool:
        """Whether it was in force before the start."""
        return name_block(block) in self._known

    def save(self, blocks: Iterable[Block]) -> None:
        """These are in force. A disk that fails costs a measurement after the next start."""
        if self._path is None:
            return
        text = json.dumps(sorted(name_block(block) for block in blocks))
        try:
            write_durably(self._path, text.encode())
        except OSError as error:
            logger.warning("%s cannot be written (%s)", self._path, error.strerror)


def name_block(block: Block) -> str:
    """Its id and what it names."""
    assert block.kind is not None
    return f"{block.id} {block.kind.value} {block.network or block.hash}"


def _read(path: Path) -> frozenset[str]:
    try:
        found = read_json(path, list, ValueError())
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in (found or [])[:BLOCKS_LIMIT] if isinstance(name, str))


def find_reason(block: Block, limits: EnforcementSettings, *, share: float) -> str:
    """Why this sensor does not enforce a block, in one sentence; empty where it does. `share`: of the calls of this
    node, those that the block's client made lately."""
    if block.left_ms > limits.max_block_seconds * 1_000:
        return f"it would last {block.left_ms // 1_000} s; this sensor's limit is {limits.max_block_seconds} s"
    if block.kind is BlockKind.ADDRESS and block.network is not None:
        reason = explain_limit(block.network, limits, whose="this sensor's")
        if reason:
            return reason
    if share > limits.max_call_share:
        return (
            f"it made {share:.0%} of this node's calls in the last minutes; with it this sensor's limit of "
            f"{limits.max_call_share:.0%} is passed"
        )
    return ""

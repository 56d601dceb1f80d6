"""What a collector asks to stop, as plain data, and what makes a set of it wrong as a whole. Pure."""

import enum
import ipaddress
from dataclasses import dataclass
from typing import Final

from sensor.config import Network, unmap

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
        if not block.id or len(block.id) > TEXT_LIMIT or block.id in seen:
            return f"the block id {name} is empty, too long or given twice"
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

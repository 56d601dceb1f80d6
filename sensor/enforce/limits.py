"""What this sensor enforces at most: its own settings, which no collector can raise. Pure."""

from dataclasses import dataclass
from ipaddress import IPv6Network

from sensor.config import MAPPED, Network
from sensor.enforce.block import Block, BlockKind


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforceLimits:
    """The settings `is_enforcing` and `enforce_*`; `never_block` holds the trusted proxies too."""

    is_enabled: bool = False
    never_block: tuple[Network, ...] = ()
    rules_max: int = 100
    seconds_max: int = 86_400
    share_max: float = 0.5
    ipv4_prefix_min: int = 24
    ipv6_prefix_min: int = 56
    orphan_seconds: float = 300.0


def find_reason(block: Block, limits: EnforceLimits, *, share: float) -> str:
    """Why this sensor does not enforce a block, in one sentence; empty where it does. `share`: of the calls of this
    node, those that the block's client made lately."""
    if block.left_ms > limits.seconds_max * 1_000:
        return f"it would last {block.left_ms // 1_000} s; this sensor's limit is {limits.seconds_max} s"
    if block.kind is BlockKind.ADDRESS and block.network is not None:
        least = limits.ipv4_prefix_min if block.network.version == 4 else limits.ipv6_prefix_min
        if block.network.prefixlen < least:
            return f"{block.network} is wider than /{least}, this sensor's limit"
        if isinstance(block.network, IPv6Network) and block.network.overlaps(MAPPED):
            return f"{block.network} holds all of IPv4, which is wider than this sensor's limit"
        if any(_is_within(block.network, never) for never in limits.never_block):
            return f"{block.network} is never blocked, by this sensor's settings"
    if share > limits.share_max:
        return (
            f"it made {share:.0%} of this node's calls in the last minutes; with it this sensor's limit of "
            f"{limits.share_max:.0%} is passed"
        )
    return ""


def _is_within(network: Network, never: Network) -> bool:
    if network.version != never.version:
        return False
    return network.prefixlen >= never.prefixlen and network.network_address in never

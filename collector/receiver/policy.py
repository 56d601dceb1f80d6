"""The policy that sensors receive: its epochs, its two forms on the wire, and its blocks.

The settings and the blocks define it, and an epoch counts its changes (collector/response/policy_table.py). A sensor
that holds the previous epoch gets the difference, any other gets the full form (sensor/export/policy.py applies or
refuses either as a whole). `write_blocks` writes what sensors must stop. `convert_enforcement` reads what became of it,
bounded, and never raises.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from apidae.v1 import stream_pb2

from collector.receiver.columns import NAME_LIMIT_BYTES, TEXT_LIMIT_BYTES
from common.consumer_order import ConsumerColumn

# When a sensor sends a row before its window ends: the detectors of bursts and of enumeration are calibrated for these.
TRIGGER_DISTINCT_OBJECTS_PER_SECOND: Final = 10
TRIGGER_CALLS_PER_SECOND: Final = 20
STATUSES_LIMIT: Final = 10_000
_COUNT_LIMIT: Final = 2**63
NO_CLUSTER: Final = "-"  # How hosts outside of any cluster are written.


class BlockKind(StrEnum):
    """What names the client."""

    ADDRESS = "address"
    CREDENTIAL = "credential"
    PRINCIPAL = "principal"
    WORKLOAD = "workload"  # Never on the wire: sensors get the addresses of its Pods.


_KINDS: Final = {
    BlockKind.ADDRESS: stream_pb2.BLOCK_KIND_ADDRESS,
    BlockKind.CREDENTIAL: stream_pb2.BLOCK_KIND_CREDENTIAL,
    BlockKind.PRINCIPAL: stream_pb2.BLOCK_KIND_PRINCIPAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScope:
    """A service; empty and 0 fit all."""

    namespace: str = ""
    workload: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOrder:
    """One client to be stopped until `expires_at` (unix seconds). `value`: an address or network, or 16 hex digits."""

    id: str
    kind: BlockKind
    value: str
    key_id: int
    credentials: tuple[int, ...]
    scopes: tuple[BlockScope, ...]
    expires_at: float
    is_confirmed: bool = False  # A person has seen whom else it hits.
    is_exported: bool = True  # Proxies get it too.
    clusters: tuple[str, ...] = ()  # Where it holds; none: in all of them.

    def holds_in(self, cluster: str) -> bool:
        """`cluster` as its sensors give it."""
        return not self.clusters or (cluster or NO_CLUSTER) in self.clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStatus:
    id: str
    is_enforced: bool
    reason: str
    stopped_connections: int
    stopped_bytes: int
    failed_resets: int
    spared_requests: int
    first_stop_at: float  # Unix seconds; 0: none yet.


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementReport:
    epoch: int
    is_enabled: bool
    reason: str
    blocks: tuple[BlockStatus, ...]


def write_blocks(orders: Iterable[BlockOrder], now: float) -> stream_pb2.BlockSet:
    """All of them, as sent at `now` (unix seconds)."""
    return stream_pb2.BlockSet(blocks=[_write_order(order) for order in orders], time_unix_ms=int(now * 1_000))


def _write_order(order: BlockOrder) -> stream_pb2.Block:
    is_address = order.kind is BlockKind.ADDRESS
    return stream_pb2.Block(
        id=order.id,
        kind=_KINDS[order.kind],
        address=order.value if is_address else "",
        hash=0 if is_address else int(order.value, 16),
        key_id=order.key_id,
        credentials=order.credentials,
        scopes=[
            stream_pb2.BlockScope(namespace=scope.namespace, workload=scope.workload, port=scope.port)
            for scope in order.scopes
        ],
        expires_unix_ms=int(order.expires_at * 1_000),
        is_confirmed=order.is_confirmed,
    )


def convert_enforcement(report: stream_pb2.EnforcementReport, now_unix_seconds: float) -> EnforcementReport:
    """A report, cut to its bounds; a time that is yet to come is now."""
    return EnforcementReport(
        epoch=min(report.epoch, _COUNT_LIMIT),
        is_enabled=report.is_enabled,
        reason=report.reason[:TEXT_LIMIT_BYTES],
        blocks=tuple(_convert_status(status, now_unix_seconds) for status in report.blocks[:STATUSES_LIMIT]),
    )


def _convert_status(status: stream_pb2.BlockStatus, now: float) -> BlockStatus:
    return BlockStatus(
        id=status.id[:NAME_LIMIT_BYTES],
        is_enforced=status.state == stream_pb2.BLOCK_STATE_ENFORCED,
        reason=status.reason[:TEXT_LIMIT_BYTES],
        stopped_connections=min(status.stopped_connections, _COUNT_LIMIT),
        stopped_bytes=min(status.stopped_bytes, _COUNT_LIMIT),
        failed_resets=min(status.failed_resets, _COUNT_LIMIT),
        spared_requests=min(status.spared_requests, _COUNT_LIMIT),
        first_stop_at=min(status.first_stop_unix_ms / 1_000, now),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorPolicy:
    """What all sensors do alike; `epoch` rises with every change."""

    epoch: int
    consumer_order: tuple[ConsumerColumn, ...]
    blocks: tuple[BlockOrder, ...] = ()


def describe_terms(consumer_order: Sequence[ConsumerColumn]) -> dict[str, object]:
    """What a policy says beside its blocks, as it is kept."""
    return {
        "distinct_objects_per_second": TRIGGER_DISTINCT_OBJECTS_PER_SECOND,
        "calls_per_second": TRIGGER_CALLS_PER_SECOND,
        "consumer_order": [column.value for column in consumer_order],
    }


def write_policy(policy: SensorPolicy, base_epoch: int | None, now: float, cluster: str) -> stream_pb2.Policy:
    """The difference from `base_epoch`, or the full form for None, as sent at `now` (unix seconds). Either says
    everything that is blocked in the sensor's cluster."""
    return stream_pb2.Policy(
        epoch=policy.epoch,
        is_full=base_epoch is None,
        base_epoch=base_epoch or 0,
        block_set=write_blocks((block for block in policy.blocks if block.holds_in(cluster)), now),
        triggers=stream_pb2.Triggers(
            distinct_objects_per_second=TRIGGER_DISTINCT_OBJECTS_PER_SECOND, calls_per_second=TRIGGER_CALLS_PER_SECOND
        ),
        consumer_order=[f"CONSUMER_COLUMN_{column.name}" for column in policy.consumer_order],
    )

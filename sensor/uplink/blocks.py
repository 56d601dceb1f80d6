"""Blocks from the wire, and what became of them to the wire. Nothing here raises on what a collector sends."""

from typing import Final

from apidae.v1 import stream_pb2

from sensor.enforce.block import BLOCKS_LIMIT, CREDENTIALS_LIMIT, SCOPES_LIMIT, Block, BlockKind, Scope, parse_network
from sensor.enforce.report import BlockStatus, EnforcementReport
from sensor.uplink.rows import write_rows

_KINDS: Final = {
    stream_pb2.BLOCK_KIND_ADDRESS: BlockKind.ADDRESS,
    stream_pb2.BLOCK_KIND_CREDENTIAL: BlockKind.CREDENTIAL,
    stream_pb2.BLOCK_KIND_PRINCIPAL: BlockKind.PRINCIPAL,
}


def read_blocks(message: stream_pb2.BlockSet) -> tuple[Block, ...]:
    """The blocks as they came; of more than there may be just one more than that."""
    sent_ms = message.time_unix_ms
    return tuple(_read_block(block, sent_ms) for block in message.blocks[: BLOCKS_LIMIT + 1])


def _read_block(message: stream_pb2.Block, sent_ms: int) -> Block:
    kind = _KINDS.get(message.kind)
    return Block(
        id=message.id,
        kind=kind,
        network=parse_network(message.address) if kind is BlockKind.ADDRESS else None,
        hash=message.hash,
        key_id=message.key_id,
        credentials=tuple(message.credentials[: CREDENTIALS_LIMIT + 1]),
        scopes=tuple(
            Scope(namespace=scope.namespace, workload=scope.workload, port=scope.port)
            for scope in message.scopes[: SCOPES_LIMIT + 1]
        ),
        left_ms=message.expires_unix_ms - sent_ms,
        is_confirmed=message.is_confirmed,
    )


def write_enforcement(report: EnforcementReport) -> stream_pb2.ConnectRequest:
    """The report message."""
    return stream_pb2.ConnectRequest(
        enforcement=stream_pb2.EnforcementReport(
            epoch=report.epoch,
            is_enabled=report.is_enabled,
            reason=report.reason,
            blocks=write_rows(_write_status, report.blocks),
        )
    )


def _write_status(status: BlockStatus) -> stream_pb2.BlockStatus:
    state = stream_pb2.BLOCK_STATE_ENFORCED if status.is_enforced else stream_pb2.BLOCK_STATE_DECLINED
    return stream_pb2.BlockStatus(
        id=status.id,
        state=state,
        reason=status.reason,
        stopped_connections=status.stopped_connections,
        stopped_bytes=status.stopped_bytes,
        failed_resets=status.failed_resets,
        spared_requests=status.spared_requests,
        first_stop_unix_ms=status.first_stop_unix_ms,
    )

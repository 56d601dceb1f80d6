"""Converts the small messages of the stream: hello, health, coverage, policy, blocks, keys, reveals and schemas.

Rows are `sensor.export.convert`'s. Nothing here raises on what a collector sends. Each row of a message is written by
itself, so one that cannot be written does not stop the others.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from apidae.v1 import data_pb2, stream_pb2
from google.protobuf.message import Message

from common.consumer_order import CONSUMER_ORDER
from sensor.aggregate.aggregator import Triggers
from sensor.core.attachments import AttachmentRecord
from sensor.core.calls import Service
from sensor.core.health import HealthReport
from sensor.core.keyed import InstallationKey
from sensor.coverage.row import Handshakes, PortCoverage
from sensor.describe.schemas.book import Schema
from sensor.describe.schemas.mcp import McpServer
from sensor.describe.schemas.mcp_uses import McpUse
from sensor.describe.schemas.model_uses import ModelUse
from sensor.describe.schemas.tally import OperationCount
from sensor.describe.schemas.tree import Field
from sensor.enforce.block import (
    BLOCKS_LIMIT,
    CREDENTIALS_LIMIT,
    SCOPES_LIMIT,
    Block,
    BlockKind,
    BlockStatus,
    EnforcementReport,
    Scope,
    parse_network,
)
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.enrich.own_traffic import NOTHING_OWN, CollectorTraffic, read_collector_traffic
from sensor.export.policy import PolicyResult, PolicyUpdate

logger = logging.getLogger(__name__)

# During a rotation there are two; a collector that sends more is not listened to further.
KEYS_LIMIT: Final = 4

_Row = TypeVar("_Row")
_Message = TypeVar("_Message", bound=Message)


def write_rows(write: Callable[[_Row], _Message], rows: Iterable[_Row]) -> list[_Message]:
    """The rows that can be written; each other one is dropped, logged and counted (sensor.core.health)."""
    written: list[_Message] = []
    for row in rows:
        try:
            written.append(write(row))
        except Exception:
            logger.exception("a row of a message cannot be written and is dropped", stacklevel=2)
    return written


def copy_fields(message: type[_Message], source: object, **own: object) -> _Message:
    """A message that has of `source` what its fields name, and `own` for the others."""
    names = [field.name for field in message.DESCRIPTOR.fields if field.name not in own]
    return message(**{name: getattr(source, name) for name in names}, **own)


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
    return copy_fields(stream_pb2.BlockStatus, status, state=state)


def write_attachments(
    records: Sequence[AttachmentRecord], lost: int, now_monotonic_ns: int
) -> stream_pb2.ConnectRequest:
    def write(record: AttachmentRecord) -> stream_pb2.Attachment:
        return stream_pb2.Attachment(
            id=record.id,
            event=f"ATTACHMENT_EVENT_{record.event.name}",
            service=write_service(record.service),
            process=record.process,
            process_name=record.process_name,
            consent=f"CONSENT_KIND_{record.grant.kind.name}" if record.grant is not None else None,
            consent_text=record.grant.text if record.grant is not None else "",
            reason=record.reason,
            age_seconds=max(0, now_monotonic_ns - record.monotonic_ns) // 1_000_000_000,
        )

    return stream_pb2.ConnectRequest(
        attachments=stream_pb2.Attachments(attachments=write_rows(write, records), lost=lost)
    )


def write_schemas(schemas: Sequence[Schema]) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(
        schemas=stream_pb2.Schemas(schemas=write_rows(_write_schema, schemas)),
    )


def write_schema_offer(digests: Sequence[int]) -> stream_pb2.ConnectRequest | None:
    """None where there is nothing to offer."""
    return stream_pb2.ConnectRequest(schema_offer=stream_pb2.SchemaOffer(digests=digests)) if digests else None


def _write_schema(schema: Schema) -> stream_pb2.Schema:
    return stream_pb2.Schema(
        route_id=schema.route_id,
        part=f"SCHEMA_PART_{schema.part.name}",
        status_class=schema.status_class,
        media_type=schema.media_type,
        generation=schema.generation,
        version=schema.version,
        samples=schema.samples,
        fields=[_write_field(field) for field in schema.fields],
        operations=[_write_operation(one) for one in schema.operations],
        left_out=schema.left_out,
        operation=schema.operation,
        document=schema.document,
        digest=schema.digest,
        mcp=_write_mcp_server(schema.mcp) if schema.mcp is not None else None,
        mcp_uses=[_write_mcp_use(use) for use in schema.mcp_uses],
        model_uses=[_write_model_use(use) for use in schema.model_uses],
        tokens=[stream_pb2.TokenClaim(claim=claim, value=value, calls=calls) for claim, value, calls in schema.tokens],
    )


def _write_operation(one: OperationCount) -> stream_pb2.Operation:
    return stream_pb2.Operation(
        protocol=one.protocol,
        kind=one.kind,
        name=one.name,
        calls=one.calls,
        errors=one.errors,
        facts=stream_pb2.OperationFacts(
            served=one.served,
            refused=one.refused,
            failed=one.failed,
            authentication=_write_counts(one.authentication),
            data=_write_counts(one.data),
            requests_read=one.requests_read,
            responses_read=one.responses_read,
            consumers=one.consumers,
            first_seen_unix_seconds=one.first_seen,
            last_seen_unix_seconds=one.last_seen,
        ),
    )


def _write_counts(counts: Sequence[tuple[int, int]]) -> list[stream_pb2.CountedNumber]:
    return [stream_pb2.CountedNumber(number=number, count=count) for number, count in counts]


_HINTS: Final = {None: "MCP_HINT_UNSPECIFIED", False: "MCP_HINT_NO", True: "MCP_HINT_YES"}


def _write_mcp_server(server: McpServer) -> stream_pb2.McpServer:
    return copy_fields(
        stream_pb2.McpServer,
        server,
        transports=[f"MCP_TRANSPORT_{one.name}" for one in server.transports],
        items=[
            copy_fields(
                stream_pb2.McpItem,
                item,
                kind=f"MCP_ITEM_KIND_{item.kind.name}",
                arguments=[copy_fields(stream_pb2.McpArgument, one) for one in item.arguments],
                pins=[
                    copy_fields(
                        stream_pb2.McpPin,
                        pin,
                        first_seen_unix_seconds=pin.first_seen,
                        last_seen_unix_seconds=pin.last_seen,
                    )
                    for pin in item.pins
                ],
                destructive_hint=_HINTS[item.is_destructive],
                open_world_hint=_HINTS[item.is_open_world],
                first_seen_unix_seconds=item.first_seen,
                last_seen_unix_seconds=item.last_seen,
            )
            for item in server.items
        ],
        lists=[
            copy_fields(
                stream_pb2.McpList,
                one,
                kind=f"MCP_ITEM_KIND_{one.kind.name}",
                read_unix_seconds=one.read,
                unread_unix_seconds=one.unread_seen,
            )
            for one in server.lists
        ],
    )


def _write_mcp_use(use: McpUse) -> stream_pb2.McpUse:
    return copy_fields(
        stream_pb2.McpUse,
        use,
        principal_kind=use.principal_kind.value,
        item_kind=f"MCP_ITEM_KIND_{use.item_kind.name}",
        last_seen_unix_seconds=use.last_seen,
    )


def _write_field(field: Field) -> stream_pb2.SchemaField:
    return stream_pb2.SchemaField(
        path=field.path,
        present=field.present,
        objects=field.objects,
        types=[stream_pb2.CountedText(text=text, count=count) for text, count in field.types],
        values=field.values,
        is_open=field.is_open,
    )


PROTOCOL_VERSION: Final = 1
FEATURES: Final = ("ack_range", "blocks", "policy_difference", "redirect", "reveal")
# Field 2 of ConnectRequest, length-delimited: the tag before the bytes of a batch that is already serialised.
_BATCH_TAG: Final = stream_pb2.ConnectRequest.BATCH_FIELD_NUMBER << 3 | 2
REVEAL_HASHES_LIMIT: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorIdentity:
    """Who speaks: constant for a sensor process."""

    cluster: str
    node: str
    boot_id: str
    version: str
    kernel_release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    protocol: int
    policy_epoch: int
    server_time_unix_ns: int
    keys: tuple[InstallationKey, ...]  # Valid ones only, newest first.
    authorities: bytes = b""  # PEM, by which the collector is known from now on; empty = as until now.
    own_traffic: CollectorTraffic = NOTHING_OWN
    features: frozenset[str] = frozenset()


def write_hello(
    identity: SensorIdentity, *, key_id: int, policy_epoch: int, monotonic_ns: int, time_unix_ns: int
) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(
        hello=stream_pb2.Hello(
            protocol=PROTOCOL_VERSION,
            features=FEATURES,
            cluster=identity.cluster,
            node=identity.node,
            boot_id=identity.boot_id,
            key_id=key_id,
            monotonic_ns=monotonic_ns,
            time_unix_ns=time_unix_ns,
            version=identity.version,
            kernel_release=identity.kernel_release,
            policy_epoch=policy_epoch,
        )
    )


def frame_batch(payload: bytes) -> bytes:
    """A whole ConnectRequest around a serialised batch, without parsing it: tag, length as a varint, the bytes."""
    frame = bytearray([_BATCH_TAG])
    length = len(payload)
    while length > 0x7F:
        frame.append(length & 0x7F | 0x80)
        length >>= 7
    frame.append(length)
    return bytes(frame) + payload


def write_health(report: HealthReport, *, has_same_stages: bool = False) -> stream_pb2.ConnectRequest:
    """`has_same_stages`: they are those of the stream's last report, and not sent."""
    stages = [
        stream_pb2.StageCount(
            stage=stage.stage,
            seen=stage.seen,
            used=stage.used,
            dropped_reasons=[reason for reason, _ in stage.dropped],
            dropped_counts=[count for _, count in stage.dropped],
        )
        for stage in (() if has_same_stages else report.stages)
    ]
    return stream_pb2.ConnectRequest(
        health=copy_fields(
            stream_pb2.Health,
            report,
            state=f"SENSOR_STATE_{report.state.name}",
            stages=stages,
            has_same_stages=has_same_stages,
            capture=f"CAPTURE_WAY_{report.capture.name}" if report.capture is not None else None,
        )
    )


def write_coverage(
    ports: Sequence[PortCoverage],
    workloads: Sequence[WorkloadFacts] = (),
    node_addresses: Sequence[str] = (),
    *,
    time_unix_ns: int,
    is_difference: bool = False,
) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(
        coverage=stream_pb2.Coverage(
            time_unix_ns=time_unix_ns,
            ports=write_rows(_write_port, ports),
            workloads=write_rows(_write_workload, workloads),
            node_addresses=node_addresses,
            is_difference=is_difference,
        )
    )


def _write_workload(workload: WorkloadFacts) -> stream_pb2.Workload:
    labels = [f"{key}={value}" for key, value in workload.labels]
    return copy_fields(stream_pb2.Workload, workload, labels=labels)


def _write_port(port: PortCoverage) -> stream_pb2.PortCoverage:
    return copy_fields(
        stream_pb2.PortCoverage,
        port,
        service=write_service(port.service),
        protocol=f"PORT_PROTOCOL_{port.protocol.name}",
        role=f"COVERAGE_ROLE_{port.role.name}",
        handshakes=_write_handshakes(port.handshakes) if port.handshakes.count else None,
    )


def _write_handshakes(handshakes: Handshakes) -> stream_pb2.Handshakes:
    return copy_fields(
        stream_pb2.Handshakes,
        handshakes,
        **{name: _write_texts(getattr(handshakes, name)) for name in _HANDSHAKE_TEXTS},
        weak_choices=[copy_fields(stream_pb2.WeakChoice, choice) for choice in handshakes.weak_choices],
    )


_HANDSHAKE_TEXTS: Final = ("server_names", "protocols", "versions", "cipher_suites", "weaknesses", "peers")


def _write_texts(texts: Sequence[tuple[str, int]]) -> list[stream_pb2.CountedText]:
    return [stream_pb2.CountedText(text=text, count=count) for text, count in texts]


def write_service(service: Service) -> data_pb2.Service:
    return copy_fields(data_pb2.Service, service, workload_kind=f"WORKLOAD_KIND_{service.workload_kind.name}")


def write_policy_result(result: PolicyResult) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(
        policy_result=stream_pb2.PolicyResult(epoch=result.epoch, is_applied=result.is_applied, reason=result.reason)
    )


def write_revealed(texts: Mapping[int, str], *, key_id: int) -> stream_pb2.ConnectRequest:
    return stream_pb2.ConnectRequest(
        revealed=stream_pb2.Revealed(key_id=key_id, hashes=list(texts), texts=list(texts.values()))
    )


def read_welcome(message: stream_pb2.Welcome) -> Welcome:
    """The welcome; keys that cannot be hashed under are left out."""
    keys = tuple(InstallationKey(key_id=key.key_id, secret=key.secret) for key in message.keys[:KEYS_LIMIT])
    return Welcome(
        protocol=message.protocol,
        policy_epoch=message.policy_epoch,
        server_time_unix_ns=message.server_time_unix_ns,
        keys=tuple(key for key in keys if key.is_valid),
        authorities=message.authorities,
        features=frozenset(message.features),
        own_traffic=read_collector_traffic(
            boot_id=message.own_traffic.boot_id,
            process_mark=message.own_traffic.process_mark,
            ends=[(end.address, end.port) for end in message.own_traffic.ends],
        ),
    )


def read_policy(message: stream_pb2.Policy) -> PolicyUpdate:
    """The policy update as it came; `apply_update` judges it."""
    triggers = None
    if message.HasField("triggers"):
        triggers = Triggers(
            distinct_objects_per_second=message.triggers.distinct_objects_per_second,
            calls_per_second=message.triggers.calls_per_second,
        )
    return PolicyUpdate(
        epoch=message.epoch,
        is_full=message.is_full,
        base_epoch=message.base_epoch,
        triggers=triggers,
        # A newer collector may know further columns.
        consumer_order=tuple(
            CONSUMER_ORDER[number - 1] for number in message.consumer_order if 1 <= number <= len(CONSUMER_ORDER)
        ),
        blocks=read_blocks(message.block_set) if message.HasField("block_set") else None,
    )


def read_reveal_request(message: stream_pb2.RevealRequest) -> tuple[int, ...]:
    """The hashes asked for; past the wire's bound of 1,000 they are not read."""
    return tuple(message.hashes[:REVEAL_HASHES_LIMIT])


def _write_model_use(use: ModelUse) -> stream_pb2.ModelUse:
    return copy_fields(
        stream_pb2.ModelUse,
        use,
        principal_kind=use.principal_kind.value,
        role=use.role.value,
        data=_write_counts(use.data),
        authentication=_write_counts(use.authentication),
        first_seen_unix_seconds=use.first_seen,
        last_seen_unix_seconds=use.last_seen,
        **msgspec.structs.asdict(use.tokens),
    )

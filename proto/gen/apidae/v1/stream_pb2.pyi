from apidae.v1 import data_pb2 as _data_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AckStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACK_STATUS_UNSPECIFIED: _ClassVar[AckStatus]
    ACK_STATUS_ACCEPTED: _ClassVar[AckStatus]
    ACK_STATUS_DUPLICATE: _ClassVar[AckStatus]
    ACK_STATUS_REFUSED: _ClassVar[AckStatus]
    ACK_STATUS_RETRY: _ClassVar[AckStatus]
    ACK_STATUS_REDIRECT: _ClassVar[AckStatus]

class ConsumerColumn(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSUMER_COLUMN_UNSPECIFIED: _ClassVar[ConsumerColumn]
    CONSUMER_COLUMN_PRINCIPAL: _ClassVar[ConsumerColumn]
    CONSUMER_COLUMN_CREDENTIAL: _ClassVar[ConsumerColumn]
    CONSUMER_COLUMN_CLIENT_ADDRESS: _ClassVar[ConsumerColumn]
    CONSUMER_COLUMN_CLIENT_WORKLOAD: _ClassVar[ConsumerColumn]

class BlockKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_KIND_UNSPECIFIED: _ClassVar[BlockKind]
    BLOCK_KIND_ADDRESS: _ClassVar[BlockKind]
    BLOCK_KIND_CREDENTIAL: _ClassVar[BlockKind]
    BLOCK_KIND_PRINCIPAL: _ClassVar[BlockKind]

class BlockState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLOCK_STATE_UNSPECIFIED: _ClassVar[BlockState]
    BLOCK_STATE_ENFORCED: _ClassVar[BlockState]
    BLOCK_STATE_DECLINED: _ClassVar[BlockState]

class CaptureWay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPTURE_WAY_UNSPECIFIED: _ClassVar[CaptureWay]
    CAPTURE_WAY_CGROUP_SKB: _ClassVar[CaptureWay]
    CAPTURE_WAY_SYSCALLS: _ClassVar[CaptureWay]

class SensorState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SENSOR_STATE_UNSPECIFIED: _ClassVar[SensorState]
    SENSOR_STATE_CAPTURING: _ClassVar[SensorState]
    SENSOR_STATE_PAUSED: _ClassVar[SensorState]
    SENSOR_STATE_STOPPING: _ClassVar[SensorState]

class PortProtocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PORT_PROTOCOL_UNSPECIFIED: _ClassVar[PortProtocol]
    PORT_PROTOCOL_HTTP: _ClassVar[PortProtocol]
    PORT_PROTOCOL_ENCRYPTED: _ClassVar[PortProtocol]
    PORT_PROTOCOL_HTTP2: _ClassVar[PortProtocol]
    PORT_PROTOCOL_OTHER: _ClassVar[PortProtocol]
    PORT_PROTOCOL_SILENT: _ClassVar[PortProtocol]
    PORT_PROTOCOL_UNIX: _ClassVar[PortProtocol]
    PORT_PROTOCOL_QUIC: _ClassVar[PortProtocol]
    PORT_PROTOCOL_SOCKMAP: _ClassVar[PortProtocol]
    PORT_PROTOCOL_MISSED: _ClassVar[PortProtocol]
    PORT_PROTOCOL_LEFT_OUT: _ClassVar[PortProtocol]
    PORT_PROTOCOL_HTTPS: _ClassVar[PortProtocol]
    PORT_PROTOCOL_KERNEL_TLS: _ClassVar[PortProtocol]

class CoverageRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COVERAGE_ROLE_UNSPECIFIED: _ClassVar[CoverageRole]
    COVERAGE_ROLE_LISTENING: _ClassVar[CoverageRole]
    COVERAGE_ROLE_OUTBOUND: _ClassVar[CoverageRole]
    COVERAGE_ROLE_NODE: _ClassVar[CoverageRole]

class ConsentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSENT_KIND_UNSPECIFIED: _ClassVar[ConsentKind]
    CONSENT_KIND_LINE: _ClassVar[ConsentKind]
    CONSENT_KIND_ANNOTATION: _ClassVar[ConsentKind]
    CONSENT_KIND_LABEL: _ClassVar[ConsentKind]

class AttachmentEvent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTACHMENT_EVENT_UNSPECIFIED: _ClassVar[AttachmentEvent]
    ATTACHMENT_EVENT_ATTACHED: _ClassVar[AttachmentEvent]
    ATTACHMENT_EVENT_FAILED: _ClassVar[AttachmentEvent]
    ATTACHMENT_EVENT_DETACHED: _ClassVar[AttachmentEvent]
    ATTACHMENT_EVENT_REATTACHED: _ClassVar[AttachmentEvent]

class SchemaPart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEMA_PART_UNSPECIFIED: _ClassVar[SchemaPart]
    SCHEMA_PART_QUERY: _ClassVar[SchemaPart]
    SCHEMA_PART_HEADER: _ClassVar[SchemaPart]
    SCHEMA_PART_COOKIE: _ClassVar[SchemaPart]
    SCHEMA_PART_REQUEST_BODY: _ClassVar[SchemaPart]
    SCHEMA_PART_RESPONSE_BODY: _ClassVar[SchemaPart]
    SCHEMA_PART_OPERATIONS: _ClassVar[SchemaPart]
    SCHEMA_PART_TOKENS: _ClassVar[SchemaPart]
    SCHEMA_PART_DESCRIPTION: _ClassVar[SchemaPart]
    SCHEMA_PART_MCP: _ClassVar[SchemaPart]
    SCHEMA_PART_MCP_USES: _ClassVar[SchemaPart]
    SCHEMA_PART_MODEL_USES: _ClassVar[SchemaPart]

class McpItemKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MCP_ITEM_KIND_UNSPECIFIED: _ClassVar[McpItemKind]
    MCP_ITEM_KIND_TOOL: _ClassVar[McpItemKind]
    MCP_ITEM_KIND_PROMPT: _ClassVar[McpItemKind]
    MCP_ITEM_KIND_RESOURCE: _ClassVar[McpItemKind]
    MCP_ITEM_KIND_RESOURCE_TEMPLATE: _ClassVar[McpItemKind]
    MCP_ITEM_KIND_INSTRUCTIONS: _ClassVar[McpItemKind]

class McpTransport(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MCP_TRANSPORT_UNSPECIFIED: _ClassVar[McpTransport]
    MCP_TRANSPORT_STREAMABLE_HTTP: _ClassVar[McpTransport]
    MCP_TRANSPORT_SSE: _ClassVar[McpTransport]

class McpHint(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MCP_HINT_UNSPECIFIED: _ClassVar[McpHint]
    MCP_HINT_NO: _ClassVar[McpHint]
    MCP_HINT_YES: _ClassVar[McpHint]
ACK_STATUS_UNSPECIFIED: AckStatus
ACK_STATUS_ACCEPTED: AckStatus
ACK_STATUS_DUPLICATE: AckStatus
ACK_STATUS_REFUSED: AckStatus
ACK_STATUS_RETRY: AckStatus
ACK_STATUS_REDIRECT: AckStatus
CONSUMER_COLUMN_UNSPECIFIED: ConsumerColumn
CONSUMER_COLUMN_PRINCIPAL: ConsumerColumn
CONSUMER_COLUMN_CREDENTIAL: ConsumerColumn
CONSUMER_COLUMN_CLIENT_ADDRESS: ConsumerColumn
CONSUMER_COLUMN_CLIENT_WORKLOAD: ConsumerColumn
BLOCK_KIND_UNSPECIFIED: BlockKind
BLOCK_KIND_ADDRESS: BlockKind
BLOCK_KIND_CREDENTIAL: BlockKind
BLOCK_KIND_PRINCIPAL: BlockKind
BLOCK_STATE_UNSPECIFIED: BlockState
BLOCK_STATE_ENFORCED: BlockState
BLOCK_STATE_DECLINED: BlockState
CAPTURE_WAY_UNSPECIFIED: CaptureWay
CAPTURE_WAY_CGROUP_SKB: CaptureWay
CAPTURE_WAY_SYSCALLS: CaptureWay
SENSOR_STATE_UNSPECIFIED: SensorState
SENSOR_STATE_CAPTURING: SensorState
SENSOR_STATE_PAUSED: SensorState
SENSOR_STATE_STOPPING: SensorState
PORT_PROTOCOL_UNSPECIFIED: PortProtocol
PORT_PROTOCOL_HTTP: PortProtocol
PORT_PROTOCOL_ENCRYPTED: PortProtocol
PORT_PROTOCOL_HTTP2: PortProtocol
PORT_PROTOCOL_OTHER: PortProtocol
PORT_PROTOCOL_SILENT: PortProtocol
PORT_PROTOCOL_UNIX: PortProtocol
PORT_PROTOCOL_QUIC: PortProtocol
PORT_PROTOCOL_SOCKMAP: PortProtocol
PORT_PROTOCOL_MISSED: PortProtocol
PORT_PROTOCOL_LEFT_OUT: PortProtocol
PORT_PROTOCOL_HTTPS: PortProtocol
PORT_PROTOCOL_KERNEL_TLS: PortProtocol
COVERAGE_ROLE_UNSPECIFIED: CoverageRole
COVERAGE_ROLE_LISTENING: CoverageRole
COVERAGE_ROLE_OUTBOUND: CoverageRole
COVERAGE_ROLE_NODE: CoverageRole
CONSENT_KIND_UNSPECIFIED: ConsentKind
CONSENT_KIND_LINE: ConsentKind
CONSENT_KIND_ANNOTATION: ConsentKind
CONSENT_KIND_LABEL: ConsentKind
ATTACHMENT_EVENT_UNSPECIFIED: AttachmentEvent
ATTACHMENT_EVENT_ATTACHED: AttachmentEvent
ATTACHMENT_EVENT_FAILED: AttachmentEvent
ATTACHMENT_EVENT_DETACHED: AttachmentEvent
ATTACHMENT_EVENT_REATTACHED: AttachmentEvent
SCHEMA_PART_UNSPECIFIED: SchemaPart
SCHEMA_PART_QUERY: SchemaPart
SCHEMA_PART_HEADER: SchemaPart
SCHEMA_PART_COOKIE: SchemaPart
SCHEMA_PART_REQUEST_BODY: SchemaPart
SCHEMA_PART_RESPONSE_BODY: SchemaPart
SCHEMA_PART_OPERATIONS: SchemaPart
SCHEMA_PART_TOKENS: SchemaPart
SCHEMA_PART_DESCRIPTION: SchemaPart
SCHEMA_PART_MCP: SchemaPart
SCHEMA_PART_MCP_USES: SchemaPart
SCHEMA_PART_MODEL_USES: SchemaPart
MCP_ITEM_KIND_UNSPECIFIED: McpItemKind
MCP_ITEM_KIND_TOOL: McpItemKind
MCP_ITEM_KIND_PROMPT: McpItemKind
MCP_ITEM_KIND_RESOURCE: McpItemKind
MCP_ITEM_KIND_RESOURCE_TEMPLATE: McpItemKind
MCP_ITEM_KIND_INSTRUCTIONS: McpItemKind
MCP_TRANSPORT_UNSPECIFIED: McpTransport
MCP_TRANSPORT_STREAMABLE_HTTP: McpTransport
MCP_TRANSPORT_SSE: McpTransport
MCP_HINT_UNSPECIFIED: McpHint
MCP_HINT_NO: McpHint
MCP_HINT_YES: McpHint

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "batch", "health", "coverage", "policy_result", "revealed", "schemas", "enforcement", "schema_offer", "attachments")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    POLICY_RESULT_FIELD_NUMBER: _ClassVar[int]
    REVEALED_FIELD_NUMBER: _ClassVar[int]
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_OFFER_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batch: _data_pb2.Batch
    health: Health
    coverage: Coverage
    policy_result: PolicyResult
    revealed: Revealed
    schemas: Schemas
    enforcement: EnforcementReport
    schema_offer: SchemaOffer
    attachments: Attachments
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batch: _Optional[_Union[_data_pb2.Batch, _Mapping]] = ..., health: _Optional[_Union[Health, _Mapping]] = ..., coverage: _Optional[_Union[Coverage, _Mapping]] = ..., policy_result: _Optional[_Union[PolicyResult, _Mapping]] = ..., revealed: _Optional[_Union[Revealed, _Mapping]] = ..., schemas: _Optional[_Union[Schemas, _Mapping]] = ..., enforcement: _Optional[_Union[EnforcementReport, _Mapping]] = ..., schema_offer: _Optional[_Union[SchemaOffer, _Mapping]] = ..., attachments: _Optional[_Union[Attachments, _Mapping]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "ack", "policy", "reveal_request", "schema_request")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REVEAL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_REQUEST_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    policy: Policy
    reveal_request: RevealRequest
    schema_request: SchemaRequest
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., reveal_request: _Optional[_Union[RevealRequest, _Mapping]] = ..., schema_request: _Optional[_Union[SchemaRequest, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "features", "cluster", "node", "boot_id", "key_id", "monotonic_ns", "time_unix_ns", "version", "kernel_release", "policy_epoch")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RELEASE_FIELD_NUMBER: _ClassVar[int]
    POLICY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    cluster: str
    node: str
    boot_id: str
    key_id: int
    monotonic_ns: int
    time_unix_ns: int
    version: str
    kernel_release: str
    policy_epoch: int
    def __init__(self, protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., cluster: _Optional[str] = ..., node: _Optional[str] = ..., boot_id: _Optional[str] = ..., key_id: _Optional[int] = ..., monotonic_ns: _Optional[int] = ..., time_unix_ns: _Optional[int] = ..., version: _Optional[str] = ..., kernel_release: _Optional[str] = ..., policy_epoch: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "features", "policy_epoch", "server_time_unix_ns", "keys", "authorities", "own_traffic")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    POLICY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    OWN_TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    policy_epoch: int
    server_time_unix_ns: int
    keys: _containers.RepeatedCompositeFieldContainer[InstallationKey]
    authorities: bytes
    own_traffic: OwnTraffic
    def __init__(self, protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., policy_epoch: _Optional[int] = ..., server_time_unix_ns: _Optional[int] = ..., keys: _Optional[_Iterable[_Union[InstallationKey, _Mapping]]] = ..., authorities: _Optional[bytes] = ..., own_traffic: _Optional[_Union[OwnTraffic, _Mapping]] = ...) -> None: ...

class OwnTraffic(_message.Message):
    __slots__ = ("boot_id", "process_mark", "ends")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_MARK_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    process_mark: str
    ends: _containers.RepeatedCompositeFieldContainer[OwnEnd]
    def __init__(self, boot_id: _Optional[str] = ..., process_mark: _Optional[str] = ..., ends: _Optional[_Iterable[_Union[OwnEnd, _Mapping]]] = ...) -> None: ...

class OwnEnd(_message.Message):
    __slots__ = ("address", "port")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    address: str
    port: int
    def __init__(self, address: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class InstallationKey(_message.Message):
    __slots__ = ("key_id", "secret")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    key_id: int
    secret: bytes
    def __init__(self, key_id: _Optional[int] = ..., secret: _Optional[bytes] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("boot_id", "sequence", "status", "reason", "retry_after_ms", "redirect_to", "last_sequence")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_TO_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    sequence: int
    status: AckStatus
    reason: str
    retry_after_ms: int
    redirect_to: str
    last_sequence: int
    def __init__(self, boot_id: _Optional[str] = ..., sequence: _Optional[int] = ..., status: _Optional[_Union[AckStatus, str]] = ..., reason: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., redirect_to: _Optional[str] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("epoch", "is_full", "base_epoch", "triggers", "consumer_order", "block_set")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IS_FULL_FIELD_NUMBER: _ClassVar[int]
    BASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ORDER_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SET_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    is_full: bool
    base_epoch: int
    triggers: Triggers
    consumer_order: _containers.RepeatedScalarFieldContainer[ConsumerColumn]
    block_set: BlockSet
    def __init__(self, epoch: _Optional[int] = ..., is_full: _Optional[bool] = ..., base_epoch: _Optional[int] = ..., triggers: _Optional[_Union[Triggers, _Mapping]] = ..., consumer_order: _Optional[_Iterable[_Union[ConsumerColumn, str]]] = ..., block_set: _Optional[_Union[BlockSet, _Mapping]] = ...) -> None: ...

class BlockSet(_message.Message):
    __slots__ = ("blocks", "time_unix_ms")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    time_unix_ms: int
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., time_unix_ms: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("id", "kind", "address", "hash", "key_id", "credentials", "scopes", "expires_unix_ms", "is_confirmed")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    IS_CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: BlockKind
    address: str
    hash: int
    key_id: int
    credentials: _containers.RepeatedScalarFieldContainer[int]
    scopes: _containers.RepeatedCompositeFieldContainer[BlockScope]
    expires_unix_ms: int
    is_confirmed: bool
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[BlockKind, str]] = ..., address: _Optional[str] = ..., hash: _Optional[int] = ..., key_id: _Optional[int] = ..., credentials: _Optional[_Iterable[int]] = ..., scopes: _Optional[_Iterable[_Union[BlockScope, _Mapping]]] = ..., expires_unix_ms: _Optional[int] = ..., is_confirmed: _Optional[bool] = ...) -> None: ...

class BlockScope(_message.Message):
    __slots__ = ("namespace", "workload", "port")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    workload: str
    port: int
    def __init__(self, namespace: _Optional[str] = ..., workload: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class EnforcementReport(_message.Message):
    __slots__ = ("epoch", "is_enabled", "reason", "blocks")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IS_ENABLED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    is_enabled: bool
    reason: str
    blocks: _containers.RepeatedCompositeFieldContainer[BlockStatus]
    def __init__(self, epoch: _Optional[int] = ..., is_enabled: _Optional[bool] = ..., reason: _Optional[str] = ..., blocks: _Optional[_Iterable[_Union[BlockStatus, _Mapping]]] = ...) -> None: ...

class BlockStatus(_message.Message):
    __slots__ = ("id", "state", "reason", "stopped_connections", "stopped_bytes", "failed_resets", "spared_requests", "first_stop_unix_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STOPPED_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FAILED_RESETS_FIELD_NUMBER: _ClassVar[int]
    SPARED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_STOP_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: BlockState
    reason: str
    stopped_connections: int
    stopped_bytes: int
    failed_resets: int
    spared_requests: int
    first_stop_unix_ms: int
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[BlockState, str]] = ..., reason: _Optional[str] = ..., stopped_connections: _Optional[int] = ..., stopped_bytes: _Optional[int] = ..., failed_resets: _Optional[int] = ..., spared_requests: _Optional[int] = ..., first_stop_unix_ms: _Optional[int] = ...) -> None: ...

class Triggers(_message.Message):
    __slots__ = ("distinct_objects_per_second", "calls_per_second")
    DISTINCT_OBJECTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CALLS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    distinct_objects_per_second: int
    calls_per_second: int
    def __init__(self, distinct_objects_per_second: _Optional[int] = ..., calls_per_second: _Optional[int] = ...) -> None: ...

class PolicyResult(_message.Message):
    __slots__ = ("epoch", "is_applied", "reason")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IS_APPLIED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    is_applied: bool
    reason: str
    def __init__(self, epoch: _Optional[int] = ..., is_applied: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class RevealRequest(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hashes: _Optional[_Iterable[int]] = ...) -> None: ...

class Revealed(_message.Message):
    __slots__ = ("key_id", "hashes", "texts")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    key_id: int
    hashes: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key_id: _Optional[int] = ..., hashes: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class StageCount(_message.Message):
    __slots__ = ("stage", "seen", "used", "dropped_reasons", "dropped_counts")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_REASONS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_COUNTS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    seen: int
    used: int
    dropped_reasons: _containers.RepeatedScalarFieldContainer[str]
    dropped_counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, stage: _Optional[str] = ..., seen: _Optional[int] = ..., used: _Optional[int] = ..., dropped_reasons: _Optional[_Iterable[str]] = ..., dropped_counts: _Optional[_Iterable[int]] = ...) -> None: ...

class Health(_message.Message):
    __slots__ = ("time_unix_ns", "state", "stages", "lag_ms", "spool_bytes", "memory_bytes", "cpu_ns", "reason", "capture", "fallback_reason", "has_same_stages")
    TIME_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    LAG_MS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_NS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    HAS_SAME_STAGES_FIELD_NUMBER: _ClassVar[int]
    time_unix_ns: int
    state: SensorState
    stages: _containers.RepeatedCompositeFieldContainer[StageCount]
    lag_ms: int
    spool_bytes: int
    memory_bytes: int
    cpu_ns: int
    reason: str
    capture: CaptureWay
    fallback_reason: str
    has_same_stages: bool
    def __init__(self, time_unix_ns: _Optional[int] = ..., state: _Optional[_Union[SensorState, str]] = ..., stages: _Optional[_Iterable[_Union[StageCount, _Mapping]]] = ..., lag_ms: _Optional[int] = ..., spool_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., cpu_ns: _Optional[int] = ..., reason: _Optional[str] = ..., capture: _Optional[_Union[CaptureWay, str]] = ..., fallback_reason: _Optional[str] = ..., has_same_stages: _Optional[bool] = ...) -> None: ...

class CountedText(_message.Message):
    __slots__ = ("text", "count")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    text: str
    count: int
    def __init__(self, text: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class WeakChoice(_message.Message):
    __slots__ = ("version", "cipher_suite", "count", "age_seconds")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CIPHER_SUITE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    version: str
    cipher_suite: str
    count: int
    age_seconds: int
    def __init__(self, version: _Optional[str] = ..., cipher_suite: _Optional[str] = ..., count: _Optional[int] = ..., age_seconds: _Optional[int] = ...) -> None: ...

class Handshakes(_message.Message):
    __slots__ = ("count", "server_names", "protocols", "versions", "cipher_suites", "weaknesses", "peers", "weak_choices")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SERVER_NAMES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOLS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CIPHER_SUITES_FIELD_NUMBER: _ClassVar[int]
    WEAKNESSES_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    WEAK_CHOICES_FIELD_NUMBER: _ClassVar[int]
    count: int
    server_names: _containers.RepeatedCompositeFieldContainer[CountedText]
    protocols: _containers.RepeatedCompositeFieldContainer[CountedText]
    versions: _containers.RepeatedCompositeFieldContainer[CountedText]
    cipher_suites: _containers.RepeatedCompositeFieldContainer[CountedText]
    weaknesses: _containers.RepeatedCompositeFieldContainer[CountedText]
    peers: _containers.RepeatedCompositeFieldContainer[CountedText]
    weak_choices: _containers.RepeatedCompositeFieldContainer[WeakChoice]
    def __init__(self, count: _Optional[int] = ..., server_names: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., protocols: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., cipher_suites: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., weaknesses: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., weak_choices: _Optional[_Iterable[_Union[WeakChoice, _Mapping]]] = ...) -> None: ...

class PortCoverage(_message.Message):
    __slots__ = ("service", "protocol", "connections", "bytes", "address", "reason", "role", "is_http_like", "joined_late", "calls", "lost_calls", "estimated_calls", "handshakes", "uncaptured_ms")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    IS_HTTP_LIKE_FIELD_NUMBER: _ClassVar[int]
    JOINED_LATE_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    LOST_CALLS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_CALLS_FIELD_NUMBER: _ClassVar[int]
    HANDSHAKES_FIELD_NUMBER: _ClassVar[int]
    UNCAPTURED_MS_FIELD_NUMBER: _ClassVar[int]
    service: _data_pb2.Service
    protocol: PortProtocol
    connections: int
    bytes: int
    address: str
    reason: str
    role: CoverageRole
    is_http_like: bool
    joined_late: int
    calls: int
    lost_calls: int
    estimated_calls: int
    handshakes: Handshakes
    uncaptured_ms: int
    def __init__(self, service: _Optional[_Union[_data_pb2.Service, _Mapping]] = ..., protocol: _Optional[_Union[PortProtocol, str]] = ..., connections: _Optional[int] = ..., bytes: _Optional[int] = ..., address: _Optional[str] = ..., reason: _Optional[str] = ..., role: _Optional[_Union[CoverageRole, str]] = ..., is_http_like: _Optional[bool] = ..., joined_late: _Optional[int] = ..., calls: _Optional[int] = ..., lost_calls: _Optional[int] = ..., estimated_calls: _Optional[int] = ..., handshakes: _Optional[_Union[Handshakes, _Mapping]] = ..., uncaptured_ms: _Optional[int] = ...) -> None: ...

class Workload(_message.Message):
    __slots__ = ("cluster", "namespace", "workload", "kind", "labels", "zone", "pods", "former_names")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    FORMER_NAMES_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    namespace: str
    workload: str
    kind: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    zone: str
    pods: int
    former_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cluster: _Optional[str] = ..., namespace: _Optional[str] = ..., workload: _Optional[str] = ..., kind: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., zone: _Optional[str] = ..., pods: _Optional[int] = ..., former_names: _Optional[_Iterable[str]] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("time_unix_ns", "ports", "workloads", "node_addresses", "is_difference")
    TIME_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    NODE_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    IS_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    time_unix_ns: int
    ports: _containers.RepeatedCompositeFieldContainer[PortCoverage]
    workloads: _containers.RepeatedCompositeFieldContainer[Workload]
    node_addresses: _containers.RepeatedScalarFieldContainer[str]
    is_difference: bool
    def __init__(self, time_unix_ns: _Optional[int] = ..., ports: _Optional[_Iterable[_Union[PortCoverage, _Mapping]]] = ..., workloads: _Optional[_Iterable[_Union[Workload, _Mapping]]] = ..., node_addresses: _Optional[_Iterable[str]] = ..., is_difference: _Optional[bool] = ...) -> None: ...

class Attachment(_message.Message):
    __slots__ = ("id", "event", "service", "process", "process_name", "consent", "consent_text", "reason", "age_seconds")
    ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_NAME_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    CONSENT_TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    event: AttachmentEvent
    service: _data_pb2.Service
    process: int
    process_name: str
    consent: ConsentKind
    consent_text: str
    reason: str
    age_seconds: int
    def __init__(self, id: _Optional[str] = ..., event: _Optional[_Union[AttachmentEvent, str]] = ..., service: _Optional[_Union[_data_pb2.Service, _Mapping]] = ..., process: _Optional[int] = ..., process_name: _Optional[str] = ..., consent: _Optional[_Union[ConsentKind, str]] = ..., consent_text: _Optional[str] = ..., reason: _Optional[str] = ..., age_seconds: _Optional[int] = ...) -> None: ...

class Attachments(_message.Message):
    __slots__ = ("attachments", "lost")
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    attachments: _containers.RepeatedCompositeFieldContainer[Attachment]
    lost: int
    def __init__(self, attachments: _Optional[_Iterable[_Union[Attachment, _Mapping]]] = ..., lost: _Optional[int] = ...) -> None: ...

class SchemaField(_message.Message):
    __slots__ = ("path", "present", "objects", "types", "values", "is_open")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PRESENT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    IS_OPEN_FIELD_NUMBER: _ClassVar[int]
    path: str
    present: int
    objects: int
    types: _containers.RepeatedCompositeFieldContainer[CountedText]
    values: _containers.RepeatedScalarFieldContainer[str]
    is_open: bool
    def __init__(self, path: _Optional[str] = ..., present: _Optional[int] = ..., objects: _Optional[int] = ..., types: _Optional[_Iterable[_Union[CountedText, _Mapping]]] = ..., values: _Optional[_Iterable[str]] = ..., is_open: _Optional[bool] = ...) -> None: ...

class CountedNumber(_message.Message):
    __slots__ = ("number", "count")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    number: int
    count: int
    def __init__(self, number: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class OperationFacts(_message.Message):
    __slots__ = ("served", "refused", "failed", "authentication", "data", "requests_read", "responses_read", "consumers", "first_seen_unix_seconds", "last_seen_unix_seconds")
    SERVED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_READ_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_READ_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    served: int
    refused: int
    failed: int
    authentication: _containers.RepeatedCompositeFieldContainer[CountedNumber]
    data: _containers.RepeatedCompositeFieldContainer[CountedNumber]
    requests_read: int
    responses_read: int
    consumers: int
    first_seen_unix_seconds: int
    last_seen_unix_seconds: int
    def __init__(self, served: _Optional[int] = ..., refused: _Optional[int] = ..., failed: _Optional[int] = ..., authentication: _Optional[_Iterable[_Union[CountedNumber, _Mapping]]] = ..., data: _Optional[_Iterable[_Union[CountedNumber, _Mapping]]] = ..., requests_read: _Optional[int] = ..., responses_read: _Optional[int] = ..., consumers: _Optional[int] = ..., first_seen_unix_seconds: _Optional[int] = ..., last_seen_unix_seconds: _Optional[int] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("protocol", "kind", "name", "calls", "errors", "facts")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    kind: str
    name: str
    calls: int
    errors: int
    facts: OperationFacts
    def __init__(self, protocol: _Optional[str] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ..., calls: _Optional[int] = ..., errors: _Optional[int] = ..., facts: _Optional[_Union[OperationFacts, _Mapping]] = ...) -> None: ...

class TokenClaim(_message.Message):
    __slots__ = ("claim", "value", "calls")
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    claim: str
    value: str
    calls: int
    def __init__(self, claim: _Optional[str] = ..., value: _Optional[str] = ..., calls: _Optional[int] = ...) -> None: ...

class McpArgument(_message.Message):
    __slots__ = ("name", "type", "is_required")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    IS_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    is_required: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., is_required: _Optional[bool] = ...) -> None: ...

class McpPin(_message.Message):
    __slots__ = ("description_hash", "schema_hash", "first_seen_unix_seconds", "last_seen_unix_seconds")
    DESCRIPTION_HASH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    description_hash: int
    schema_hash: int
    first_seen_unix_seconds: int
    last_seen_unix_seconds: int
    def __init__(self, description_hash: _Optional[int] = ..., schema_hash: _Optional[int] = ..., first_seen_unix_seconds: _Optional[int] = ..., last_seen_unix_seconds: _Optional[int] = ...) -> None: ...

class McpItem(_message.Message):
    __slots__ = ("kind", "name", "name_hash", "description_hash", "schema_hash", "arguments", "is_read_only", "destructive_hint", "open_world_hint", "first_seen_unix_seconds", "last_seen_unix_seconds", "pins", "pins_left_out")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_HASH_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_HASH_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    IS_READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    DESTRUCTIVE_HINT_FIELD_NUMBER: _ClassVar[int]
    OPEN_WORLD_HINT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    PINS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    kind: McpItemKind
    name: str
    name_hash: int
    description_hash: int
    schema_hash: int
    arguments: _containers.RepeatedCompositeFieldContainer[McpArgument]
    is_read_only: bool
    destructive_hint: McpHint
    open_world_hint: McpHint
    first_seen_unix_seconds: int
    last_seen_unix_seconds: int
    pins: _containers.RepeatedCompositeFieldContainer[McpPin]
    pins_left_out: int
    def __init__(self, kind: _Optional[_Union[McpItemKind, str]] = ..., name: _Optional[str] = ..., name_hash: _Optional[int] = ..., description_hash: _Optional[int] = ..., schema_hash: _Optional[int] = ..., arguments: _Optional[_Iterable[_Union[McpArgument, _Mapping]]] = ..., is_read_only: _Optional[bool] = ..., destructive_hint: _Optional[_Union[McpHint, str]] = ..., open_world_hint: _Optional[_Union[McpHint, str]] = ..., first_seen_unix_seconds: _Optional[int] = ..., last_seen_unix_seconds: _Optional[int] = ..., pins: _Optional[_Iterable[_Union[McpPin, _Mapping]]] = ..., pins_left_out: _Optional[int] = ...) -> None: ...

class McpList(_message.Message):
    __slots__ = ("kind", "read_unix_seconds", "unread_unix_seconds", "unread", "left_out")
    KIND_FIELD_NUMBER: _ClassVar[int]
    READ_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    kind: McpItemKind
    read_unix_seconds: int
    unread_unix_seconds: int
    unread: int
    left_out: int
    def __init__(self, kind: _Optional[_Union[McpItemKind, str]] = ..., read_unix_seconds: _Optional[int] = ..., unread_unix_seconds: _Optional[int] = ..., unread: _Optional[int] = ..., left_out: _Optional[int] = ...) -> None: ...

class McpUse(_message.Message):
    __slots__ = ("principal", "principal_kind", "credential", "client_address", "client_workload", "item_kind", "name_hash", "calls", "errors", "last_seen_unix_seconds", "answered")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_KIND_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    ITEM_KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_HASH_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    principal: int
    principal_kind: _data_pb2.PrincipalKind
    credential: int
    client_address: str
    client_workload: str
    item_kind: McpItemKind
    name_hash: int
    calls: int
    errors: int
    last_seen_unix_seconds: int
    answered: int
    def __init__(self, principal: _Optional[int] = ..., principal_kind: _Optional[_Union[_data_pb2.PrincipalKind, str]] = ..., credential: _Optional[int] = ..., client_address: _Optional[str] = ..., client_workload: _Optional[str] = ..., item_kind: _Optional[_Union[McpItemKind, str]] = ..., name_hash: _Optional[int] = ..., calls: _Optional[int] = ..., errors: _Optional[int] = ..., last_seen_unix_seconds: _Optional[int] = ..., answered: _Optional[int] = ...) -> None: ...

class McpServer(_message.Message):
    __slots__ = ("key_id", "name", "version", "protocol_versions", "transports", "items", "pin_version", "lists")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORTS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    PIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    key_id: int
    name: str
    version: str
    protocol_versions: _containers.RepeatedScalarFieldContainer[str]
    transports: _containers.RepeatedScalarFieldContainer[McpTransport]
    items: _containers.RepeatedCompositeFieldContainer[McpItem]
    pin_version: int
    lists: _containers.RepeatedCompositeFieldContainer[McpList]
    def __init__(self, key_id: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., protocol_versions: _Optional[_Iterable[str]] = ..., transports: _Optional[_Iterable[_Union[McpTransport, str]]] = ..., items: _Optional[_Iterable[_Union[McpItem, _Mapping]]] = ..., pin_version: _Optional[int] = ..., lists: _Optional[_Iterable[_Union[McpList, _Mapping]]] = ...) -> None: ...

class ModelUse(_message.Message):
    __slots__ = ("principal", "principal_kind", "credential", "client_address", "client_workload", "role", "provider", "operation", "request_model", "response_model", "samples", "calls", "errors", "streamed", "counted", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens", "reasoning_tokens", "requests_read", "responses_read", "data", "authentication", "url_keys", "first_seen_unix_seconds", "last_seen_unix_seconds")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_KIND_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_MODEL_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    STREAMED_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_READ_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_CREATION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_READ_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_READ_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_FIELD_NUMBER: _ClassVar[int]
    URL_KEYS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    principal: int
    principal_kind: _data_pb2.PrincipalKind
    credential: int
    client_address: str
    client_workload: str
    role: _data_pb2.Role
    provider: str
    operation: str
    request_model: str
    response_model: str
    samples: int
    calls: int
    errors: int
    streamed: int
    counted: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    reasoning_tokens: int
    requests_read: int
    responses_read: int
    data: _containers.RepeatedCompositeFieldContainer[CountedNumber]
    authentication: _containers.RepeatedCompositeFieldContainer[CountedNumber]
    url_keys: int
    first_seen_unix_seconds: int
    last_seen_unix_seconds: int
    def __init__(self, principal: _Optional[int] = ..., principal_kind: _Optional[_Union[_data_pb2.PrincipalKind, str]] = ..., credential: _Optional[int] = ..., client_address: _Optional[str] = ..., client_workload: _Optional[str] = ..., role: _Optional[_Union[_data_pb2.Role, str]] = ..., provider: _Optional[str] = ..., operation: _Optional[str] = ..., request_model: _Optional[str] = ..., response_model: _Optional[str] = ..., samples: _Optional[int] = ..., calls: _Optional[int] = ..., errors: _Optional[int] = ..., streamed: _Optional[int] = ..., counted: _Optional[int] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cache_read_tokens: _Optional[int] = ..., cache_creation_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., requests_read: _Optional[int] = ..., responses_read: _Optional[int] = ..., data: _Optional[_Iterable[_Union[CountedNumber, _Mapping]]] = ..., authentication: _Optional[_Iterable[_Union[CountedNumber, _Mapping]]] = ..., url_keys: _Optional[int] = ..., first_seen_unix_seconds: _Optional[int] = ..., last_seen_unix_seconds: _Optional[int] = ...) -> None: ...

class Schema(_message.Message):
    __slots__ = ("route_id", "part", "status_class", "media_type", "generation", "version", "samples", "fields", "operations", "left_out", "operation", "tokens", "document", "digest", "mcp", "mcp_uses", "model_uses")
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    STATUS_CLASS_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MCP_FIELD_NUMBER: _ClassVar[int]
    MCP_USES_FIELD_NUMBER: _ClassVar[int]
    MODEL_USES_FIELD_NUMBER: _ClassVar[int]
    route_id: int
    part: SchemaPart
    status_class: int
    media_type: str
    generation: int
    version: int
    samples: int
    fields: _containers.RepeatedCompositeFieldContainer[SchemaField]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    left_out: int
    operation: str
    tokens: _containers.RepeatedCompositeFieldContainer[TokenClaim]
    document: str
    digest: int
    mcp: McpServer
    mcp_uses: _containers.RepeatedCompositeFieldContainer[McpUse]
    model_uses: _containers.RepeatedCompositeFieldContainer[ModelUse]
    def __init__(self, route_id: _Optional[int] = ..., part: _Optional[_Union[SchemaPart, str]] = ..., status_class: _Optional[int] = ..., media_type: _Optional[str] = ..., generation: _Optional[int] = ..., version: _Optional[int] = ..., samples: _Optional[int] = ..., fields: _Optional[_Iterable[_Union[SchemaField, _Mapping]]] = ..., operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., left_out: _Optional[int] = ..., operation: _Optional[str] = ..., tokens: _Optional[_Iterable[_Union[TokenClaim, _Mapping]]] = ..., document: _Optional[str] = ..., digest: _Optional[int] = ..., mcp: _Optional[_Union[McpServer, _Mapping]] = ..., mcp_uses: _Optional[_Iterable[_Union[McpUse, _Mapping]]] = ..., model_uses: _Optional[_Iterable[_Union[ModelUse, _Mapping]]] = ...) -> None: ...

class Schemas(_message.Message):
    __slots__ = ("schemas",)
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    schemas: _containers.RepeatedCompositeFieldContainer[Schema]
    def __init__(self, schemas: _Optional[_Iterable[_Union[Schema, _Mapping]]] = ...) -> None: ...

class SchemaOffer(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, digests: _Optional[_Iterable[int]] = ...) -> None: ...

class SchemaRequest(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, digests: _Optional[_Iterable[int]] = ...) -> None: ...

from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkloadKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKLOAD_KIND_UNSPECIFIED: _ClassVar[WorkloadKind]
    WORKLOAD_KIND_SYSTEMD_UNIT: _ClassVar[WorkloadKind]
    WORKLOAD_KIND_CONTAINER: _ClassVar[WorkloadKind]
    WORKLOAD_KIND_PROCESS: _ClassVar[WorkloadKind]
    WORKLOAD_KIND_KUBERNETES: _ClassVar[WorkloadKind]

class SegmentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENT_KIND_UNSPECIFIED: _ClassVar[SegmentKind]
    SEGMENT_KIND_LITERAL: _ClassVar[SegmentKind]
    SEGMENT_KIND_WORD: _ClassVar[SegmentKind]
    SEGMENT_KIND_INTEGER: _ClassVar[SegmentKind]
    SEGMENT_KIND_UUID: _ClassVar[SegmentKind]
    SEGMENT_KIND_HEX: _ClassVar[SegmentKind]
    SEGMENT_KIND_ULID: _ClassVar[SegmentKind]
    SEGMENT_KIND_DATE: _ClassVar[SegmentKind]
    SEGMENT_KIND_EMAIL: _ClassVar[SegmentKind]
    SEGMENT_KIND_TOKEN: _ClassVar[SegmentKind]
    SEGMENT_KIND_PARAMETER: _ClassVar[SegmentKind]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SERVER: _ClassVar[Role]
    ROLE_CLIENT: _ClassVar[Role]

class Hop(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOP_UNSPECIFIED: _ClassVar[Hop]
    HOP_ENDPOINT: _ClassVar[Hop]
    HOP_PROXY: _ClassVar[Hop]

class PrincipalKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRINCIPAL_KIND_UNSPECIFIED: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_JWT_SUBJECT: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_JWT_CLIENT: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_API_KEY: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_BASIC_USER: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_SESSION: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_SPIFFE: _ClassVar[PrincipalKind]
    PRINCIPAL_KIND_TOKEN: _ClassVar[PrincipalKind]

class AuthenticationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUTHENTICATION_KIND_UNSPECIFIED: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_BASIC: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_BEARER_OPAQUE: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_BEARER_JWT: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_JWT_CUSTOM_HEADER: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_API_KEY_HEADER: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_API_KEY_QUERY: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_API_KEY_COOKIE: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_COOKIE_SESSION: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_AWS_SIGV4: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_AWS_SIGV4_QUERY: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_DIGEST: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_HMAC_SIGNATURE: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_HTTP_MESSAGE_SIGNATURE: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_OAUTH1: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_NEGOTIATE: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_MTLS_FORWARDED: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_OTHER: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_UNKNOWN: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_JWT_UNSIGNED: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_JWT_KNOWN_KEY: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_JWT_NO_EXPIRY: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_JWT_LONG_LIVED: _ClassVar[AuthenticationKind]
    AUTHENTICATION_KIND_POSSIBLE_CREDENTIAL: _ClassVar[AuthenticationKind]

class CallKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_KIND_UNSPECIFIED: _ClassVar[CallKind]
    CALL_KIND_GRPC: _ClassVar[CallKind]
    CALL_KIND_GRPC_WEB: _ClassVar[CallKind]
    CALL_KIND_CONNECT: _ClassVar[CallKind]
    CALL_KIND_WEBSOCKET: _ClassVar[CallKind]

class RowFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_FLAG_UNSPECIFIED: _ClassVar[RowFlag]
    ROW_FLAG_OTHER: _ClassVar[RowFlag]
    ROW_FLAG_EARLY: _ClassVar[RowFlag]
    ROW_FLAG_MERGED: _ClassVar[RowFlag]
    ROW_FLAG_CLOCK_STEP: _ClassVar[RowFlag]
    ROW_FLAG_LOSSY: _ClassVar[RowFlag]
    ROW_FLAG_CREDENTIAL_TRUNCATED: _ClassVar[RowFlag]
    ROW_FLAG_ABORTED: _ClassVar[RowFlag]
    ROW_FLAG_OBJECTS_SKETCHED: _ClassVar[RowFlag]
    ROW_FLAG_ESTIMATED: _ClassVar[RowFlag]
    ROW_FLAG_AMBIGUOUS: _ClassVar[RowFlag]
    ROW_FLAG_UNKNOWN_FIELDS: _ClassVar[RowFlag]
    ROW_FLAG_INFERRED: _ClassVar[RowFlag]
    ROW_FLAG_CLIENT_STREAMING: _ClassVar[RowFlag]
    ROW_FLAG_SERVER_STREAMING: _ClassVar[RowFlag]
    ROW_FLAG_ENCRYPTED: _ClassVar[RowFlag]

class DataKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_KIND_UNSPECIFIED: _ClassVar[DataKind]
    DATA_KIND_EMAIL: _ClassVar[DataKind]
    DATA_KIND_PHONE: _ClassVar[DataKind]
    DATA_KIND_PERSON_NAME: _ClassVar[DataKind]
    DATA_KIND_ADDRESS: _ClassVar[DataKind]
    DATA_KIND_DATE_OF_BIRTH: _ClassVar[DataKind]
    DATA_KIND_SSN: _ClassVar[DataKind]
    DATA_KIND_AADHAAR: _ClassVar[DataKind]
    DATA_KIND_CPF: _ClassVar[DataKind]
    DATA_KIND_IBAN: _ClassVar[DataKind]
    DATA_KIND_CREDIT_CARD: _ClassVar[DataKind]
    DATA_KIND_IP_ADDRESS: _ClassVar[DataKind]
    DATA_KIND_PASSWORD: _ClassVar[DataKind]
    DATA_KIND_JWT: _ClassVar[DataKind]
    DATA_KIND_PRIVATE_KEY: _ClassVar[DataKind]
    DATA_KIND_AWS_KEY: _ClassVar[DataKind]
    DATA_KIND_GOOGLE_API_KEY: _ClassVar[DataKind]
    DATA_KIND_GITHUB_TOKEN: _ClassVar[DataKind]
    DATA_KIND_SLACK_TOKEN: _ClassVar[DataKind]
    DATA_KIND_STRIPE_KEY: _ClassVar[DataKind]
    DATA_KIND_PASSPORT: _ClassVar[DataKind]
    DATA_KIND_DRIVER_LICENSE: _ClassVar[DataKind]
    DATA_KIND_NATIONAL_ID: _ClassVar[DataKind]
    DATA_KIND_TAX_ID: _ClassVar[DataKind]
    DATA_KIND_NINO: _ClassVar[DataKind]
    DATA_KIND_SIN: _ClassVar[DataKind]
    DATA_KIND_NIR: _ClassVar[DataKind]
    DATA_KIND_DNI: _ClassVar[DataKind]
    DATA_KIND_CODICE_FISCALE: _ClassVar[DataKind]
    DATA_KIND_STEUER_ID: _ClassVar[DataKind]
    DATA_KIND_BSN: _ClassVar[DataKind]
    DATA_KIND_PESEL: _ClassVar[DataKind]
    DATA_KIND_PERSONNUMMER: _ClassVar[DataKind]
    DATA_KIND_HETU: _ClassVar[DataKind]
    DATA_KIND_RESIDENT_ID: _ClassVar[DataKind]
    DATA_KIND_CURP: _ClassVar[DataKind]
    DATA_KIND_PAN: _ClassVar[DataKind]
    DATA_KIND_RRN: _ClassVar[DataKind]
    DATA_KIND_GENDER: _ClassVar[DataKind]
    DATA_KIND_NATIONALITY: _ClassVar[DataKind]
    DATA_KIND_LOCATION: _ClassVar[DataKind]
    DATA_KIND_CARD_SECURITY_CODE: _ClassVar[DataKind]
    DATA_KIND_BANK_ACCOUNT: _ClassVar[DataKind]
    DATA_KIND_BIC: _ClassVar[DataKind]
    DATA_KIND_ROUTING_NUMBER: _ClassVar[DataKind]
    DATA_KIND_SALARY: _ClassVar[DataKind]
    DATA_KIND_CRYPTO_ADDRESS: _ClassVar[DataKind]
    DATA_KIND_MEDICAL_RECORD: _ClassVar[DataKind]
    DATA_KIND_DIAGNOSIS: _ClassVar[DataKind]
    DATA_KIND_MEDICATION: _ClassVar[DataKind]
    DATA_KIND_BLOOD_TYPE: _ClassVar[DataKind]
    DATA_KIND_HEALTH_INSURANCE: _ClassVar[DataKind]
    DATA_KIND_NHS_NUMBER: _ClassVar[DataKind]
    DATA_KIND_API_KEY: _ClassVar[DataKind]
    DATA_KIND_GITLAB_TOKEN: _ClassVar[DataKind]
    DATA_KIND_CONNECTION_STRING: _ClassVar[DataKind]
    DATA_KIND_ACCESS_TOKEN: _ClassVar[DataKind]
    DATA_KIND_MAC_ADDRESS: _ClassVar[DataKind]
    DATA_KIND_STACK_TRACE: _ClassVar[DataKind]
    DATA_KIND_DATABASE_ERROR: _ClassVar[DataKind]
    DATA_KIND_CUSTOM_1: _ClassVar[DataKind]
    DATA_KIND_CUSTOM_2: _ClassVar[DataKind]
    DATA_KIND_CUSTOM_3: _ClassVar[DataKind]
    DATA_KIND_CUSTOM_4: _ClassVar[DataKind]

class DataPlace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_PLACE_UNSPECIFIED: _ClassVar[DataPlace]
    DATA_PLACE_REQUEST_BODY: _ClassVar[DataPlace]
    DATA_PLACE_RESPONSE_BODY: _ClassVar[DataPlace]
    DATA_PLACE_PATH: _ClassVar[DataPlace]
    DATA_PLACE_QUERY: _ClassVar[DataPlace]
    DATA_PLACE_REQUEST_HEADER: _ClassVar[DataPlace]
    DATA_PLACE_CALL: _ClassVar[DataPlace]
    DATA_PLACE_QUERY_DEPTH: _ClassVar[DataPlace]
    DATA_PLACE_QUERY_REPEATS: _ClassVar[DataPlace]
    DATA_PLACE_QUERY_BATCH: _ClassVar[DataPlace]
    DATA_PLACE_EXTRA_FIELD: _ClassVar[DataPlace]
    DATA_PLACE_SET_FIELD: _ClassVar[DataPlace]
    DATA_PLACE_TOOL_REPEATS: _ClassVar[DataPlace]
    DATA_PLACE_NEW_TOOLS: _ClassVar[DataPlace]

class CallFact(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_FACT_UNSPECIFIED: _ClassVar[CallFact]
    CALL_FACT_ENCRYPTED: _ClassVar[CallFact]
    CALL_FACT_LOOPBACK: _ClassVar[CallFact]
    CALL_FACT_INTROSPECTION: _ClassVar[CallFact]
    CALL_FACT_INTROSPECTION_SERVED: _ClassVar[CallFact]
    CALL_FACT_LOGIN: _ClassVar[CallFact]

class AttackClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTACK_CLASS_UNSPECIFIED: _ClassVar[AttackClass]
    ATTACK_CLASS_SQLI: _ClassVar[AttackClass]
    ATTACK_CLASS_XSS: _ClassVar[AttackClass]
    ATTACK_CLASS_TRAVERSAL: _ClassVar[AttackClass]
    ATTACK_CLASS_RCE: _ClassVar[AttackClass]
    ATTACK_CLASS_SSRF: _ClassVar[AttackClass]
    ATTACK_CLASS_SSTI: _ClassVar[AttackClass]
    ATTACK_CLASS_XXE: _ClassVar[AttackClass]
    ATTACK_CLASS_NOSQL: _ClassVar[AttackClass]
    ATTACK_CLASS_LDAP: _ClassVar[AttackClass]
    ATTACK_CLASS_LOG4SHELL: _ClassVar[AttackClass]
    ATTACK_CLASS_SPLITTING: _ClassVar[AttackClass]
    ATTACK_CLASS_PROBING: _ClassVar[AttackClass]
    ATTACK_CLASS_PROTOCOL: _ClassVar[AttackClass]
    ATTACK_CLASS_FIXATION: _ClassVar[AttackClass]

class AttackEvidence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTACK_EVIDENCE_UNSPECIFIED: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_SERVER_ERROR: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_REFLECTED: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_LEAKED: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_DELAYED: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_LARGE: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_INSIDE_CONTACTED: _ClassVar[AttackEvidence]
    ATTACK_EVIDENCE_METADATA_CONTACTED: _ClassVar[AttackEvidence]

class UnreadReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNREAD_REASON_UNSPECIFIED: _ClassVar[UnreadReason]
    UNREAD_REASON_POSITION: _ClassVar[UnreadReason]
    UNREAD_REASON_SEGMENT: _ClassVar[UnreadReason]
    UNREAD_REASON_NOT_HTTP: _ClassVar[UnreadReason]
    UNREAD_REASON_HEAD: _ClassVar[UnreadReason]
WORKLOAD_KIND_UNSPECIFIED: WorkloadKind
WORKLOAD_KIND_SYSTEMD_UNIT: WorkloadKind
WORKLOAD_KIND_CONTAINER: WorkloadKind
WORKLOAD_KIND_PROCESS: WorkloadKind
WORKLOAD_KIND_KUBERNETES: WorkloadKind
SEGMENT_KIND_UNSPECIFIED: SegmentKind
SEGMENT_KIND_LITERAL: SegmentKind
SEGMENT_KIND_WORD: SegmentKind
SEGMENT_KIND_INTEGER: SegmentKind
SEGMENT_KIND_UUID: SegmentKind
SEGMENT_KIND_HEX: SegmentKind
SEGMENT_KIND_ULID: SegmentKind
SEGMENT_KIND_DATE: SegmentKind
SEGMENT_KIND_EMAIL: SegmentKind
SEGMENT_KIND_TOKEN: SegmentKind
SEGMENT_KIND_PARAMETER: SegmentKind
ROLE_UNSPECIFIED: Role
ROLE_SERVER: Role
ROLE_CLIENT: Role
HOP_UNSPECIFIED: Hop
HOP_ENDPOINT: Hop
HOP_PROXY: Hop
PRINCIPAL_KIND_UNSPECIFIED: PrincipalKind
PRINCIPAL_KIND_JWT_SUBJECT: PrincipalKind
PRINCIPAL_KIND_JWT_CLIENT: PrincipalKind
PRINCIPAL_KIND_API_KEY: PrincipalKind
PRINCIPAL_KIND_BASIC_USER: PrincipalKind
PRINCIPAL_KIND_SESSION: PrincipalKind
PRINCIPAL_KIND_SPIFFE: PrincipalKind
PRINCIPAL_KIND_TOKEN: PrincipalKind
AUTHENTICATION_KIND_UNSPECIFIED: AuthenticationKind
AUTHENTICATION_KIND_BASIC: AuthenticationKind
AUTHENTICATION_KIND_BEARER_OPAQUE: AuthenticationKind
AUTHENTICATION_KIND_BEARER_JWT: AuthenticationKind
AUTHENTICATION_KIND_JWT_CUSTOM_HEADER: AuthenticationKind
AUTHENTICATION_KIND_API_KEY_HEADER: AuthenticationKind
AUTHENTICATION_KIND_API_KEY_QUERY: AuthenticationKind
AUTHENTICATION_KIND_API_KEY_COOKIE: AuthenticationKind
AUTHENTICATION_KIND_COOKIE_SESSION: AuthenticationKind
AUTHENTICATION_KIND_AWS_SIGV4: AuthenticationKind
AUTHENTICATION_KIND_AWS_SIGV4_QUERY: AuthenticationKind
AUTHENTICATION_KIND_DIGEST: AuthenticationKind
AUTHENTICATION_KIND_HMAC_SIGNATURE: AuthenticationKind
AUTHENTICATION_KIND_HTTP_MESSAGE_SIGNATURE: AuthenticationKind
AUTHENTICATION_KIND_OAUTH1: AuthenticationKind
AUTHENTICATION_KIND_NEGOTIATE: AuthenticationKind
AUTHENTICATION_KIND_MTLS_FORWARDED: AuthenticationKind
AUTHENTICATION_KIND_OTHER: AuthenticationKind
AUTHENTICATION_KIND_UNKNOWN: AuthenticationKind
AUTHENTICATION_KIND_JWT_UNSIGNED: AuthenticationKind
AUTHENTICATION_KIND_JWT_KNOWN_KEY: AuthenticationKind
AUTHENTICATION_KIND_JWT_NO_EXPIRY: AuthenticationKind
AUTHENTICATION_KIND_JWT_LONG_LIVED: AuthenticationKind
AUTHENTICATION_KIND_POSSIBLE_CREDENTIAL: AuthenticationKind
CALL_KIND_UNSPECIFIED: CallKind
CALL_KIND_GRPC: CallKind
CALL_KIND_GRPC_WEB: CallKind
CALL_KIND_CONNECT: CallKind
CALL_KIND_WEBSOCKET: CallKind
ROW_FLAG_UNSPECIFIED: RowFlag
ROW_FLAG_OTHER: RowFlag
ROW_FLAG_EARLY: RowFlag
ROW_FLAG_MERGED: RowFlag
ROW_FLAG_CLOCK_STEP: RowFlag
ROW_FLAG_LOSSY: RowFlag
ROW_FLAG_CREDENTIAL_TRUNCATED: RowFlag
ROW_FLAG_ABORTED: RowFlag
ROW_FLAG_OBJECTS_SKETCHED: RowFlag
ROW_FLAG_ESTIMATED: RowFlag
ROW_FLAG_AMBIGUOUS: RowFlag
ROW_FLAG_UNKNOWN_FIELDS: RowFlag
ROW_FLAG_INFERRED: RowFlag
ROW_FLAG_CLIENT_STREAMING: RowFlag
ROW_FLAG_SERVER_STREAMING: RowFlag
ROW_FLAG_ENCRYPTED: RowFlag
DATA_KIND_UNSPECIFIED: DataKind
DATA_KIND_EMAIL: DataKind
DATA_KIND_PHONE: DataKind
DATA_KIND_PERSON_NAME: DataKind
DATA_KIND_ADDRESS: DataKind
DATA_KIND_DATE_OF_BIRTH: DataKind
DATA_KIND_SSN: DataKind
DATA_KIND_AADHAAR: DataKind
DATA_KIND_CPF: DataKind
DATA_KIND_IBAN: DataKind
DATA_KIND_CREDIT_CARD: DataKind
DATA_KIND_IP_ADDRESS: DataKind
DATA_KIND_PASSWORD: DataKind
DATA_KIND_JWT: DataKind
DATA_KIND_PRIVATE_KEY: DataKind
DATA_KIND_AWS_KEY: DataKind
DATA_KIND_GOOGLE_API_KEY: DataKind
DATA_KIND_GITHUB_TOKEN: DataKind
DATA_KIND_SLACK_TOKEN: DataKind
DATA_KIND_STRIPE_KEY: DataKind
DATA_KIND_PASSPORT: DataKind
DATA_KIND_DRIVER_LICENSE: DataKind
DATA_KIND_NATIONAL_ID: DataKind
DATA_KIND_TAX_ID: DataKind
DATA_KIND_NINO: DataKind
DATA_KIND_SIN: DataKind
DATA_KIND_NIR: DataKind
DATA_KIND_DNI: DataKind
DATA_KIND_CODICE_FISCALE: DataKind
DATA_KIND_STEUER_ID: DataKind
DATA_KIND_BSN: DataKind
DATA_KIND_PESEL: DataKind
DATA_KIND_PERSONNUMMER: DataKind
DATA_KIND_HETU: DataKind
DATA_KIND_RESIDENT_ID: DataKind
DATA_KIND_CURP: DataKind
DATA_KIND_PAN: DataKind
DATA_KIND_RRN: DataKind
DATA_KIND_GENDER: DataKind
DATA_KIND_NATIONALITY: DataKind
DATA_KIND_LOCATION: DataKind
DATA_KIND_CARD_SECURITY_CODE: DataKind
DATA_KIND_BANK_ACCOUNT: DataKind
DATA_KIND_BIC: DataKind
DATA_KIND_ROUTING_NUMBER: DataKind
DATA_KIND_SALARY: DataKind
DATA_KIND_CRYPTO_ADDRESS: DataKind
DATA_KIND_MEDICAL_RECORD: DataKind
DATA_KIND_DIAGNOSIS: DataKind
DATA_KIND_MEDICATION: DataKind
DATA_KIND_BLOOD_TYPE: DataKind
DATA_KIND_HEALTH_INSURANCE: DataKind
DATA_KIND_NHS_NUMBER: DataKind
DATA_KIND_API_KEY: DataKind
DATA_KIND_GITLAB_TOKEN: DataKind
DATA_KIND_CONNECTION_STRING: DataKind
DATA_KIND_ACCESS_TOKEN: DataKind
DATA_KIND_MAC_ADDRESS: DataKind
DATA_KIND_STACK_TRACE: DataKind
DATA_KIND_DATABASE_ERROR: DataKind
DATA_KIND_CUSTOM_1: DataKind
DATA_KIND_CUSTOM_2: DataKind
DATA_KIND_CUSTOM_3: DataKind
DATA_KIND_CUSTOM_4: DataKind
DATA_PLACE_UNSPECIFIED: DataPlace
DATA_PLACE_REQUEST_BODY: DataPlace
DATA_PLACE_RESPONSE_BODY: DataPlace
DATA_PLACE_PATH: DataPlace
DATA_PLACE_QUERY: DataPlace
DATA_PLACE_REQUEST_HEADER: DataPlace
DATA_PLACE_CALL: DataPlace
DATA_PLACE_QUERY_DEPTH: DataPlace
DATA_PLACE_QUERY_REPEATS: DataPlace
DATA_PLACE_QUERY_BATCH: DataPlace
DATA_PLACE_EXTRA_FIELD: DataPlace
DATA_PLACE_SET_FIELD: DataPlace
DATA_PLACE_TOOL_REPEATS: DataPlace
DATA_PLACE_NEW_TOOLS: DataPlace
CALL_FACT_UNSPECIFIED: CallFact
CALL_FACT_ENCRYPTED: CallFact
CALL_FACT_LOOPBACK: CallFact
CALL_FACT_INTROSPECTION: CallFact
CALL_FACT_INTROSPECTION_SERVED: CallFact
CALL_FACT_LOGIN: CallFact
ATTACK_CLASS_UNSPECIFIED: AttackClass
ATTACK_CLASS_SQLI: AttackClass
ATTACK_CLASS_XSS: AttackClass
ATTACK_CLASS_TRAVERSAL: AttackClass
ATTACK_CLASS_RCE: AttackClass
ATTACK_CLASS_SSRF: AttackClass
ATTACK_CLASS_SSTI: AttackClass
ATTACK_CLASS_XXE: AttackClass
ATTACK_CLASS_NOSQL: AttackClass
ATTACK_CLASS_LDAP: AttackClass
ATTACK_CLASS_LOG4SHELL: AttackClass
ATTACK_CLASS_SPLITTING: AttackClass
ATTACK_CLASS_PROBING: AttackClass
ATTACK_CLASS_PROTOCOL: AttackClass
ATTACK_CLASS_FIXATION: AttackClass
ATTACK_EVIDENCE_UNSPECIFIED: AttackEvidence
ATTACK_EVIDENCE_SERVER_ERROR: AttackEvidence
ATTACK_EVIDENCE_REFLECTED: AttackEvidence
ATTACK_EVIDENCE_LEAKED: AttackEvidence
ATTACK_EVIDENCE_DELAYED: AttackEvidence
ATTACK_EVIDENCE_LARGE: AttackEvidence
ATTACK_EVIDENCE_INSIDE_CONTACTED: AttackEvidence
ATTACK_EVIDENCE_METADATA_CONTACTED: AttackEvidence
UNREAD_REASON_UNSPECIFIED: UnreadReason
UNREAD_REASON_POSITION: UnreadReason
UNREAD_REASON_SEGMENT: UnreadReason
UNREAD_REASON_NOT_HTTP: UnreadReason
UNREAD_REASON_HEAD: UnreadReason

class Service(_message.Message):
    __slots__ = ("cluster", "namespace", "workload", "workload_kind", "host_name", "port")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_KIND_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    namespace: str
    workload: str
    workload_kind: WorkloadKind
    host_name: str
    port: int
    def __init__(self, cluster: _Optional[str] = ..., namespace: _Optional[str] = ..., workload: _Optional[str] = ..., workload_kind: _Optional[_Union[WorkloadKind, str]] = ..., host_name: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("kind", "text", "hash", "length")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    kind: SegmentKind
    text: int
    hash: int
    length: int
    def __init__(self, kind: _Optional[_Union[SegmentKind, str]] = ..., text: _Optional[int] = ..., hash: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("route_id", "service", "host", "method", "segments", "has_trailing_slash")
    ROUTE_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    HAS_TRAILING_SLASH_FIELD_NUMBER: _ClassVar[int]
    route_id: int
    service: int
    host: int
    method: int
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    has_trailing_slash: bool
    def __init__(self, route_id: _Optional[int] = ..., service: _Optional[int] = ..., host: _Optional[int] = ..., method: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., has_trailing_slash: _Optional[bool] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("route", "window_offset_seconds", "window_length_seconds", "principal", "principal_kind", "credential", "client_address", "client_workload", "authentication", "status_code", "role", "hop", "protocol_version", "request_content_type", "response_content_type", "flags", "calls", "request_bytes", "response_bytes", "time_to_first_byte_sum_us", "duration_sum_us", "duration_max_us", "duration_len", "duration_bucket", "duration_count", "response_size_len", "response_size_bucket", "response_size_count", "objects_len", "objects_hash", "objects_count", "object_numeric_calls", "object_monotonic_steps", "object_numeric_span", "records_returned", "records_basis", "kind", "rpc_status", "ended_later", "streams", "stream_duration_sum_us", "counted_messages_calls", "request_messages", "response_messages", "records_measured", "request_bodies_read", "response_bodies_read", "data_len", "data_kind", "data_count", "attacks", "attacks_confirmed", "payloads_len", "payloads_hash", "found_len", "found_code", "found_count", "client_software", "carriers")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_OFFSET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LENGTH_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_KIND_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_CODE_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HOP_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_BYTE_SUM_US_FIELD_NUMBER: _ClassVar[int]
    DURATION_SUM_US_FIELD_NUMBER: _ClassVar[int]
    DURATION_MAX_US_FIELD_NUMBER: _ClassVar[int]
    DURATION_LEN_FIELD_NUMBER: _ClassVar[int]
    DURATION_BUCKET_FIELD_NUMBER: _ClassVar[int]
    DURATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SIZE_LEN_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SIZE_BUCKET_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_SIZE_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_LEN_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_HASH_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_NUMERIC_CALLS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_MONOTONIC_STEPS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_NUMERIC_SPAN_FIELD_NUMBER: _ClassVar[int]
    RECORDS_RETURNED_FIELD_NUMBER: _ClassVar[int]
    RECORDS_BASIS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RPC_STATUS_FIELD_NUMBER: _ClassVar[int]
    ENDED_LATER_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    STREAM_DURATION_SUM_US_FIELD_NUMBER: _ClassVar[int]
    COUNTED_MESSAGES_CALLS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    RECORDS_MEASURED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BODIES_READ_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BODIES_READ_FIELD_NUMBER: _ClassVar[int]
    DATA_LEN_FIELD_NUMBER: _ClassVar[int]
    DATA_KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_COUNT_FIELD_NUMBER: _ClassVar[int]
    ATTACKS_FIELD_NUMBER: _ClassVar[int]
    ATTACKS_CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_LEN_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_HASH_FIELD_NUMBER: _ClassVar[int]
    FOUND_LEN_FIELD_NUMBER: _ClassVar[int]
    FOUND_CODE_FIELD_NUMBER: _ClassVar[int]
    FOUND_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CARRIERS_FIELD_NUMBER: _ClassVar[int]
    route: _containers.RepeatedScalarFieldContainer[int]
    window_offset_seconds: _containers.RepeatedScalarFieldContainer[int]
    window_length_seconds: _containers.RepeatedScalarFieldContainer[int]
    principal: _containers.RepeatedScalarFieldContainer[int]
    principal_kind: _containers.RepeatedScalarFieldContainer[int]
    credential: _containers.RepeatedScalarFieldContainer[int]
    client_address: _containers.RepeatedScalarFieldContainer[int]
    client_workload: _containers.RepeatedScalarFieldContainer[int]
    authentication: _containers.RepeatedScalarFieldContainer[int]
    status_code: _containers.RepeatedScalarFieldContainer[int]
    role: _containers.RepeatedScalarFieldContainer[int]
    hop: _containers.RepeatedScalarFieldContainer[int]
    protocol_version: _containers.RepeatedScalarFieldContainer[int]
    request_content_type: _containers.RepeatedScalarFieldContainer[int]
    response_content_type: _containers.RepeatedScalarFieldContainer[int]
    flags: _containers.RepeatedScalarFieldContainer[int]
    calls: _containers.RepeatedScalarFieldContainer[int]
    request_bytes: _containers.RepeatedScalarFieldContainer[int]
    response_bytes: _containers.RepeatedScalarFieldContainer[int]
    time_to_first_byte_sum_us: _containers.RepeatedScalarFieldContainer[int]
    duration_sum_us: _containers.RepeatedScalarFieldContainer[int]
    duration_max_us: _containers.RepeatedScalarFieldContainer[int]
    duration_len: _containers.RepeatedScalarFieldContainer[int]
    duration_bucket: _containers.RepeatedScalarFieldContainer[int]
    duration_count: _containers.RepeatedScalarFieldContainer[int]
    response_size_len: _containers.RepeatedScalarFieldContainer[int]
    response_size_bucket: _containers.RepeatedScalarFieldContainer[int]
    response_size_count: _containers.RepeatedScalarFieldContainer[int]
    objects_len: _containers.RepeatedScalarFieldContainer[int]
    objects_hash: _containers.RepeatedScalarFieldContainer[int]
    objects_count: _containers.RepeatedScalarFieldContainer[int]
    object_numeric_calls: _containers.RepeatedScalarFieldContainer[int]
    object_monotonic_steps: _containers.RepeatedScalarFieldContainer[int]
    object_numeric_span: _containers.RepeatedScalarFieldContainer[int]
    records_returned: _containers.RepeatedScalarFieldContainer[int]
    records_basis: _containers.RepeatedScalarFieldContainer[int]
    kind: _containers.RepeatedScalarFieldContainer[int]
    rpc_status: _containers.RepeatedScalarFieldContainer[int]
    ended_later: _containers.RepeatedScalarFieldContainer[int]
    streams: _containers.RepeatedScalarFieldContainer[int]
    stream_duration_sum_us: _containers.RepeatedScalarFieldContainer[int]
    counted_messages_calls: _containers.RepeatedScalarFieldContainer[int]
    request_messages: _containers.RepeatedScalarFieldContainer[int]
    response_messages: _containers.RepeatedScalarFieldContainer[int]
    records_measured: _containers.RepeatedScalarFieldContainer[int]
    request_bodies_read: _containers.RepeatedScalarFieldContainer[int]
    response_bodies_read: _containers.RepeatedScalarFieldContainer[int]
    data_len: _containers.RepeatedScalarFieldContainer[int]
    data_kind: _containers.RepeatedScalarFieldContainer[int]
    data_count: _containers.RepeatedScalarFieldContainer[int]
    attacks: _containers.RepeatedScalarFieldContainer[int]
    attacks_confirmed: _containers.RepeatedScalarFieldContainer[int]
    payloads_len: _containers.RepeatedScalarFieldContainer[int]
    payloads_hash: _containers.RepeatedScalarFieldContainer[int]
    found_len: _containers.RepeatedScalarFieldContainer[int]
    found_code: _containers.RepeatedScalarFieldContainer[int]
    found_count: _containers.RepeatedScalarFieldContainer[int]
    client_software: _containers.RepeatedScalarFieldContainer[int]
    carriers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, route: _Optional[_Iterable[int]] = ..., window_offset_seconds: _Optional[_Iterable[int]] = ..., window_length_seconds: _Optional[_Iterable[int]] = ..., principal: _Optional[_Iterable[int]] = ..., principal_kind: _Optional[_Iterable[int]] = ..., credential: _Optional[_Iterable[int]] = ..., client_address: _Optional[_Iterable[int]] = ..., client_workload: _Optional[_Iterable[int]] = ..., authentication: _Optional[_Iterable[int]] = ..., status_code: _Optional[_Iterable[int]] = ..., role: _Optional[_Iterable[int]] = ..., hop: _Optional[_Iterable[int]] = ..., protocol_version: _Optional[_Iterable[int]] = ..., request_content_type: _Optional[_Iterable[int]] = ..., response_content_type: _Optional[_Iterable[int]] = ..., flags: _Optional[_Iterable[int]] = ..., calls: _Optional[_Iterable[int]] = ..., request_bytes: _Optional[_Iterable[int]] = ..., response_bytes: _Optional[_Iterable[int]] = ..., time_to_first_byte_sum_us: _Optional[_Iterable[int]] = ..., duration_sum_us: _Optional[_Iterable[int]] = ..., duration_max_us: _Optional[_Iterable[int]] = ..., duration_len: _Optional[_Iterable[int]] = ..., duration_bucket: _Optional[_Iterable[int]] = ..., duration_count: _Optional[_Iterable[int]] = ..., response_size_len: _Optional[_Iterable[int]] = ..., response_size_bucket: _Optional[_Iterable[int]] = ..., response_size_count: _Optional[_Iterable[int]] = ..., objects_len: _Optional[_Iterable[int]] = ..., objects_hash: _Optional[_Iterable[int]] = ..., objects_count: _Optional[_Iterable[int]] = ..., object_numeric_calls: _Optional[_Iterable[int]] = ..., object_monotonic_steps: _Optional[_Iterable[int]] = ..., object_numeric_span: _Optional[_Iterable[int]] = ..., records_returned: _Optional[_Iterable[int]] = ..., records_basis: _Optional[_Iterable[int]] = ..., kind: _Optional[_Iterable[int]] = ..., rpc_status: _Optional[_Iterable[int]] = ..., ended_later: _Optional[_Iterable[int]] = ..., streams: _Optional[_Iterable[int]] = ..., stream_duration_sum_us: _Optional[_Iterable[int]] = ..., counted_messages_calls: _Optional[_Iterable[int]] = ..., request_messages: _Optional[_Iterable[int]] = ..., response_messages: _Optional[_Iterable[int]] = ..., records_measured: _Optional[_Iterable[int]] = ..., request_bodies_read: _Optional[_Iterable[int]] = ..., response_bodies_read: _Optional[_Iterable[int]] = ..., data_len: _Optional[_Iterable[int]] = ..., data_kind: _Optional[_Iterable[int]] = ..., data_count: _Optional[_Iterable[int]] = ..., attacks: _Optional[_Iterable[int]] = ..., attacks_confirmed: _Optional[_Iterable[int]] = ..., payloads_len: _Optional[_Iterable[int]] = ..., payloads_hash: _Optional[_Iterable[int]] = ..., found_len: _Optional[_Iterable[int]] = ..., found_code: _Optional[_Iterable[int]] = ..., found_count: _Optional[_Iterable[int]] = ..., client_software: _Optional[_Iterable[int]] = ..., carriers: _Optional[_Iterable[int]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("node", "boot_id", "sequence", "key_id", "policy_epoch", "clock_segment", "base_time_unix_seconds", "strings", "services", "routes", "rows", "lost_calls", "seen_calls", "tls_lost_calls", "tls_seen_calls", "service_losses", "measure")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CLOCK_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    BASE_TIME_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LOST_CALLS_FIELD_NUMBER: _ClassVar[int]
    SEEN_CALLS_FIELD_NUMBER: _ClassVar[int]
    TLS_LOST_CALLS_FIELD_NUMBER: _ClassVar[int]
    TLS_SEEN_CALLS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_LOSSES_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    node: str
    boot_id: str
    sequence: int
    key_id: int
    policy_epoch: int
    clock_segment: int
    base_time_unix_seconds: int
    strings: _containers.RepeatedScalarFieldContainer[str]
    services: _containers.RepeatedCompositeFieldContainer[Service]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    rows: Rows
    lost_calls: int
    seen_calls: int
    tls_lost_calls: int
    tls_seen_calls: int
    service_losses: _containers.RepeatedCompositeFieldContainer[ServiceLoss]
    measure: BatchMeasure
    def __init__(self, node: _Optional[str] = ..., boot_id: _Optional[str] = ..., sequence: _Optional[int] = ..., key_id: _Optional[int] = ..., policy_epoch: _Optional[int] = ..., clock_segment: _Optional[int] = ..., base_time_unix_seconds: _Optional[int] = ..., strings: _Optional[_Iterable[str]] = ..., services: _Optional[_Iterable[_Union[Service, _Mapping]]] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ..., lost_calls: _Optional[int] = ..., seen_calls: _Optional[int] = ..., tls_lost_calls: _Optional[int] = ..., tls_seen_calls: _Optional[int] = ..., service_losses: _Optional[_Iterable[_Union[ServiceLoss, _Mapping]]] = ..., measure: _Optional[_Union[BatchMeasure, _Mapping]] = ...) -> None: ...

class BatchMeasure(_message.Message):
    __slots__ = ("node", "boot_id", "numbers", "layout")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    node: _containers.RepeatedScalarFieldContainer[str]
    boot_id: _containers.RepeatedScalarFieldContainer[str]
    numbers: _containers.RepeatedScalarFieldContainer[int]
    layout: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, node: _Optional[_Iterable[str]] = ..., boot_id: _Optional[_Iterable[str]] = ..., numbers: _Optional[_Iterable[int]] = ..., layout: _Optional[_Iterable[int]] = ...) -> None: ...

class ServiceLoss(_message.Message):
    __slots__ = ("service", "is_encrypted", "lost_calls", "client_address", "unread_reason", "unread_bytes")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    IS_ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    LOST_CALLS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_REASON_FIELD_NUMBER: _ClassVar[int]
    UNREAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    service: Service
    is_encrypted: bool
    lost_calls: int
    client_address: str
    unread_reason: UnreadReason
    unread_bytes: int
    def __init__(self, service: _Optional[_Union[Service, _Mapping]] = ..., is_encrypted: _Optional[bool] = ..., lost_calls: _Optional[int] = ..., client_address: _Optional[str] = ..., unread_reason: _Optional[_Union[UnreadReason, str]] = ..., unread_bytes: _Optional[int] = ...) -> None: ...

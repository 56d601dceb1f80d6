"""The types that cross the sensor's packages: an exchange, a call record, and calls as columns.

`Exchange` is what capture saw. It holds request and response heads in bytes and never leaves
`sensor.describe.describer`. `CallRecord` is what may leave the node: kinds, lengths and keyed hashes, and text only as
docs/use/privacy.md allows it.

Both are msgspec structs, because one of each is made for every call. Construction by position takes 0.2 us, by keyword
4 us, and a frozen dataclass takes 3 us. They are kept from the cycle collector, since nothing in them can point back.

`CALL` is a numpy row of 104 bytes for one call, or for the closing part of a call already counted (`calls` = 0). The
kernel's records fill it for matched calls, `CallRecord`s for the others, and aggregation sums the rows. `route`,
`actor` and `response_type` are indexes into `sensor.aggregate.dictionary.Facts`.
"""

from enum import IntEnum, IntFlag
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

# A status code of the wire: nobody could see how the call ended. No status that a server sends is below 100.
STATUS_NOT_READ: Final = 1


class Role(IntEnum):
    """Which end of the connection was seen; values are those of the wire."""

    SERVER = 1
    CLIENT = 2


class Hop(IntEnum):
    """Whether the process answers itself or passes the call on; values are those of the wire."""

    UNSPECIFIED = 0
    ENDPOINT = 1
    PROXY = 2


class WorkloadKind(IntEnum):
    """What names a service; values are those of the wire."""

    UNSPECIFIED = 0
    SYSTEMD_UNIT = 1
    CONTAINER = 2
    PROCESS = 3
    KUBERNETES = 4


class SegmentKind(IntEnum):
    """Shape of one path segment; values are those of the wire."""

    LITERAL = 1
    WORD = 2
    INTEGER = 3
    UUID = 4
    HEX = 5
    ULID = 6
    DATE = 7
    EMAIL = 8
    TOKEN = 9
    PARAMETER = 10


class PrincipalKind(IntEnum):
    """Where a principal's name came from; values are those of the wire."""

    UNSPECIFIED = 0
    JWT_SUBJECT = 1
    JWT_CLIENT = 2
    API_KEY = 3
    BASIC_USER = 4
    SESSION = 5
    SPIFFE = 6
    TOKEN = 7


class CallKind(IntEnum):
    """What a call is besides HTTP; values are those of the wire."""

    HTTP = 0
    GRPC = 1
    GRPC_WEB = 2
    CONNECT = 3
    WEBSOCKET = 4


RPC_KINDS: Final = frozenset((CallKind.GRPC, CallKind.GRPC_WEB, CallKind.CONNECT))


class AuthenticationKind(IntFlag):
    """Credentials a request carried; a bit is 1 << number of the wire's enum."""

    NONE = 0
    BASIC = 1 << 1
    BEARER_OPAQUE = 1 << 2
    BEARER_JWT = 1 << 3
    JWT_CUSTOM_HEADER = 1 << 4
    API_KEY_HEADER = 1 << 5
    API_KEY_QUERY = 1 << 6
    API_KEY_COOKIE = 1 << 7
    COOKIE_SESSION = 1 << 8
    AWS_SIGV4 = 1 << 9
    AWS_SIGV4_QUERY = 1 << 10
    DIGEST = 1 << 11
    HMAC_SIGNATURE = 1 << 12
    HTTP_MESSAGE_SIGNATURE = 1 << 13
    OAUTH1 = 1 << 14
    NEGOTIATE = 1 << 15
    MTLS_FORWARDED = 1 << 16
    OTHER = 1 << 17
    # Alone: nobody could see whether there were any, as parts of the head were not known.
    UNKNOWN = 1 << 18
    # From here on what is weak about a credential that another bit names.
    JWT_UNSIGNED = 1 << 19
    JWT_KNOWN_KEY = 1 << 20
    JWT_NO_EXPIRY = 1 << 21
    JWT_LONG_LIVED = 1 << 22
    # A value that looks random, under a name that does not say what it is. It counts as no credential.
    POSSIBLE_CREDENTIAL = 1 << 23


class BodyFlag(IntFlag):
    """What is known of a call by its bodies."""

    NONE = 0
    REQUEST_READ = 1  # The request's body was classified.
    RESPONSE_READ = 2
    MEASURED = 4  # The records returned were counted.
    ESTIMATED = 8  # They were estimated, from the response's size or from the part of it that was read.
    HEAD_READ = 16  # Path, query and headers were classified.
    NOTED = 32  # A GraphQL request was measured, or a field found that others do not send.


class BodyFacts(msgspec.Struct, frozen=True, gc=False):
    """What may be reported of a call's bodies: no value, no name of a field."""

    records: int  # Returned; 0 where `flags` say that nothing is known.
    data: tuple[int, ...]  # What was found where: codes of sensor.sensitive.kinds, ascending.
    flags: BodyFlag


class RawBodies(msgspec.Struct, frozen=True, gc=False):
    """Bytes behind the heads of a call, as on the wire, up to the first hole. Private to the node; ends in
    `sensor.describe.bodies`."""

    request: bytes
    response: bytes
    response_head: bytes = b""  # Where no event brought it: of a call that a record reports.
    # Where chunk framing was undone before: whether all of the request and of the response is here.
    whole: tuple[bool, bool] | None = None
    response_last: bytes = b""  # Of a longer response its last bytes, where these came.

    def __repr__(self) -> str:
        return f"RawBodies({len(self.request)} and {len(self.response)} bytes, redacted)"


class Ends(msgspec.Struct, frozen=True, gc=False):
    """Both ends of a connection, and how its calls were seen. Private to the node."""

    connection: int  # Socket cookie.
    role: Role
    cgroup_id: int  # Of the socket seen.
    peer_cgroup_id: int  # Of the client, where it is on this node; else 0.
    local_address: str  # Textual IPv4 or IPv6 (mapped IPv4 as IPv4).
    local_port: int
    remote_address: str
    remote_port: int
    # Thread group whose system calls or TLS were read; 0: not known, as of packets.
    process: int = 0
    is_encrypted: bool = False  # What TLS carried, read in the process.


class Handshake(msgspec.Struct, frozen=True, gc=False):
    """A TLS connection that a workload of this node opened. Private to the node."""

    time_unix_ns: int
    cgroup_id: int
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    server_name: str  # As the client asked for it; empty where it did not, or it is encrypted.

    def __repr__(self) -> str:
        return "Handshake(redacted)"


class CallFigures(msgspec.Struct, frozen=True, gc=False):
    """When a call was, how large, how it ended, and how much of it was seen."""

    time_unix_ns: int  # First byte of the request.
    status_code: int  # 0 when aborted before a response, or where that is lost (then `is_lossy`); STATUS_NOT_READ.
    request_bytes: int  # Heads and bodies as on the wire, all segments of this call.
    response_bytes: int
    time_to_first_byte_ns: int  # From the first request byte; 0 when aborted before a response.
    duration_ns: int  # To the last response byte; 0 while not is_final.
    calls: int  # 1; 0 in the closing part of a call already reported (responses longer than 1 s).
    is_final: bool  # Durations and sizes are complete.
    is_aborted: bool  # Ended before its response was complete.
    is_lossy: bool  # Bytes were lost, the position in the stream was guessed, or nobody saw how it ended.
    is_ambiguous: bool = False  # Programs may disagree where the request ends: a sign of smuggling.


class KernelHashes(msgspec.Struct, frozen=True, gc=False):
    """What the kernel computed of a request head, under which it can match the like of it (sensor.offload)."""

    profile: int
    host: int
    credential: int  # Of a value that says who calls; 0: none.


NO_HASHES: Final = KernelHashes(0, 0, 0)


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One request and its response as capture matched them, heads still in bytes. Private to the node."""

    ends: Ends
    figures: CallFigures
    call: int  # 0, 1, 2 .. within the connection.
    request_head: bytes = b""  # Up to 64 KiB, request line included (sensor.http.http1.head, `shorten_head`).
    is_request_head_truncated: bool = False  # A part of it is missing.
    response_head: bytes = b""  # Up to 1 KiB; empty when aborted before a response.
    hashes: KernelHashes = NO_HASHES
    bodies: RawBodies | None = None  # Of a sampled call that is final.
    # Of a WebSocket that ended; None where they could not be counted.
    request_messages: int | None = None
    response_messages: int | None = None

    def __repr__(self) -> str:
        names = f"connection={self.ends.connection}, call={self.call}, status_code={self.figures.status_code}"
        return f"Exchange({names}, heads redacted)"


class Service(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """(cluster, namespace, workload, port), or on a plain host (host, unit or container or executable, port)."""

    cluster: str
    namespace: str
    workload: str
    workload_kind: WorkloadKind
    host_name: str  # Plain hosts only.
    port: int


class Segment(msgspec.Struct, frozen=True):
    """One path segment as it may leave the node."""

    kind: SegmentKind
    text: str = ""  # LITERAL, and WORD once revealed.
    hash: int = 0  # WORD: SipHash-2-4 of the text under the installation key.
    length: int = 0  # WORD: bytes.


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """(service, host, method, shape of the path); interned by `sensor.routes.templating`, so equal routes are one
    object."""

    route_id: int  # 64 bits, immutable, equal on every node of an installation.
    service: Service
    host: str
    method: str
    segments: tuple[Segment, ...]
    has_trailing_slash: bool


class NamedEnds(msgspec.Struct, frozen=True, gc=False):
    """Who called, and what kind of end answered."""

    role: Role
    hop: Hop
    client_address: str  # Textual IP, through trusted hops only.
    client_workload: str  # Of a client on this node; else empty.
    client_software: str  # A keyed hash of the head's shape, after a well-known product (sensor.describe.describer).
    protocol_version: str  # `1.0`, `1.1` or `2`.
    is_encrypted: bool  # As of Ends.


class Credentials(msgspec.Struct, frozen=True, gc=False):
    """What may be reported of a request's credentials: kinds and keyed hashes."""

    authentication: AuthenticationKind
    principal: int  # Keyed hash; 0 = none.
    principal_kind: PrincipalKind
    credential: int  # Keyed hash of the whole credential; 0 = none or truncated.
    is_truncated: bool
    carriers: str = ""  # Where they were, as sensor.describe.auth.carriers names it.


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who made a call, as numbers that distinguish callers in this process and leave it never; 0: not known."""

    consumer: int  # By the order of the policy.
    network: int  # The workload, else the network of the address.
    principal: int  # Whom the credential belongs to; the network where there is none.


NOBODY: Final = Origin(0, 0, 0)


class CallTarget(msgspec.Struct, frozen=True, gc=False):
    """The route of a call, and which object of it."""

    route: Route
    # Keyed hashes of the path's parameter values, folded in order as the kernel does it; 0 = the path has none.
    object_hash: int
    # The last parameter's value where it is a number of at most 18 digits: for counting runs of ids on this node.
    object_number: int | None

    def __repr__(self) -> str:
        return f"CallTarget(route={self.route!r}, object_hash={self.object_hash}, number redacted)"


class CallProtocol(msgspec.Struct, frozen=True, gc=False):
    """What a call is besides HTTP, and what of it could not be read."""

    kind: CallKind = CallKind.HTTP
    rpc_status: int | None = None  # google.rpc.Code; None: of no RPC, not sent yet, or not known.
    # Of RPCs and WebSockets, whole in the last part; None where they could not be counted.
    request_messages: int | None = None
    response_messages: int | None = None
    is_stream: bool = False  # How long it took says how long somebody listened: its duration is no latency.
    has_unknown_fields: bool = False  # Of a head of HTTP/2: what they say (a credential, too) could not be seen.
    is_inferred: bool = False  # Path, method or status follow from other evidence than their own bytes.


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What a call carried: no payload values, no header values."""

    request_content_type: str  # Media type, lower case, no parameters.
    response_content_type: str
    body: BodyFacts | None = None
    # Keyed hash of an attack's payload, its low 8 bits what it is (sensor.describe.attacks.classes); 0: none was seen.
    payload: int = 0


class CallRecord(msgspec.Struct, frozen=True, gc=False):
    """One call as everything downstream takes it. Each part is what one stage of `sensor.describe` gives."""

    figures: CallFigures
    ends: NamedEnds
    credentials: Credentials
    target: CallTarget
    protocol: CallProtocol
    contents: Contents


# `object` where the path has no parameter, and `number` where the object is no integer.
NO_OBJECT: Final = 0
NO_NUMBER: Final = -1
# A status code stays below: three digits.
STATUS_CODE_LIMIT: Final = 1_000
# `rpc_status` stays below: google.rpc.Code and one more, 0 where there is none.
RPC_STATUS_LIMIT: Final = 18


class CallFlag(IntFlag):
    """Bits of `flags`."""

    NONE = 0
    LOSSY = 1  # Bytes were lost or the position in the stream was guessed.
    ABORTED = 2  # Ended before its response was complete.
    FINAL = 4  # Sizes and duration are complete.
    AMBIGUOUS = 8  # Programs may disagree where the request ends.
    UNKNOWN_FIELDS = 16  # Parts of a head could not be read, a credential perhaps among them.
    INFERRED = 32  # Path, method or status follow from other evidence than their own bytes.
    STREAM = 64  # Its duration is no latency.
    COUNTED = 128  # The messages are known.
    ESTIMATED = 256  # Nobody saw it: it follows from what else was seen.
    ENCRYPTED = 512  # What TLS carried.


CALL: Final = np.dtype(
    [
        ("time_unix_ns", "<i8"),  # First byte of the request.
        ("request_bytes", "<u8"),  # Heads and bodies as on the wire.
        ("response_bytes", "<u8"),
        ("duration_us", "<u8"),  # First request byte to last response byte; 0 while not FINAL.
        ("object", "<u8"),  # Keyed hash of the path's parameter values.
        ("number", "<i8"),  # The last parameter where it is an integer below 2**63.
        ("route", "<u4"),
        ("actor", "<u4"),
        ("ttfb_us", "<u4"),  # First request byte to first response byte.
        ("status", "<u2"),  # 0 where no response head came; STATUS_NOT_READ.
        ("response_type", "<u2"),
        ("role", "u1"),  # sensor.core.calls.Role.
        ("hop", "u1"),  # sensor.core.calls.Hop.
        ("flags", "<u2"),
        ("rpc_status", "u1"),  # google.rpc.Code and one more; 0 where there is none.
        ("body", "u1"),  # sensor.core.calls.BodyFlag.
        ("calls", "<u4"),
        ("request_messages", "<u4"),  # Of RPCs and WebSockets; 0 unless COUNTED.
        ("response_messages", "<u4"),
        ("records", "<u4"),  # Returned, as far as `body` says that they are known.
        ("data", "<u4"),  # What was found where: a number of `sensor.aggregate.dictionary.Facts.data`.
        ("payload", "<u8"),  # Keyed hash of an attack's payload, with what it is; 0: none was seen.
    ],
    align=True,
)

Calls = NDArray[np.void]


def make_calls(count: int) -> Calls:
    """`count` calls whose every column is 0."""
    return np.zeros(count, CALL)


def make_flags(record: CallRecord) -> int:
    """CallFlags of a call."""
    figures, protocol = record.figures, record.protocol
    is_counted = figures.is_final and protocol.request_messages is not None and protocol.response_messages is not None
    return (
        figures.is_lossy * CallFlag.LOSSY.value
        | figures.is_aborted * CallFlag.ABORTED.value
        | figures.is_final * CallFlag.FINAL.value
        | figures.is_ambiguous * CallFlag.AMBIGUOUS.value
        | protocol.has_unknown_fields * CallFlag.UNKNOWN_FIELDS.value
        | protocol.is_inferred * CallFlag.INFERRED.value
        | protocol.is_stream * CallFlag.STREAM.value
        | record.ends.is_encrypted * CallFlag.ENCRYPTED.value
        | is_counted * CallFlag.COUNTED.value
    )

"""The kinds that people filter by and the SQL that finds them: consumers, protocols, attacks, outcomes of calls, and
sensitivity.

Protocols: a call has one, so an RPC over HTTP/2 is `grpc` and not `http/2` too. An endpoint has those of all its calls.
Server-sent events show by the media type of the answer, the others by the wire's CallKind or the version.

Attacks: the lowest 4 bits of a payload's hash are its class, the next 4 the evidence. The numbers are those of the wire
(proto/apidae/v1/data.proto, AttackClass and AttackEvidence). Unknown numbers of a newer sensor are `other`.

Outcomes: gRPC answers 200 whatever happens, and `grpc-status` has the result. So the outcome of an RPC is the HTTP
status that google.rpc.Code maps its code to: NOT_FOUND counts as 4xx, INTERNAL as 5xx. The codes mapped to 5xx are
those that OpenTelemetry's conventions for gRPC call errors of the server. Calls that were not read have no status and
are in no error rate.

Sensitivity: quiet, normal or paranoid, each with a budget for all detectors together. A report has the quietest level
at which it is sent (`Report.quietest`). Detectors mark all three levels, so a change of the level needs no new
learning.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from common.rpc_status import RPC_STATUSES

EVENT_STREAM = "text/event-stream"
HOP_PROXY = 2  # proto Hop.
KIND_GRPC, KIND_GRPC_WEB, KIND_CONNECT, KIND_WEBSOCKET = 1, 2, 3, 4  # proto CallKind.


class ConsumerKind(StrEnum):
    """Which actor column names the consumer."""

    PRINCIPAL = "principal"
    CREDENTIAL = "credential"
    ADDRESS = "address"
    WORKLOAD = "workload"
    OTHER = "other"  # Past an endpoint's cap: many consumers added together.


class Protocol(StrEnum):
    """In the order of their bits, which the store keeps: new ones go last."""

    HTTP_1_0 = "http/1.0"
    HTTP_1_1 = "http/1.1"
    HTTP_2 = "http/2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    CONNECT = "connect"
    WEBSOCKET = "websocket"
    SERVER_SENT_EVENTS = "server-sent events"
    # Of operations that share one path (collector/inventory/endpoints/operations.py): no row of calls has them.
    GRAPHQL = "graphql"
    JSON_RPC = "json-rpc"
    MCP = "mcp"
    SOAP = "soap"
    ACTION = "action"


BITS: dict[Protocol, int] = {protocol: 1 << place for place, protocol in enumerate(Protocol)}
RPC_PROTOCOLS = frozenset((Protocol.GRPC, Protocol.GRPC_WEB, Protocol.CONNECT))
RPC_BITS = sum(BITS[protocol] for protocol in RPC_PROTOCOLS)
# By the wire's name of an operation's protocol.
OPERATION_PROTOCOLS = {
    "graphql": Protocol.GRAPHQL,
    "json_rpc": Protocol.JSON_RPC,
    "mcp": Protocol.MCP,
    "soap": Protocol.SOAP,
    "action": Protocol.ACTION,
}
_OF_KINDS = {
    KIND_GRPC: Protocol.GRPC,
    KIND_GRPC_WEB: Protocol.GRPC_WEB,
    KIND_CONNECT: Protocol.CONNECT,
    KIND_WEBSOCKET: Protocol.WEBSOCKET,
}
_OF_VERSIONS = {"1.0": Protocol.HTTP_1_0, "1.1": Protocol.HTTP_1_1, "2": Protocol.HTTP_2}


def find_bit(row: str) -> str:
    """The SQL of the bit of a row of calls, by its alias; 0 where nothing is known of its version."""
    kinds = [(f"{row}.kind = {kind}", protocol) for kind, protocol in _OF_KINDS.items()]
    events = [(f"{row}.response_content_type = '{EVENT_STREAM}'", Protocol.SERVER_SENT_EVENTS)]
    versions = [(f"{row}.protocol_version = '{version}'", protocol) for version, protocol in _OF_VERSIONS.items()]
    cases = ", ".join(f"{condition}, {BITS[protocol]}" for condition, protocol in (*kinds, *events, *versions))
    return f"toUInt32(multiIf({cases}, 0))"


def name_protocols(bits: int) -> tuple[Protocol, ...]:
    """Protocols of some bits, in their order."""
    return tuple(protocol for protocol, bit in BITS.items() if bits & bit)


CLASSES: Final = (
    *("", "sqli", "xss", "traversal", "rce", "ssrf", "ssti", "xxe", "nosql", "ldap", "log4shell", "splitting"),
    *("probing", "protocol", "fixation"),
)
_EVIDENCE: Final = (
    "",
    "it was answered with status 500",
    "the payload came back unescaped in a page",
    "the response holds what such a payload is after",
    "the response took as long as the payload asked for",
    "the response is far larger than this endpoint's are",
    "the service then called the host inside that the request named",
    "the service then called the address that gives credentials to cloud instances",
)
INSIDE_CONTACTED: Final = 6
METADATA_CONTACTED: Final = 7
_OTHER: Final = "other"
LOW_BITS: Final = 8  # Of a payload, that are no hash.


def name_class(payload: int) -> str:
    """The class of a payload."""
    number = payload & 0xF
    return CLASSES[number] if 0 < number < len(CLASSES) else _OTHER


def read_evidence(payload: int) -> int:
    """The number of what confirms a payload; 0: nothing."""
    return payload >> 4 & 0xF


def explain_evidence(number: int) -> str:
    """What confirms a payload, as a clause; empty for 0."""
    return _EVIDENCE[number] if number < len(_EVIDENCE) else "its sensor says so"


def count_classes(payloads: Iterable[int]) -> str:
    """`3 sqli, 2 xss`: different payloads by class, most first."""
    distinct = {payload >> LOW_BITS: name_class(payload) for payload in payloads}
    return ", ".join(f"{count} {name}" for name, count in Counter(distinct.values()).most_common())


# Status codes of the wire that are none of HTTP's.
ABORTED = 0  # No response head came.
NOT_READ = 1  # Nobody saw whether one came.
SWITCHING_PROTOCOLS = 101
_STATUS_NAMES = {ABORTED: "aborted", NOT_READ: "not read"}
UNKNOWN_CODE_HTTP = 500  # Of codes that are none of these, as of UNKNOWN.
# proto AuthenticationKind UNKNOWN: nobody could see whether the calls of the row carried credentials.
AUTHENTICATION_UNKNOWN = 1 << 18
# The same POSSIBLE_CREDENTIAL: a value that looks random under a name that does not say what it is.
POSSIBLE_CREDENTIAL = 1 << 23
_API_KEY_HEADER, _API_KEY_QUERY, _COOKIE_SESSION = 1 << 5, 1 << 6, 1 << 8


def name_status(rpc_status: int) -> str:
    """Name of a code as rows have it: google.rpc.Code and one more."""
    code = rpc_status - 1
    return RPC_STATUSES[code].name if code < len(RPC_STATUSES) else f"CODE_{code}"


def name_status_code(status_code: int) -> str:
    """`404`, `aborted`, `not read`."""
    return _STATUS_NAMES.get(status_code, str(status_code))


def find_outcome(row: str) -> str:
    """The SQL of the status that says how the calls of a row ended; ABORTED, NOT_READ. `row` is the rows' alias.

    A connection that became a WebSocket (101) was served, so it counts with 200.
    """
    codes = ", ".join(str(number + 1) for number in range(len(RPC_STATUSES)))
    mapped = ", ".join(str(status.http) for status in RPC_STATUSES)
    found = f"transform({row}.rpc_status, [{codes}], [{mapped}], {UNKNOWN_CODE_HTTP})"
    return f"multiIf({row}.rpc_status != 0, {found}, {row}.status_code = {SWITCHING_PROTOCOLS}, 200, {row}.status_code)"


def compute_outcome(status_code: int, rpc_status: int) -> int:
    """The same of one row, of which 0 is the status of no RPC."""
    if rpc_status:
        return RPC_STATUSES[rpc_status - 1].http if rpc_status <= len(RPC_STATUSES) else UNKNOWN_CODE_HTTP
    return 200 if status_code == SWITCHING_PROTOCOLS else status_code


def is_success(row: str, outcome: str = "") -> str:
    """The condition that the calls of a row were served; `outcome` where a column has it (`find_outcome`)."""
    return f"{outcome or find_outcome(row)} BETWEEN 200 AND 299"


def is_client_error(row: str, outcome: str = "") -> str:
    """The condition that the calls of a row failed for what the client did."""
    return f"{outcome or find_outcome(row)} BETWEEN 400 AND 499"


def is_error(row: str, outcome: str = "") -> str:
    """The condition that the calls of a row failed for what the server did, or had no answer."""
    outcome = outcome or find_outcome(row)
    return f"({outcome} >= 500 OR {outcome} = {ABORTED})"


def is_not_read(row: str) -> str:
    """The condition that nobody saw how the calls of a row ended."""
    return f"{find_outcome(row)} = {NOT_READ}"


def is_judged(row: str, outcome: str = "") -> str:
    """The condition that the calls of a row were served and their credentials, if any, could be seen."""
    return f"({is_success(row, outcome)} AND bitAnd({row}.authentication, {AUTHENTICATION_UNKNOWN}) = 0)"


def has_credentials(bits: str) -> str:
    """The condition that bits of AuthenticationKind name a credential, not only a possible one."""
    return f"bitAnd({bits}, {~POSSIBLE_CREDENTIAL & 0xFFFFFFFF}) != 0"


def find_authentication(row: str) -> str:
    """The SQL of the bits of a row. A possible credential that is proven (collector/inventory/credentials.py) has the
    kind of its place."""
    is_proven = (
        f"({row}.authentication = {POSSIBLE_CREDENTIAL} AND "
        f"({row}.route_id, {row}.carriers) IN (SELECT route_id, carriers FROM proven_carriers))"
    )
    kind = (
        f"multiIf(startsWith({row}.carriers, 'cookie '), {_COOKIE_SESSION}, "
        f"startsWith({row}.carriers, 'query '), {_API_KEY_QUERY}, {_API_KEY_HEADER})"
    )
    return f"toUInt32(if({is_proven}, {kind}, {row}.authentication))"


def is_authenticated(row: str) -> str:
    """The condition that the calls of a row were served and carried credentials."""
    return f"({is_judged(row)} AND {has_credentials(find_authentication(row))})"


class Sensitivity(StrEnum):
    """Quietest first."""

    QUIET = "quiet"
    NORMAL = "normal"
    PARANOID = "paranoid"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelPlan:
    """What a level sends."""

    alerts_a_day: float  # Below high severity, of all detectors together: at most so many are opened.
    episodes_a_day: float  # Of one volume detector that may pass the installation's bar.


PLANS: Final = {
    Sensitivity.QUIET: LevelPlan(alerts_a_day=0.3, episodes_a_day=0.015),
    Sensitivity.NORMAL: LevelPlan(alerts_a_day=2.0, episodes_a_day=0.1),
    Sensitivity.PARANOID: LevelPlan(alerts_a_day=30.0, episodes_a_day=1.5),
}
LEVELS: Final = tuple(Sensitivity)
RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)}


def is_sent_at(quietest: Sensitivity, level: Sensitivity) -> bool:
    """Whether something that is sent from `quietest` on is sent at `level`."""
    return RANKS[quietest] <= RANKS[level]


def louder(left: Sensitivity, right: Sensitivity) -> Sensitivity:
    """The louder of two levels."""
    return max(left, right, key=RANKS.__getitem__)

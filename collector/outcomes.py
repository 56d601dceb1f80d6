"""How calls ended: the HTTP status, or for an RPC the status that its own code is mapped to; and who saw credentials.

Of calls that were not read nobody saw how they ended: they have no status, failed for nobody, and are in no error rate.

gRPC answers 200 whatever happens and says what did in `grpc-status`. Its codes are google.rpc.Code; `http` is the
mapping of that file, so NOT_FOUND counts among 4xx and INTERNAL among 5xx. The codes mapped to 5xx are those that
OpenTelemetry's conventions for gRPC call errors of the server.
"""

from typing import NamedTuple


class RpcStatus(NamedTuple):
    """One code."""

    name: str
    http: int


# By number.
RPC_STATUSES = (
    RpcStatus("OK", 200),
    RpcStatus("CANCELLED", 499),
    RpcStatus("UNKNOWN", 500),
    RpcStatus("INVALID_ARGUMENT", 400),
    RpcStatus("DEADLINE_EXCEEDED", 504),
    RpcStatus("NOT_FOUND", 404),
    RpcStatus("ALREADY_EXISTS", 409),
    RpcStatus("PERMISSION_DENIED", 403),
    RpcStatus("RESOURCE_EXHAUSTED", 429),
    RpcStatus("FAILED_PRECONDITION", 400),
    RpcStatus("ABORTED", 409),
    RpcStatus("OUT_OF_RANGE", 400),
    RpcStatus("UNIMPLEMENTED", 501),
    RpcStatus("INTERNAL", 500),
    RpcStatus("UNAVAILABLE", 503),
    RpcStatus("DATA_LOSS", 500),
    RpcStatus("UNAUTHENTICATED", 401),
)
# Status codes of the wire that are none of HTTP's.
ABORTED = 0  # No response head came.
NOT_READ = 1  # Nobody saw whether one came.
_STATUS_NAMES = {ABORTED: "aborted", NOT_READ: "not read"}
UNKNOWN_CODE_HTTP = 500  # Of codes that are none of these, as of UNKNOWN.
# proto AuthenticationKind UNKNOWN: nobody could see whether the calls of the row carried credentials.
AUTHENTICATION_UNKNOWN = 1 << 18


def name_status(rpc_status: int) -> str:
    """Name of a code as rows have it: google.rpc.Code and one more."""
    code = rpc_status - 1
    return RPC_STATUSES[code].name if code < len(RPC_STATUSES) else f"CODE_{code}"


def name_status_code(status_code: int) -> str:
    """`404`, `aborted`, `not read`."""
    return _STATUS_NAMES.get(status_code, str(status_code))


def find_outcome(row: str) -> str:
    """The SQL of the status that says how the calls of a row ended; ABORTED, NOT_READ. `row` is the rows' alias."""
    codes = ", ".join(str(number + 1) for number in range(len(RPC_STATUSES)))
    mapped = ", ".join(str(status.http) for status in RPC_STATUSES)
    found = f"transform({row}.rpc_status, [{codes}], [{mapped}], {UNKNOWN_CODE_HTTP})"
    return f"if({row}.rpc_status = 0, {row}.status_code, {found})"


def is_success(row: str) -> str:
    """The condition that the calls of a row were served."""
    return f"{find_outcome(row)} BETWEEN 200 AND 299"


def is_client_error(row: str) -> str:
    """The condition that the calls of a row failed for what the client did."""
    return f"{find_outcome(row)} BETWEEN 400 AND 499"


def is_error(row: str) -> str:
    """The condition that the calls of a row failed for what the server did, or had no answer."""
    return f"({find_outcome(row)} >= 500 OR {find_outcome(row)} = {ABORTED})"


def is_not_read(row: str) -> str:
    """The condition that nobody saw how the calls of a row ended."""
    return f"{find_outcome(row)} = {NOT_READ}"


def is_judged(row: str) -> str:
    """The condition that the calls of a row were served and their credentials, if any, could be seen."""
    return f"({is_success(row)} AND bitAnd({row}.authentication, {AUTHENTICATION_UNKNOWN}) = 0)"


def is_authenticated(row: str) -> str:
    """The condition that the calls of a row were served and carried credentials."""
    return f"({is_judged(row)} AND {row}.authentication != 0)"

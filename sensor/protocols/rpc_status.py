"""Status codes of RPCs: google.rpc.Code, which gRPC sends as a number and Connect by name, in the order of its numbers.

`http` is the HTTP status that the same file (google/rpc/code.proto, and Connect's reference alike) maps the code to: so
an RPC that failed under HTTP 200 counts in the class of what happened. The codes mapped to 5xx are those that
OpenTelemetry's conventions for gRPC call errors of the server, CANCELLED (499) aside, which is nobody's error there.
"""

from typing import Final, NamedTuple


class RpcStatus(NamedTuple):
    """One code."""

    name: str
    http: int


RPC_STATUSES: Final = (
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


def find_outcome(status_code: int, rpc_status: int | None) -> int:
    """The HTTP status that says how a call ended: that of its RPC status, where it has one."""
    return status_code if rpc_status is None else RPC_STATUSES[rpc_status].http

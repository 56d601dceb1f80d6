"""Status codes of RPCs, by number, and the HTTP status that google.rpc.Code maps each to."""

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

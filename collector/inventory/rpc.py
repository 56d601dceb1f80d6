"""What an endpoint is besides HTTP: reads a row of `collector.inventory.measures`; gives its RPC, messages, streams."""

from collections.abc import Mapping
from typing import Any, Final

from collector.inventory.counted import FLAG_CLIENT_STREAMING, FLAG_SERVER_STREAMING
from collector.inventory.endpoint import Messages, Rpc, Streaming, Streams
from collector.outcomes import name_status
from collector.protocols import RPC_PROTOCOLS, Protocol

_MICROSECONDS: Final = 1_000_000
_STREAMING: Final = {
    (False, False): Streaming.UNARY,
    (True, False): Streaming.CLIENT,
    (False, True): Streaming.SERVER,
    (True, True): Streaming.BIDIRECTIONAL,
}


def read_rpc(row: Mapping[str, Any], protocols: tuple[Protocol, ...]) -> Rpc | None:
    """The method that an endpoint is, by its protocols and the last two segments of its template."""
    spoken = RPC_PROTOCOLS.intersection(protocols)
    if not spoken:
        return None
    segments = str(row["url_template"]).split("/")
    service, method = segments[-2:] if len(segments) > 2 else ("", "")
    codes, calls = row["rpc_statuses"]
    flags = int(row["flags"])
    streaming = _STREAMING[bool(flags & FLAG_CLIENT_STREAMING), bool(flags & FLAG_SERVER_STREAMING)]
    return Rpc(
        system_name="connectrpc" if spoken == {Protocol.CONNECT} else "grpc",
        service=service,
        method=f"{service}/{method}" if service else "",
        streaming=streaming if row["counted_messages_calls"] else Streaming.UNKNOWN,
        status_codes={name_status(int(code)): int(total) for code, total in zip(codes, calls, strict=True)},
    )


def read_messages(row: Mapping[str, Any]) -> Messages | None:
    """Of the calls whose messages are known, if there are any."""
    counted = int(row["counted_messages_calls"])
    if not counted:
        return None
    return Messages(calls=counted, request=int(row["request_messages"]), response=int(row["response_messages"]))


def read_streams(row: Mapping[str, Any]) -> Streams | None:
    """Of the streams that ended, if there are any."""
    ended = int(row["streams"])
    if not ended:
        return None
    return Streams(calls=ended, open_seconds=int(row["stream_duration_sum_us"]) / ended / _MICROSECONDS)

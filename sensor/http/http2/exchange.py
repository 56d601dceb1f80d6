"""A call of HTTP/2 as `sensor.describe` takes it: the exchange with its ends and figures, and the stream with its
heads.
"""

from collections.abc import Callable

import msgspec

from sensor.core.calls import Exchange, Role
from sensor.http.http1.head import RequestHead
from sensor.http.http2.streams import StreamCall


class StreamExchange(msgspec.Struct, frozen=True, gc=False):
    """One call of a stream. The heads of `exchange` are empty: `call` has them in parts. Private to the node."""

    exchange: Exchange
    call: StreamCall


class Ends(msgspec.Struct, frozen=True, gc=False):
    """Who is at both ends of a connection, as the exchanges of its calls say it."""

    connection: int
    role: Role
    cgroup_id: int
    peer_cgroup_id: int
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    process: int = 0  # As of Exchange.


class OpenCall(msgspec.Struct, frozen=True, gc=False):
    """A call that has not ended. Private to the node: holds a head."""

    ends: Ends
    head: RequestHead

    def __repr__(self) -> str:
        return f"OpenCall({self.ends!r}, head redacted)"


def build_stream_exchange(ends: Ends, call: StreamCall, to_unix_ns: Callable[[int], int]) -> StreamExchange:
    """The exchange of one call; `to_unix_ns` turns the call's times into unix time."""
    started_ns, answered_ns, ended_ns = call.started_ns, call.answered_ns, call.ended_ns
    # By position: 0.2 us instead of 3. The order is that of sensor.core.calls, held by tests/sensor/capture/http2.
    exchange = Exchange(
        to_unix_ns(started_ns),
        ends.connection,
        call.stream,
        ends.role,
        ends.cgroup_id,
        ends.peer_cgroup_id,
        ends.local_address,
        ends.local_port,
        ends.remote_address,
        ends.remote_port,
        b"",
        False,
        b"",
        call.status_code,
        call.request_bytes,
        call.response_bytes,
        max(answered_ns - started_ns, 0) if answered_ns else 0,
        max(ended_ns - started_ns, 0),
        call.calls,
        call.is_final,
        call.is_aborted,
        call.is_lossy,
        process=ends.process,
    )
    return StreamExchange(exchange, call)

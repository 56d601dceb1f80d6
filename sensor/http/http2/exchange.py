"""A call of HTTP/2 as `sensor.describe` takes it: the exchange with its ends and figures, and the stream with its
heads.
"""

from collections.abc import Callable

import msgspec

from sensor.core.calls import CallFigures, Ends, Exchange
from sensor.http.http1.head import RequestHead
from sensor.http.http2.streams import StreamCall


class StreamExchange(msgspec.Struct, frozen=True, gc=False):
    """One call of a stream. The heads of `exchange` are empty: `call` has them in parts. Private to the node."""

    exchange: Exchange
    call: StreamCall


class OpenCall(msgspec.Struct, frozen=True, gc=False):
    """A call that has not ended. Private to the node: holds a head."""

    ends: Ends
    head: RequestHead

    def __repr__(self) -> str:
        return f"OpenCall({self.ends!r}, head redacted)"


def build_stream_exchange(ends: Ends, call: StreamCall, to_unix_ns: Callable[[int], int]) -> StreamExchange:
    """The exchange of one call; `to_unix_ns` turns the call's times into unix time."""
    started_ns, answered_ns, ended_ns = call.started_ns, call.answered_ns, call.ended_ns
    figures = CallFigures(
        to_unix_ns(started_ns),
        call.status_code,
        call.request_bytes,
        call.response_bytes,
        max(answered_ns - started_ns, 0) if answered_ns else 0,
        max(ended_ns - started_ns, 0),
        call.calls,
        call.is_final,
        call.is_aborted,
        call.is_lossy,
    )
    return StreamExchange(Exchange(ends, figures, call.stream), call)

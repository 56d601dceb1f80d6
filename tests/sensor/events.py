"""Records of the ring, read as capture by system calls reads them."""

from collections.abc import Iterable

from sensor.capture.syscalls.streams import Conversations, unpack_event
from sensor.core.calls import Exchange
from sensor.http.http2.exchange import StreamExchange


def take_records(conversations: Conversations, records: Iterable[memoryview]) -> list[Exchange | StreamExchange]:
    """The exchanges that they completed, in order."""
    out: list[Exchange | StreamExchange] = []
    for record in records:
        conversations.take_event(*unpack_event(record), out)
    return out

"""The payload of a message: its head and the raw bytes behind it in, the bytes without chunk framing out.

By the reader of HTTP/1 streams, so that whatever it knows of framing holds here. What follows the message is left.
"""

import msgspec

from sensor.protocols.http1_events import Data, End, Event, Head
from sensor.protocols.http1_framing import Body, Expect
from sensor.protocols.http1_stream import MessageReader


class Payload(msgspec.Struct, frozen=True, gc=False):
    """The beginning of a body, and what its head says of it. Private to the node."""

    data: bytes
    is_complete: bool
    content_type: bytes
    content_encoding: bytes

    def __repr__(self) -> str:
        return f"Payload({len(self.data)} bytes, is_complete={self.is_complete})"


def read_payload(
    head: bytes, raw: bytes, *, is_request: bool, is_whole: bool, is_unframed: bool = False
) -> Payload | None:
    """None where the head is none, or says that no body follows.

    `is_whole`: `raw` is all that came, so that a body without framing ends with it. `is_unframed`: chunks were undone
    before. Raises nothing.
    """
    events: list[Event] = []
    reader = MessageReader(is_request=is_request, has_data=True, expect=lambda start: Expect.NORMAL)
    reader.feed(head, events)
    found = next((event for event in events if isinstance(event, Head)), None)
    if found is None or found.framing.body in (Body.NONE, Body.UNKNOWN):
        return None
    content = found.get(b"content-type") or b"", found.get(b"content-encoding") or b""
    if is_unframed:
        return Payload(raw, is_whole, *content)
    events.clear()
    reader.feed(raw, events)
    reader.finish(events, is_closed=is_whole)
    parts: list[bytes] = []
    is_complete = False
    for event in events:
        if isinstance(event, Data):
            parts.append(event.data)
        elif isinstance(event, End):
            is_complete = event.is_complete
            break
    return Payload(b"".join(parts), is_complete, *content)

"""All header fields of calls of HTTP/2 and the sizes of their bodies, for `--raw`: what the sensor itself drops."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from sensor.protocols.hpack.field import Field, HeaderBlock
from sensor.protocols.http2_calls import REQUEST, RESPONSE
from sensor.protocols.http2_heads import read_response

# As many as one connection may have open (docs/http2.md); past it the oldest go.
STREAMS_MAX: Final = 4_096


class StreamFields:
    """Of one call: the fields of both heads in their order, and the bytes of both bodies."""

    __slots__ = ("body_bytes", "heads")

    def __init__(self) -> None:
        self.heads: list[list[Field]] = [[], []]
        self.body_bytes = [0, 0]

    def __repr__(self) -> str:
        return f"StreamFields({len(self.heads[0])} and {len(self.heads[1])} fields, redacted)"


class FieldKeeper:
    """Those of one connection's open calls; a `StreamObserver`. Mutable."""

    def __init__(self) -> None:
        self._streams: OrderedDict[int, StreamFields] = OrderedDict()

    def see_head(self, stream: int, side: int, block: HeaderBlock) -> None:
        """Keeps the first head of a side: of a response the final one, not what comes before or behind it."""
        kept = self._find(stream).heads
        if kept[side] or (side == RESPONSE and not _is_final(block)):
            return
        kept[side] = block.fields

    def see_data(self, stream: int, side: int, size: int) -> None:
        """Adds to the size of a body."""
        self._find(stream).body_bytes[side] += size

    def keep_upgraded(self, fields: Iterable[tuple[bytes, bytes]], body_bytes: int) -> None:
        """The request of HTTP/1 that became stream 1; names in lower case, as HTTP/2 has them."""
        first = self._find(1)
        first.heads[REQUEST] = [(name.lower(), value) for name, value in fields]
        first.body_bytes[REQUEST] = body_bytes

    def pop(self, stream: int) -> StreamFields | None:
        """Those of a call that is told."""
        return self._streams.pop(stream, None)

    def _find(self, stream: int) -> StreamFields:
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = StreamFields()
            if len(self._streams) > STREAMS_MAX:
                self._streams.popitem(last=False)
        return found


def _is_final(block: HeaderBlock) -> bool:
    response = read_response(block)
    status = response.status_code or response.inferred_status_code
    return status >= 200 or (response.has_status and not status)

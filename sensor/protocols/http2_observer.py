"""Who looks on while a connection of HTTP/2 is read, for what calls do not keep: all fields, sizes of bodies."""

from typing import Protocol

from sensor.protocols.hpack.field import HeaderBlock


class StreamObserver(Protocol):
    """`side` is `REQUEST` or `RESPONSE` of sensor.protocols.http2_calls."""

    def see_head(self, stream: int, side: int, block: HeaderBlock) -> None:
        """A head of a call that is open, interim ones and trailers too."""
        ...

    def see_data(self, stream: int, side: int, size: int) -> None:
        """So many bytes of a body, without frames and padding."""
        ...

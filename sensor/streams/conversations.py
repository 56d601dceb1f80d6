"""HTTP/2 of capture by system calls: bytes that processes read and wrote, in the order of each direction, to calls.

The kernel cuts no frames there; `sensor.protocols.http2` does. Bytes that nobody saw are gaps of known size: within
DATA they cost nothing, elsewhere the connection goes on as one that was joined late.
"""

from collections.abc import Callable
from typing import Final

from common.figures import Figure
from sensor.health import StageCounter
from sensor.protocols.http2_bodies import StreamSamples
from sensor.protocols.http2_connections import Http2Connections, NumberedCall
from sensor.protocols.http2_frames import PREFACE
from sensor.reassembly.connection import Direction
from sensor.reassembly.stream import Chunk, Gap
from sensor.streams.exchange import Ends, StreamExchange, build_stream_exchange

# What a connection of HTTP/2 begins with, as far as its first bytes are looked at.
BEGINNING: Final = PREFACE[:7]
# All connections are looked at so often for answers that last.
POLL_INTERVAL_NS: Final = 100_000_000


class StreamConversations:
    """Mutable state between events. `to_unix_ns` turns kernel time into unix time."""

    def __init__(self, *, to_unix_ns: Callable[[int], int], stage: StageCounter) -> None:
        self._to_unix_ns = to_unix_ns
        self._stage = stage
        self._streams = Http2Connections()
        self._ends: dict[int, Ends] = {}
        self._numbers = 0
        self._polled_ns = 0

    def __len__(self) -> int:
        return len(self._ends)

    def figures(self, capture: str) -> tuple[Figure, ...]:
        """For metrics; `capture`: who reads them."""
        return self._streams.figures(capture)

    def open(self, ends: Ends, samples: StreamSamples | None = None) -> int:
        """A connection that begins with its client's preface; gives its number here. `samples`: of whose bodies are
        kept; without it none is."""
        self._numbers += 1
        self._ends[self._numbers] = ends
        connection = self._streams.open(self._numbers, is_joined=False, client=Direction.FORWARD)
        connection.samples = samples
        return self._numbers

    def rename(self, number: int, ends: Ends) -> None:
        """The ends are known better now."""
        if number in self._ends:
            self._ends[number] = ends

    def take(self, number: int, piece: Chunk | Gap, *, is_request: bool) -> list[StreamExchange]:
        """What comes next in one direction; gives the calls that ended."""
        direction = Direction.FORWARD if is_request else Direction.BACKWARD
        return self._tell(self._streams.take(number, direction, piece))

    def close(self, number: int, time_ns: int) -> list[StreamExchange]:
        """The connection ended; gives the calls that were open."""
        told = self._tell(self._streams.close(number, time_ns))
        self._ends.pop(number, None)
        return told

    def give_up(self, number: int) -> list[StreamExchange]:
        """Nobody saw how the connection ended; gives the calls that were open."""
        told = self._tell(self._streams.give_up(number))
        self._ends.pop(number, None)
        return told

    def poll(self, now_ns: int) -> list[StreamExchange]:
        """Early halves of calls whose answer lasts."""
        if not self._ends or now_ns - self._polled_ns < POLL_INTERVAL_NS:
            return []
        self._polled_ns = now_ns
        return self._tell(self._streams.poll(now_ns))

    def _tell(self, told: list[NumberedCall]) -> list[StreamExchange]:
        out: list[StreamExchange] = []
        for number, call in told:
            ends = self._ends.get(number)
            if ends is None:
                continue
            self._stage.see(call.calls)
            self._stage.use(call.calls)
            out.append(build_stream_exchange(ends, call, self._to_unix_ns))
        return out

"""Streams of a connection that the kernel follows by itself: which header blocks it may know, and what it told of them.

The kernel's part is bpf/http2_match.h; sensor.streams.matched teaches it and reads its records.
"""

from sensor.protocols.hpack.field import HeaderBlock
from sensor.protocols.http2 import Http2Connection
from sensor.protocols.http2_calls import StreamCall
from sensor.protocols.http2_open import OpenedStream
from sensor.reassembly.connection import Direction

# (direction, its bytes, what they mean, whether it begins a request).
Repeated = tuple[Direction, bytes, HeaderBlock, bool]


def list_repeated(connection: Http2Connection, most_bytes: int) -> list[Repeated]:
    """Header blocks, up to so long, that change no table and mean the same until another block does; of patterns whose
    blocks are all such."""
    found: dict[int, Repeated] = {}
    for direction in Direction:
        decoder = connection.decoders[direction]
        if decoder is None or connection.client is None:
            return []
        is_client = direction == connection.client
        for data, block in decoder.known.items():
            if len(data) <= most_bytes and (block.is_plain or not is_client):
                found[id(block)] = direction, data, block, is_client
    patterns = [[block for block in pattern.blocks if block is not None] for pattern in connection.streams.patterns]
    whole = [blocks for blocks in patterns if all(id(block) in found for block in blocks)]
    return [found[number] for number in {id(block) for blocks in whole for block in blocks}]


def pass_matched(connection: Http2Connection, calls: int, blocks: int, stream: int) -> None:
    """So many calls of so many blocks each were told elsewhere; `stream` is the highest of them."""
    counts = connection.counts
    counts.requests += calls
    counts.blocks += calls * blocks
    counts.told += calls
    connection.raise_stream(stream)


def take_waiting(connection: Http2Connection, opened: OpenedStream, calls: list[StreamCall]) -> None:
    """A stream that was matched up to here and goes on by its frames; appends what had to end for room."""
    connection.counts.requests += 1
    connection.counts.blocks += 1 + (opened.head is not None) + (opened.trailers is not None)
    connection.streams.adopt(opened, calls)
    connection.raise_stream()

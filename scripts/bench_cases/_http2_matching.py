"""What the kernel makes of calls of HTTP/2 whose header blocks it was taught (bpf/http2_match.h), from the events that
it would send else. For the benchmark and tests of what reads it."""

import numpy as np
import numpy.typing as npt

from sensor.ebpf.abi import BLOCK_ENTRY, BLOCK_KEY, FRAMES_EVENT, FRAMES_HEAD, STREAM_RECORD
from sensor.http.http2.frames import HEADER_BYTES, FrameKind, unpack_header


class MatchingKernel:
    """Of one connection, number 1, whose calls are two events each: of its client, and of its server."""

    def __init__(self, taught: dict[bytes, bytes]) -> None:
        self.numbers: dict[tuple[int, bytes], tuple[int, int]] = {}
        for key, value in taught.items():
            _, direction, length, data = BLOCK_KEY.unpack(key)
            number, _, uses = BLOCK_ENTRY.unpack(value)
            self.numbers[direction, data[:length]] = number, uses

    def read(self, event: bytes) -> tuple[int, int, list[int], int, int]:
        """(time, stream, numbers of its blocks, bytes, messages)."""
        time_ns, *_, direction, _, _ = FRAMES_HEAD.unpack_from(event)
        data, at, stream, blocks, size, messages = event[FRAMES_EVENT.size :], 0, 0, [], 0, 0
        while at < len(data):
            length, kind, _, stream = unpack_header(data, at)
            at += HEADER_BYTES
            if kind == FrameKind.HEADERS:
                blocks.append(self.numbers[direction, data[at : at + length]][0])
                at += length
            else:
                messages += 1
            size += HEADER_BYTES + length
        return time_ns, stream, blocks, size, messages

    def match(self, events: list[bytes]) -> npt.NDArray[np.void]:
        """Records of STREAM_RECORD."""
        records = np.zeros(len(events) // 2, STREAM_RECORD)
        for record, asked, answered in zip(records, events[::2], events[1::2], strict=True):
            started_ns, stream, (request,), request_bytes, request_messages = self.read(asked)
            ended_ns, _, (answer, trailers), response_bytes, response_messages = self.read(answered)
            record["connection"], record["stream"] = 1, stream
            record["started_ns"], record["ended_ns"] = started_ns, ended_ns
            record["request"], record["answer"], record["trailers"] = request, answer, trailers
            record["request_bytes"], record["response_bytes"] = request_bytes, response_bytes
            record["request_messages"], record["response_messages"] = request_messages, response_messages
        return records


def is_asking(event: bytes) -> bool:
    """Whether it begins with a request."""
    return event[FRAMES_EVENT.size + 3] == FrameKind.HEADERS and event[33] == 0

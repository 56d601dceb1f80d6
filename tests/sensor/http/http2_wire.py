"""Frames of HTTP/2 as bytes, for tests."""

import struct

from sensor.http.http2.frames import FrameFlag, FrameKind


def write_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def write_data(stream: int, body: bytes, *, is_end: bool = False, padding: int | None = None) -> bytes:
    flags = FrameFlag.END_STREAM if is_end else 0
    if padding is None:
        return write_frame(FrameKind.DATA, flags, stream, body)
    return write_frame(FrameKind.DATA, flags | FrameFlag.PADDED, stream, bytes([padding]) + body + b"\0" * padding)


def write_headers(
    stream: int,
    block: bytes,
    *,
    is_end: bool = False,
    padding: int | None = None,
    priority: bytes = b"",
    fragments: int = 1,
) -> bytes:
    """HEADERS and, where `fragments` asks for it, CONTINUATION."""
    size = max(-(-len(block) // fragments), 1)
    parts = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
    flags = FrameFlag.END_STREAM if is_end else 0
    first = priority + parts[0]
    if priority:
        flags |= FrameFlag.PRIORITY
    if padding is not None:
        first = bytes([padding]) + first + b"\0" * padding
        flags |= FrameFlag.PADDED
    if len(parts) == 1:
        return write_frame(FrameKind.HEADERS, flags | FrameFlag.END_HEADERS, stream, first)
    frames = [write_frame(FrameKind.HEADERS, flags, stream, first)]
    frames += [write_frame(FrameKind.CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    frames.append(write_frame(FrameKind.CONTINUATION, FrameFlag.END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def write_settings(*pairs: tuple[int, int], is_ack: bool = False) -> bytes:
    payload = b"".join(struct.pack(">HI", *pair) for pair in pairs)
    return write_frame(FrameKind.SETTINGS, FrameFlag.END_STREAM if is_ack else 0, 0, payload)


def write_reset(stream: int, code: int = 8) -> bytes:
    return write_frame(FrameKind.RST_STREAM, 0, stream, struct.pack(">I", code))


def write_goaway(last_stream: int, code: int = 0) -> bytes:
    return write_frame(FrameKind.GOAWAY, 0, 0, struct.pack(">II", last_stream, code))


def write_ping() -> bytes:
    return write_frame(FrameKind.PING, 0, 0, b"\0" * 8)


def write_window_update(stream: int, increment: int = 1_000) -> bytes:
    return write_frame(FrameKind.WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))

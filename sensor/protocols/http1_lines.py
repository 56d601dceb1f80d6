"""Lines as a stream reader needs them: strictly or leniently, whole or cut where the stream ended.

A cut line is looked at so that a strict verdict needs no further byte.
"""

from sensor.protocols.http1_events import State
from sensor.protocols.http1_faults import Fault
from sensor.protocols.http1_framing import Fields
from sensor.protocols.http1_grammar import (
    StartLine,
    read_chunk_line,
    read_chunk_line_strictly,
    read_request_line,
    read_request_line_strictly,
    read_status_line,
    read_status_line_strictly,
)


def read_start_line(line: bytes, *, is_request: bool, is_strict: bool) -> tuple[StartLine, Fault | None] | Fault:
    """The start line and what is noted of it, or why it is none."""
    if not is_strict:
        return read_request_line(line) if is_request else read_status_line(line)
    start = read_request_line_strictly(line) if is_request else read_status_line_strictly(line)
    assert start is not None
    return start if isinstance(start, Fault) else (start, None)


def read_chunk_size(line: bytes, *, is_strict: bool) -> tuple[int, Fault | None] | Fault:
    """The size of a chunk and what is noted of its line, or why it is none."""
    if not is_strict:
        return read_chunk_line(line)
    size = read_chunk_line_strictly(line)
    assert size is not None
    return size if isinstance(size, Fault) else (size, None)


def check_cut(state: State, line: bytes, fields: Fields, *, is_request: bool) -> Fault | None:
    """`line` has no line feed; None: a continuation could make it right."""
    if not line:
        return None
    if b"\r" in line[:-1]:
        return Fault.BARE_CR
    body = line.removesuffix(b"\r")
    is_whole = body != line
    match state:
        case State.START:
            read = read_request_line_strictly if is_request else read_status_line_strictly
            start = read(body, is_whole=is_whole)
            return start if isinstance(start, Fault) else None
        case State.LINES | State.TRAILER:
            return fields.check_cut(line)
        case State.CHUNK:
            size = read_chunk_line_strictly(body, is_whole=is_whole)
            return size if isinstance(size, Fault) else None
        case _:
            return None

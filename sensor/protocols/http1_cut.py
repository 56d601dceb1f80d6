"""Whether the line that a stream ended in is at fault already, so that a strict verdict needs no further byte."""

from sensor.protocols.http1_events import State
from sensor.protocols.http1_faults import Fault
from sensor.protocols.http1_framing import Fields
from sensor.protocols.http1_grammar import (
    read_chunk_line_strictly,
    read_request_line_strictly,
    read_status_line_strictly,
)


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

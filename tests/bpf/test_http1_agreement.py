"""The kernel's message machine and the stream reader see the same messages: their number and the lengths of bodies.

The kernel's side is the compiled machine (tests/bpf/test_machine.py) with the framing of bpf/walk.h said again here,
for one direction. Both need to agree where both read on without a fault that leaves the end of a message open.

What differs, and is not compared: the kernel does not know HTTP/0.9, nor a status that is no number; it takes two
Content-Length fields for ambiguous also where they say the same; it takes a response's length where a coding is said
besides.
"""

import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensor.ebpf.http1_states import Action, ParseFlag
from sensor.http.http1.grammar import Fault
from sensor.http.http1.stream import End, Event, Head, MessageReader, Stopped
from tests.bpf.test_machine import Walk, walk

__all__ = ["walk"]

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")
LENGTH_MAX = 1 << 60
CUT, REFUSED = -1, -2

# Faults that do not touch framing, or that both read alike.
HARMLESS = frozenset((Fault.FIELD_LINE, Fault.FIELD_VALUE, Fault.CONTENT_LENGTH_ZEROS))


@dataclass
class Reading:
    """Body lengths of the complete messages, and what stands in the way of a comparison."""

    bodies: list[int] = field(default_factory=list)
    is_refused: bool = False
    is_held: bool = False  # At an ambiguous request: nothing is read behind it.


def read_as_kernel(walk: Walk, data: bytes, *, is_request: bool) -> Reading:
    """bpf/walk.h for one direction whose stream ends with `data`."""
    reading, at = Reading(), 0
    while at < len(data):
        stop = walk("REQUEST" if is_request else "RESPONSE", data[at:], 128)
        at += stop.done
        reading.is_refused = stop.action == Action.REJECT
        if stop.action not in (Action.HEAD_END, Action.HEAD_END_BARE):
            return reading
        if is_request and (stop.flags & ParseFlag.AMBIGUOUS or stop.length >= LENGTH_MAX):
            reading.is_held = True
            return reading
        is_chunked, has_length = bool(stop.flags & ParseFlag.CHUNKED), bool(stop.flags & ParseFlag.LENGTH)
        status = 0 if is_request else stop.status
        if not is_request and status == 101:
            reading.bodies.append(0)
            return reading
        if not is_request and (status < 200 or status in (204, 304)):
            reading.bodies.append(0)
        elif is_chunked:
            length, at, is_ambiguous = skip_chunks(walk, data, at)
            reading.is_held = is_request and (length == REFUSED or is_ambiguous)
            reading.is_refused = not is_request and length == REFUSED
            if length < 0 or reading.is_held:
                return reading
            reading.bodies.append(length)
        elif has_length and (is_request or stop.length < LENGTH_MAX):
            if at + stop.length > len(data):
                return reading
            reading.bodies.append(stop.length)
            at += stop.length
        elif is_request:
            reading.bodies.append(0)
        else:
            reading.bodies.append(len(data) - at)
            return reading
    return reading


def skip_chunks(walk: Walk, data: bytes, at: int) -> tuple[int, int, bool]:
    """(length, where they end, whether something in them is ambiguous); CUT or REFUSED for the length."""
    total, state, is_ambiguous = 0, "CHUNK_SIZE", False
    while True:
        stop = walk(state, data[at:], 128)
        at += stop.done
        is_ambiguous |= bool(stop.flags & ParseFlag.AMBIGUOUS) or stop.length >= LENGTH_MAX
        if stop.action not in (Action.CHUNK_END, Action.CHUNK_END_BARE):
            return (REFUSED if stop.action == Action.REJECT else CUT), at, is_ambiguous
        if not stop.length:
            break
        total += stop.length
        at += stop.length
        if at > len(data):
            return CUT, at, is_ambiguous
        state = "CHUNK_AFTER"
    stop = walk("LINE", data[at:], 128)
    is_whole = stop.action in (Action.HEAD_END, Action.HEAD_END_BARE)
    is_framed = bool(stop.flags & (ParseFlag.LENGTH | ParseFlag.CODING))  # Beside the coding of the head.
    is_ambiguous |= is_framed or bool(stop.flags & ParseFlag.AMBIGUOUS)
    return (total if is_whole else CUT), at + stop.done, is_ambiguous


def read_as_stream(data: bytes, *, is_request: bool) -> tuple[Reading, list[Fault]]:
    """The lenient reading, which is that of replayed captures."""
    reader = MessageReader(is_request=is_request)
    events: list[Event] = []
    reader.feed(data, events)
    reader.finish(events)
    reading, faults = Reading(), list[Fault]()
    for event in events:
        if isinstance(event, End):
            faults += event.faults
            if event.is_complete:
                reading.bodies.append(event.body_bytes)
        elif isinstance(event, Stopped):
            reading.is_refused = True
        elif isinstance(event, Head):
            codings = {value for name, value in event.fields if name.lower() == b"transfer-encoding"}
            faults += [Fault.CODING_UNKNOWN] if codings - {b"chunked"} else []
    return reading, faults


def compare(walk: Walk, data: bytes, *, is_request: bool) -> str:
    """Empty where both agree or need not; else what differs."""
    stream, faults = read_as_stream(data, is_request=is_request)
    if any(fault not in HARMLESS for fault in faults) or stream.is_refused:
        return ""
    kernel = read_as_kernel(walk, data, is_request=is_request)
    if kernel.is_refused:
        return f"kernel refuses, stream reads {stream.bodies}" if stream.bodies and not kernel.bodies else ""
    return "" if kernel.bodies == stream.bodies else f"kernel {kernel.bodies}, stream {stream.bodies}"


PIECES = st.sampled_from(
    [b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
     b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"a;x=y\r\n0123456789\r\n",
     b"0\r\n\r\n", b"0\r\nT: v\r\n\r\n", b"HTTP/1.1 304 N\r\nA: b\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 204 No\r\n\r\n",
     b"HTTP/1.1 100 Go\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"HTTP/1.0 200 OK\r\n\r\n", b"\r\n", b"CONNECT h:1 HTTP/1.1\r\n\r\n",
     b"HEAD / HTTP/1.0\r\ncontent-length:0\r\n\r\n"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES | st.binary(max_size=3), max_size=6), is_request=st.booleans())
def test_both_see_the_same_messages(walk: Walk, pieces: list[bytes], is_request: bool) -> None:
    assert compare(walk, b"".join(pieces), is_request=is_request) == ""


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_both_see_the_same_messages_in_the_cases_of_llhttp(walk: Walk) -> None:
    different = {}
    path = Path(str(EVALUATION)) / "protocol" / "llhttp_cases.jsonl"
    for line in path.read_text("utf-8").split("\n"):
        case = json.loads(line) if line else {}
        kind = (case.get("meta") or {}).get("type", "")
        if kind and not (case.get("meta") or {}).get("skipBody"):
            told = compare(walk, base64.b64decode(case["input_b64"]), is_request=kind.startswith("request"))
            if told:
                different[case["title"]] = told
    assert different == {}

"""The HTTP/1 message machine as a table: which state follows which byte, and what that transition means.

The kernel (bpf/http_machine.h) walks this table over the bytes of a connection, one direction at a time. It needs only
the end of a head, the framing of the body, and the status. User space reads everything else of a head. The state is one
byte and no byte is looked at twice, so a head may be cut anywhere and no bytes are kept.

Grammar: RFC 9112 (message format 2, request line 3, status line 4, field lines 5, chunked coding 7.1), with what
servers accept beyond it. These are bare LF as a line end (2.2), blank lines before a start line (2.2), runs of blanks
in a request line, bare CR among them (3), spaces in a target, and obsolete line folding (5.2). A trailer section is
read as field lines.

Where programs that accept a request may disagree on its end, the machine goes on and sets `ParseFlag.AMBIGUOUS` (the
faults of sensor/http/http1/grammar.py). The walker then takes no second request out of the same flight.

`_step`, a plain function of (state, byte), defines the table. Bytes that behave alike in every state are joined into
classes. The kernel gets `class[256]` and `next[state << 6 | class]` = action << 8 | state.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cache

CLASS_BITS = 6  # At most 64 classes of bytes; 47 are in use.
STATES_MAX = 128


class Action(IntEnum):
    """What a transition means to the walker; 0 is none."""

    STATUS_FIRST = 1  # First digit of the status code.
    STATUS = 2  # A further one.
    LENGTH_RESET = 3  # A Content-Length field begins.
    LENGTH = 4  # A digit of it.
    CHUNK_FIRST = 5  # First hex digit of a chunk size.
    CHUNK = 6  # A further one.
    CHUNKED = 7  # Transfer-Encoding ends with chunked.
    METHOD_HEAD, METHOD_CONNECT = 8, 9
    CONFIRM = 10  # The start line is complete and is HTTP/1.
    OLD = 11  # The request is HTTP/1.0.
    CODING = 12  # A Transfer-Encoding field begins.
    AMBIGUOUS = 13
    # The same at a line feed without its carriage return, which is ambiguous.
    CHUNKED_BARE = 14
    CONFIRM_BARE = 15
    # From here on the walker stops.
    HEAD_END = 16  # Also the end of a trailer section.
    HEAD_END_BARE = 17
    CHUNK_END = 18  # The line of a chunk size is complete.
    CHUNK_END_BARE = 19
    REJECT = 20  # Not HTTP/1, or not in step.


class ParseFlag(IntFlag):
    """What the head said so far; `struct parse.flags`."""

    CONFIRMED = 1
    CHUNKED = 2
    LENGTH = 4
    HEAD = 8
    CONNECT = 16
    CODING = 32  # There is a Transfer-Encoding field.
    OLD = 64  # HTTP/1.0.
    AMBIGUOUS = 128  # Of requests only; of responses nothing follows from it.


@dataclass(frozen=True, slots=True)
class Effect:
    """Without branches: value = value * factor + (digit & mask); flags are added, and AMBIGUOUS where one of `conflict`
    was set."""

    length_factor: int = 1
    length_mask: int = 0
    status_factor: int = 1
    status_mask: int = 0
    flags: int = 0
    is_stop: bool = False
    conflict: int = 0


_FRAMED = ParseFlag.LENGTH | ParseFlag.CODING
_EFFECTS: dict[Action, Effect] = {
    Action.STATUS_FIRST: Effect(status_factor=0, status_mask=15),
    Action.STATUS: Effect(status_factor=10, status_mask=15),
    Action.LENGTH_RESET: Effect(length_factor=0, conflict=_FRAMED),
    Action.LENGTH: Effect(length_factor=10, length_mask=15, flags=ParseFlag.LENGTH),
    Action.CHUNK_FIRST: Effect(length_factor=0, length_mask=15),
    Action.CHUNK: Effect(length_factor=16, length_mask=15),
    Action.CHUNKED: Effect(flags=ParseFlag.CHUNKED),
    Action.METHOD_HEAD: Effect(flags=ParseFlag.HEAD),
    Action.METHOD_CONNECT: Effect(flags=ParseFlag.CONNECT),
    Action.CONFIRM: Effect(flags=ParseFlag.CONFIRMED),
    Action.OLD: Effect(flags=ParseFlag.OLD),
    Action.CODING: Effect(flags=ParseFlag.CODING, conflict=_FRAMED | ParseFlag.OLD),
    Action.AMBIGUOUS: Effect(flags=ParseFlag.AMBIGUOUS),
    Action.CHUNKED_BARE: Effect(flags=ParseFlag.CHUNKED | ParseFlag.AMBIGUOUS),
    Action.CONFIRM_BARE: Effect(flags=ParseFlag.CONFIRMED | ParseFlag.AMBIGUOUS),
    Action.HEAD_END: Effect(is_stop=True),
    Action.HEAD_END_BARE: Effect(flags=ParseFlag.AMBIGUOUS, is_stop=True),
    Action.CHUNK_END: Effect(is_stop=True),
    Action.CHUNK_END_BARE: Effect(flags=ParseFlag.AMBIGUOUS, is_stop=True),
    Action.REJECT: Effect(is_stop=True),
}
_ACTIONS_MAX = 32


# States in which only some bytes matter come first, for the walker skips the others eight at a time: to a line's end,
# and of a target to a blank or a control character.
_SKIPPING = ("SKIP", "REASON", "TARGET")
_CONTENT_LENGTH = "content-length"
_TRANSFER_ENCODING = "transfer-encoding"
_CHUNKED = "chunked"
_VERSION = "HTTP/1."
_METHODS = {"HEAD": Action.METHOD_HEAD, "CONNECT": Action.METHOD_CONNECT}  # Those that change a response's framing.
_NAMES = (
    "NONE",
    *_SKIPPING,
    "REQUEST",
    "METHOD",
    *(f"METHOD_{name}_{i}" for name in _METHODS for i in range(1, len(name) + 1)),
    "TARGET_START",
    "TARGET_CR",
    *(f"REQUEST_VERSION_{i}" for i in range(len(_VERSION) + 1)),
    "REQUEST_EOL",
    "REQUEST_LF",
    "RESPONSE",
    *(f"RESPONSE_VERSION_{i}" for i in range(1, len(_VERSION) + 1)),
    "RESPONSE_SPACE",
    *("STATUS_1", "STATUS_2", "STATUS_3", "STATUS_END"),
    "LINE",
    "LINE_CR",
    "SKIP_CR",
    *(f"LENGTH_NAME_{i}" for i in range(1, len(_CONTENT_LENGTH) + 1)),
    "LENGTH_VALUE",
    "LENGTH_DIGITS",
    "LENGTH_END",
    *(f"CODING_NAME_{i}" for i in range(1, len(_TRANSFER_ENCODING) + 1)),
    *(f"CODING_VALUE_{i}" for i in range(len(_CHUNKED))),
    "CODING_TOKEN",
    "CODING_END",
    "CHUNK_SIZE",
    "CHUNK_HEX",
    "CHUNK_SPACE",
    "CHUNK_EXT",
    "CHUNK_LF",
    "CHUNK_AFTER",
    "CHUNK_AFTER_CR",
    # Not in the table: the walker counts bytes in them.
    "BODY_LENGTH",
    "CHUNK_DATA",
    "BODY_CLOSE",
    "LOST",
    "HELD",
)
STATE = {name: number for number, name in enumerate(_NAMES)}
assert len(_NAMES) <= STATES_MAX

# RFC 9110 5.6.2.
_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CR, _LF, _SP, _HT = 13, 10, 32, 9
_BLANKS = b"\t\v\f "  # Between the parts of a request line, as servers take them: RFC 9112, section 3.

_Step = tuple[str, Action | None]
_REJECT: _Step = ("LOST", Action.REJECT)


def _is_visible(byte: int) -> bool:
    return byte > _SP and byte != 0x7F


def _lower(byte: int) -> str:
    return chr(byte).lower() if byte < 0x80 else "\0"


def _rest_of_line(byte: int, action: Action | None = None) -> _Step:
    """Within a field line that does not matter; `action` where the byte itself says something."""
    if byte == _CR:
        return "SKIP_CR", action
    return ("LINE", Action.AMBIGUOUS) if byte == _LF else ("SKIP", action)


def _method(name: str, matched: int, byte: int) -> _Step:
    """After `matched` letters of method `name` (METHOD: any other)."""
    if byte in _BLANKS and matched:
        return "TARGET_START", (_METHODS[name] if matched == len(name) else None) if name in _METHODS else None
    if byte == _CR and matched and name not in _METHODS:
        return "TARGET_START", Action.AMBIGUOUS
    if byte not in _TCHAR:
        return _REJECT
    for known in _METHODS if matched == 0 else (name,):
        if known in _METHODS and matched < len(known) and byte == ord(known[matched]):
            return f"METHOD_{known}_{matched + 1}", None
    return "METHOD", None


def _request_line(state: str, byte: int) -> _Step:
    if state.startswith("METHOD_"):
        _, name, letters = state.split("_")
        return _method(name, int(letters), byte)
    match state:
        case "REQUEST":
            if byte in (_CR, _LF):
                return "REQUEST", None
            return _method("METHOD", 0, byte)
        case "METHOD":
            return _method("METHOD", 1, byte)
        case "TARGET_START":
            if byte in _BLANKS:
                return "TARGET_START", None
            if byte == _CR:
                return "TARGET_START", Action.AMBIGUOUS
            return ("TARGET", None) if _is_visible(byte) else _REJECT
        case "TARGET":
            if byte in _BLANKS:
                return "REQUEST_VERSION_0", None
            if byte == _CR:
                return "TARGET_CR", None
            return ("TARGET", None) if _is_visible(byte) else _REJECT
        case "TARGET_CR":  # A blank, or the end of a request line of HTTP/0.9.
            if byte in _BLANKS or byte == _CR:
                return "REQUEST_VERSION_0", Action.AMBIGUOUS
            if byte == ord(_VERSION[0]):
                return "REQUEST_VERSION_1", Action.AMBIGUOUS
            return ("TARGET", Action.AMBIGUOUS) if _is_visible(byte) else _REJECT
        case "REQUEST_EOL":
            if byte == _LF:
                return "LINE", Action.CONFIRM_BARE
            if byte in _BLANKS:
                return "REQUEST_EOL", None
            return ("REQUEST_LF", None) if byte == _CR else _REJECT
        case "REQUEST_LF":
            return ("LINE", Action.CONFIRM) if byte == _LF else _REJECT
    matched = int(state.removeprefix("REQUEST_VERSION_"))
    if matched == len(_VERSION):
        return ("REQUEST_EOL", Action.OLD if byte == ord("0") else None) if byte in _DIGITS else _REJECT
    if byte == ord(_VERSION[matched]):
        return f"REQUEST_VERSION_{matched + 1}", None
    if byte in _BLANKS:
        return "REQUEST_VERSION_0", None
    if byte == _CR:
        return "TARGET_CR", None
    return ("TARGET", None) if _is_visible(byte) else _REJECT


def _status_line(state: str, byte: int) -> _Step:
    match state:
        case "RESPONSE":
            if byte in (_CR, _LF):
                return "RESPONSE", None
            return ("RESPONSE_VERSION_1", None) if byte == ord("H") else _REJECT
        case "RESPONSE_SPACE":
            return ("STATUS_1", None) if byte == _SP else _REJECT
        case "STATUS_1" | "STATUS_2" | "STATUS_3":
            after = {"STATUS_1": "STATUS_2", "STATUS_2": "STATUS_3", "STATUS_3": "STATUS_END"}[state]
            action = Action.STATUS_FIRST if state == "STATUS_1" else Action.STATUS
            return (after, action) if byte in _DIGITS else _REJECT
        case "STATUS_END" | "REASON":
            if byte == _LF:
                return "LINE", Action.CONFIRM
            return _REJECT if state == "STATUS_END" and byte in _DIGITS else ("REASON", None)
    matched = int(state.removeprefix("RESPONSE_VERSION_"))
    if matched == len(_VERSION):
        return ("RESPONSE_SPACE", None) if byte in _DIGITS else _REJECT
    return (f"RESPONSE_VERSION_{matched + 1}", None) if byte == ord(_VERSION[matched]) else _REJECT


def _field_line(state: str, byte: int) -> _Step:
    match state:
        case "LINE":
            if byte == _CR:
                return "LINE_CR", None
            if byte == _LF:
                return "LINE", Action.HEAD_END_BARE
            if byte <= _SP or byte in b"\"'":  # Folding, or what some skip before a name.
                return "SKIP", Action.AMBIGUOUS
            starts = {"c": "LENGTH_NAME_1", "t": "CODING_NAME_1"}
            return starts.get(_lower(byte), "SKIP"), None
        case "LINE_CR":
            return ("LINE", Action.HEAD_END) if byte == _LF else _rest_of_line(byte, Action.AMBIGUOUS)
        case "SKIP_CR":
            return ("LINE", None) if byte == _LF else _rest_of_line(byte, Action.AMBIGUOUS)
        case "SKIP":
            return _rest_of_line(byte)
        case "LENGTH_VALUE" | "LENGTH_DIGITS" | "LENGTH_END":
            return _length_value(state, byte)
    if state.startswith("LENGTH_NAME_"):
        return _field_name(_CONTENT_LENGTH, "LENGTH_NAME_", state, byte, ("LENGTH_VALUE", Action.LENGTH_RESET))
    if state.startswith("CODING_NAME_"):
        return _field_name(_TRANSFER_ENCODING, "CODING_NAME_", state, byte, ("CODING_VALUE_0", Action.CODING))
    return _coding_value(state, byte)


def _field_name(name: str, prefix: str, state: str, byte: int, then: _Step) -> _Step:
    matched = int(state.removeprefix(prefix))
    if matched == len(name):
        if byte == ord(":"):
            return then
        return _rest_of_line(byte, None if _is_visible(byte) and byte < 0x80 else Action.AMBIGUOUS)
    return (f"{prefix}{matched + 1}", None) if _lower(byte) == name[matched] else _rest_of_line(byte)


def _length_value(state: str, byte: int) -> _Step:
    if byte in _DIGITS and state != "LENGTH_END":
        return "LENGTH_DIGITS", Action.LENGTH
    if byte in (_SP, _HT):
        return ("LENGTH_VALUE" if state == "LENGTH_VALUE" else "LENGTH_END"), None
    is_number = byte == _CR and state != "LENGTH_VALUE"
    return _rest_of_line(byte, None if is_number else Action.AMBIGUOUS)


def _coding_value(state: str, byte: int) -> _Step:
    """A list of which chunked is the last, once: RFC 9112 6.1. VALUE_n: n letters of it at the start of an element."""
    if byte == ord(","):
        return "CODING_VALUE_0", Action.AMBIGUOUS if state == "CODING_END" else None
    if state == "CODING_END":
        if byte == _LF:
            return "LINE", Action.CHUNKED_BARE
        if byte == _CR:
            return "SKIP_CR", Action.CHUNKED
        return ("CODING_END", None) if byte in (_SP, _HT) else ("CODING_TOKEN", Action.AMBIGUOUS)
    if byte in (_CR, _LF):
        return _rest_of_line(byte, Action.AMBIGUOUS)
    if state == "CODING_TOKEN":
        return state, None
    matched = int(state.removeprefix("CODING_VALUE_"))
    if _lower(byte) == _CHUNKED[matched]:
        return ("CODING_END" if matched + 1 == len(_CHUNKED) else f"CODING_VALUE_{matched + 1}"), None
    return (state if matched == 0 and byte in (_SP, _HT) else "CODING_TOKEN"), None


def _chunked_body(state: str, byte: int) -> _Step:
    match state:
        case "CHUNK_AFTER":  # The line's end after a chunk's bytes.
            if byte == _LF:
                return "CHUNK_SIZE", Action.AMBIGUOUS
            return ("CHUNK_AFTER_CR", None) if byte == _CR else _REJECT
        case "CHUNK_AFTER_CR":
            return ("CHUNK_SIZE", None) if byte == _LF else _REJECT
        case "CHUNK_SIZE":
            if byte in (_SP, _HT):
                return "CHUNK_SIZE", Action.AMBIGUOUS
            return ("CHUNK_HEX", Action.CHUNK_FIRST) if byte in _HEX else _REJECT
    if byte == _LF:
        return "CHUNK_SIZE", Action.CHUNK_END if state == "CHUNK_LF" else Action.CHUNK_END_BARE
    if state == "CHUNK_LF":
        return "CHUNK_EXT", Action.AMBIGUOUS
    if byte == _CR:
        return "CHUNK_LF", None
    if state == "CHUNK_EXT":
        is_plain = byte in _TCHAR or byte in b';="' or byte >= 0x80
        return "CHUNK_EXT", None if is_plain else Action.AMBIGUOUS
    if byte == ord(";"):
        return "CHUNK_EXT", None
    if byte in _HEX and state == "CHUNK_HEX":
        return "CHUNK_HEX", Action.CHUNK
    return ("CHUNK_SPACE", Action.AMBIGUOUS) if byte in (_SP, _HT) else _REJECT


def _step(state: str, byte: int) -> _Step:
    if state in ("NONE", "BODY_LENGTH", "CHUNK_DATA", "BODY_CLOSE", "LOST", "HELD"):
        return _REJECT
    if state.startswith(("REQUEST", "METHOD", "TARGET")):
        return _request_line(state, byte)
    if state.startswith(("RESPONSE", "STATUS", "REASON")):
        return _status_line(state, byte)
    if state.startswith("CHUNK"):
        return _chunked_body(state, byte)
    return _field_line(state, byte)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The table as the kernel reads it."""

    byte_class: bytes  # 256
    transitions: tuple[int, ...]  # [state << CLASS_BITS | class] = action << 8 | state

    def packed(self) -> bytes:
        """`struct machine` of bpf/http_machine.h."""
        digits = bytes(int(chr(byte), 16) if byte in _HEX else 0 for byte in range(256))
        effects = [_EFFECTS.get(Action(n), Effect()) if n in set(Action) else Effect() for n in range(_ACTIONS_MAX)]
        return (
            self.byte_class
            + digits
            + b"".join(
                bytes(
                    (e.length_factor, e.length_mask, e.status_factor, e.status_mask, e.flags, e.is_stop, e.conflict, 0)
                )
                for e in effects
            )
            + struct.pack(f"<{len(self.transitions)}H", *self.transitions)
        )


@cache
def build_machine() -> Machine:
    """Builds the table; 30 ms, once a process."""
    columns = [tuple(_step(name, byte) for name in _NAMES) for byte in range(256)]
    classes: dict[tuple[_Step, ...], int] = {}
    byte_class = bytes(classes.setdefault(column, len(classes)) for column in columns)
    if len(classes) > 1 << CLASS_BITS:
        raise AssertionError(f"{len(classes)} byte classes do not fit {CLASS_BITS} bits: raise CLASS_BITS")
    transitions = [0] * (STATES_MAX << CLASS_BITS)
    for column, number in classes.items():
        for state, (following, action) in enumerate(column):
            transitions[state << CLASS_BITS | number] = (action or 0) << 8 | STATE[following]
    return Machine(byte_class=byte_class, transitions=tuple(transitions))


def defines() -> list[str]:
    """Compiler flags that give the C side the numbers of the states and actions it names."""
    flags = [f"-DS_{name}={number}" for name, number in STATE.items() if not name[-1].isdigit()]
    flags += [f"-DA_{action.name}={action.value}" for action in Action]
    flags += [f"-DP_{flag.name}={flag.value}" for flag in ParseFlag]
    flags += [f"-DACTIONS_MAX={_ACTIONS_MAX}"]
    return [*flags, f"-DS_SKIPPING_LAST={len(_SKIPPING)}", f"-DCLASS_BITS={CLASS_BITS}", f"-DSTATES_MAX={STATES_MAX}"]

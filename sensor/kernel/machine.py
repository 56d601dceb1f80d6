"""The HTTP/1 message machine as a table: which state follows which byte, and what that means.

The kernel (bpf/http_machine.h) walks this table over the bytes of a connection, a direction at a time. It needs no
more than where a message's head ends, how its body is framed, and the status: everything else in a head is read in
user space. Because the state is one byte and nothing is looked at twice, a head may be cut anywhere, inside the
method or between CR and LF, and no bytes are kept.

Grammar: RFC 9112 (message format 2, request line 3, status line 4, field lines 5, chunked coding 7.1), with what
servers accept beyond it: bare LF as a line end (2.2), blank lines before a start line (2.2), spaces in a target,
obsolete line folding (5.2).

The table is built from `_step`, a plain function of (state, byte), by joining bytes that behave alike in every state
into classes; the kernel gets `class[256]` and `next[state << 6 | class]` = action << 8 | state.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cache

CLASS_BITS = 6  # At most 64 classes of bytes; 43 are in use.
STATES_MAX = 128


class Action(IntEnum):
    """What a transition means to the walker; 0 is none."""

    STATUS_FIRST = 1  # First digit of the status code.
    STATUS = 2  # A further one.
    LENGTH_RESET = 3  # A Content-Length field begins.
    LENGTH = 4  # A digit of it.
    CHUNK_FIRST = 5  # First hex digit of a chunk size.
    CHUNK = 6  # A further one.
    CHUNKED = 7  # Transfer-Encoding names chunked.
    METHOD_HEAD = 8
    METHOD_CONNECT = 9
    CONFIRM = 10  # The start line is complete and is HTTP/1.
    # From here on the walker stops.
    HEAD_END = 11
    CHUNK_END = 12  # The line of a chunk size is complete.
    MESSAGE_END = 13  # The trailer section is complete.
    REJECT = 14  # Not HTTP/1, or not in step.


class ParseFlag(IntFlag):
    """What the head said so far; `struct parse.flags`."""

    CONFIRMED = 1
    CHUNKED = 2
    LENGTH = 4
    HEAD = 8
    CONNECT = 16


@dataclass(frozen=True, slots=True)
class Effect:
    """What an action does, without branches: value = value * factor + (digit & mask); flags are added."""

    length_factor: int = 1
    length_mask: int = 0
    status_factor: int = 1
    status_mask: int = 0
    flags: int = 0
    is_stop: bool = False


_EFFECTS: dict[Action, Effect] = {
    Action.STATUS_FIRST: Effect(status_factor=0, status_mask=15),
    Action.STATUS: Effect(status_factor=10, status_mask=15),
    Action.LENGTH_RESET: Effect(length_factor=0),
    Action.LENGTH: Effect(length_factor=10, length_mask=15, flags=ParseFlag.LENGTH),
    Action.CHUNK_FIRST: Effect(length_factor=0, length_mask=15),
    Action.CHUNK: Effect(length_factor=16, length_mask=15),
    Action.CHUNKED: Effect(flags=ParseFlag.CHUNKED),
    Action.METHOD_HEAD: Effect(flags=ParseFlag.HEAD),
    Action.METHOD_CONNECT: Effect(flags=ParseFlag.CONNECT),
    Action.CONFIRM: Effect(flags=ParseFlag.CONFIRMED),
    Action.HEAD_END: Effect(is_stop=True),
    Action.CHUNK_END: Effect(is_stop=True),
    Action.MESSAGE_END: Effect(is_stop=True),
    Action.REJECT: Effect(is_stop=True),
}
_ACTIONS_MAX = 16


# States in which only a line feed matters come first: the walker skips them eight bytes at a time.
_SKIPPING = ("SKIP", "REASON", "CHUNK_EXT", "TRAILER_SKIP")
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
    "TARGET",
    *(f"REQUEST_VERSION_{i}" for i in range(len(_VERSION) + 1)),
    "REQUEST_EOL",
    "REQUEST_LF",
    "RESPONSE",
    *(f"RESPONSE_VERSION_{i}" for i in range(1, len(_VERSION) + 1)),
    "RESPONSE_SPACE",
    "STATUS_1",
    "STATUS_2",
    "STATUS_3",
    "STATUS_END",
    "LINE",
    "LINE_CR",
    *(f"LENGTH_NAME_{i}" for i in range(1, len(_CONTENT_LENGTH) + 1)),
    "LENGTH_VALUE",
    "LENGTH_DIGITS",
    *(f"CODING_NAME_{i}" for i in range(1, len(_TRANSFER_ENCODING) + 1)),
    *(f"CODING_VALUE_{i}" for i in range(len(_CHUNKED))),
    "CHUNK_SIZE",
    "CHUNK_HEX",
    "TRAILER",
    "TRAILER_CR",
    # Not in the table: the walker counts bytes in them.
    "BODY_LENGTH",
    "CHUNK_DATA",
    "BODY_CLOSE",
    "LOST",
)
STATE = {name: number for number, name in enumerate(_NAMES)}
assert len(_NAMES) <= STATES_MAX

# RFC 9110 5.6.2.
_TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_CR, _LF, _SP, _HT = 13, 10, 32, 9

_Step = tuple[str, Action | None]
_REJECT: _Step = ("LOST", Action.REJECT)


def _is_visible(byte: int) -> bool:
    return byte > _SP and byte != 0x7F


def _lower(byte: int) -> str:
    return chr(byte).lower() if byte < 0x80 else "\0"


def _rest_of_line(byte: int) -> _Step:
    return ("LINE", None) if byte == _LF else ("SKIP", None)


def _method(name: str, matched: int, byte: int) -> _Step:
    """After `matched` letters of method `name` (METHOD: any other)."""
    if byte == _SP and matched:
        return "TARGET_START", (_METHODS[name] if matched == len(name) else None) if name in _METHODS else None
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
            return ("TARGET", None) if _is_visible(byte) else _REJECT
        case "TARGET":
            if byte == _SP:
                return "REQUEST_VERSION_0", None
            return ("TARGET", None) if _is_visible(byte) else _REJECT
        case "REQUEST_EOL":
            if byte == _LF:
                return "LINE", Action.CONFIRM
            if byte == _SP:
                return "REQUEST_EOL", None
            return ("REQUEST_LF", None) if byte == _CR else _REJECT
        case "REQUEST_LF":
            return ("LINE", Action.CONFIRM) if byte == _LF else _REJECT
    matched = int(state.removeprefix("REQUEST_VERSION_"))
    if matched == len(_VERSION):
        return ("REQUEST_EOL", None) if byte in _DIGITS else _REJECT
    if byte == ord(_VERSION[matched]):
        return f"REQUEST_VERSION_{matched + 1}", None
    if byte == _SP:
        return "REQUEST_VERSION_0", None
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
                return "LINE", Action.HEAD_END
            starts = {"c": "LENGTH_NAME_1", "t": "CODING_NAME_1"}
            return starts.get(_lower(byte), "SKIP"), None
        case "LINE_CR":
            return ("LINE", Action.HEAD_END) if byte == _LF else ("SKIP", None)
        case "SKIP":
            return _rest_of_line(byte)
        case "LENGTH_VALUE":
            if byte in (_SP, _HT):
                return "LENGTH_VALUE", None
            return ("LENGTH_DIGITS", Action.LENGTH) if byte in _DIGITS else _rest_of_line(byte)
        case "LENGTH_DIGITS":
            return ("LENGTH_DIGITS", Action.LENGTH) if byte in _DIGITS else _rest_of_line(byte)
    if state.startswith("LENGTH_NAME_"):
        return _field_name(_CONTENT_LENGTH, "LENGTH_NAME_", state, byte, ("LENGTH_VALUE", Action.LENGTH_RESET))
    if state.startswith("CODING_NAME_"):
        return _field_name(_TRANSFER_ENCODING, "CODING_NAME_", state, byte, ("CODING_VALUE_0", None))
    return _coding_value(int(state.removeprefix("CODING_VALUE_")), byte)


def _field_name(name: str, prefix: str, state: str, byte: int, then: _Step) -> _Step:
    matched = int(state.removeprefix(prefix))
    if matched == len(name):
        return then if byte == ord(":") else _rest_of_line(byte)
    return (f"{prefix}{matched + 1}", None) if _lower(byte) == name[matched] else _rest_of_line(byte)


def _coding_value(matched: int, byte: int) -> _Step:
    if byte == _LF:
        return "LINE", None
    if _lower(byte) == _CHUNKED[matched]:
        return ("SKIP", Action.CHUNKED) if matched + 1 == len(_CHUNKED) else (f"CODING_VALUE_{matched + 1}", None)
    return ("CODING_VALUE_1" if _lower(byte) == _CHUNKED[0] else "CODING_VALUE_0"), None


def _chunked_body(state: str, byte: int) -> _Step:
    match state:
        case "CHUNK_SIZE":
            # The CRLF that ends the chunk before is taken here.
            if byte in (_CR, _LF, _SP):
                return "CHUNK_SIZE", None
            return ("CHUNK_HEX", Action.CHUNK_FIRST) if byte in _HEX else _REJECT
        case "CHUNK_HEX":
            if byte in _HEX:
                return "CHUNK_HEX", Action.CHUNK
            if byte == _LF:
                return "CHUNK_EXT", Action.CHUNK_END
            return ("CHUNK_EXT", None) if byte in (_CR, _SP, _HT, ord(";")) else _REJECT
        case "CHUNK_EXT":
            return "CHUNK_EXT", (Action.CHUNK_END if byte == _LF else None)
        case "TRAILER":
            if byte == _CR:
                return "TRAILER_CR", None
            return ("NONE", Action.MESSAGE_END) if byte == _LF else ("TRAILER_SKIP", None)
        case "TRAILER_CR":
            return ("NONE", Action.MESSAGE_END) if byte == _LF else ("TRAILER_SKIP", None)
    return ("TRAILER", None) if byte == _LF else ("TRAILER_SKIP", None)


def _step(state: str, byte: int) -> _Step:
    if state in ("NONE", "BODY_LENGTH", "CHUNK_DATA", "BODY_CLOSE", "LOST"):
        return _REJECT
    if state.startswith(("REQUEST", "METHOD", "TARGET")):
        return _request_line(state, byte)
    if state.startswith(("RESPONSE", "STATUS", "REASON")):
        return _status_line(state, byte)
    if state.startswith(("CHUNK", "TRAILER")):
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
                bytes((e.length_factor, e.length_mask, e.status_factor, e.status_mask, e.flags, e.is_stop, 0, 0))
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

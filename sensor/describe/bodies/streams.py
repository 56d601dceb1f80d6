"""Reads streams of messages: server-sent events, lines and sequences of JSON, messages of RPCs and of Amazon's event
streams behind their lengths.

Each format is split into its messages; a message that is cut is not read. One message is a document. Of several each is
a record. Answers to calls of JSON-RPC among notifications, as MCP streams them, are the documents of the stream.

Language models stream one text as many messages. `chat.completion.chunk` of OpenAI's API has it under
`choices[].delta.content`, others elsewhere. So a stream of pieces is known by its look: one field differs from message
to message, its texts are short, and many begin or end with a blank, or its name is that of a piece. The pieces are put
together, by the `index` of what they belong to, before anything is looked for in them: a card number is cut anywhere.

Sources: WHATWG HTML, section 9.2.6 (event streams); RFC 7464 (JSON sequences); Connect and gRPC (envelopes); Smithy
(application/vnd.amazon.eventstream).
"""

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from sensor.describe.bodies.records import find_records, is_answer, spread

MESSAGES_MAX: Final = 8_192  # Of one body: of 256 KiB the shortest that say anything.
PIECES_MIN: Final = 3
PIECE_CHARACTERS_MAX: Final = 96  # On average: a token has four, some servers send sentences.
PATHS_MAX: Final = 64  # Of texts in one message.
DEPTH_MAX: Final = 8
# Fields whose pieces may have no blank at all: arguments of tools, and languages that write none.
_PIECE_NAMES: Final = frozenset(
    ("content", "text", "delta", "token", "arguments", "partial_json", "thinking", "reasoning", "reasoning_content")
)
_TOKEN_CHARACTERS_MAX: Final = 24  # On average, of pieces without blanks around them.
_BLANK_SHARE: Final = 0.2  # Of pieces of a text that begin or end with a blank.
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_ENVELOPE_BYTES: Final = 5
# Of Amazon's: lengths of the frame and of its header fields, and checksums behind these and at the end.
_PRELUDE_BYTES, _CHECKSUM_BYTES = 12, 4
_FRAME_BYTES_MAX: Final = 16 << 20
_COMPRESSED, _END = 0x01, 0x82  # Flags: compressed; the end of the stream, of Connect or gRPC-Web.
# `jsonrpc` as writers of JSON write it, or with letters escaped, which none does without a reason. The end of the word
# is found in half the time of the whole.
_CALL_SIGNS: Final = (b"nrpc", b"\\u006", b"\\u007")
# With it a server of MCP says where requests are to be sent (HTTP with SSE).
_ENDPOINT_EVENT: Final = re.compile(rb"(?:\A|[\r\n])event: ?endpoint[\r\n]")
_PASSED_ON: Final = re.compile(rb'\{"bytes":"([A-Za-z0-9+/=]+)"')
_Path = tuple[str, ...]


class Messages(NamedTuple):
    """What a stream holds. `single`: its one document, else None; `values` are for the classifier. Private to the
    node."""

    single: object
    values: object = None
    records: int | None = None
    is_list: bool = False
    tree: object = None
    # Of pieces that were put together: the name of their field, and the text, or what it is as JSON.
    joined: tuple[tuple[str, object], ...] = ()


def split_events(data: bytes, *, is_complete: bool) -> list[bytes]:
    """Data of server-sent events, without those that only say that the stream ends."""
    events: list[bytes] = []
    lines: list[bytes] = []
    data = data.removeprefix(b"\xef\xbb\xbf")
    all_lines = _LINE_END.split(data) if b"\r" in data else data.split(b"\n")
    if not is_complete:
        all_lines.pop()  # It may go on.
    for line in all_lines:
        if line[:5] == b"data:":
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and lines:
            events.append(lines[0] if len(lines) == 1 else b"\n".join(lines))
            lines = []
        elif line == b"data":
            lines.append(b"")
    if lines and is_complete:
        events.append(b"\n".join(lines))
    return [event for event in events if event[-1:] == b"}" or event.strip() not in (b"", b"[DONE]")]


def find_cut_event(data: bytes) -> bytes:
    """Data of the event at the end of a stream that was cut, as far as it came."""
    begin = max(data.rfind(b"\n\n"), data.rfind(b"\n\r\n"), data.rfind(b"\r\r"), 0)
    lines = _LINE_END.split(data[begin:])
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def parse_cut_call(data: bytes) -> dict[str, Any] | None:
    """A message of JSON-RPC as far as it came; its id may stand behind the cut."""
    try:
        found = from_json(data, allow_partial=True)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def may_hold_calls(data: bytes) -> bool:
    """Whether a message, or one of several, may be one of JSON-RPC."""
    return any(sign in data for sign in _CALL_SIGNS)


def has_endpoint_event(data: bytes) -> bool:
    """Whether a stream of events is one of MCP's older transport."""
    return b"endpoint" in data and _ENDPOINT_EVENT.search(data) is not None


def split_lines(data: bytes, *, is_complete: bool) -> list[bytes]:
    """Lines that are not empty."""
    lines = data.split(b"\n")
    if not is_complete and len(lines) > 1:
        lines.pop()
    return [line for line in (one.strip(b"\x1e \t\r") for one in lines) if line]


def split_sequence(data: bytes, *, is_complete: bool) -> list[bytes]:
    """Texts of a JSON sequence, each behind a record separator; those of servers that only write lines too."""
    if b"\x1e" not in data:
        return split_lines(data, is_complete=is_complete)
    texts = data.split(b"\x1e")
    if not is_complete and not texts[-1].endswith(b"\n"):
        texts.pop()
    return [text for text in (one.strip() for one in texts) if text]


def split_envelopes(data: bytes, *, has_cut: bool = False) -> list[bytes]:
    """Messages behind a flag and four bytes of length; without trailers and those that are compressed. `has_cut`: with
    the beginning of the last one."""
    found: list[bytes] = []
    place = 0
    while place + _ENVELOPE_BYTES <= len(data) and len(found) < MESSAGES_MAX:
        flag = data[place]
        begin = place + _ENVELOPE_BYTES
        place = begin + int.from_bytes(data[begin - 4 : begin], "big")
        if not flag & (_COMPRESSED | _END) and (has_cut or place <= len(data)):
            found.append(data[begin:place])
    return found


def split_frames(data: bytes) -> list[bytes]:
    """Payloads of Amazon's event streams. Those of models whose messages are passed on as they are have them in base64.
    Raises ValueError where there is no frame."""
    found: list[bytes] = []
    place = 0
    while place + _PRELUDE_BYTES <= len(data) and len(found) < MESSAGES_MAX:
        size, head_size = (int.from_bytes(data[place + at : place + at + 4], "big") for at in (0, 4))
        begin, end = place + _PRELUDE_BYTES + head_size, place + size - _CHECKSUM_BYTES
        if size > _FRAME_BYTES_MAX or begin > end:
            if not found:
                raise ValueError("no frame of an event stream")
            break
        if place + size <= len(data) and begin < end:
            found.append(_open_payload(data[begin:end]))
        place += size
    return found


def _open_payload(payload: bytes) -> bytes:
    inner = _PASSED_ON.match(payload)
    if inner is None:
        return payload
    try:
        return base64.b64decode(inner[1], validate=True)
    except binascii.Error:
        return payload


def read_messages(messages: list[bytes]) -> Messages:
    """What messages of JSON hold. Raises ValueError where none of those that are looked at is JSON."""
    messages = messages[:MESSAGES_MAX]
    looked = _parse_all(spread(messages))
    if messages and not looked:
        raise ValueError("no message is JSON")
    if len(messages) == 1:
        return Messages(looked[0])
    if any(isinstance(one, dict) and "jsonrpc" in one for one in looked):
        return _read_calls(_parse_all(messages))
    if _may_have_pieces(looked[1:4]) and _find_pieces(looked):
        whole = _parse_all(messages)
        joined = _join_pieces(whole)
        return Messages(None, spread(whole), 1, False, spread(whole), joined)
    return Messages(None, looked, len(messages), True, looked)


def _parse_all(messages: list[bytes]) -> list[object]:
    found: list[object] = []
    for message in messages:
        try:
            found.append(from_json(message))
        except ValueError:
            continue
    return found


def find_calls(document: object) -> list[dict[str, Any]]:
    """Requests, notifications and answers of JSON-RPC in a document: itself, or those of a batch."""
    messages = document if isinstance(document, list) else [document]
    return [one for one in messages if isinstance(one, dict) and "jsonrpc" in one]


def find_calls_of_stream(messages: Sequence[bytes]) -> tuple[list[dict[str, Any]], bool]:
    """The same of all messages of a stream, as none may hide among others, and whether one that may be of them does not
    parse: a client's parser may take what this one refuses (half a surrogate, a great depth)."""
    held = [message for message in messages if may_hold_calls(message)]
    parsed = _parse_all(held)
    return find_calls(parsed), len(parsed) < len(held)


def _read_calls(messages: list[object]) -> Messages:
    """Answers of JSON-RPC; where there are none, its notifications and requests."""
    answers = [one for one in messages if is_answer(one)]
    if len(answers) == 1:
        return Messages(answers[0])
    if not answers:
        return Messages(None, spread(messages), len(messages), True, spread(messages))
    records = sum(1 if (found := find_records(one)) is None else len(found) for one in answers)
    return Messages(None, spread(answers), records, True, spread(answers))


def _may_have_pieces(messages: list[object]) -> bool:
    """Whether a few messages show what pieces have: most streams are of records, and no more is asked of them."""
    return any(
        path[-1] in _PIECE_NAMES or text[0] in " \n" or text[-1] == " "
        for message in messages
        for path, text in _list_texts(message)
    )


def _find_pieces(messages: list[object]) -> dict[_Path, list[str]]:
    """Texts of fields that hold pieces of one text, in messages of one stream."""
    texts: defaultdict[_Path, list[str]] = defaultdict(list)
    for message in messages:
        for path, text in _list_texts(message):
            texts[path].append(text)
    return {path: pieces for path, pieces in texts.items() if _are_pieces(path[-1], pieces)}


def _are_pieces(name: str, pieces: list[str]) -> bool:
    if len(pieces) < PIECES_MIN or len(set(pieces)) < PIECES_MIN - 1:
        return False
    length = sum(map(len, pieces)) / len(pieces)
    if length > PIECE_CHARACTERS_MAX:
        return False
    blanks = sum(piece[:1] in (" ", "\n") or piece[-1:] == " " for piece in pieces)
    return blanks >= _BLANK_SHARE * len(pieces) or (name in _PIECE_NAMES and length <= _TOKEN_CHARACTERS_MAX)


def _join_pieces(messages: list[object]) -> tuple[tuple[str, object], ...]:
    """The texts that the pieces make, each under the name of its field; JSON among them parsed, however it is cut."""
    return tuple((path[-1], _open_text("".join(pieces))) for path, pieces in _find_pieces(messages).items())


def _open_text(text: str) -> object:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return from_json(text, allow_partial=True)
        except ValueError:
            pass
    return text


def _list_texts(message: object) -> list[tuple[_Path, str]]:
    """Texts of a message by their paths. What has an `index` has it in its path."""
    found: list[tuple[_Path, str]] = []
    _collect_texts(message, (), 0, found)
    return found


def _collect_texts(value: object, path: _Path, depth: int, found: list[tuple[_Path, str]]) -> None:
    """Of what a parser of JSON makes, whose types are exact: to ask for them so costs a third."""
    if depth >= DEPTH_MAX or len(found) >= PATHS_MAX:
        return
    if type(value) is dict:
        index = value.get("index")
        path = path if index is None else (*path, str(index))
        for key, inner in value.items():
            kind = type(inner)
            if kind is dict or kind is list:
                _collect_texts(inner, (*path, key), depth + 1, found)
            elif kind is str and inner and len(found) < PATHS_MAX:
                found.append(((*path, key), inner))
    elif type(value) is list:
        path = path or ("",)
        for inner in value[:PATHS_MAX]:
            if type(inner) is not str:
                _collect_texts(inner, path, depth + 1, found)
            elif inner and len(found) < PATHS_MAX:
                found.append((path, inner))

"""Reads how an answer of a model API ends: its last bytes in, its last messages and their token counts out.

Of a long answer only the last 2 KiB are known. Messages that are whole there are parsed, so what a model wrote into a
text or into arguments of a tool is never a count. Of a message whose beginning did not come a count is only one where
it stands at the message's top: what follows it up to the end of the message closes nothing else.
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from sensor.describe.bodies.documents import AWS_EVENTS, EVENTS
from sensor.describe.schemas.model_usage import ModelUsage, find_usage

_MESSAGES_MAX: Final = 8  # That are parsed, the last ones.
_MATCHES_MAX: Final = 8  # Of a name of counts, in a message whose beginning did not come.
_LINES: Final = frozenset(("application/x-ndjson", "application/ndjson"))
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_COUNTS: Final = re.compile(rb'"(?:usage|usageMetadata)"\s*:\s*(?=\{)|"(?:prompt_eval_count|eval_count)"\s*:\s*(?=\d)')
_FRAME: Final = b":event-type"
# An error in Amazon's streams: a header field of a frame.
_FRAME_ERROR: Final = re.compile(rb":exception-type\x07\x00.\w", re.DOTALL)
_DECODER: Final = json.JSONDecoder()
_LAST_TYPES: Final = frozenset(
    ("message_delta", "message_stop", "response.completed", "response.incomplete", "response.failed")
)


class Ending(NamedTuple):
    """`is_over`: the answer came to its end, whatever its framing says. Private to the node."""

    messages: list[dict[str, Any]]
    usages: list[ModelUsage]
    is_over: bool
    has_failed: bool


def read_ending(last: bytes, media_type: str) -> Ending:
    """Of the last bytes of a stream, or of an answer that was cut. Never raises."""
    if media_type == AWS_EVENTS:
        parts, cut = [], []
        messages = list(_find_payloads(last))[-_MESSAGES_MAX:]
    else:
        parts = _split(last, media_type)[-_MESSAGES_MAX:]
        found = [(part, _parse(part)) for part in parts]
        messages = [one for _, one in found if isinstance(one, dict)]
        cut = [part for part, one in found if one is None]
    usages = [usage for one in messages for usage in (find_usage(one),) if usage is not None]
    is_over = b"[DONE]" in parts or any(map(_is_last, messages))
    for part in reversed(cut if not usages else []):
        # Of a stream it is within `response`.
        counted = _find_cut_counts(part, ("", "}") if media_type == EVENTS else ("", "]"))
        if counted is not None:
            usages, is_over = [counted], True
            break
    has_failed = media_type == AWS_EVENTS and _FRAME_ERROR.search(last) is not None
    return Ending(messages, usages, is_over, has_failed or any(map(has_error, messages)))


def has_error(message: dict[str, Any]) -> bool:
    """Whether an answer, or a message of one, says that the call failed."""
    response = message.get("response")
    return (
        message.get("type") == "error"
        or _is_error(message.get("error"))
        or (isinstance(response, dict) and _is_error(response.get("error")))
    )


def _is_error(value: object) -> bool:
    return isinstance(value, dict | str) and bool(value)


def _split(last: bytes, media_type: str) -> list[bytes]:
    """Messages at the end, of which the first may lack its beginning; else all of the answer."""
    if media_type == EVENTS:
        # Between what was copied of several packets bytes may be missing, and with them the beginning of a line.
        lines = [
            line.removeprefix(b"data:") for line in _LINE_END.split(last) if line[:5] == b"data:" or line[-1:] == b"}"
        ]
    else:
        lines = last.split(b"\n") if media_type in _LINES else [last]
    return [line for line in map(bytes.strip, lines) if line]


def _find_payloads(last: bytes) -> Iterator[dict[str, Any]]:
    """Of frames whose header fields came: each is JSON behind these."""
    for frame in last.split(_FRAME)[1:]:
        begin = frame.find(b"{")
        payload = _parse_first(frame[begin:])[0] if begin >= 0 else None
        if isinstance(payload, dict) and isinstance(payload.get("bytes"), str):
            payload = _parse_base64(payload["bytes"])  # Of models whose messages are passed on as they are.
        if isinstance(payload, dict):
            yield payload


def _parse_base64(text: str) -> object:
    try:
        return _parse(base64.b64decode(text, validate=True))
    except ValueError:
        return None


def _parse(message: bytes) -> object:
    try:
        return from_json(message)
    except ValueError:
        return None


def _parse_first(data: bytes) -> tuple[object, str]:
    """The value at the beginning, and the text behind it."""
    text = data.decode("utf-8", "replace")
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, ""
    return value, text[end:].strip()


def _is_last(message: dict[str, Any]) -> bool:
    """Whether a message of a stream has the counts of all of it."""
    if message.get("type") in _LAST_TYPES or message.get("done") is True:
        return True
    if "amazon-bedrock-invocationMetrics" in message or ("metrics" in message and "usage" in message):
        return True
    choices, candidates = message.get("choices"), message.get("candidates")
    if choices == []:
        return isinstance(message.get("usage"), dict)
    for found, name in ((choices, "finish_reason"), (candidates, "finishReason")):
        if isinstance(found, list) and found and isinstance(found[0], dict) and found[0].get(name):
            return True
    return False


def _find_cut_counts(part: bytes, closers: tuple[str, ...]) -> ModelUsage | None:
    """Counts at the top of a message whose beginning did not come, and which ends with `part`. `closers`: what may
    follow it."""
    for found in list(_COUNTS.finditer(part))[-_MATCHES_MAX:]:
        message, behind = _parse_first(b"{" + part[found.start() :])
        usage = find_usage(message) if isinstance(message, dict) and behind in closers else None
        if usage is not None:
            return usage
    return None

"""The values of a request as a server would decode them: percent signs up to three times, entities, escapes, JSON."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

VALUE_BYTES_MAX = 8_192  # Of one value; what is longer is read so far.
VALUES_MAX = 200  # Of one request.
_ROUNDS = 3
_DEPTH_MAX = 8
_SEPARATOR = re.compile(r"[&;](?=[^&;=]*=)|&")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|%u([0-9a-fA-F]{4})")
_COMMENT = re.compile(r"/\*!?\d*(.{0,200}?)\*/", re.DOTALL)
# Two bytes that old decoders took for `.`, `/` and `\`.
_OVERLONG = {b"\xc0\xae": b".", b"\xc0\xaf": b"/", b"\xc1\x9c": b"\\", b"\xc0\x2f": b"/", b"\xc0\x5c": b"\\"}


def list_values(path: str, query: str, others: tuple[str, ...] = (), body: str = "") -> list[str]:
    """Names and values of a request, decoded, at most VALUES_MAX; `others` are values of headers."""
    found: list[str] = []
    for value in _split(path, query, others, body):
        found += read_value(value)
        if len(found) >= VALUES_MAX:
            break
    return found[:VALUES_MAX]


def read_value(value: str) -> list[str]:
    """A value decoded; of JSON its names and leaves."""
    decoded = decode(value)
    if decoded[:1] in "{[" and decoded[-1:] in "}]":
        try:
            document = json.loads(decoded)
        except (ValueError, RecursionError):
            return [decoded]
        return [decode(leaf) for leaf in _list_leaves(document, 0)][:VALUES_MAX]
    return [decoded]


def decode(value: str) -> str:
    """As a server, its framework and a browser may decode it one after the other. Never raises."""
    text = value[:VALUE_BYTES_MAX]
    for _ in range(_ROUNDS):
        raw = unquote_to_bytes(text.replace("+", " "))
        for overlong, plain in _OVERLONG.items():
            raw = raw.replace(overlong, plain)
        plainer = raw.decode("utf-8", "replace")
        if plainer == text:
            break
        text = plainer
    text = _ESCAPE.sub(
        lambda found: chr(int(next(group for group in found.groups() if group), 16)), html.unescape(text)
    )
    return _COMMENT.sub(r" \1 ", text)


def _split(path: str, query: str, others: tuple[str, ...], body: str) -> Iterator[str]:
    yield path
    for pair in _SEPARATOR.split(query):
        yield from pair.split("=", 1)
    yield from others
    if body:
        yield body
        if body.lstrip()[:1] not in "{[<":
            for pair in body.split("&"):
                yield from pair.split("=", 1)


def _list_leaves(document: Any, depth: int) -> Iterator[str]:
    if depth > _DEPTH_MAX:
        return
    if isinstance(document, dict):
        for name, value in document.items():
            yield str(name)
            yield from _list_leaves(value, depth + 1)
    elif isinstance(document, list):
        for value in document:
            yield from _list_leaves(value, depth + 1)
    elif isinstance(document, str):
        yield document

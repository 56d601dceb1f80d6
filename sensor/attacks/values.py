"""The values of a request as a server would decode them: percent signs up to three times, entities, escapes, JSON,
forms of both kinds, base64."""

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from sensor.attacks.forms import is_multipart, list_fields
from sensor.attacks.request import Part, Request, Value, find_part, is_passed_over

VALUE_BYTES_MAX = 8_192  # Of one value; what is longer is read so far.
VALUES_MAX = 200  # Of one request.
_ROUNDS = 3
_DEPTH_MAX = 8
_SEPARATOR = re.compile(r"[&;](?=[^&;=]*=)|&")
_COOKIES = re.compile(r";\s*")
_REFERRED: Final = re.compile(r"[?&]")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|%u([0-9a-fA-F]{4})")
_COMMENT = re.compile(r"/\*!?\d*(.{0,200}?)\*/", re.DOTALL)
_FORM_PARTS: Final = frozenset({Part.QUERY_NAME, Part.QUERY, Part.FIELD})
_OTHER_BODIES: Final = ("{", "[", "<", "")  # How bodies begin that are no form, and do not say what they are.
# Two bytes that old decoders took for `.`, `/` and `\`.
_OVERLONG = {b"\xc0\xae": b".", b"\xc0\xaf": b"/", b"\xc1\x9c": b"\\", b"\xc0\x2f": b"/", b"\xc0\x5c": b"\\"}
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{10,}={0,2}\Z")
_PRINTED_MIN: Final = 0.9  # Of what base64 gives, or it was none.
# Marks that databases and browsers fold to those of ASCII, and entities that browsers know in small letters only.
_FOLDED: Final = str.maketrans("\u2018\u2019\u02bc\u201c\u201d", "'''\"\"")
# `<` and `>` with the high bit set, which readers of seven bits drop.
_HIGH_BIT: Final = re.compile("\u00bc(\\w[^\u00bc\u00be]*)\u00be([^\u00bc\u00be]*)\u00bc/(\\w+)[^\u00bc\u00be]?\u00be")
_ENTITIES: Final = re.compile(r"&(tab|newline|colon);", re.IGNORECASE)


def list_values(request: Request) -> list[Value]:
    """Names and values of a request, decoded, at most VALUES_MAX."""
    found: list[Value] = []
    for part, text in _split(request):
        found += (Value(part, value) for value in read_value(text, is_form=part in _FORM_PARTS))
        if len(found) >= VALUES_MAX:
            break
    return found[:VALUES_MAX]


def read_value(value: str, *, is_form: bool = True) -> list[str]:
    """A value decoded; of JSON its names and leaves; of base64 both readings. `is_form`: a plus is a blank."""
    decoded = decode(value, is_form=is_form)
    bare = decoded.strip()
    if bare[:1] in ("{", "[") and bare[-1:] in ("}", "]"):
        leaves = _read_json(value if value.lstrip()[:1] == bare[:1] else bare)
        if leaves is not None:
            return leaves
    return _read_all(decoded)


def decode(value: str, *, is_form: bool = True) -> str:
    """As a server, its framework and a browser may decode it one after the other. Never raises."""
    # JSON may hold half a pair of surrogates, which has no UTF-8.
    text = value[:VALUE_BYTES_MAX].encode("utf-8", "replace").decode("utf-8")
    if is_form:
        text = text.replace("+", " ")
    for _ in range(_ROUNDS):
        raw = unquote_to_bytes(text)
        for overlong, plain in _OVERLONG.items():
            raw = raw.replace(overlong, plain)
        plainer = raw.decode("utf-8", "replace")
        if plainer == text:
            break
        text = plainer
    if "&" in text:
        text = html.unescape(_ENTITIES.sub(lambda found: {"t": "\t", "n": "\n", "c": ":"}[found[1][0].lower()], text))
    text = _ESCAPE.sub(lambda found: chr(int(next(group for group in found.groups() if group), 16)), text)
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _HIGH_BIT.sub(r"<\1>\2</\3>", text)).translate(_FOLDED)


def _read_all(text: str) -> list[str]:
    """A decoded text as it is, without its comments, and what it holds in base64."""
    found = [text]
    if "/*" in text:
        found.append(_COMMENT.sub(r" \1 ", text))
    hidden = _read_base64(text.strip())
    if hidden:
        found.append(decode(hidden, is_form=False))
    return found


def _split(request: Request) -> Iterator[Value]:
    yield Value(Part.PATH, request.path)
    for pair in _SEPARATOR.split(request.query):
        name, _, value = pair.partition("=")
        if name:
            yield Value(Part.QUERY_NAME, name)
        if value:
            yield Value(Part.QUERY, value)
    for name, value in request.headers:
        if name == "cookie":
            for pair in _COOKIES.split(value):
                yield from (Value(Part.TEXT, text) for text in pair.split("=", 1) if text)
        elif not is_passed_over(name, value):
            yield Value(find_part(name), value)
            if name == "referer":  # Analytics take its parameters apart.
                yield from (Value(Part.TEXT, pair.partition("=")[2]) for pair in _REFERRED.split(value)[1:])
    if request.body:
        yield from _split_body(request.body, request.content_type)


def _split_body(body: str, content_type: str) -> Iterator[Value]:
    if is_multipart(content_type):
        yield from list_fields(body)
        return
    is_form = "form-urlencoded" in content_type or (not content_type and body.lstrip()[:1] not in _OTHER_BODIES)
    if not is_form or "=" not in body:
        yield Value(Part.FIELD if is_form else Part.TEXT, body)
    else:
        for pair in body.split("&"):
            yield from (Value(Part.FIELD, text) for text in pair.split("=", 1) if text)


def _read_json(text: str) -> list[str] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return [value for leaf in _list_leaves(document, 0) for value in _read_all(decode(leaf, is_form=False))][
        :VALUES_MAX
    ]


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


def _read_base64(text: str) -> str:
    """What a value holds in base64, where that is text; else empty."""
    if not _BASE64.match(text):
        return ""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(plain) % 4 == 1:
        return ""
    try:
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return ""
    printed = sum(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in raw)
    return raw.decode("latin-1") if printed >= _PRINTED_MIN * len(raw) else ""

"""Type and format of one value, by JSON Schema's words: `string/uuid`, `integer`; pure, a value in and a word out.

Formats are those of OpenAPI's registry that a text shows by its own form. Text of a query, a header or a form has no
type of its own: it is read as what it looks like.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sensor.bodies.text import Text

MAX_TEXT_CHARACTERS: Final = 256  # Longer texts have no format that is looked for.
_FORMATS: Final = (
    ("uuid", re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")),
    ("date-time", re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)?\Z")),
    ("date", re.compile(r"\d{4}-\d\d-\d\d\Z")),
    ("time", re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?\Z")),
    ("duration", re.compile(r"P(?=[\dT])(?:\d+[YMWD])*(?:T(?:\d+(?:\.\d+)?[HMS])+)?\Z")),
    ("email", re.compile(r"[^@\s]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\Z")),
    ("uri", re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,31}://\S+\Z")),
)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})\Z")
_NUMBER: Final = re.compile(r"-?\d{1,17}\.\d{1,17}\Z")
_INT32_MAX: Final = 1 << 31


def name_type(value: object) -> str:
    """`null`, `boolean`, `integer/int32`, `integer/int64`, `number`, `string`, `string/FORMAT`, `array`, `object`."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer/int32" if -_INT32_MAX <= value < _INT32_MAX else "integer/int64"
        case float():
            return "number"
        case Text():
            return _name_untyped(value)
        case str():
            return _name_text(value)
        case bytes():
            return "string/binary"
        case list():
            return "array"
    return "object"


def _name_untyped(text: str) -> str:
    if _INTEGER.match(text):
        return name_type(int(text))
    if text in ("true", "false"):
        return "boolean"
    return "number" if _NUMBER.match(text) else _name_text(text)


def _name_text(text: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS:
        return "string"
    for name, pattern in _FORMATS:
        if pattern.match(text):
            return f"string/{name}"
    if "." in text or ":" in text:
        try:
            address: IPv4Address | IPv6Address = ip_address(text)
        except ValueError:
            return "string"
        return f"string/ipv{address.version}"
    return "string"

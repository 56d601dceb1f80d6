"""Type and format of one value, by JSON Schema's words: `string/uuid`, `integer`; pure, a value in and a word out.

Formats are those of OpenAPI's registry that a text shows by its own form. Text of a query, a header or a form has no
type of its own: it is read as what it looks like.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sensor.bodies.text import Text

MAX_TEXT_CHARACTERS: Final = 256  # Longer texts have no format that is looked for.
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d(?:([Tt ])\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d:?\d\d)?)?\Z")
_TIME: Final = re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)?\Z")
_DURATION: Final = re.compile(r"P(?=[\dT])(?:\d+[YMWD])*(?:T(?:\d+(?:\.\d+)?[HMS])+)?\Z")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+\Z")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,31}://\S+\Z")
_UUID_CHARACTERS: Final = 36
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
    """One or two characters tell which form is worth a look: 0.3 us for most texts."""
    if not text or len(text) > MAX_TEXT_CHARACTERS:
        return "string"
    if "@" in text:
        return "string/email" if _EMAIL.match(text) else "string"
    if "://" in text:
        return "string/uri" if _URI.match(text) else "string"
    if len(text) == _UUID_CHARACTERS and _UUID.match(text):
        return "string/uuid"
    if text[0] in "0123456789":
        return _name_digits(text)
    if text[0] == "P" and _DURATION.match(text):
        return "string/duration"
    return _name_address(text) if text.count(":") > 1 else "string"


def _name_digits(text: str) -> str:
    found = _DATE_TIME.match(text) if text[4:5] == "-" else None
    if found is not None:
        return "string/date-time" if found[1] else "string/date"
    if text[2:3] == ":" and _TIME.match(text):
        return "string/time"
    is_address = text.count(":") > 1 or (text.count(".") == 3 and text.replace(".", "").isdigit())
    return _name_address(text) if is_address else "string"


def _name_address(text: str) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return "string"
    return f"string/ipv{address.version}"

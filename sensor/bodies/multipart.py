"""The parts of a multipart form (RFC 7578): a body in, its fields out; files as `Binary`, by their name only."""

import re
from typing import Final

from sensor.bodies.text import Binary, Text

PARTS_MAX: Final = 128
TEXT_BYTES_MAX: Final = 4_096  # Of one field that is looked at.
_BOUNDARY_MAX: Final = 72  # RFC 2046, section 5.1.1, and the two dashes.
# Preceded by no letter, so that the one in `filename=` is none.
_NAME: Final = re.compile(rb'(?<![\w*])name="((?:[^"\\]|\\.){1,256})"', re.IGNORECASE)
_FILE: Final = re.compile(rb"(?<![\w])filename\*?=", re.IGNORECASE)


def read_multipart(data: bytes, is_complete: bool) -> dict[str, object]:
    """Fields by name; the last part of a body that was cut is left out. Raises ValueError where the body is none."""
    line, mark, _ = data.partition(b"\r\n")
    if not mark or not line.startswith(b"--") or len(line) > _BOUNDARY_MAX:
        raise ValueError("the body does not begin with a boundary")
    parts = (b"\r\n" + data).split(b"\r\n" + line)[1 : PARTS_MAX + 1]
    if not is_complete and len(parts) > 1:
        parts.pop()
    fields: dict[str, list[object]] = {}
    for part in parts:
        head, blank, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not blank or name is None:
            continue
        is_file = _FILE.search(head) is not None
        value: object = Binary() if is_file else Text(content[:TEXT_BYTES_MAX].decode("utf-8", "replace"))
        fields.setdefault(name[1].decode("utf-8", "replace"), []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}

"""The fields of a multipart form that attackers fill: names, names of files, values. Pure.

Reads more forms than servers should take: line ends of one byte, and parts without a name. Of a file only its name and
a beginning of text are given.
"""

import re
from collections.abc import Iterator
from typing import Final

from sensor.attacks.request import Part, Value

PARTS_MAX: Final = 64
_TEXT_MAX: Final = 4_096  # Characters of one field.
_NAME: Final = re.compile(r"""(?<![\w*])name\s*=\s*(?:"((?:[^"\\]|\\.){0,256})"|([^;\s"]{1,256}))""", re.IGNORECASE)
_FILE: Final = re.compile(
    r"""filename(?:\*\s*=\s*[\w-]*'[\w-]*'([^;\s]{0,256})|\s*=\s*(?:"((?:[^"\\]|\\.){0,256})"|([^;\s"]{1,256})))""",
    re.IGNORECASE,
)
_CHARSET: Final = re.compile(
    r"""^content-type:[^\n]*;\s*charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE | re.MULTILINE
)
_BLANK_LINE: Final = re.compile(r"\r?\n\r?\n")


def is_multipart(content_type: str) -> bool:
    """Whether a body is to be read by this module."""
    return content_type.lower().startswith("multipart/")


def list_fields(body: str) -> Iterator[Value]:
    """Names and values; nothing of a body that begins with no boundary."""
    boundary = body[:256].lstrip().split("\n", 1)[0].rstrip("\r")
    if not boundary.startswith("--"):
        return
    for part in body.split(boundary)[1 : PARTS_MAX + 1]:
        head, *rest = _BLANK_LINE.split(part, maxsplit=1)
        file = _FILE.search(head)
        if file is not None:
            yield Value(Part.FILE, file[1] or file[2] or file[3] or "")
        name = _NAME.search(head)
        if name is not None:
            yield Value(Part.TEXT, name[1] or name[2] or "")
        charset = _CHARSET.search(head)
        if charset is not None:
            yield Value(Part.CHARSET, charset[1])
        if rest:
            yield Value(Part.TEXT, rest[0][:_TEXT_MAX].strip("\r\n"))

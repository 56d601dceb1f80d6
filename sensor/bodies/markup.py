"""Text and markup as values with names: HTML, broken XML and plain text in, what the classifier reads out.

A value is named by what stands before it: the cell, label or element before, or the words before a colon. Nothing is
parsed into a tree: a page is cut at its tags, in time linear in its length.
"""

import re
from html import unescape
from itertools import pairwise
from typing import Final

# Pieces of a page that are looked at, from its beginning; the classifier asks 8 values of each name.
PIECES_MAX: Final = 1_000
LABEL_WORDS_MAX: Final = 6
LABEL_CHARACTERS_MAX: Final = 60
# Of plain text, what is looked at as one: the classifier reads so far.
PART_CHARACTERS: Final = 4_096
_UNSHOWN = re.compile(r"<(script|style)\b[^>]{0,500}>.{0,65536}?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]{0,2000}>")
_FIELD = re.compile(r"<input\b([^<>]{0,1000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\b(name|value)\s*=\s*(?:"([^"<>]{0,500})"|'([^'<>]{0,500})')""", re.IGNORECASE)
_NAMED = re.compile(r"(?:^|[\s;,|(])([A-Za-z][A-Za-z _.-]{1,40}?)[ \t]{0,2}[:=][ \t]{0,2}([^\s,;<>\"'|]{3,100})")
_ELEMENT = re.compile(r"<(?:[\w.-]{1,60}:)?([\w.-]{1,60})\b[^<>]{0,500}>([^<>]{1,500})</")

Values = list[dict[str, str]]


def read_html(text: str) -> Values:
    """A page: texts by the text before them, inputs by their names."""
    shown = _UNSHOWN.sub(" ", text)
    found = [dict([_read_input(match.group(1))]) for match in _FIELD.finditer(shown)]
    pieces = [piece for piece in (unescape(part).strip() for part in _TAG.split(shown)) if piece]
    for before, piece in pairwise(["", *pieces[:PIECES_MAX]]):
        found.append({_as_label(before): piece})
        found += _read_named(piece)
    return found


def read_elements(text: str) -> Values:
    """Of XML that is broken: elements with a text, by their names (else sensor/bodies/elements.py)."""
    return [{match.group(1): unescape(match.group(2)).strip()} for match in _ELEMENT.finditer(text)]


def read_text(text: str) -> Values:
    """Plain text in parts, and what its lines name."""
    parts = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
    found: Values = [{str(number): part} for number, part in enumerate(parts)]
    for part in parts:
        found += _read_named(part)
    return found


def _read_named(text: str) -> Values:
    return [{match.group(1): match.group(2)} for match in _NAMED.finditer(text)]


def _read_input(attributes: str) -> tuple[str, str]:
    given = {
        match.group(1).lower(): match.group(2) or match.group(3) or "" for match in _ATTRIBUTE.finditer(attributes)
    }
    return given.get("name", ""), unescape(given.get("value", ""))


def _as_label(text: str) -> str:
    is_label = len(text) <= LABEL_CHARACTERS_MAX and len(text.split()) <= LABEL_WORDS_MAX
    return text.rstrip(":* ") if is_label else ""

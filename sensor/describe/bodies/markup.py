"""Reads pages and plain texts as named values: HTML, broken XML and text.

A value is named by what stands before it and is a label: the heading of its column or row, a term, a `<label>`, or
words before a colon. Links, buttons, headings and options are neither labels nor values, so a page's navigation
(`Change password`, `Log out`) names nothing. A text that nothing names is looked at all the same. The page is cut at
its tags, in time linear in its length.
"""

import re
from html import unescape
from typing import Final

from sensor.sensitive.kinds import Prose

# Pieces of a page that are looked at, from its beginning; the classifier asks 8 values of each name.
PIECES_MAX: Final = 1_000
COLUMNS_MAX: Final = 64
OPEN_MAX: Final = 32  # Elements in elements; end tags may be missing.
LABEL_WORDS_MAX: Final = 6
LABEL_CHARACTERS_MAX: Final = 60
# Of plain text, what is looked at as one: the classifier reads so far.
PART_CHARACTERS: Final = 4_096
_UNSHOWN = re.compile(r"<(script|style)\b[^>]{0,500}>.{0,65536}?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(?:(/?)([A-Za-z][A-Za-z0-9]{0,15})\b)?[^<>]{0,2000}>")
_FIELD = re.compile(r"<input\b([^<>]{0,1000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"""\b(name|value|type)\s*=\s*(?:"([^"<>]{0,500})"|'([^'<>]{0,500})'|([^\s"'<>=]{1,200}))""", re.IGNORECASE
)
# Words before a colon or an equals sign, and a run of words with capitals or else one word behind it.
_NAMED = re.compile(
    r"(?:^|[\s;,|(])([A-Za-z][A-Za-z _.-]{1,40}?)[ \t]{0,2}[:=][ \t]{0,2}"
    r"([^\W\d_a-z][^\s,;:<>\"'|]{0,40}(?: [^\W\d_a-z][^\s,;:<>\"'|]{0,40}){1,3}|[^\s,;<>\"'|]{3,100})"
)
_ELEMENT = re.compile(r"<(?:[\w.-]{1,60}:)?([\w.-]{1,60})\b[^<>]{0,500}>([^<>]{1,500})</")
_LABEL = re.compile(r"[^\W\d_][\w '’()-]*\Z")
# Elements whose text is an action or a heading.
_ACTIONS: Final = frozenset(("a", "button", "option", "summary", "title", "legend", "h1", "h2", "h3", "h4", "h5", "h6"))
# Elements whose text names what follows it; others name it if it is another cell, or by a colon.
_LABELS: Final = frozenset(("th", "dt", "label"))
_CELLS: Final = frozenset(("td", "dd"))
# Where a submit button's value is its own text.
_BUTTON_TYPES: Final = frozenset(("submit", "button", "reset", "image"))

Pairs = list[tuple[str, str]]
Values = list[object]


def read_html(text: str) -> Values:
    """A page: rows of its tables, inputs, texts that something names, and all other texts."""
    shown = _UNSHOWN.sub(" ", text)
    page = _Page()
    page.named += [_read_input(match.group(1)) for match in _FIELD.finditer(shown)]
    start = 0
    for tag in _TAG.finditer(shown):
        page.add_text(shown[start : tag.start()])
        start = tag.end()
        if tag[2]:
            page.add_tag(tag[2].lower(), is_end=bool(tag[1]))
        if page.count >= PIECES_MAX:
            break
    else:
        page.add_text(shown[start:])
    return [{"rows": page.rows}, {"named": _group(page.named)}, _cut("\n".join(page.texts))]


def _group(pairs: Pairs) -> list[dict[str, str]]:
    """Objects of names that follow each other: `Name`, `Email`, then the next `Name`."""
    found: list[dict[str, str]] = []
    for name, value in pairs:
        if not found or name in found[-1]:
            found.append({})
        found[-1][name] = value
    return found


class _Page:
    """A page that is read from its beginning: which element a text is in, and which column."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self.named: Pairs = []
        self.texts: list[str] = []
        self.count = 0
        self._elements = [""]  # Open ones that say what their text is; the last is the innermost.
        self._label = ""
        self._label_element = ""
        self._header: dict[int, str] = {}  # Of the table: texts of its row of headings, by column.
        self._row: dict[int, str] = {}  # Of the row so far: texts of its headings.
        self._cells: dict[str, str] = {}  # Of the row so far: cells by their headings.
        self._column = -1
        self._is_heading = False  # The row has headings only.

    def add_tag(self, name: str, *, is_end: bool) -> None:
        """Opens or closes an element."""
        if name == "table":
            self._header, self._row, self._column = {}, {}, -1
        elif name == "tr":
            if self._is_heading and len(self._row) > 1 and not self._header:
                self._header = self._row
            if self._cells:
                self.rows.append(self._cells)
            self._row, self._cells, self._column, self._is_heading = {}, {}, -1, True
        elif name in ("th", "td") and not is_end:
            self._column += 1
            self._is_heading &= name == "th"
        if name not in _ACTIONS and name not in _LABELS and name not in _CELLS:
            return
        if not is_end:
            if len(self._elements) < OPEN_MAX:
                self._elements.append(name)
        elif name in self._elements:
            del self._elements[len(self._elements) - 1 - self._elements[::-1].index(name) :]

    def add_text(self, text: str) -> None:
        """One text between two tags."""
        piece = unescape(text).strip()
        if not piece:
            return
        self.count += 1
        element = self._elements[-1]
        if element == "a":  # A cell that is a link is a cell.
            element = next((one for one in reversed(self._elements) if one in _CELLS or one in _LABELS), element)
        column = self._header.get(self._column) if element in ("td", "th") else None
        if column is not None:
            self._cells.setdefault(column, Prose(piece))
        elif name := self._find_name(element):
            self.named.append((name, Prose(piece)))
        else:
            self.texts.append(Prose(piece))
        if element == "th" and column is None and len(self._row) < COLUMNS_MAX:
            self._row.setdefault(self._column, piece)
        self.named += _read_named(piece)
        self._label, self._label_element = piece, element

    def _find_name(self, element: str) -> str:
        """What the label before it names a text; empty where that is not a label."""
        label = self._label
        if element in _ACTIONS or element in _LABELS or self._label_element in _ACTIONS:
            return ""
        if len(label) > LABEL_CHARACTERS_MAX or len(label.split()) > LABEL_WORDS_MAX:
            return ""
        has_colon = label.endswith(":")
        label = label.rstrip(":* ")
        if not _LABEL.match(label):
            return ""
        is_named = has_colon or self._label_element in _LABELS or (element in _CELLS and self._label_element in _CELLS)
        return label if is_named else ""


def read_elements(text: str) -> Values:
    """Of XML that is broken: elements with a text, by their names."""
    return list(_group([(match.group(1), unescape(match.group(2)).strip()) for match in _ELEMENT.finditer(text)]))


def read_text(text: str) -> Values:
    """Plain text in parts, and what its lines name."""
    return [_cut(text), {"named": _group(_read_named(text))}]


def _cut(text: str) -> dict[str, str]:
    """Parts of a text by their numbers: each is a field of its own, so all are looked at."""
    starts = range(0, len(text), PART_CHARACTERS)
    return {str(number): text[start : start + PART_CHARACTERS] for number, start in enumerate(starts)}


def _read_named(text: str) -> Pairs:
    return [(match.group(1), Prose(match.group(2))) for match in _NAMED.finditer(text)]


def _read_input(attributes: str) -> tuple[str, str]:
    given = {match[1].lower(): match[2] or match[3] or match[4] or "" for match in _ATTRIBUTE.finditer(attributes)}
    is_button = given.get("type", "").lower() in _BUTTON_TYPES
    return given.get("name", ""), "" if is_button else unescape(given.get("value", ""))

"""A decoded body as values and a number of records, by its media type: JSON, JSON lines, CSV, forms (multipart too),
HTML, XML and text.

Images and what is not named here are not read. A body that is cut gives what came before the cut; the number of
records is then of that part.
"""

import csv
import io
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

import msgspec
from pydantic_core import from_json

from sensor.bodies.elements import read_xml
from sensor.bodies.markup import read_html, read_text
from sensor.bodies.multipart import read_multipart
from sensor.bodies.records import find_records, spread
from sensor.bodies.text import Binary, Text

FORM_FIELDS_MAX: Final = 512
CSV_COLUMNS_MAX: Final = 256
_BLANKS: Final = b" \t\r\n"
# Text holds no zero bytes, but a few may be an accident; compressed or random data has one in 256.
_NULLS_MAX: Final = 3
_BYTES_A_NULL: Final = 1_024


class Document(msgspec.Struct, frozen=True, gc=False):
    """What is in a body. `values`: for the classifier; private to the node."""

    values: object
    records: int | None  # None where the type has none (forms).
    is_list: bool = False
    tree: object = None  # All that was read, its envelope too, for the schema; private to the node.

    def __repr__(self) -> str:
        return f"Document(records={self.records}, redacted)"


class _UnreadableError(ValueError):
    """The body is not what its type says."""


def read_document(data: bytes, media_type: str, *, is_complete: bool) -> Document | None:
    """None where the type is none that is read. Raises ValueError where the body is not of its type."""
    reader = _find_reader(media_type, data)
    return None if reader is None else reader(data, is_complete)


def is_protobuf(media_type: str) -> bool:
    """Whether a type that is not read is known to be protobuf; messages of gRPC are, unless they say otherwise."""
    return media_type in _PROTOBUF or media_type.endswith("+proto")


def _read_markup(data: bytes, is_complete: bool) -> Document:
    return Document(read_html(data.decode("utf-8", "replace")), None, tree=Binary())


def _read_elements(data: bytes, is_complete: bool) -> Document:
    found = read_xml(data, is_complete=is_complete)
    if found is None:
        raise _UnreadableError("no element of XML")
    return Document(found.values, found.records, found.is_list, Binary())


def _read_plain(data: bytes, is_complete: bool) -> Document:
    return Document(read_text(data.decode("utf-8", "replace")), None, tree=Binary())


def _find_reader(media_type: str, data: bytes) -> Callable[[bytes, bool], Document] | None:
    reader = _READERS.get(media_type)
    if reader is None and media_type.endswith("+json"):
        reader = _read_json
    if reader is None and media_type.endswith("+xml"):
        reader = _read_elements
    if media_type in ("", "text/plain") and data.lstrip(_BLANKS)[:1] in (b"{", b"["):
        reader = _read_json  # Servers that forget the type, or mean well with it.
    if reader is _read_plain and data.count(b"\0") > _NULLS_MAX + len(data) // _BYTES_A_NULL:
        return None  # Servers say text where they know no better: nginx of a file without an extension.
    return reader


def _read_json(data: bytes, is_complete: bool) -> Document:
    # A cut string or number is left out: it may be another than it seems.
    value = from_json(data, allow_partial=not is_complete)
    records = find_records(value)
    if records is None:
        return Document(value, 1, tree=value)
    return Document(spread(records), len(records), True, value)


def _read_lines(data: bytes, is_complete: bool) -> Document:
    lines = data.splitlines()
    if lines and not is_complete and not data.endswith(b"\n"):
        lines.pop()
    lines = [line for line in lines if line.strip(b"\x1e \t")]
    values = [from_json(line.lstrip(b"\x1e")) for line in spread(lines)]
    return Document(values, len(lines), True, values)


def _read_csv(data: bytes, is_complete: bool) -> Document:
    lines = data.decode("utf-8", "replace").splitlines(keepends=True)
    if len(lines) > 1 and not is_complete and not lines[-1].endswith("\n"):
        lines.pop()
    if not lines:
        return Document([], 0, True)
    delimiter = max(",;\t|", key=lines[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO("".join(lines), newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise _UnreadableError(str(error)) from None
    if not rows:
        return Document([], 0, True)
    names = rows[0][:CSV_COLUMNS_MAX]
    if not all(name.strip() and not any(c.isdigit() for c in name[:1]) for name in names):
        return Document(spread(rows), len(rows), True)  # No line of names.
    records = [dict(zip(names, row, strict=False)) for row in spread(rows[1:])]
    typed = [{name: Text(text) for name, text in record.items()} for record in records]
    return Document(records, len(rows) - 1, True, typed)


def _read_form(data: bytes, is_complete: bool) -> Document:
    text = data.decode("utf-8", "replace")
    if not is_complete:
        text = text.rpartition("&")[0]
    fields = parse_qs(text, max_num_fields=FORM_FIELDS_MAX)
    typed = {name: [Text(value) for value in values] for name, values in fields.items()}
    return Document(
        {name: values if len(values) > 1 else values[0] for name, values in fields.items()},
        None,
        tree={name: values if len(values) > 1 else values[0] for name, values in typed.items()},
    )


def _read_multipart(data: bytes, is_complete: bool) -> Document:
    fields = read_multipart(data, is_complete)
    return Document(fields, None, tree=fields)


_PROTOBUF: Final = frozenset(
    (
        "application/grpc",
        "application/grpc-web",
        "application/proto",
        "application/protobuf",
        "application/x-protobuf",
        "application/vnd.google.protobuf",
    )
)
_READERS: Final[dict[str, Callable[[bytes, bool], Document]]] = {
    "text/html": _read_markup,
    "application/xhtml+xml": _read_markup,
    "text/xml": _read_elements,
    "application/xml": _read_elements,
    "text/plain": _read_plain,
    "application/json": _read_json,
    "text/json": _read_json,
    "text/x-json": _read_json,
    "application/x-ndjson": _read_lines,
    "application/ndjson": _read_lines,
    "application/jsonl": _read_lines,
    "application/x-jsonlines": _read_lines,
    "application/json-lines": _read_lines,
    "application/jsonlines": _read_lines,
    "application/json-seq": _read_lines,
    "application/stream+json": _read_lines,
    "text/csv": _read_csv,
    "application/csv": _read_csv,
    "text/tab-separated-values": _read_csv,
    "application/x-www-form-urlencoded": _read_form,
    "multipart/form-data": _read_multipart,
}

"""Reads a decoded body as named values and a number of records: JSON, JSON lines, CSV, forms, HTML, XML and text.

Other media types, such as images, are not read. A body that is cut gives what came before the cut, and the number of
records is that of this part (sensor/describe/bodies/records.py). Streams of messages are
sensor/describe/bodies/streams.py, pages and texts sensor/describe/bodies/markup.py.

XML, parsed by Expat (xml.etree): an element is its text, or an object if it has attributes or elements. Elements of one
name beside each other are a list. An attribute may name a text (`<field name="email">`). Prefixes are dropped. Of a
long list only the records that are looked at become values. A document that declares entities is not parsed.

Multipart forms (RFC 7578): fields by name, with files as `Binary`.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

import msgspec
from pydantic_core import from_json

from sensor.describe.bodies.markup import read_elements, read_html, read_text
from sensor.describe.bodies.records import ENVELOPE_DEPTH_MAX, find_records, is_of_page, name_rows, spread
from sensor.describe.bodies.streams import (
    find_calls,
    find_cut_event,
    has_endpoint_event,
    may_hold_calls,
    read_messages,
    split_envelopes,
    split_events,
    split_frames,
    split_lines,
    split_sequence,
)
from sensor.sensitive.kinds import Binary, Text

EVENTS: Final = "text/event-stream"
AWS_EVENTS: Final = "application/vnd.amazon.eventstream"
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


ELEMENTS_MAX: Final = 4_000  # That become values; the classifier looks at no more.
DEPTH_MAX: Final = 40  # The classifier goes 32 deep.
_NAME_CHARACTERS_MAX: Final = 60
# Attributes that say what an element's text is.
_NAMING: Final = ("name", "key", "id")
_MARKS_OF_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class Elements(NamedTuple):
    """`values`: for the classifier, private to the node; `records`: None where nobody knows."""

    values: object
    records: int | None
    is_list: bool


def read_xml(data: bytes, *, is_complete: bool) -> Elements | None:
    """None where there is no element. Never raises."""
    root, is_broken = _parse(data, is_complete=is_complete)
    if root is None or is_broken:
        values = read_elements(data.decode("utf-8", "replace"))
        if root is not None:
            values.append({_strip(root.tag): _Converter().convert(root, 0)})
        return Elements(values, None, False) if values else None
    items = _find_list(root)
    converter = _Converter()
    if items is None:
        return Elements({_strip(root.tag): converter.convert(root, 0)}, 1, False)
    return Elements([converter.convert(item, 0) for item in spread(items)], len(items), True)


def _parse(data: bytes, *, is_complete: bool) -> tuple[Element | None, bool]:
    """The outermost element with all that was read of it, and whether something is wrong with the rest."""
    if data[:2] in _MARKS_OF_UTF_16:
        text: str | bytes = data.decode("utf-16", "replace")
        is_refused = "<!ENTITY" in text
    else:
        text = data
        is_refused = b"<!ENTITY" in data or b"\0" in data[:4]  # As UTF-16 without a mark, where none is found.
    if is_refused:
        return None, True
    parser: XMLPullParser[Element] = XMLPullParser(("start",))
    root: Element | None = None
    try:
        parser.feed(text)
        first = next(parser.read_events(), None)
        if first is not None and isinstance(first[-1], Element):
            root = first[-1]
        for _ in parser.read_events():  # An error stands behind the events before it.
            pass
        if is_complete:
            parser.close()
    except (ParseError, ValueError, LookupError):  # An encoding that is none.
        return root, True
    return root, False


def _find_list(root: Element) -> list[Element] | None:
    """The elements that are the answer; None where the document is one record. As find_records does it of JSON."""
    element = root
    for _ in range(ENVELOPE_DEPTH_MAX + 2):  # SOAP has two more around its answer.
        if not len(element):
            return None if element.attrib or (element.text or "").strip() else []
        tags = {child.tag for child in element}
        own = {tag for tag in tags if not is_of_page(_strip(tag))}
        if _strip(element.tag) == "Envelope":
            own = {tag for tag in tags if _strip(tag) == "Body"} or own
        if len(own) != 1:
            return None
        items = element.findall(own.pop())
        if len(items) > 1:
            return items if len(items[0]) or items[0].attrib else None
        element = items[0]
    return None


class _Converter:
    """Elements to values, ELEMENTS_MAX of them."""

    def __init__(self) -> None:
        self._left = ELEMENTS_MAX

    def convert(self, element: Element, depth: int) -> object:
        self._left -= 1
        text = (element.text or "").strip()
        if not len(element) and not element.attrib:
            return text
        found: dict[str, object] = {_strip(name): value for name, value in element.attrib.items()}
        if text:
            naming = next((found[name] for name in _NAMING if name in found), "")
            is_named = isinstance(naming, str) and 0 < len(naming) <= _NAME_CHARACTERS_MAX
            found[str(naming) if is_named else _strip(element.tag)] = text
        lists: set[str] = set()
        if depth < DEPTH_MAX:
            for child in element:
                if self._left <= 0:
                    break
                _add(found, lists, _strip(child.tag), self.convert(child, depth + 1))
        return found


def _add(found: dict[str, object], lists: set[str], name: str, value: object) -> None:
    """A further value of a name makes a list of them."""
    known = found.get(name)
    if known is None:
        found[name] = value
    elif name in lists and isinstance(known, list):
        known.append(value)
    else:
        found[name] = [known, value]
        lists.add(name)


def _strip(name: object) -> str:
    """A name without its namespace; comments and instructions have none."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""


# Types of RPCs whose messages are JSON, each behind a flag and its length.
_ENVELOPED: Final = ("application/connect+", "application/grpc+", "application/grpc-web+")
_LISTS: Final = re.compile(rb"\[\s*\[")
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
    calls: Sequence[dict[str, Any]] = ()  # Messages of JSON-RPC that `tree` has in another form.
    messages: Sequence[bytes] = ()  # All of a stream of events, of which `tree` has some.
    cut: bytes = b""  # The last event of a stream of events that was cut, as far as it came.
    has_endpoint_event: bool = False  # It is a stream of MCP's older transport.

    def __repr__(self) -> str:
        return f"Document(records={self.records}, redacted)"


class _UnreadableError(ValueError):
    """The body is not what its type says."""


def read_document(data: bytes, media_type: str, *, is_complete: bool) -> Document | None:
    """None where the type is none that is read. Raises ValueError where the body is not of its type."""
    reader = _find_reader(media_type, data)
    return None if reader is None else reader(data, is_complete)


def read_tree(tree: dict[str, object] | list[object]) -> Document:
    """A document of messages that were parsed elsewhere; of several each is a record."""
    if isinstance(tree, list):
        return Document(spread(tree), len(tree), True, spread(tree))
    return _make_document(tree, may_have_tables=False)


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
        reader = _read_enveloped if media_type.startswith(_ENVELOPED) else _read_json
    if reader is None and media_type.endswith("+json-seq"):
        reader = _read_sequence
    if reader is None and media_type.endswith("+xml"):
        reader = _read_elements
    if media_type in ("", "text/plain") and data.lstrip(_BLANKS)[:1] in (b"{", b"["):
        reader = _read_json  # Servers that forget the type, or mean well with it.
    if reader is _read_plain and data.count(b"\0") > _NULLS_MAX + len(data) // _BYTES_A_NULL:
        return None  # Servers say text where they know no better: nginx of a file without an extension.
    return reader


def _read_json(data: bytes, is_complete: bool) -> Document:
    try:
        # A cut string or number is left out: it may be another than it seems.
        value = from_json(data, allow_partial=not is_complete)
    except ValueError:
        if b"\n" not in data.strip(_BLANKS):
            raise
        return _read_messages(split_lines(data, is_complete=is_complete))  # Some streams of lines say they are JSON.
    return _make_document(value, may_have_tables=_LISTS.search(data) is not None)


def _make_document(value: object, *, may_have_tables: bool) -> Document:
    table = name_rows(value) if may_have_tables else None
    if table is not None:
        return Document(table.value, table.records, True, table.value, find_calls(value))
    records = find_records(value)
    if records is None:
        return Document(value, 1, tree=value)
    return Document(spread(records), len(records), True, value)


def _read_lines(data: bytes, is_complete: bool) -> Document:
    return _read_messages(split_lines(data, is_complete=is_complete))


def _read_sequence(data: bytes, is_complete: bool) -> Document:
    return _read_messages(split_sequence(data, is_complete=is_complete))


def _read_events(data: bytes, is_complete: bool) -> Document:
    messages = split_events(data, is_complete=is_complete)
    document = None
    if not messages or any(message.lstrip()[:1] in (b"{", b"[", b'"') for message in messages):
        try:
            document = _read_messages(messages)
        except ValueError:
            if not any(map(may_hold_calls, messages)):
                raise
    if document is None:
        document = Document(read_text(b"\n".join(messages).decode("utf-8", "replace")), None, tree=Binary())
    cut = b"" if is_complete else find_cut_event(data)
    return msgspec.structs.replace(document, messages=messages, cut=cut, has_endpoint_event=has_endpoint_event(data))


def _read_enveloped(data: bytes, is_complete: bool) -> Document:
    return _read_messages(split_envelopes(data))


def _read_frames(data: bytes, is_complete: bool) -> Document:
    messages = split_frames(data)
    return msgspec.structs.replace(_read_messages(messages), messages=messages)


def _read_messages(messages: list[bytes]) -> Document:
    """Of several messages each is a record; one is a document; pieces of one text are put together."""
    found = read_messages(messages)
    if found.single is not None:
        may_have_tables = any(_LISTS.search(message) for message in messages)
        return _make_document(found.single, may_have_tables=may_have_tables)
    if not found.joined:
        return Document(found.values, found.records, found.is_list, found.tree)
    texts = [{name: read_text(one) if isinstance(one, str) else one} for name, one in found.joined]
    return Document([found.values, *texts], found.records, found.is_list, found.tree)


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
        "application/grpc", "application/grpc-web", "application/proto", "application/protobuf",
        "application/x-protobuf", "application/vnd.google.protobuf", "application/connect+proto",
    )
)  # fmt: skip
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
    "text/jsonl": _read_lines,
    "application/x-jsonl": _read_lines,
    "application/x-jsonlines": _read_lines,
    "application/json-lines": _read_lines,
    "application/jsonlines": _read_lines,
    "application/json-seq": _read_sequence,
    EVENTS: _read_events,
    AWS_EVENTS: _read_frames,
    "application/stream+json": _read_lines,
    "text/csv": _read_csv,
    "application/csv": _read_csv,
    "text/tab-separated-values": _read_csv,
    "application/x-www-form-urlencoded": _read_form,
    "multipart/form-data": _read_multipart,
}

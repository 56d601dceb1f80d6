"""Finds the records of a parsed document: a list, a list in a usual envelope, the rows of a table, or the answer to a
call.

An envelope is known by its keys (JSON:API, OData, HAL, Relay, Spring, Elasticsearch and others), or by having only page
fields beside its one list. Everything else is one record.

A table is a list of lists with the names of its columns beside it, around it or as its first row, as databases and data
frames write it. `name_rows` makes objects of its rows, so a column is a field like any other. A table by columns
(`{"fields": [..], "values": [[..], [..]]}`, one list a column) is turned.

An answer of JSON-RPC is its `result`. A tool's answer of MCP is its `structuredContent`, else the JSON in its texts.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

import msgspec

ENVELOPE_DEPTH_MAX: Final = 4
# Of a list, so many records are looked at, evenly spread: what a field holds shows in few of them.
CLASSIFIED_RECORDS_MAX: Final = 8
Item = TypeVar("Item")
# Keys whose value is the answer itself, the surest first.
_ENVELOPES: Final = (
    *("data", "items", "results", "result", "value", "values", "records", "rows", "entries", "edges", "nodes"),
    *("elements", "objects", "resources", "content", "contents", "documents", "docs", "hits", "list", "collection"),
    *("response", "payload", "_embedded", "page_items", "body"),
)
# Beside a list: what is said of the page and not of a record.
_PAGE_KEYS: Final = frozenset(
    (
        *("count", "total", "total_count", "totalcount", "totalitems", "total_items", "totalresults", "total_results"),
        *("totalelements", "totalpages", "total_pages", "size", "page", "pages", "page_size", "pagesize", "per_page"),
        *("perpage", "limit", "offset", "start", "skip", "top", "first", "last", "next", "prev", "previous", "self"),
        *("cursor", "next_cursor", "nextcursor", "next_page_token", "nextpagetoken", "next_token", "nexttoken"),
        *("has_more", "hasmore", "has_next", "hasnext", "more", "pageinfo", "page_info", "pagination", "paging"),
        *("meta", "metadata", "_meta", "_metadata", "links", "_links", "status", "success", "ok", "code", "message"),
        *("error", "errors", "took", "timed_out", "took_ms", "version", "kind", "object", "type", "timestamp"),
        *("request_id", "requestid", "@odata.context", "@odata.count", "@odata.nextlink", "has_previous", "number"),
        *("query", "filters", "sort", "included", "jsonapi", "empty", "numberofelements", "pageable", "max_score"),
    )
)


def is_of_page(name: str) -> bool:
    """Whether a field of this name beside a list says something of the page and not of a record."""
    return name.lower() in _PAGE_KEYS


def spread(items: list[Item]) -> list[Item]:
    """Those that are looked at."""
    if len(items) <= CLASSIFIED_RECORDS_MAX:
        return items
    return [items[i * len(items) // CLASSIFIED_RECORDS_MAX] for i in range(CLASSIFIED_RECORDS_MAX)]


def find_records(value: object) -> list[object] | None:
    """The list that is the answer; None where the document is one record."""
    value = open_call(value)
    for _ in range(ENVELOPE_DEPTH_MAX):
        if isinstance(value, list):
            return value
        if not isinstance(value, dict):
            return None
        inner = _open(value)
        if inner is None:
            return None
        value = inner
    return value if isinstance(value, list) else None


def _open(document: dict[object, object]) -> object | None:
    """What is in an envelope; None where it is none."""
    keys = {str(key).lower(): key for key in document}
    own = [key for key in keys if key not in _PAGE_KEYS]
    for name in _ENVELOPES:
        # A record may have a field of such a name; an envelope has little else.
        if name in keys and len(own) <= 1 and isinstance(document[keys[name]], list | dict):
            return document[keys[name]]
    if len(own) == 1:
        inner = document[keys[own[0]]]
        # {"users": [..], "total": 7}; and one step of {"data": {"users": {"edges": [..]}}}.
        if isinstance(inner, list) and all(isinstance(one, dict) for one in inner[:1]):
            return inner
        if isinstance(inner, dict) and len(keys) == 1:
            return inner if _open(inner) is not None else None
    return None


class Table(NamedTuple):
    """A document whose rows are objects, CLASSIFIED_RECORDS_MAX of each table; private to the node."""

    value: object
    records: int


HOLDERS_MAX: Final = 64  # Objects of a document that are searched for tables.
HOLDER_DEPTH_MAX: Final = 6
COLUMNS_MAX: Final = 256
# Of an object that describes a column, what holds its name.
_COLUMN_NAMES: Final = ("name", "column_name", "columnName", "field", "key", "id", "label", "title", "text")
_HEADER: Final = re.compile(r"[^\W\d][\w .#/()-]{0,59}\Z")
_COLUMN_WORDS: Final = frozenset(
    ("name", "id", "email", "mail", "phone", "date", "time", "address", "city", "country", "type", "status", "number")
)
_Names = list[str]


def name_rows(document: object) -> Table | None:
    """The document with objects for the rows of its tables; None where it has none. Never raises. Cost: 2 us an object
    that is searched, and only of documents with lists in lists."""
    search = _TableSearch()
    value = search.convert(document, (), 0)
    return Table(value, search.records) if search.is_found else None


class _TableSearch:
    """One document: counts what is looked at and what is found."""

    def __init__(self) -> None:
        self.is_found = False
        self.records = 0
        self._left = HOLDERS_MAX

    def convert(self, value: object, around: tuple[_Names, ...], depth: int) -> object:
        """`around`: names of columns that stand beside the holders of this value."""
        if depth > HOLDER_DEPTH_MAX or self._left <= 0:
            return value
        if isinstance(value, list):
            if value and isinstance(value[0], list):
                rows = self._name(value, around)
                return value if rows is None else rows
            if value and isinstance(value[0], dict):
                return [self.convert(one, around, depth + 1) for one in value[:HOLDERS_MAX]] + value[HOLDERS_MAX:]
            return value
        if not isinstance(value, dict):
            return value
        self._left -= 1
        if not any(isinstance(one, dict | list) for one in value.values()):
            return value
        around = (*_find_names(value, 0), *around)
        return {key: self.convert(one, around, depth + 1) for key, one in value.items()}

    def _name(self, rows: list[object], around: tuple[_Names, ...]) -> list[object] | None:
        """Objects for some rows; counts them all."""
        width = len(rows[0]) if isinstance(rows[0], list) else 0
        looked = [row for row in spread(rows) if isinstance(row, list)]
        is_even = 0 < width <= COLUMNS_MAX and all(len(row) == width for row in looked)
        names = next((one for one in around if len(one) == width), None) if is_even else None
        if names is not None:
            return self._add(names, looked, len(rows))
        columns = [column for column in rows if isinstance(column, list)]
        names = next((one for one in around if len(one) == len(rows) == len(columns)), None)
        if names is not None and len({len(column) for column in columns}) == 1:
            places = spread(list(range(width)))
            return self._add(names, [[column[place] for column in columns] for place in places], width)
        header = _read_header(rows) if is_even else None
        return self._add(header, looked[1:], len(rows) - 1) if header is not None else None

    def _add(self, names: _Names, rows: list[list[object]], count: int) -> list[object]:
        self.is_found = True
        self.records += count
        return [dict(zip(names, row, strict=False)) for row in rows]


def _find_names(holder: dict[object, object], depth: int) -> Iterator[_Names]:
    """Lists of names in an object, and in those two levels below it."""
    for value in holder.values():
        if isinstance(value, list) and 0 < len(value) <= COLUMNS_MAX:
            if all(isinstance(one, str) and one for one in value):
                yield value
            elif isinstance(value[0], dict) and (names := _read_columns(value)) is not None:
                yield names
        elif isinstance(value, dict) and depth < 2:
            yield from _find_names(value, depth + 1)


def _read_columns(columns: list[object]) -> _Names | None:
    """Names in objects that describe columns; different ones, or none."""
    for key in _COLUMN_NAMES:
        names = [one[key] for one in columns if isinstance(one, dict) and isinstance(one.get(key), str)]
        if len(names) == len(columns) == len(set(names)):
            return names
    return None


def _read_header(rows: list[object]) -> _Names | None:
    """The first row, where it names columns: words, all different, one of which is a usual name, or that stand above
    something else than words."""
    first, second = rows[0], rows[1] if len(rows) > 1 else None
    if not isinstance(first, list) or not isinstance(second, list) or len(set(map(str, first))) < len(first):
        return None
    if not all(isinstance(one, str) and _HEADER.match(one) for one in first):
        return None
    is_usual = any(word.lower() in _COLUMN_WORDS for name in first for word in re.split(r"[\W_]+", name))
    is_above = any(not (isinstance(one, str) and _HEADER.match(one)) for one in second)
    return list(first) if is_usual or is_above else None


_CALL_KEYS: Final = frozenset(("jsonrpc", "id", "result", "error"))


def is_answer(value: object) -> bool:
    """Whether a message is the answer to a call of JSON-RPC."""
    return isinstance(value, dict) and "jsonrpc" in value and "result" in value and value.keys() <= _CALL_KEYS


def open_call(value: object) -> object:
    """What a call of JSON-RPC or a tool of MCP answers; everything else as it is."""
    if not isinstance(value, dict) or not is_answer(value):
        return value
    result = value["result"]
    if not isinstance(result, dict) or not isinstance(result.get("content"), list):
        return result
    structured = result.get("structuredContent")
    if structured is not None:
        return structured
    texts = [one.get("text") for one in result["content"] if isinstance(one, dict)]
    found = [_parse(text) for text in texts if isinstance(text, str)]
    return found[0] if len(found) == 1 else found if found and all(one is not None for one in found) else result


def _parse(text: str) -> object:
    """None where a text is no JSON."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return msgspec.json.decode(str(text))  # Not of a subclass of str.
    except (ValueError, RecursionError):
        return None

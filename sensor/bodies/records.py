"""How many records a parsed document holds: a list, a list in one of the usual envelopes, or one object.

An envelope is known by its keys (the pages of JSON:API, OData, HAL, Relay, Spring, Elasticsearch and many others), or
by having nothing beside its one list but what pages have. Everything else is one record, whatever lists are in it.
"""

from typing import Final, TypeVar

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

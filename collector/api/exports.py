"""/exports: a whole list in one file, as CSV with the columns of the command line or as JSON.

A list is asked page after page, by its own route and with its own parameters. It ends after ROWS_MAX rows, or where the
time of a request is nearly over; then the name of the file, a header and the JSON say so, and another header has the
cursor with which the next file begins. Each file is an entry of the audit log.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from fastapi.routing import APIRoute

from collector.api.columns import LIST_COLUMNS, Column, pick, write_cell
from collector.api.export_log import ExportLog
from collector.core.budget import find_budget
from collector.inventory.filters import LIMIT_MAX, ListQuery

ROWS_MAX: Final = 10_000
LEFT_SECONDS: Final = 5.0  # Of the time of a request, that one more page may take.
MEDIA_TYPES: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json", "jsonl": "application/jsonl"}
LINED: Final = frozenset({"audit"})  # Lists of which there is a file with a JSON line an item.
_ReadPage = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Rows of a list, and how many it has; `total` None where its route does not count them."""

    items: list[dict[str, Any]]
    next_cursor: str
    total: int | None

    @property
    def is_complete(self) -> bool:
        """Whether no item comes after these."""
        return not self.next_cursor

    def name_file(self, path: str, form: str) -> str:
        """`endpoints.csv`, or `endpoints-first-10000-of-100000.csv`."""
        of_all = f"-of-{self.total}" if self.total else ""
        part = "" if self.is_complete else f"-first-{len(self.items)}{of_all}"
        return f"{path.replace('/', '-')}{part}.{form}"


def read_export(read_page: _ReadPage, query: ListQuery) -> Export:
    """All rows of a list, as far as that goes."""
    items: list[dict[str, Any]] = []
    budget, cursor, total = find_budget(), query.cursor, None
    while True:
        page = read_page(query.model_copy(update={"limit": min(LIMIT_MAX, ROWS_MAX - len(items)), "cursor": cursor}))
        found = page.model_dump(mode="json", by_alias=True)
        items += found["items"]
        total = found.get("total", total)
        cursor = found["next_cursor"] or ""
        left = None if budget is None else budget.left_seconds
        if not cursor or len(items) >= ROWS_MAX or (left is not None and left < LEFT_SECONDS):
            return Export(items=items, next_cursor=cursor, total=total)


def write_csv(items: Iterable[Mapping[str, Any]], columns: Iterable[Column]) -> str:
    """A heading and a row for each item; no cell is a formula."""
    chosen = list(columns)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180.
    writer.writerow([column.name for column in chosen])
    writer.writerows([[write_cell(pick(item, column.place)) for column in chosen] for item in items])
    return text.getvalue()


def build_export_routes(routers: Iterable[APIRouter], log: ExportLog) -> APIRouter:
    """A route for each form of each list among these routes that has columns."""
    router = APIRouter(tags=["exports"])
    for path, read_page, kind in _find_lists(routers):
        for form in MEDIA_TYPES if path in LINED else ("csv", "json"):
            _add_export(router, path, form, read_page, kind, log)
    return router


def _find_lists(routers: Iterable[APIRouter]) -> Iterator[tuple[str, _ReadPage, type[ListQuery]]]:
    for router in routers:
        for route in router.routes:
            path = route.path.strip("/") if isinstance(route, APIRoute) else ""
            if isinstance(route, APIRoute) and path in LIST_COLUMNS and "GET" in (route.methods or ()):
                query = signature(route.endpoint).parameters["query"].annotation
                yield path, route.endpoint, query.__origin__


def _add_export(
    router: APIRouter, path: str, form: str, read_page: _ReadPage, kind: type[ListQuery], log: ExportLog
) -> None:
    def export(query: Annotated[kind, Query()]) -> Response:  # type: ignore[valid-type]
        wish: ListQuery = query
        found = read_export(read_page, wish)
        asked = wish.model_dump(mode="json", exclude_defaults=True, exclude={"limit", "cursor"})
        log.note("list", f"{path}.{form}", asked, rows=len(found.items), is_complete=found.is_complete)
        if form == "csv":
            content = write_csv(found.items, LIST_COLUMNS[path])
        elif form == "jsonl":
            content = "".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in found.items)
        else:
            whole = {"items": found.items, "total": found.total, "is_complete": found.is_complete}
            content = json.dumps(whole, ensure_ascii=False)
        return Response(
            content.encode("utf-8", "replace"),
            media_type=MEDIA_TYPES[form],
            headers={
                "content-disposition": f'attachment; filename="{found.name_file(path, form)}"',
                "apidae-complete": "true" if found.is_complete else "false",
                **({"apidae-next-cursor": found.next_cursor} if found.next_cursor else {}),
            },
        )

    router.add_api_route(
        f"/exports/{path}.{form}",
        export,
        methods=["GET"],
        name=f"export_{path.replace('/', '_')}_{form}",
        summary=f"Export {path} as {form.upper()}",
        description=f"The same list with the same parameters, all rows up to {ROWS_MAX:,}; `limit` does not matter. "
        "The header `apidae-complete` is `false`, and the name of the file says so, where there are more; ask with "
        "`cursor` set to the header `apidae-next-cursor` for these. Each file is an entry of the audit log.",
        response_class=Response,
        responses={200: {"content": {MEDIA_TYPES[form].partition(";")[0]: {}}, "description": "The file."}},
    )

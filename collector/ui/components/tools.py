"""What a list shows beside its filters: its views, and links to the whole list as files."""

from collections.abc import Mapping
from dataclasses import dataclass

from collector.api.exports import ROWS_MAX
from collector.inventory.views import SavedView, ViewTable, read_query, write_query


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTools:
    """What a list shows beside its filters: its views, a form that saves the present one, and links to the whole list
    as files. `current` is the view that has these filters, None where no view has them. `limit_note` says where the
    files end, empty where they have everything."""

    list: str
    views: tuple[SavedView, ...]
    current: SavedView | None
    query: str
    csv_link: str
    json_link: str
    limit_note: str


def build_tools(table: ViewTable, list_name: str, asked: Mapping[str, str], total: int, export: str = "") -> ListTools:
    """The tools of a list; `asked` are the parameters of its page and `export` its name among the exports, where that
    is another. Raises StoreError."""
    views, query = table.list_views(list_name), write_query(asked)
    present = read_query(query)
    file = f"/api/v1/exports/{export or list_name}"
    return ListTools(
        list=list_name,
        views=views,
        current=next((view for view in views if read_query(view.query) == present), None),
        query=query,
        csv_link=f"{file}.csv?{query}" if query else f"{file}.csv",
        json_link=f"{file}.json?{query}" if query else f"{file}.json",
        limit_note=f"the first {ROWS_MAX:,} of {total:,} rows" if total > ROWS_MAX else "",
    )

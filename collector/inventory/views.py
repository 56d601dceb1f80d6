"""Views: filters of a list saved under a name, for everybody. Some come with the product.

A view keeps the query as a query string, so it is at once a link, the parameters of a route and the options of a
command. Whoever saves under a name that is there replaces that view; the built-in ones stay.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Final
from urllib.parse import parse_qsl, urlencode

from collector.core.errors import ConflictError
from collector.inventory.query import Versions
from collector.storage.base import Store
from collector.storage.records import read_record, select

VIEWS_MAX: Final = 300
NAME_CHARACTERS_MAX: Final = 80
QUERY_CHARACTERS_MAX: Final = 2_000
BUILT_IN: Final = "apidae"
_ID_BYTES: Final = 8
_LIST: Final = "SELECT * FROM list_views FINAL WHERE is_deleted = 0 ORDER BY name, id"
# Name and query by list, in the order in which they are shown.
_BUILT_IN: Final[Mapping[str, Mapping[str, str]]] = {
    "endpoints": {
        "Personal data without authentication from outside": (
            "data=response:personal&auth=none&exposure=external&sort=risk"
        ),
        "Reachable from outside without authentication": "auth=none&exposure=external&sort=risk",
        "Critical findings": "finding=critical&sort=risk",
        "High risk": "risk_min=70&sort=risk",
        "New since yesterday": "first_seen_since=yesterday&sort=first_seen",
        "Server errors in the last hour": "since=1h&status=5xx&sort=errors",
        "Shadow endpoints": "spec=shadow&sort=risk",
        "Silent for a week": "since=30d&last_seen_before=7d&sort=last_seen",
    },
    "findings": {"Open critical findings": "state=open&severity=critical"},
    "alerts": {"Open alerts of high severity": "state=open&severity=high&sort=severity"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """One view. `list` is the list's name in the API and the path of its page; `query` a query string without the
    page. `by` and `time` (unix seconds) are of who saved it last; of a built-in one `apidae` and 0."""

    id: str
    list: str
    name: str
    query: str
    by: str
    time: float

    @property
    def is_built_in(self) -> bool:
        """Whether it came with the product."""
        return self.by == BUILT_IN

    @property
    def path(self) -> str:
        """Of the page that shows it."""
        return f"/{self.list}?{self.query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRecord:
    """One row of `list_views`."""

    id: str
    list: str
    name: str
    query: str
    by: str
    time: float
    is_deleted: bool
    version: int


def identify_view(list_name: str, name: str) -> str:
    """The same list and name, the same id."""
    return hashlib.blake2b(f"{list_name}\x1f{name}".encode(), digest_size=_ID_BYTES).hexdigest()


def write_query(asked: Mapping[str, str]) -> str:
    """A query string, without what is empty and without the page."""
    return urlencode({name: value for name, value in asked.items() if value and name not in ("cursor", "limit")})


def read_query(query: str) -> dict[str, str]:
    """The parameters of a query string."""
    return dict(parse_qsl(query.removeprefix("?")))


def list_built_in() -> tuple[SavedView, ...]:
    """Those that come with the product."""
    return tuple(
        SavedView(
            id=identify_view(list_name, name),
            list=list_name,
            name=name,
            query=write_query(read_query(query)),
            by=BUILT_IN,
            time=0.0,
        )
        for list_name, views in _BUILT_IN.items()
        for name, query in views.items()
    )


class ViewTable:
    """The views in the store. Blocks; raises StoreError."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._versions = Versions(store, "list_views", clock=clock)
        self._deciding = Lock()

    def list_views(self, list_name: str = "") -> tuple[SavedView, ...]:
        """Of one list or of all: the built-in ones, then by name."""
        saved = (read_record(SavedView, row) for row in select(self._store, _LIST))
        return tuple(one for one in (*list_built_in(), *saved) if list_name in ("", one.list))

    def save(self, list_name: str, name: str, asked: Mapping[str, str], *, by: str) -> SavedView:
        """Save filters, which the caller has checked. Raises ConflictError for the name of a built-in view, and where
        there are too many."""
        view = SavedView(
            id=identify_view(list_name, name),
            list=list_name,
            name=name,
            query=write_query(asked),
            by=by,
            time=self._clock(),
        )
        with self._deciding:
            known = {one.id: one for one in self.list_views()}
            if view.id in known and known[view.id].is_built_in:
                raise ConflictError(f"The view {name!r} comes with the product; choose another name.")
            if view.id not in known and len(known) >= VIEWS_MAX:
                raise ConflictError(f"There are {VIEWS_MAX} views; delete one first.")
            self._write(view, is_deleted=False)
        return view

    def delete(self, view_id: str, *, by: str) -> SavedView | None:
        """Delete a view for everybody; None where there is none. Raises ConflictError for a built-in one."""
        with self._deciding:
            view = next((one for one in self.list_views() if one.id == view_id), None)
            if view is None:
                return None
            if view.is_built_in:
                raise ConflictError(f"The view {view.name!r} comes with the product and stays.")
            gone = SavedView(id=view.id, list=view.list, name=view.name, query=view.query, by=by, time=self._clock())
            self._write(gone, is_deleted=True)
        return gone

    def _write(self, view: SavedView, *, is_deleted: bool) -> None:
        record = ViewRecord(
            id=view.id,
            list=view.list,
            name=view.name,
            query=view.query,
            by=view.by,
            time=view.time,
            is_deleted=is_deleted,
            version=self._versions.take(),
        )
        self._store.insert_records("list_views", [record])

"""Views: filters of a list saved under a name, for everybody. Some come with the product.

A view keeps the query as a query string, so it is at once a link, the parameters of a route and the options of a
command. Whoever saves under a name that is there replaces that view; the built-in ones stay.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote_plus, urlencode

from sqlalchemy import Connection, delete, func, select

from collector.core.errors import ConflictError
from collector.storage.records import read_record
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, lock_table, read_row, upsert
from collector.storage.state.tables.inventory import VIEWS
from collector.trust.audit import add_entries, make_entry

VIEWS_MAX: Final = 300
NAME_CHARACTERS_MAX: Final = 80
QUERY_CHARACTERS_MAX: Final = 2_000
BUILT_IN: Final = "apidae"
_ID_BYTES: Final = 8
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
    """The views in the state. Blocks; raises StoreError."""

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock

    def list_views(self, list_name: str = "") -> tuple[SavedView, ...]:
        """Of one list or of all: the built-in ones, then by name."""
        with self._state.read() as connection:
            saved = [read_row(SavedView, row) for row in connection.execute(select(VIEWS))]
        saved.sort(key=lambda view: (view.name, view.id))  # Databases sort texts in orders of their own.
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
        if _find_built_in(view.id) is not None:
            raise ConflictError(f"The view {name!r} comes with the product; choose another name.")
        with self._state.write() as connection:
            lock_table(connection, VIEWS)
            old = connection.execute(select(VIEWS).where(VIEWS.c.id == view.id)).first()
            others = connection.execute(select(func.count()).where(VIEWS.c.id != view.id)).scalar_one()
            if others + len(list_built_in()) >= VIEWS_MAX:
                raise ConflictError(f"There are {VIEWS_MAX} views; delete one first.")
            upsert(connection, VIEWS, [asdict(view)])
            before = None if old is None else {"query": unquote_plus(old.query)}
            after = {"query": unquote_plus(view.query)}
            entry = make_entry(view.time, by, "view.saved", f"{list_name}: {name}", before=before, after=after)
            add_entries(connection, [entry])
        return view

    def delete(self, view_id: str, *, by: str) -> SavedView | None:
        """Delete a view for everybody, and give it with who did so; None where there is none. Raises ConflictError for
        a built-in one."""
        if (built_in := _find_built_in(view_id)) is not None:
            raise ConflictError(f"The view {built_in.name!r} comes with the product and stays.")
        with self._state.write() as connection:
            row = connection.execute(select(VIEWS).where(VIEWS.c.id == view_id)).first()
            if row is None:
                return None
            connection.execute(delete(VIEWS).where(VIEWS.c.id == view_id))
            gone = read_row(SavedView, row, by=by, time=self._clock())
            before = {"query": unquote_plus(gone.query)}
            add_entries(
                connection, [make_entry(gone.time, by, "view.deleted", f"{gone.list}: {gone.name}", before=before)]
            )
        return gone

    def erase(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """Delete views that name a consumer; rows by table."""
        with self._state.write() as connection:
            rows = connection.execute(select(VIEWS.c.id, VIEWS.c.name, VIEWS.c.query)).all()
            ids = [row.id for row in rows if pattern.search(row.name) or pattern.search(unquote_plus(row.query))]
            connection.execute(delete(VIEWS).where(VIEWS.c.id.in_(ids)))
        return {VIEWS.name: len(ids)}


def import_views(connection: Connection, rows: OldRows) -> None:
    """Views that an earlier version kept in ClickHouse. Raises StoreError."""
    for found in rows.read("list_views", lambda row: None if row["is_deleted"] else read_record(SavedView, row)):
        upsert(connection, VIEWS, [asdict(view) for view in found if view is not None])


def _find_built_in(view_id: str) -> SavedView | None:
    return next((view for view in list_built_in() if view.id == view_id), None)

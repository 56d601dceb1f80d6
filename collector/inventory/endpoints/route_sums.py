"""Kept sums of what all consumers together did on each route, from which lists of endpoints and services are ranked."""

from collections.abc import Callable

from collector.inventory.endpoints.predicates import IN_SPAN
from collector.inventory.kept_sums import ROWS_MIN, KeptSums, SumsKeeper, choose_part
from collector.inventory.query import Span
from collector.storage.base import Store
from collector.storage.tables.calls import SUMMARY_ADDING

_COLUMNS = ", ".join(("role", "route_id", "time", *SUMMARY_ADDING))
_ADDED = ", ".join(f"{adding}(r.{name}) AS {name}" for name, adding in SUMMARY_ADDING.items())


class _Routes:
    """Rows like those of routes_hour, as of the first hour of the span. Nothing but their own rows changes them."""

    name = "route"
    key = "(role, route_id)"
    source = "routes_hour"
    chunk_rows = 500_000

    def look(self, store: Store, span: Span) -> object:
        return None

    def is_changed(self, store: Store, kept: KeptSums, span: Span) -> bool:
        return False

    def write_rows(self, chunks: int) -> str:
        return f"""
SELECT r.role AS role, r.route_id AS route_id, toDateTime({{start:UInt32}}, 'UTC') AS time, {_ADDED}
FROM {self.source} AS r
WHERE {IN_SPAN} AND {choose_part("r.route_id", chunks)}
GROUP BY r.role, r.route_id"""


class RouteSums(SumsKeeper):
    """Makes the sums, and gives what may be read instead of routes_hour."""

    def __init__(self, *, store: Store, clock: Callable[[], float], rows_min: int = ROWS_MIN) -> None:
        super().__init__(store=store, subject=_Routes(), clock=clock, rows_min=rows_min)

    def find_source(self, span: Span) -> str | None:
        """Rows that add up, over a span of hours, to the same as those of routes_hour. Raises StoreError."""
        kept = self.find(span)
        if kept is None:
            return None
        later = f"SELECT {_COLUMNS} FROM routes_hour WHERE time >= toDateTime({kept.until}, 'UTC')"
        return f"(SELECT {_COLUMNS} FROM {kept.table} UNION ALL {later})"

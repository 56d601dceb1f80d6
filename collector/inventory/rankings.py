"""Rankings that later pages are cut from.

The first page of a list ranks every endpoint anew. Who goes on to the next pages would have all of that done again for
each; so the second page keeps the ranking that it asked for, and the pages after it are cut from that, by the same
keyset, for as long as the question is about the same span: a minute at most (collector/inventory/span.py). A page then
costs what its own endpoints cost to measure, however many there are and whatever the list is sorted by. Who begins at
the first page again is never given a ranking of before it: what is new would be on no page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

from collector.inventory.counted import ConsumerSql
from collector.inventory.cursor import Cursor
from collector.inventory.question import EndpointQuestion, Order
from collector.inventory.ranking import rank
from collector.inventory.reader import Reader, select
from collector.inventory.span import Span

RANKINGS_MAX: Final = 4  # The oldest goes. One of 100,000 endpoints takes some 15 MB.
RANKED_MAX: Final = 200_000  # Of all of them; a list that is longer is ranked for each page.


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedEndpoint:
    """An endpoint's place in a list: what it is sorted by, its id, and of an operation that of its parent."""

    value: float | str
    id: str
    parent_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedPage:
    """At most so many as were asked for, whether there are more, and how many match in all."""

    items: Sequence[RankedEndpoint]
    has_more: bool
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranking:
    """A whole list in order, column by column."""

    values: Sequence[float | str]
    ids: Sequence[str]
    parents: Sequence[str]
    order: Order

    def cut(self, after: Cursor, limit: int) -> RankedPage:
        """What comes after the place."""
        start = self._find(after)
        stop = min(start + limit, len(self.ids))
        items = [
            RankedEndpoint(value=self.values[place], id=self.ids[place], parent_id=self.parents[place])
            for place in range(start, stop)
        ]
        return RankedPage(items=items, has_more=stop < len(self.ids), total=len(self.ids))

    def _find(self, after: Cursor) -> int:
        """The first place past a keyset, by halves."""
        low, high = 0, len(self.ids)
        bound: Any = (after.value, after.id)
        while low < high:
            middle = (low + high) // 2
            key: Any = (self.values[middle], self.ids[middle])
            is_past = key > bound if self.order is Order.ASCENDING else key < bound
            low, high = (low, middle) if is_past else (middle + 1, high)
        return low


class _Asked:
    """In place of a ranking that the store is asked for: gone where a first page was read meanwhile."""


class Rankings:
    """Thread-safe."""

    def __init__(self, reader: Reader, who: ConsumerSql) -> None:
        self._reader = reader
        self._who = who
        self._lock = Lock()
        # None: too long to be kept.
        self._kept: dict[tuple[str, Span], _Ranking | _Asked | None] = {}

    def read_page(self, question: EndpointQuestion, after: Cursor | None, *, has_operations: bool) -> RankedPage:
        """One page. Raises StoreError."""
        if after is None:
            with self._lock:
                self._kept.pop((question.fingerprint, question.span), None)
        else:
            ranking = self._find(question, has_operations=has_operations)
            if ranking is not None:
                return ranking.cut(after, question.limit)
        rows = self._select(question, after, has_operations=has_operations)
        shown = rows[: question.limit]
        return RankedPage(
            items=[RankedEndpoint(value=row["sort_value"], id=row["id"], parent_id=row["parent_id"]) for row in shown],
            has_more=len(rows) > question.limit,
            total=int(rows[0]["total"]) if rows else 0,
        )

    def _find(self, question: EndpointQuestion, *, has_operations: bool) -> _Ranking | None:
        name = (question.fingerprint, question.span)
        asked = _Asked()
        with self._lock:
            kept = self._kept.get(name, asked)
            if not isinstance(kept, _Asked):
                return kept
            self._kept[name] = asked
        rows = self._select(replace(question, limit=RANKED_MAX), None, has_operations=has_operations)
        ranking = None
        if len(rows) <= RANKED_MAX:
            values, ids, parents = ([row[column] for row in rows] for column in ("sort_value", "id", "parent_id"))
            ranking = _Ranking(values=values, ids=ids, parents=parents, order=question.order)
        with self._lock:
            if self._kept.get(name) is asked:
                self._kept[name] = ranking
            while len(self._kept) > RANKINGS_MAX or (len(self._kept) > 1 and self._count() > RANKED_MAX):
                del self._kept[next(iter(self._kept))]
        return ranking

    def _count(self) -> int:
        return sum(len(ranking.ids) for ranking in self._kept.values() if isinstance(ranking, _Ranking))

    def _select(
        self, question: EndpointQuestion, after: Cursor | None, *, has_operations: bool
    ) -> list[Mapping[str, Any]]:
        statement, parameters = rank(question, after, self._who, has_operations=has_operations)
        return list(select(self._reader, statement, parameters))

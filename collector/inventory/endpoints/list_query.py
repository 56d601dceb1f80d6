"""The statement that ranks endpoints (filters, sort and place in, ids of a page out), and rankings kept for later
pages.

The statement reads every endpoint. So it sums by route first, over the narrow summaries of routes where the span has
them. Then it joins one row a route with its endpoint's name. A filter on names is looked up first and leaves only its
routes to sum. No histogram is merged and no consumer counted unless the list is sorted by it. Cost with 100,000
endpoints: `scripts/bench inventory`.

The first page ranks every endpoint anew. The second page keeps the ranking that it asked for, and later pages are cut
from it by the same keyset. That holds for a question about the same span, a minute at most
(collector/inventory/query.py). A page then costs what its own endpoints cost to measure. A first page never comes from
an older ranking, because new endpoints would be on no page. Of a large store its answer may be some seconds old
(collector/storage/recent.py).

Sketches of 100,000 endpoints take the engine most of a second to merge. So a first page by consumers bounds their
number at each endpoint, and merges those alone that may be on the page.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from collector.core.kinds import AUTHENTICATION_UNKNOWN
from collector.core.scope import Scope, find_scope
from collector.inventory.endpoints.figure_sums import FigureSums, write_later
from collector.inventory.endpoints.filters import COVERAGE, EndpointQuery, EndpointSort, OperationView
from collector.inventory.endpoints.hops import restrict_hops
from collector.inventory.endpoints.operations import OPERATION_ID, OPERATIONS, sum_authenticated, sum_judged
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.inventory.endpoints.predicates import (
    AUTHENTICATED,
    AUTHENTICATION,
    CLIENT_ERROR,
    ERROR,
    EXACT_MAX,
    IN_SPAN,
    JUDGED,
    OUTCOME,
    PROTOCOL_BIT,
    SUCCESS,
    ConsumerSql,
    rows_table,
    span_parameters,
    summary_table,
)
from collector.inventory.endpoints.route_sums import RouteSums
from collector.inventory.filters import Order
from collector.inventory.kept_sums import KeptSums
from collector.inventory.query import Cursor, Rollup, Span
from collector.storage.records import Reader, select

# Figures of one route by name, over alias `r`: of the rows of calls, and of their summaries.
_LATENCY = "quantileExactWeightedArrayState(0.95)(r.duration.1, r.duration.2)"
_OF_ROWS: Mapping[str, str] = {
    "calls": "sum(r.calls)",
    "success": f"sumIf(r.calls, {SUCCESS})",
    "client_error": f"sumIf(r.calls, {CLIENT_ERROR})",
    "error": f"sumIf(r.calls, {ERROR})",
    "evaluated": f"sumIf(r.calls, {JUDGED})",
    "authenticated": f"sumIf(r.calls, {AUTHENTICATED})",
    "authentication": f"groupBitOrIf({AUTHENTICATION}, {JUDGED})",
    "protocols": f"groupBitOr({PROTOCOL_BIT})",
    "last_seen": "max(r.last_seen)",
    "latency": _LATENCY,
    "data": "groupUniqArrayArray(r.data.1)",
    "status": f"sumIf(r.calls, {OUTCOME} BETWEEN {{status_from:UInt16}} AND {{status_to:UInt16}})",
}
# Of kept figures, what a list by what the summaries lack needs. States are merged once, by endpoint.
_OF_FIGURES: Mapping[str, str] = {
    "calls": "r.calls",
    "consumers": "r.consumers_state",
    "status": "if(r.outcome BETWEEN {status_from:UInt16} AND {status_to:UInt16}, r.calls, 0)",
}
# Summaries of routes lack these, so rows of calls are read.
_OF_ROWS_ONLY = frozenset({"consumers", "status"})
_PROVEN = "r.route_id IN (SELECT route_id FROM proven_carriers)"
# How a figure adds up, and what of each row of the summaries.
_OF_SUMMARIES: Mapping[str, tuple[str, str]] = {
    "calls": ("sum", "r.calls"),
    "success": ("sum", "r.success_calls"),
    "client_error": ("sum", "r.client_error_calls"),
    "error": ("sum", "r.error_calls"),
    "evaluated": ("sum", "r.judged_calls"),
    "authenticated": ("sum", f"r.authenticated_calls + if({_PROVEN}, r.possible_calls, 0)"),
    "authentication": ("groupBitOr", "r.authentication"),
    "protocols": ("groupBitOr", "r.protocols"),
    "last_seen": ("max", "r.last_seen"),
    "data": ("groupUniqArrayArray", "r.data"),
}

# The same figures of one endpoint, over alias `a` of its routes and `n` of their names. The value at a quantile is a
# bucket of the histogram, by nearest rank, as in collector/inventory/endpoints/endpoint.py; an endpoint without any has
# 0.
_MERGED: Mapping[str, str] = {
    **{name: f"sum(a.{name})" for name in ("calls", "success", "client_error", "error", "evaluated", "authenticated")},
    "status": "sum(a.status)",
    "authentication": "groupBitOr(a.authentication)",
    "protocols": "groupBitOr(a.protocols)",
    "last_seen": "toUnixTimestamp(max(a.last_seen))",
    "latency": "quantileExactWeightedArrayMerge(0.95)(a.latency)",
    "data": "groupUniqArrayArray(a.data)",
    "consumers": "uniqCombined64IfMerge(12)(a.consumers)",
    "first_seen": "min(n.first_seen)",
    "score": "max(n.score)",
    "text": "max(concat(n.url_template, ' ', n.method, ' ', n.host))",
}
# With operations among them, which have their share of the calls of their endpoint.
_OWN = ("success", "client_error", "error", "evaluated", "authenticated")
_MERGED_WITH_OPERATIONS: Mapping[str, str] = {
    **_MERGED,
    "calls": "sum(a.calls * n.share)",
    **{name: f"sum(if(n.parent_id = '', toFloat64(a.{name}), a.calls * n.{name}))" for name in _OWN},
    "status": "sumIf(a.status, n.parent_id = '')",  # Of operations no status code is known.
    "authentication": "groupBitOr(if(n.parent_id = '', a.authentication, n.authentication))",
    "protocols": "groupBitOr(bitOr(a.protocols, n.bits))",
    "last_seen": "max(if(n.parent_id = '', toUnixTimestamp(a.last_seen), n.operation_last_seen))",
    "latency": "quantileExactWeightedArrayMergeIf(0.95)(a.latency, n.parent_id = '')",
    "data": "groupUniqArrayArray(if(n.parent_id = '', a.data, n.data))",
    "consumers": "greatest(uniqCombined64IfMergeIf(12)(a.consumers, n.parent_id = ''), max(n.consumers))",
    "text": "max(concat(n.url_template, ' ', n.method, ' ', n.host, ' ', n.operation))",
}

# Of kept rows, which hold histograms and no states. An endpoint has few of them. So each bucket and its count are a
# number, and their sorted array is added up: that takes a third of the time of 100,000 hash tables.
_SHIFT: Final = 1 << 48
_PAIRS: Final = f"arrayMap((bucket, count) -> bucket * {_SHIFT} + count, r.duration.1, r.duration.2)"


def find_p95(pairs: str) -> str:
    """The bucket at the 95th percentile of `pairs`, an expression of kept `latency`; 0 where there are none."""
    ordered = f"arraySort({pairs})"
    sums = f"arrayCumSum(one -> one % {_SHIFT}, {ordered})"
    return f"intDiv({ordered}[arrayFirstIndex(one -> one >= 0.95 * {sums}[-1], {sums})], {_SHIFT})"


_MERGED_OF_KEPT = {"latency": find_p95("groupArrayArray(a.latency)")}
_MERGED_OF_KEPT_WITH_OPERATIONS = {"latency": find_p95("groupArrayArrayIf(a.latency, n.parent_id = '')")}

_SCORES = "SELECT endpoint_id, toFloat64(score) AS score FROM endpoint_risks FINAL"
_STATES = frozenset({"latency", "consumers"})
_SUMMED = _OF_ROWS.keys() | _STATES  # The others are of names.


@dataclass(frozen=True, slots=True, kw_only=True)
class SortKey:
    """One sort: its expression over merged figures, alias `m`, the figures it needs, and the type of its values. No
    value may be NULL or NaN: a keyset must be able to pass it."""

    expression: str
    needs: tuple[str, ...]
    value_type: type[float] | type[str]


def _key(expression: str, *needs: str) -> SortKey:
    return SortKey(expression=f"toFloat64({expression})", needs=needs, value_type=float)


SORTS: Mapping[EndpointSort, SortKey] = {
    EndpointSort.CALLS: _key("m.calls"),
    EndpointSort.LAST_SEEN: _key("m.last_seen", "last_seen"),
    EndpointSort.FIRST_SEEN: _key("m.first_seen", "first_seen"),
    EndpointSort.TEMPLATE: SortKey(expression="m.text", needs=("text",), value_type=str),
    EndpointSort.P95: _key("m.latency", "latency"),
    EndpointSort.ERRORS: _key("m.error", "error"),
    # Without a 2xx call whose credentials could be seen there is nothing to judge: after everything that can be.
    EndpointSort.AUTHENTICATION: _key(f"if(m.evaluated = 0, 2., {COVERAGE})", "evaluated", "authenticated"),
    EndpointSort.CONSUMERS: _key("m.consumers", "consumers"),
    EndpointSort.RISK: _key("m.score", "score"),
}

_DATES = "SELECT route_id, toUnixTimestamp(min(first_seen)) AS first_seen FROM routes GROUP BY route_id"
# Names of endpoints, and of the operations among them, which have their parent's routes and the shares of its calls
# that their samples say. `described_id`: of whom API descriptions speak.
_PLAIN = """SELECT *, endpoint_id AS described_id, '' AS operation FROM endpoint_routes FINAL"""
_BESIDE_OPERATIONS = """SELECT e.*, e.endpoint_id AS described_id, '' AS parent_id, '' AS operation, 1. AS share,
        0. AS success, 0. AS client_error, 0. AS error, 0. AS evaluated, 0. AS authenticated,
        toUInt32(0) AS authentication, CAST([], 'Array(UInt16)') AS data, toUInt32(0) AS bits, toUInt64(0) AS consumers,
        toUInt32(0) AS operation_first_seen, toUInt32(0) AS operation_last_seen
    FROM endpoint_routes AS e FINAL"""
_OPERATIONS = f"""SELECT e.* REPLACE ({OPERATION_ID.format(endpoint="e.endpoint_id", operation="o")} AS endpoint_id),
        e.endpoint_id AS described_id, e.endpoint_id AS parent_id, o.name AS operation, o.share AS share,
        share * o.served / o.calls AS success, share * o.refused / o.calls AS client_error,
        share * o.failed / o.calls AS error, share * {sum_judged("o")} / o.calls AS evaluated,
        share * {sum_authenticated("o")} / o.calls AS authenticated,
        toUInt32(arrayReduce('groupBitOr', arrayFilter(b -> bitAnd(b, {AUTHENTICATION_UNKNOWN}) = 0,
            o.authentication.1))) AS authentication,
        o.data.1 AS data, o.bits AS bits, o.consumers AS consumers, o.first_seen AS operation_first_seen,
        o.last_seen AS operation_last_seen
    FROM (SELECT * FROM endpoint_routes FINAL WHERE route_id IN (SELECT route_id FROM operation_samples)) AS e
    INNER JOIN ({OPERATIONS}) AS o ON o.route_id = e.route_id
    WHERE o.last_seen = 0 OR o.last_seen >= {{start:UInt32}}"""


def _rank(
    query: EndpointQuery,
    span: Span,
    after: Cursor | None,
    who: ConsumerSql,
    hops: str,
    *,
    has_operations: bool,
    kept: str | None,
    figure_sums: KeptSums | None,
    candidates: Sequence[str] | None = None,
) -> tuple[str, dict[str, Any]]:
    """The statement that gives id, sort_value, parent_id (of operations) and total of one page and one row more, with
    its parameters. Without `has_operations` none are looked for, which takes the engine half the time to read. `hops`
    is the condition of `restrict_hops`, `kept` the source of `RouteSums.find_source`, `figure_sums` what
    `FigureSums.find` gives. `candidates`: the only endpoints that may be on the page, where that is known."""
    sort = SORTS[query.sort]
    has_operations = has_operations and query.operations is not OperationView.EXCLUDE
    conditions = query.build_conditions(span.asked_at or span.end)
    names = [one.sql for one in conditions if not one.columns]
    page, parameters = query.page(after, sort.value_type)
    parameters |= span_parameters(span)
    if candidates is not None:
        names.append("n.endpoint_id IN {candidates:Array(String)}")
        parameters["candidates"] = list(candidates)
    figures = {"calls", *sort.needs}
    for one in conditions:
        parameters |= one.parameters
        figures |= set(one.columns)
    merged = _MERGED_WITH_OPERATIONS if has_operations else _MERGED
    source = choose_source(span, figures, kept, figure_sums)
    if source.is_kept:
        merged = {**merged, **(_MERGED_OF_KEPT_WITH_OPERATIONS if has_operations else _MERGED_OF_KEPT)}
    columns = "".join(f", {merged[name]} AS {name}" for name in sorted(figures))
    parent = "any(n.parent_id)" if has_operations else "''"
    statement = f"""
WITH {_name(query, names, figures, has_operations=has_operations)}
SELECT id, sort_value, parent_id, total
FROM (
    SELECT m.id AS id, {sort.expression} AS sort_value, m.parent_id AS parent_id, count() OVER () AS total
    FROM (
        SELECT n.endpoint_id AS id, {parent} AS parent_id{columns}
        FROM ({sum_routes(source, figures & _SUMMED, bool(names), who)}) AS a
        INNER JOIN names AS n ON n.route_id = a.route_id
        WHERE (a.role = {ROLE_SERVER} OR a.route_id NOT IN ({HIDDEN_ROUTES})){hops}
        GROUP BY n.endpoint_id
    ) AS m
    WHERE {" AND ".join(["m.calls > 0", *(one.sql for one in conditions if one.columns)])}
)
{page}"""
    return statement, parameters


CANDIDATES_MAX: Final = 1_000  # Where more endpoints may be on the page, all are merged.
# An estimate is exact up to EXACT_MAX. Beyond, its standard deviation is 1.6 %; five of them, of both that are
# compared, are 20 %.
_ESTIMATE_SPREAD: Final = 1.2


def _bound_consumers(query: EndpointQuery, span: Span, hops: str, kept: KeptSums) -> tuple[str, dict[str, Any]]:
    """The statement that gives id, bounds of the number of consumers (`lower`, `upper`) and total, highest `upper`
    first, of one endpoint more than may be candidates, with its parameters. An endpoint has at least the consumers of
    one of its kept rows, and at most those of all and one for each later row."""
    parameters: dict[str, Any] = {**span_parameters(span), "candidates_max": CANDIDATES_MAX + 1}
    statement = f"""
WITH {_name(query, [], {"calls", "consumers"}, has_operations=False)}
SELECT id, upper, lower, count() OVER () AS total
FROM (
    SELECT n.endpoint_id AS id, sum(a.calls) AS calls, sum(a.consumers) AS upper, max(a.kept_consumers) AS lower
    FROM (
        SELECT r.role AS role, r.route_id AS route_id, r.calls AS calls, r.consumers AS consumers,
            r.consumers AS kept_consumers
        FROM {kept.table} AS r
        UNION ALL
        SELECT r.role AS role, r.route_id AS route_id, sum(r.calls) AS calls, count() AS consumers,
            toUInt64(0) AS kept_consumers
        FROM rows_minute AS r
        WHERE {write_later(span, kept)}
        GROUP BY r.role, r.route_id
    ) AS a
    INNER JOIN names AS n ON n.route_id = a.route_id
    WHERE (a.role = {ROLE_SERVER} OR a.route_id NOT IN ({HIDDEN_ROUTES})){hops}
    GROUP BY n.endpoint_id
    HAVING calls > 0
)
ORDER BY upper DESC
LIMIT {{candidates_max:UInt32}}"""
    return statement, parameters


def choose_candidates(bounds: Sequence[Mapping[str, Any]], rows: int) -> list[str] | None:
    """Ids of the endpoints that may be among the `rows` with most consumers, of rows of `_bound_consumers`. None where
    there may be more of them."""

    def bound(one: Mapping[str, Any]) -> tuple[float, float]:
        spread = _ESTIMATE_SPREAD if int(one["upper"]) > EXACT_MAX else 1
        return int(one["lower"]) / spread, int(one["upper"]) * spread

    bounded = [bound(one) for one in bounds]
    lowest = sorted((lower for lower, _ in bounded), reverse=True)
    least = lowest[rows - 1] if len(lowest) >= rows else 0.0
    chosen = [str(one["id"]) for one, (_, upper) in zip(bounds, bounded, strict=True) if upper >= least]
    return chosen if len(chosen) <= CANDIDATES_MAX else None


def _name(query: EndpointQuery, conditions: list[str], figures: set[str], *, has_operations: bool) -> str:
    """The `names` of the WITH clause: those that pass the conditions, with the date and the score that are compared."""
    chosen: tuple[str, ...] = (_PLAIN,)
    if has_operations:
        is_alone = query.operations is OperationView.ONLY
        chosen = (_OPERATIONS,) if is_alone else (_BESIDE_OPERATIONS, _OPERATIONS)
    branches = "\n    UNION ALL\n    ".join(chosen)
    columns, source = "n.*", f"({branches}) AS n"
    if "first_seen" in figures:
        date = "if(n.operation_first_seen > 0, n.operation_first_seen, f.first_seen)"
        columns += f", {date if has_operations else 'f.first_seen'} AS first_seen"
        source += f" LEFT JOIN ({_DATES}) AS f ON f.route_id = n.route_id"
    if "score" in figures:  # Not computed yet: 0.
        columns += ", k.score AS score"
        source += f" LEFT JOIN ({_SCORES}) AS k ON k.endpoint_id = n.endpoint_id"
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"names AS (SELECT {columns} FROM {source}{where})"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSource:
    """What routes are summed from: rows of calls, summaries, or kept sums, which are some rows a route at most.
    `within`: which of them. `beside`: a table of kept figures, to which the rows are those since."""

    rows: str
    has_calls: bool = False
    is_kept: bool = False
    within: str = IN_SPAN
    beside: str = ""


def choose_source(span: Span, figures: Set[str], kept: str | None, figure_sums: KeptSums | None = None) -> RouteSource:
    """The narrowest that has these figures; `kept` is the source of `RouteSums.find_source`, `figure_sums` what
    `FigureSums.find` gives."""
    if figure_sums is not None and not figures.isdisjoint(_OF_ROWS_ONLY) and figures <= _OF_FIGURES.keys():
        since = write_later(span, figure_sums)
        return RouteSource(rows="rows_minute", has_calls=True, within=since, beside=figure_sums.table)
    if span.rollup is Rollup.MINUTE or not span.has_summaries or not figures.isdisjoint(_OF_ROWS_ONLY):
        return RouteSource(rows=rows_table(span), has_calls=True)
    return RouteSource(rows=kept or summary_table(span), is_kept=kept is not None)


def sum_routes(source: RouteSource, figures: Set[str], is_filtered: bool, who: ConsumerSql) -> str:
    """Figures by route and role: one row each, with the state of the latency, or of kept sums the rows as they are,
    with the pairs of its histogram. To add up so few rows twice takes longer than to join them."""
    mine = " AND r.route_id IN (SELECT route_id FROM names)" * is_filtered
    if source.is_kept:
        columns = "".join(
            f", {_PAIRS if name == 'latency' else _OF_SUMMARIES[name][1]} AS {name}" for name in sorted(figures)
        )
        return f"""
            SELECT r.role AS role, r.route_id AS route_id{columns}
            FROM {source.rows} AS r
            WHERE {source.within}{mine}"""
    of_route = {name: f"{adding}({value})" for name, (adding, value) in _OF_SUMMARIES.items()} | {"latency": _LATENCY}
    if source.has_calls:
        of_route = {**_OF_ROWS, "consumers": who.state}
    columns = "".join(f", {of_route[name]} AS {name}" for name in sorted(figures))
    # States are large: merged in the order in which rows lie, they need no table of all routes at once.
    in_order = int(not figures.isdisjoint(_STATES))
    summed = f"""
            SELECT r.role AS role, r.route_id AS route_id{columns}
            FROM {source.rows} AS r
            WHERE {source.within}{mine}
            GROUP BY r.role, r.route_id
            SETTINGS optimize_aggregation_in_order = {in_order}"""
    if not source.beside:
        return summed
    columns = "".join(f", {_OF_FIGURES[name]} AS {name}" for name in sorted(figures))
    return f"""
            SELECT r.role AS role, r.route_id AS route_id{columns}
            FROM {source.beside} AS r
            WHERE true{mine}
            UNION ALL ({summed})"""


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
    """At most one more than the page has, and how many match in all."""

    items: Sequence[RankedEndpoint]
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
        places = range(start, min(start + limit + 1, len(self.ids)))
        items = [
            RankedEndpoint(value=self.values[place], id=self.ids[place], parent_id=self.parents[place])
            for place in places
        ]
        return RankedPage(items=items, total=len(self.ids))

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

    def __init__(
        self,
        reader: Reader,
        who: ConsumerSql,
        sums: RouteSums | None = None,
        figure_sums: FigureSums | None = None,
    ) -> None:
        self._reader = reader
        self._who = who
        self._sums = sums
        self._figure_sums = figure_sums
        self._lock = Lock()
        # None: too long to be kept.
        self._kept: dict[tuple[str, Span, Scope], _Ranking | _Asked | None] = {}

    def read_page(self, query: EndpointQuery, span: Span, after: Cursor | None, *, has_operations: bool) -> RankedPage:
        """One page. Raises StoreError."""
        if after is None:
            with self._lock:
                self._kept.pop((query.fingerprint, span, find_scope()), None)
        else:
            ranking = self._find(query, span, has_operations=has_operations)
            if ranking is not None:
                return ranking.cut(after, query.limit)
        rows = self._select(query, span, after, has_operations=has_operations)
        return RankedPage(
            items=[RankedEndpoint(value=row["sort_value"], id=row["id"], parent_id=row["parent_id"]) for row in rows],
            total=int(rows[0]["total"]) if rows else 0,
        )

    def _find(self, query: EndpointQuery, span: Span, *, has_operations: bool) -> _Ranking | None:
        name = (query.fingerprint, span, find_scope())
        asked = _Asked()
        with self._lock:
            kept = self._kept.get(name, asked)
            if not isinstance(kept, _Asked):
                return kept
            self._kept[name] = asked
        whole = query.model_copy(update={"limit": RANKED_MAX})
        rows = self._select(whole, span, None, has_operations=has_operations)
        ranking = None
        if len(rows) <= RANKED_MAX:
            values, ids, parents = ([row[column] for row in rows] for column in ("sort_value", "id", "parent_id"))
            ranking = _Ranking(values=values, ids=ids, parents=parents, order=query.direction)
        with self._lock:
            if self._kept.get(name) is asked:
                self._kept[name] = ranking
            while len(self._kept) > RANKINGS_MAX or (len(self._kept) > 1 and self._count() > RANKED_MAX):
                del self._kept[next(iter(self._kept))]
        return ranking

    def _count(self) -> int:
        return sum(len(ranking.ids) for ranking in self._kept.values() if isinstance(ranking, _Ranking))

    def _select(
        self, query: EndpointQuery, span: Span, after: Cursor | None, *, has_operations: bool
    ) -> list[Mapping[str, Any]]:
        hops = restrict_hops(self._reader, query.hops, "a.route_id", span_parameters(span))
        figure_sums = self._figure_sums.find(span) if self._figure_sums is not None else None
        bounds: Sequence[Mapping[str, Any]] = ()
        candidates = None
        if figure_sums is not None and after is None and not has_operations and _is_bounded(query, span):
            bounded = _bound_consumers(query, span, hops, figure_sums)
            bounds = select(self._reader, *bounded)
            candidates = choose_candidates(bounds, query.limit + 1)
        statement, parameters = _rank(
            query,
            span,
            after,
            self._who,
            hops,
            has_operations=has_operations,
            kept=self._sums.find_source(span) if self._sums is not None else None,
            figure_sums=figure_sums,
            candidates=candidates,
        )
        rows = select(self._reader, statement, parameters)
        return list(rows) if candidates is None else [{**row, "total": bounds[0]["total"]} for row in rows]


def _is_bounded(query: EndpointQuery, span: Span) -> bool:
    """Whether the page has the endpoints with most consumers, of all. Where they are filtered, few are merged."""
    is_by_most = query.sort is EndpointSort.CONSUMERS and query.direction is Order.DESCENDING
    return is_by_most and not query.build_conditions(span.asked_at or span.end)

"""Reads consumers from the store: who calls, how much, and how many distinct objects they touched."""

import ipaddress
import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from collector.core.kinds import ConsumerKind
from collector.core.rates import compute_rate
from collector.inventory.consumers.consumer import (
    CONSUMER_VALUE_CHARACTERS_MAX,
    PRINCIPAL_KINDS,
    Caller,
    Consumer,
    ConsumerDetail,
    ConsumerEndpoint,
    ConsumerName,
    EndpointConsumer,
    EndpointConsumers,
    parse_consumer,
)
from collector.inventory.consumers.labels import LABEL_CHARACTERS_MAX, LabelBook
from collector.inventory.consumers.sums import ConsumerSums
from collector.inventory.endpoints.operations import count_by_kind
from collector.inventory.endpoints.outbound import OWNER, ROLE_CLIENT, find_hidden, find_routes
from collector.inventory.endpoints.peers import Call, Holder, call_of, has_address_book, read_address_book
from collector.inventory.endpoints.predicates import (
    ERROR,
    IN_SPAN,
    NAMES,
    NAMES_OF_ROUTES,
    OUTCOME,
    ConsumerSql,
    count_distinct,
    counted_rows,
    counted_rows_of_routes,
    named_rows_of_routes,
    objects_count,
    rows_table,
    span_parameters,
)
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Condition,
    Filter,
    Order,
    Page,
    SortedQuery,
    SpanParameters,
    Text,
)
from collector.inventory.query import MINUTE_SECONDS, Cursor, Rollup, Span, series_span
from collector.storage.columns import UsedBy, read_figures, sum_columns
from collector.storage.records import Reader, read_record, select

_ADDRESSES = count_distinct("uniqCombined64If(12)(r.client_address, r.client_address != '')")
CONSUMER_ENDPOINTS_MAX = 100
CONSUMER_PLACES_MAX = 50
FOUND_MAX = 100  # By one token or name.
CALLER_ROWS_MAX = 20_000
ENDPOINT_CONSUMERS_MAX = 20  # Of each of many endpoints.


class ConsumerSort(StrEnum):
    CALLS = "calls"
    ENDPOINTS = "endpoints"
    OBJECTS = "objects"
    ERRORS = "errors"
    FIRST_SEEN = "first_seen"
    LAST_SEEN = "last_seen"


def _is_kind(kind: ConsumerKind) -> Condition:
    return Condition(sql="startsWith(consumer, {kind:String})", parameters={"kind": f"{kind}:"}, columns=("consumer",))


def _is_found(words: str) -> Condition:
    return Condition(
        sql="(positionCaseInsensitiveUTF8(consumer, {q:String}) > 0 OR consumer IN {labelled_q:Array(String)})",
        parameters={"q": words, "labelled_q": ()},
        columns=("consumer",),
    )


def _is_labelled(_: str) -> Condition:
    return Condition(sql="consumer IN {labelled:Array(String)}", parameters={"labelled": ()}, columns=("consumer",))


def _check_network(value: str) -> str:
    if value:
        ipaddress.ip_network(value, strict=False)
    return value


def _comes_from(network: str) -> Condition:
    """Calls from an address or a range of them; without an address a call comes from nowhere that is asked for."""
    shown = "if(r.client_address = '', '0.0.0.0', toString(r.client_address))"
    return Condition(
        sql=f"isIPAddressInRange({shown}, {{network:String}})",
        parameters={"network": str(ipaddress.ip_network(network, strict=False))},
    )


class ConsumerQuery(SortedQuery, SpanParameters):
    """Filters, sort and page of the list of consumers."""

    q: Annotated[Text, Filter(_is_found, title="Search")] = Field(
        default="", max_length=SEARCH_CHARACTERS_MAX, description="Part of the consumer's `kind:value` or label."
    )
    kind: Annotated[ConsumerKind | None, Filter(_is_kind, title="Kind")] = Field(
        default=None, description="What names the consumer."
    )
    label: Annotated[
        Text,
        Filter(_is_labelled, title="Label", is_folded=True),
    ] = Field(default="", max_length=LABEL_CHARACTERS_MAX, description="Part of the label that people gave.")
    endpoint: Annotated[Text, Filter("n.endpoint_id = {endpoint:String}")] = Field(
        default="", max_length=CONSUMER_VALUE_CHARACTERS_MAX, description="Only callers of this endpoint id."
    )
    service: Annotated[
        Text, Filter("(n.service = {service:String} OR n.workload = {service:String})", title="Service", is_folded=True)
    ] = Field(default="", max_length=300, description="Only callers of this service as listed, or workload.")
    namespace: Annotated[Text, Filter("n.namespace = {namespace:String}", title="Namespace", is_folded=True)] = Field(
        default="", max_length=63, description="Only callers of services in this namespace of Kubernetes."
    )
    address: Annotated[Text, AfterValidator(_check_network), Filter(_comes_from, title="Address", is_folded=True)] = (
        Field(
            default="",
            max_length=60,
            description="Only calls from this address or range of addresses, whoever the consumer is.",
            examples=["192.0.2.0/24"],
        )
    )
    software: Annotated[Text, Filter("r.client_software = {software:String}", title="Software", is_folded=True)] = (
        Field(
            default="",
            max_length=CONSUMER_VALUE_CHARACTERS_MAX,
            description="Only calls by this client software, as `calls_by_software` of one consumer names it; of "
            "the last 48 h.",
            examples=["python-requests 5c2e91d0"],
        )
    )
    sort: ConsumerSort = ConsumerSort.CALLS
    order: Order = Order.DESCENDING


class ConsumerInventory:
    def __init__(
        self, *, reader: Reader, who: ConsumerSql, labels: LabelBook, sums: ConsumerSums | None = None
    ) -> None:
        self._reader = reader
        self._who = who
        self._labels = labels
        self._sums = sums

    def list_consumers(self, query: ConsumerQuery, span: Span) -> Page[Consumer]:
        """One page; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(float)
        if query.software:
            span = replace(span, rollup=Rollup.MINUTE)
        conditions = query.build_conditions()
        page, parameters = query.page(after, float, key="consumer")
        parameters |= span_parameters(span)
        for one in conditions:
            parameters |= one.parameters
        # Who has a label with these words, which the state knows.
        for name, words in (("labelled_q", query.q), ("labelled", query.label)):
            if name in parameters:
                parameters[name] = self._labels.find_consumers(words)
        wheres = "".join(f" AND {one.sql}" for one in conditions if not one.columns)
        outer = " AND ".join(["true", *(one.sql for one in conditions if one.columns)])
        # First who is on the page, by the figure that sorts alone; sketches of objects are merged of these only.
        kept = self._sums.find(span) if self._sums is not None and not wheres else None
        if self._sums is not None and kept is not None:
            later = self._sums.find_later(kept, span)
            statement = self._sums.write_statement(kept, later, query.sort.value, outer, page)
            found = select(self._reader, statement, parameters)
            place = operator.itemgetter("sort_value", "consumer")
            rows = sorted(found, key=place, reverse=query.direction is Order.DESCENDING)
        else:
            statement = f"""
WITH {NAMES}
SELECT * FROM (
    SELECT consumer, toFloat64({query.sort.value}) AS sort_value, count() OVER () AS total
    FROM ({_figures(span, wheres, self._who)})
    WHERE {outer}
)
{page}"""
            rows = select(self._reader, statement, parameters)
            mine = f"{wheres} AND consumer IN {{shown:Array(String)}}"
            ids = [row["consumer"] for row in rows]
            found = (
                select(self._reader, f"WITH {NAMES} {_figures(span, mine, self._who)}", {**parameters, "shown": ids})
                if ids
                else []
            )
        named, next_cursor = query.cut(rows, lambda last: Cursor(value=last["sort_value"], id=last["consumer"]))
        by_id = {row["consumer"]: row for row in found}
        # An erasure may have come between.
        shown = [by_id[row["consumer"]] for row in named if row["consumer"] in by_id]
        return Page(
            items=self._read_consumers(shown, span),
            next_cursor=next_cursor,
            total=int(rows[0]["total"]) if rows else 0,
        )

    def get_consumer(self, name: ConsumerName, span: Span) -> ConsumerDetail | None:
        """One consumer, or None when it made no counted call in the span. Its rows lie among those of all routes, so
        its routes are found first."""
        mine = f" AND {self._who.is_named(name.kind)}"
        parameters = {**span_parameters(span), **name.parameters}
        routes = select(self._reader, _called_routes(span, mine), parameters)
        if not routes:
            return None
        called = [int(row["route_id"]) for row in routes if row["is_called"]]
        parameters |= {
            "routes": [int(row["route_id"]) for row in routes],
            "hidden": find_hidden(self._reader, called, parameters),
        }
        figures = select(self._reader, _detail(span, mine), parameters)
        if not figures or not int(figures[0]["calls"]):
            return None
        places = self._count_places(span, mine, parameters)
        return ConsumerDetail(
            consumer=self._read_consumers([{**figures[0], "consumer": name.id}], span)[0],
            endpoints=tuple(read_record(ConsumerEndpoint, row) for row in figures[1:]),
            services=places["service"],
            credentials=count_by_kind({int(bits): calls for bits, calls in places["bits"].items()}),
            addresses=places["address"],
            workloads=places["workload"],
            softwares=self._count_softwares(series_span(span), mine, parameters),
            # By the minute as long as there are such rows: the shorter a row, the surer who had its address.
            callers=self._find_callers(series_span(span), mine, parameters) if places["address"] else (),
        )

    def find_hashed(self, hashes: Sequence[int], span: Span) -> tuple[tuple[Consumer, tuple[int, ...]], ...]:
        """Consumers with a call whose principal or credential has one of these hashes, and which of them; busiest
        first."""
        where = " AND (r.principal IN {hashes:Array(UInt64)} OR r.credential IN {hashes:Array(UInt64)})"
        seen = """,
    arrayFilter(hash -> has({hashes:Array(UInt64)}, hash),
        arrayConcat(groupUniqArray(64)(r.principal), groupUniqArray(64)(r.credential))) AS hashes"""
        rows = select(
            self._reader,
            f"WITH {NAMES} {_figures(span, where, self._who, seen)} ORDER BY calls DESC, consumer LIMIT {FOUND_MAX}",
            {**span_parameters(span), "hashes": list(hashes)},
        )
        found = self._read_consumers(rows, span)
        return tuple((one, tuple(map(int, row["hashes"]))) for one, row in zip(found, rows, strict=True))

    def list_callers(self, endpoints: Sequence[str], span: Span) -> dict[str, EndpointConsumers]:
        """Who called each of these endpoints, by its id; one without a call is not there."""
        routes = find_routes(self._reader, list(endpoints), span_parameters(span))
        if not routes.named:
            return {}
        statement = f"""
SELECT *, sum(calls) OVER mine AS all_calls, count() OVER mine AS total
FROM (
    SELECT {OWNER} AS owner, {self._who.id} AS consumer, sum(r.calls) AS calls,
        toUnixTimestamp(max(r.last_seen)) AS last_seen
    {counted_rows_of_routes(span)}
    GROUP BY owner, consumer
    HAVING calls > 0
)
WINDOW mine AS (PARTITION BY owner)
ORDER BY owner, calls DESC, consumer
LIMIT {ENDPOINT_CONSUMERS_MAX} BY owner"""
        rows = select(self._reader, statement, {**span_parameters(span), **routes.parameters})
        ids = list(routes.named)
        found: dict[str, EndpointConsumers] = {}
        for owner, group in itertools.groupby(rows, key=operator.itemgetter("owner")):
            mine = list(group)
            callers = tuple(
                EndpointConsumer(
                    id=row["consumer"],
                    label=self._labels.find_name(row["consumer"]),
                    calls=int(row["calls"]),
                    last_seen=int(row["last_seen"]),
                )
                for row in mine
            )
            calls, total = int(mine[0]["all_calls"]), int(mine[0]["total"])
            found[ids[int(owner) - 1]] = EndpointConsumers(items=callers, calls=calls, total=total)
        return found

    def _read_consumers(self, rows: Sequence[Mapping[str, Any]], span: Span) -> tuple[Consumer, ...]:
        """With who held their addresses."""
        calls = [
            call_of(row["consumer"], int(row["first_seen"]), int(row["last_seen"]), _find_cluster(row["clusters"]))
            for row in rows
        ]
        book = read_address_book(self._reader, calls)
        return tuple(
            replace(_read_consumer(row, span, book.find(call)), label=self._labels.find(row["consumer"]))
            for row, call in zip(rows, calls, strict=True)
        )

    def _find_callers(self, span: Span, mine: str, parameters: Mapping[str, Any]) -> tuple[Caller, ...]:
        """Who called, by the time of each row: an address that was given away meanwhile is two callers."""
        if not has_address_book(self._reader):
            return ()
        rows = select(self._reader, _rows_by_address(span, mine), parameters)
        calls = [
            Call(address=row["address"], start=int(row["start"]), end=int(row["end"]), cluster=row["cluster"])
            for row in rows
        ]
        book = read_address_book(self._reader, calls)
        found: dict[Holder | None, tuple[set[str], int]] = {}
        for row, call in zip(rows, calls, strict=True):
            holders = book.find(call)
            holder = holders[0] if len(holders) == 1 else None
            addresses, total = found.get(holder, (set(), 0))
            found[holder] = (addresses | {call.address}, total + int(row["total"]))
        callers = [
            Caller(holder=holder, addresses=tuple(sorted(addresses))[:CONSUMER_PLACES_MAX], calls=total)
            for holder, (addresses, total) in found.items()
        ]
        # Where nobody is known, as on plain hosts, the addresses say all.
        named = any(map(book.find, calls))
        return tuple(sorted(callers, key=lambda caller: -caller.calls)[:CONSUMER_PLACES_MAX]) if named else ()

    def _count_softwares(self, span: Span, mine: str, parameters: Mapping[str, Any]) -> dict[str, int]:
        """Calls by client software, which rows of minutes alone have, most first."""
        if span.row_seconds != MINUTE_SECONDS:
            return {}
        statement = f"""
SELECT r.client_software AS software, sum(r.calls) AS total
{counted_rows_of_routes(span)}{mine} AND r.client_software != ''
GROUP BY software
ORDER BY total DESC, software
LIMIT {CONSUMER_PLACES_MAX}"""
        return {row["software"]: int(row["total"]) for row in select(self._reader, statement, parameters)}

    def _count_places(self, span: Span, mine: str, parameters: Mapping[str, Any]) -> dict[str, dict[Any, int]]:
        """Calls by what _PLACES names, most first."""
        found: dict[str, dict[Any, int]] = {place: {} for place in _PLACES.values()}
        for row in select(self._reader, _places(span, mine), parameters):
            place = _PLACES[int(row["place"])]
            found[place][row[place]] = int(row["total"])
        return found


def _figures(span: Span, where: str, who: ConsumerSql, more: str = "") -> str:
    """One row a consumer, with `more` columns."""
    return f"""
SELECT {who.id} AS consumer, {_list_figures(span)}{more}
{counted_rows(span)}{where}
GROUP BY consumer
HAVING sum(r.calls) > 0"""


def _list_figures(span: Span) -> str:
    """Of one consumer."""
    return f"""max(r.principal_kind) AS principal_kind, max(r.key_id) AS key_id,
    uniqCombined64(12)(n.endpoint_id) AS endpoints,
    {sum_columns(UsedBy.CONSUMERS)}, sumIf(r.calls, {ERROR}) AS errors,
    sumIf(r.calls, {OUTCOME} IN (401, 403)) AS denied,
    groupUniqArray(2)(n.cluster) AS clusters,
    {objects_count(span.rollup)} AS objects, {_ADDRESSES} AS addresses,
    toUnixTimestamp(min(r.first_seen)) AS first_seen, toUnixTimestamp(max(r.last_seen)) AS last_seen"""


def _called_routes(span: Span, mine: str) -> str:
    """The routes that one consumer called, and whether a client's side saw it. `mine` is the condition on its rows."""
    return f"""
SELECT r.route_id AS route_id, max(r.role = {ROLE_CLIENT}) AS is_called
FROM {rows_table(span)} AS r
WHERE {IN_SPAN}{mine}
GROUP BY route_id"""


def _detail(span: Span, mine: str) -> str:
    """The figures of one consumer, and then the same of each endpoint that it called, busiest first."""
    return f"""
WITH {NAMES_OF_ROUTES}
SELECT n.endpoint_id AS endpoint_id, max(n.method) AS method, max(n.host) AS host, max(n.url_template) AS template,
    {_list_figures(span)}
{named_rows_of_routes(span)}{mine}
GROUP BY GROUPING SETS ((), (endpoint_id))
ORDER BY grouping(endpoint_id) DESC, calls DESC, endpoint_id
LIMIT {CONSUMER_ENDPOINTS_MAX + 1}"""


# What one consumer's calls are counted by, and the number that `grouping` gives it.
_PLACES: Final = {0b0111: "service", 0b1011: "address", 0b1101: "workload", 0b1110: "bits"}


def _places(span: Span, mine: str) -> str:
    names = ", ".join(_PLACES.values())
    return f"""
WITH {NAMES_OF_ROUTES}
SELECT grouping({names}) AS place, {names}, sum(calls) AS total
FROM (
    SELECT n.service AS service, r.client_address AS address, r.client_workload AS workload, r.authentication AS bits,
        r.calls AS calls
    {named_rows_of_routes(span)}{mine}
)
GROUP BY GROUPING SETS ({", ".join(f"({name})" for name in _PLACES.values())})
HAVING service != '' OR address != '' OR workload != '' OR place = {0b1110}
ORDER BY total DESC, {names}
LIMIT {CONSUMER_PLACES_MAX} BY place, bits"""


def _find_cluster(clusters: Sequence[str]) -> str | None:
    """Where the same address may be somebody else in each cluster, all are told."""
    return clusters[0] if len(clusters) == 1 else None


def _rows_by_address(span: Span, mine: str) -> str:
    """Calls of one consumer by address and time, busiest first."""
    return f"""
WITH {NAMES_OF_ROUTES}
SELECT r.client_address AS address, n.cluster AS cluster, toUnixTimestamp(r.first_seen) AS start,
    toUnixTimestamp(r.last_seen) AS end, sum(r.calls) AS total
{named_rows_of_routes(span)}{mine} AND r.client_address != ''
GROUP BY address, cluster, start, end
ORDER BY total DESC
LIMIT {CALLER_ROWS_MAX}"""


def _read_consumer(row: Mapping[str, Any], span: Span, holders: tuple[Holder, ...]) -> Consumer:
    name = parse_consumer(row["consumer"])
    is_principal = name.kind is ConsumerKind.PRINCIPAL
    return read_record(
        Consumer,
        row,
        name=name,
        principal_kind=PRINCIPAL_KINDS.get(int(row["principal_kind"]), "unknown") if is_principal else "",
        key_id=row["key_id"] if name.is_hash else 0,
        calls_per_second=compute_rate(int(row["calls"]), span.count_seconds(int(row["first_seen"]))),
        figures=read_figures(row, UsedBy.CONSUMERS),
        holders=holders,
    )

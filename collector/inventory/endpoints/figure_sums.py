"""Kept sums of every figure of an endpoint, so that a page of endpoints reads some rows a route and not those of each
consumer in each hour (collector/inventory/kept_sums.py).

A kept row is what all consumers together did on one route with one outcome. It has a sketch of the consumers and their
number, and counts the calls of partners and strangers in place of their addresses. `FigureSql` gives rows of calls the
same columns, so that one statement adds up both.
"""

from collections.abc import Callable, Mapping
from typing import Final

from collector.core.kinds import HOP_PROXY
from collector.inventory.endpoints.outbound import ROLE_SERVER
from collector.inventory.endpoints.predicates import IN_SPAN, OUTCOME, PROTOCOL_BIT, ConsumerSql, rows_table
from collector.inventory.kept_sums import ROWS_MIN, KeptSums, SumsKeeper, choose_part
from collector.inventory.partners import PartnerNetworks, is_public
from collector.inventory.query import HOUR_SECONDS, Span
from collector.storage.base import Store
from collector.storage.columns import UsedBy, list_summed_columns

_NAMES_MAX: Final = 8  # Of each of these columns.
_NAMED: Final = ("protocol_version", "request_content_type", "response_content_type")
_KEYS: Final = ("route_id", "role", "outcome", "authentication", "carriers", "rpc_status")
# How each other column adds up, of rows of calls and of kept ones alike.
_ADDING: Final[Mapping[str, str]] = {
    "last_seen": "max",
    **list_summed_columns(UsedBy.ENDPOINTS),
    "protocols": "groupBitOr",
    **dict.fromkeys(("partner_calls", "addressed_calls", "public_calls"), "sum"),
    **dict.fromkeys(("public_address", "is_proxied"), "max"),
    **dict.fromkeys((f"{name}s" for name in _NAMED), f"groupUniqArrayArray({_NAMES_MAX})"),
}
ADDED: Final = ", ".join(f"{adding}(r.{name}) AS {name}" for name, adding in _ADDING.items())
_COLUMNS: Final = ", ".join((*_KEYS, *_ADDING, "consumers_state"))
_COUNT: Final = "uniqCombined64If(12)(r.consumer, r.is_known)"
_ADDRESSED: Final = f"r.role = {ROLE_SERVER} AND r.client_address != ''"
_ROUTES: Final = (
    f"r.route_id IN {{routes:Array(UInt64)}} AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN {{hidden:Array(UInt64)}})"
)


class FigureSql:
    """Rows as figures of endpoints are read from them, by the alias `r`."""

    def __init__(self, who: ConsumerSql, partners: PartnerNetworks) -> None:
        is_stranger = f"{_ADDRESSED} AND {is_public('r.client_address')} AND NOT {partners.condition}"
        given = {
            "outcome": OUTCOME,
            "last_seen": "toUnixTimestamp(r.last_seen)",
            "protocols": PROTOCOL_BIT,
            "partner_calls": f"if({_ADDRESSED} AND {partners.condition}, r.calls, 0)",
            "addressed_calls": f"if({_ADDRESSED}, r.calls, 0)",
            "public_address": f"if({is_stranger}, toString(r.client_address), '')",
            "public_calls": "if(public_address = '', 0, r.calls)",
            "is_proxied": f"r.hop = {HOP_PROXY}",
            **{f"{name}s": f"[toString(r.{name})]" for name in _NAMED},
        }
        self._row = ", ".join(f"{given.get(name, f'r.{name}')} AS {name}" for name in (*_KEYS, *_ADDING))
        self._consumer = f"{who.key} AS consumer, {who.known} AS is_known"
        self._state = (
            f"arrayReduce('uniqCombined64IfState(12)', [{who.key}], [toUInt8({who.known})]) AS consumers_state"
        )

    def _find_rows(self, table: str, where: str, consumer: str) -> str:
        return f"SELECT {self._row}, {consumer} FROM {table} AS r WHERE {where}"

    def sum_hours(self, where: str) -> str:
        """What is kept."""
        return f"""
SELECT {", ".join(f"r.{name} AS {name}" for name in _KEYS)}, {ADDED},
    uniqCombined64IfState(12)(r.consumer, r.is_known) AS consumers_state, {_COUNT} AS consumers
FROM ({self._find_rows("rows_hour", where, self._consumer)}) AS r
GROUP BY {", ".join(f"r.{name}" for name in _KEYS)}"""

    def read(self, span: Span, kept: KeptSums | None) -> tuple[str, str]:
        """The rows of some routes in a span, and an estimate of the consumers among them. Parameters are those of
        `span_parameters` and `find_routes`."""
        if kept is None:
            return self._find_rows(rows_table(span), f"{IN_SPAN} AND {_ROUTES}", self._consumer), _COUNT
        later = f"{write_later(span, kept)} AND {_ROUTES}"
        rows = f"""
SELECT {_COLUMNS} FROM {kept.table} AS r WHERE {_ROUTES}
UNION ALL
{self._find_rows("rows_minute", later, self._state)}"""
        return rows, "uniqCombined64IfMerge(12)(r.consumers_state)"


def write_later(span: Span, kept: KeptSums) -> str:
    """The condition on rows of minutes since the kept hours. Rows of hours count whole, so these do to the end of the
    last hour; an hour of minutes is a partition."""
    end = -(-span.end // HOUR_SECONDS) * HOUR_SECONDS
    return f"r.time >= toDateTime({kept.until}, 'UTC') AND r.time < toDateTime({end}, 'UTC')"


class _Figures:
    """Nothing but their own rows changes them."""

    name = "figure"
    # Small granules: a page needs the rows of 50 routes.
    key = "route_id SETTINGS index_granularity = 128, min_compress_block_size = 8192, max_compress_block_size = 131072"
    source = "rows_hour"
    chunk_rows = 80_000

    def __init__(self, figures: FigureSql) -> None:
        self._figures = figures

    def look(self, store: Store, span: Span) -> object:
        return None

    def is_changed(self, store: Store, kept: KeptSums, span: Span) -> bool:
        return False

    def write_rows(self, chunks: int) -> str:
        return self._figures.sum_hours(f"{IN_SPAN} AND {choose_part('r.route_id', chunks)}")


class FigureSums(SumsKeeper):
    """Makes the sums that `FigureSql.read` takes."""

    def __init__(
        self,
        *,
        store: Store,
        who: ConsumerSql,
        partners: PartnerNetworks,
        clock: Callable[[], float],
        rows_min: int = ROWS_MIN,
    ) -> None:
        super().__init__(store=store, subject=_Figures(FigureSql(who, partners)), clock=clock, rows_min=rows_min)

"""Narrows what is read of ClickHouse to the scope of whoever asks: one rule for each table.

A rule is a filter that no question can take off: the engine applies it as it reads the table
(`additional_table_filters`), so it holds in lists, counts, totals, joins and subqueries alike. Only what reads is
narrowed. Whoever may see everything asks the same statements as ever.

A test fails for a table that has no rule and is not in OPEN. What is of the whole installation is hidden.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from collector.core.scope import Scope

_Condition = Callable[[Scope], str]


def _text(value: str) -> str:
    """As a literal without a quote of its own."""
    return f"unhex('{value.encode('utf-8', 'surrogatepass').hex()}')"


def _list(values: tuple[str, ...]) -> str:
    return f"({', '.join(map(_text, values))})"


def _is_placed(scope: Scope) -> str:
    """Of a row with its own cluster and namespace."""
    conditions = [f"cluster IN {_list(scope.clusters)}"] if scope.clusters else []
    if scope.namespaces:
        plain = [f"namespace IN {_list(scope.plain_namespaces)}"] if scope.plain_namespaces else []
        pairs = (f"(cluster = {_text(one)} AND namespace = {_text(name)})" for one, name in scope.cluster_namespaces)
        conditions.append(f"({' OR '.join([*plain, *pairs])})")
    return " AND ".join(conditions)


def _is_of_route(scope: Scope) -> str:
    return f"route_id IN (SELECT route_id FROM routes WHERE {_is_placed(scope)})"


def _is_of_endpoint(scope: Scope) -> str:
    return f"endpoint_id IN (SELECT endpoint_id FROM endpoint_routes WHERE {_is_placed(scope)})"


def _is_of_endpoint_or_operation(scope: Scope) -> str:
    """Ids of operations are in no table, but their service is. It does not name its cluster."""
    if not scope.is_by_namespace:
        return _is_of_endpoint(scope)
    return f"service IN (SELECT service FROM endpoint_routes WHERE {_is_placed(scope)})"


def _is_hidden(scope: Scope) -> str:
    return "0"


# Of the tables of ClickHouse that hold names of the inventory, or figures of it.
RULES: Final[Mapping[str, _Condition]] = {
    **dict.fromkeys(
        (
            *("rows_minute", "rows_hour", "routes_hour", "routes_day", "operation_samples", "operation_days"),
            *("endpoint_aliases", "proven_carriers", "schemas"),
        ),
        _is_of_route,
    ),
    **dict.fromkeys(
        (
            *("routes", "endpoint_routes", "coverage_rows", "coverage_hours", "peer_addresses", "exposures"),
            "workloads",
        ),
        _is_placed,
    ),
    "endpoint_risks": _is_of_endpoint_or_operation,
    "endpoint_specs": _is_of_endpoint,
    "detector_reports": _is_hidden,
}
OPEN: Final = frozenset({"evictions"})  # What the disk cap removed: a time, and no name.


@lru_cache(maxsize=256)
def write_filters(scope: Scope) -> str:
    """The setting `additional_table_filters` of a statement."""

    def quote(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    return f"{{{', '.join(f'{quote(table)}: {quote(rule(scope))}' for table, rule in RULES.items())}}}"

"""What is seen of each table of the state in a scope: one rule a table, which `narrow` adds to what reads it.

A table without names of the inventory is in OPEN. One that has neither a rule nor a place there is of the whole
installation, and hidden.
"""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Select, Table, and_, exists, false, or_, select, true

from collector.core.scope import Scope
from collector.storage.state.tables.alerts import ALERT_ROUTES, ALERTS, INCIDENT_ENTRIES, SILENCES
from collector.storage.state.tables.base import IMPORTS, RULES, TABLE_WRITES, Rule
from collector.storage.state.tables.findings import ENDPOINT_PASTS, FINDING_CHANGES, FINDINGS
from collector.storage.state.tables.inventory import (
    COVERAGE_TARGETS,
    ENDPOINT_ALIASES,
    ENDPOINT_ROUTES,
    FORMER_NAMES,
    MODEL_PRICES,
    RETIRED_ENDPOINTS,
    TEMPLATE_EDITS,
)
from collector.storage.state.tables.leases import LEASES
from collector.storage.state.tables.log import LOG_CURSORS, LOG_LEDGERS
from collector.storage.state.tables.specs import SPEC_FITS, SPECS
from collector.storage.state.tables.trust import API_TOKENS, CLOSED_WAYS, INSTALLATION_KEYS, ROLE_BINDINGS, SESSIONS


def _place(table: FromClause, scope: Scope) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if scope.clusters:
        conditions.append(table.c.cluster.in_(scope.clusters))
    if scope.namespaces:
        pairs = [and_(table.c.cluster == one, table.c.namespace == name) for one, name in scope.cluster_namespaces]
        conditions.append(or_(table.c.namespace.in_(scope.plain_namespaces), *pairs))
    return and_(true(), *conditions)


def _find_endpoints(scope: Scope) -> Select[Any]:
    routes = ENDPOINT_ROUTES.alias()
    return select(routes.c.endpoint_id).where(_place(routes, scope))


def _place_endpoint(column: str) -> Rule:
    return lambda table, scope: table.c[column].in_(_find_endpoints(scope))


def _place_route(table: FromClause, scope: Scope) -> ColumnElement[bool]:
    routes = ENDPOINT_ROUTES.alias()
    return table.c.route_id.in_(select(routes.c.route_id).where(_place(routes, scope)))


def _place_named(column: str) -> Rule:
    """Of an endpoint; or of an operation or a service that nobody reads, by the service's name alone, which begins with
    its namespace and does not have its cluster."""

    def place(table: FromClause, scope: Scope) -> ColumnElement[bool]:
        is_mine = table.c[column].in_(_find_endpoints(scope))
        if not scope.is_by_namespace:
            return is_mine
        others = ENDPOINT_ROUTES.alias()
        is_others = table.c[column].in_(select(others.c.endpoint_id).where(~_place(others, scope)))
        begins = [table.c.service.startswith(f"{one}/", autoescape=True) for one in scope.namespaces]
        return or_(is_mine, and_(or_(*begins), ~is_others))

    return place


def _place_alert(table: FromClause, scope: Scope) -> ColumnElement[bool]:
    """All of its routes are in the scope: an alert about endpoints of several namespaces names them. One without
    routes, as about a workload, is by its namespace, which does not name its cluster."""
    own, mine = ALERT_ROUTES.alias(), ENDPOINT_ROUTES.alias()
    is_mine = own.c.route_id.in_(select(mine.c.route_id).where(_place(mine, scope)))
    has_routes = exists(select(own.c.alert_id).where(own.c.alert_id == table.c.id).correlate(table))
    has_others = exists(select(own.c.alert_id).where(own.c.alert_id == table.c.id, ~is_mine).correlate(table))
    is_placed = table.c.namespace.in_(scope.namespaces) if scope.is_by_namespace else false()
    return or_(and_(has_routes, ~has_others), and_(~has_routes, is_placed))


def _find_alerts(scope: Scope) -> Select[Any]:
    alerts = ALERTS.alias()
    return select(alerts.c.id).where(_place_alert(alerts, scope))


def _place_of_alert(table: FromClause, scope: Scope) -> ColumnElement[bool]:
    return table.c.alert_id.in_(_find_alerts(scope))


def _place_change(table: FromClause, scope: Scope) -> ColumnElement[bool]:
    findings = FINDINGS.alias()
    return table.c.finding_id.in_(select(findings.c.id).where(_OWN[FINDINGS](findings, scope)))


_OWN: Final[Mapping[Table, Rule]] = {
    **dict.fromkeys((COVERAGE_TARGETS, ENDPOINT_ROUTES, TEMPLATE_EDITS, FORMER_NAMES), _place),
    ENDPOINT_ALIASES: _place_route,
    ENDPOINT_PASTS: _place_endpoint("endpoint_id"),
    ALERTS: _place_alert,
    **dict.fromkeys((ALERT_ROUTES, INCIDENT_ENTRIES, SILENCES), _place_of_alert),
    FINDINGS: _place_named("endpoint_id"),
    FINDING_CHANGES: _place_change,
    RETIRED_ENDPOINTS: _place_named("id"),
}
# Without names of the inventory; and descriptions, which collector/specs/report.py shows by the endpoints that they
# are of.
_ENTRANCE: Final = (API_TOKENS, CLOSED_WAYS, INSTALLATION_KEYS, ROLE_BINDINGS, SESSIONS)  # Found before the scope is.
OPEN: Final = frozenset(
    (*_ENTRANCE, LEASES, LOG_CURSORS, LOG_LEDGERS, IMPORTS, TABLE_WRITES, SPECS, SPEC_FITS, MODEL_PRICES)
)
RULES.update({**_OWN, **dict.fromkeys(OPEN, lambda table, scope: true())})

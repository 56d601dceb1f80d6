"""What is read in a scope holds nothing else, however the question is written; and no table is forgotten."""

from typing import Any

import pytest
from sqlalchemy import Select, exists, func, insert, select

from collector.core.scope import EVERYTHING, Scope, find_scope, use_scope
from collector.storage.clickhouse import TABLES
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore
from collector.storage.state.tables import METADATA, RULES
from collector.storage.state.tables.alerts import ALERTS, SENSITIVITY
from collector.storage.state.tables.inventory import ENDPOINT_ROUTES
from collector.storage.tables import narrowing

SHOP = Scope(namespaces=("shop",))
# Of the whole installation: nothing of them is seen in a scope. A new table is here, or has a rule.
HIDDEN = {
    *("audit_entries", "audit_feeds", "block_reports", "blocks", "enforcing_nodes", "ladder", "policy"),
    *("change_facts", "detection_decisions", "detector_cuts", "detector_requests", "detector_states", "known_good"),
    *("sensitivity", "signal_series", "pending_reports", "notifications", "notified", "sensors"),
    *("consumer_labels", "hidden_words", "metered_endpoints", "revealed_words", "views"),
    *("enrollments", "issued_certificates", "revoked_certificates", "revoked_nodes"),
    "secrets",
}


def test_each_table_of_calls_has_a_rule() -> None:
    names = {table.name for table in TABLES}
    assert narrowing.RULES.keys() | narrowing.OPEN == names
    assert not narrowing.RULES.keys() & narrowing.OPEN


def test_each_table_of_the_state_has_a_rule_or_is_known_to_be_hidden() -> None:
    ruled = {table.name for table in RULES}
    assert set(METADATA.tables) - ruled == HIDDEN


def _fill(state: StateStore) -> None:
    places = (("east", "shop"), ("west", "shop"), ("east", "bank"), ("east", ""))
    with state.write() as connection:
        for number, (cluster, namespace) in enumerate(places):
            row = dict.fromkeys((column.name for column in ENDPOINT_ROUTES.columns), "")
            row |= {"route_id": number, "revision": 1, "port": 80, "workload_kind": 4}
            row |= {"cluster": cluster, "namespace": namespace, "endpoint_id": f"{cluster}/{namespace}"}
            connection.execute(insert(ENDPOINT_ROUTES), [row])


def _read(state: StateStore, statement: Select[Any]) -> list[Any]:
    with state.read() as connection:
        return sorted(connection.execute(statement).scalars())


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (EVERYTHING, ["east/", "east/bank", "east/shop", "west/shop"]),
        (SHOP, ["east/shop", "west/shop"]),
        (Scope(namespaces=("east/shop",)), ["east/shop"]),
        (Scope(clusters=("east",)), ["east/", "east/bank", "east/shop"]),
        (Scope(clusters=("east",), namespaces=("shop", "west/bank")), ["east/shop"]),
        (Scope(clusters=("north",)), []),
        (Scope(namespaces=("it's \\ odd",)), []),
    ],
)
def test_a_scope_holds_however_the_question_is_written(state: StateStore, scope: Scope, expected: list[str]) -> None:
    _fill(state)
    routes, other = ENDPOINT_ROUTES.c, ENDPOINT_ROUTES.alias("other")
    inner = select(routes.endpoint_id, routes.route_id).subquery()
    asked = (
        select(routes.endpoint_id),
        select(other.c.endpoint_id),
        select(inner.c.endpoint_id),
        select(other.c.endpoint_id).join(ENDPOINT_ROUTES, routes.route_id == other.c.route_id),
        select(other.c.endpoint_id).where(other.c.route_id.in_(select(routes.route_id))),
        select(other.c.endpoint_id).where(exists(select(routes.route_id).where(routes.route_id == other.c.route_id))),
        select(routes.endpoint_id).union(select(other.c.endpoint_id)),
    )
    with use_scope(scope):
        assert [_read(state, one) for one in asked] == [expected] * len(asked)
        assert _read(state, select(func.count()).select_from(ENDPOINT_ROUTES)) == [len(expected)]
        assert _read(state, select(SENSITIVITY.c.level)) == []
        assert _read(state, select(ALERTS.c.id)) == []
        for cluster, namespace in (("east", "shop"), ("west", "shop"), ("east", "bank"), ("east", "")):
            assert scope.admits(cluster, namespace) == (f"{cluster}/{namespace}" in expected)


def test_who_writes_and_what_all_share_is_not_narrowed(sqlite_state: StateStore) -> None:
    _fill(sqlite_state)
    count = select(func.count()).select_from(ENDPOINT_ROUTES)
    cache = StateCache(sqlite_state, (ENDPOINT_ROUTES.name,), lambda connection: connection.scalar(count))
    with use_scope(SHOP):
        assert find_scope() is SHOP
        assert cache.read() == 4
        with sqlite_state.write() as connection:
            assert connection.scalar(count) == 4
    assert find_scope() is EVERYTHING


def test_a_name_cannot_end_its_filter() -> None:
    hostile = "'; DROP TABLE routes --\\"
    written = narrowing.write_filters(Scope(clusters=(hostile,), namespaces=(hostile, f"x/{hostile}")))
    assert hostile not in written and "DROP" not in written

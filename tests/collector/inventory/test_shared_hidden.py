"""Hidden routes are found once for the statements of a minute, which give what each would give alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.core.scope import Scope, use_scope
from collector.inventory.endpoints import shared_hidden as module
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES
from collector.inventory.endpoints.predicates import ConsumerSql, span_parameters
from collector.inventory.endpoints.shared_hidden import SharedHidden
from collector.inventory.query import Since, span_since
from collector.storage.embedded import EmbeddedStore
from collector.storage.recent import RecentAnswers
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

SPAN = span_since(Since.DAY, NOW)
ASKED = span_parameters(SPAN)
STATEMENT = f"SELECT uniqExact(route_id) AS rows FROM routes WHERE route_id NOT IN ({HIDDEN_ROUTES})"


class Desk:
    """A store, and its shared routes by a clock of ours."""

    def __init__(self, directory: Path) -> None:
        self.store = EmbeddedStore(directory)
        self.now = 0.0
        self.seed = Seed()
        self.shared = SharedHidden(self.store, lambda: self.now)

    def add(self, number: int, role: int) -> None:
        endpoint = self.seed.endpoint(number, "GET", f"/things/{number}", host="shop")
        self.seed.calls(endpoint, 10, role=role, client_workload="cart")

    def share(self) -> str:
        return self.shared.share(STATEMENT, ASKED)

    def count(self, sql: str) -> int:
        return int(self.store.query_columns(sql, ASKED)["rows"][0])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "store")
    desk.add(1, role=1)
    desk.add(2, role=2)
    desk.seed.write(desk.store)
    yield desk
    desk.store.close()


def test_lists_are_those_of_statements_that_find_the_routes_themselves(desk: Desk) -> None:
    shared = RecentAnswers(desk.store, lambda: True, share=desk.shared.share)
    alone, together = (EndpointInventory(reader=one, who=ConsumerSql()) for one in (desk.store, shared))
    query = EndpointQuery()
    page = together.list_endpoints(query, SPAN)
    assert page == alone.list_endpoints(query, SPAN)
    assert [one.id for one in page.items] == ["ep0001"], "the calls of the other are hidden"
    assert desk.count("SELECT count() AS rows FROM system.tables WHERE startsWith(name, 'hidden_routes_')") == 1


def test_the_routes_are_found_again_after_a_minute_and_sooner_where_some_are_new(desk: Desk) -> None:
    first = desk.share()
    assert desk.count(first) == 1 and HIDDEN_ROUTES not in first
    desk.add(3, role=2)
    desk.seed.write(desk.store)
    assert desk.share() == first
    desk.now = module.NEW_SECONDS
    second = desk.share()
    assert second != first and desk.count(second) == 1
    desk.now += module.NEW_SECONDS
    assert desk.share() == second
    desk.now += module.KEPT_SECONDS
    third = desk.share()
    assert third == first, "nobody reads the first table any more"
    assert desk.count(third) == 1


def test_what_was_deleted_is_forgotten_and_tables_are_bounded(desk: Desk) -> None:
    made = {desk.share() for _ in range(3)}
    assert len(made) == 1
    for _ in range(module.TABLES_MAX):
        desk.shared.forget()
        made.add(desk.share())
    assert STATEMENT in made and len(made) == module.TABLES_MAX + 1


def test_who_sees_some_namespaces_shares_nothing(desk: Desk) -> None:
    with use_scope(Scope(namespaces=("shop",))):
        assert desk.share() == STATEMENT
    assert desk.shared.share("SELECT 1", {}) == "SELECT 1"


def test_a_set_of_an_earlier_process_is_made_anew(desk: Desk, tmp_path: Path) -> None:
    desk.share()
    desk.store.close()
    desk.store = EmbeddedStore(tmp_path / "store")
    again: Any = SharedHidden(desk.store)
    assert desk.count(again.share(STATEMENT, ASKED)) == 1

"""A ClickHouse server over HTTP: what differs from the embedded engine; what is alike is in test_conformance.py."""

from dataclasses import make_dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from collector.storage.base import StoreError
from collector.storage.clickhouse import ClickHouseStore, open_server

pytestmark = pytest.mark.store


def test_parameters_may_be_longer_than_a_uri(server: ClickHouseStore) -> None:
    numbers = list(range(2**64 - 60_000, 2**64))
    assert server.query("SELECT length({numbers:Array(UInt64)}) AS n", {"numbers": numbers}) == [(60_000,)]


@pytest.mark.parametrize("columns", [9, 10, 13])
def test_rows_whose_first_bytes_look_like_line_breaks_are_inserted(server: ClickHouseStore, columns: int) -> None:
    names = [f"c{number}" for number in range(columns)]
    server.execute(f"CREATE TABLE breaks ({', '.join(f'{name} UInt8' for name in names)}) ENGINE = Memory")
    try:
        server.insert_records("breaks", [make_dataclass("Row", names)(*range(columns))] * 10)
        assert server.query("SELECT count(), min(c8) FROM breaks") == [(10, 8)]
    finally:
        server.execute("DROP TABLE breaks")


@pytest.mark.parametrize(("user", "password"), [("apidae", "guessed-wrong"), ("nobody", "guessed-wrong")])
def test_a_wrong_password_is_one_sentence_without_it(server_address: str, user: str, password: str) -> None:
    host = server_address.rsplit("@", 1)[1]
    with pytest.raises(
        StoreError, match=r"The store at http://127.0.0.1:\d+ cannot be used .*Authentication failed"
    ) as told:
        open_server(f"http://{user}:{password}@{host}/default")
    assert password not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("query", ["?cluster=main", "?insert_quorum=0", "?insert_quorum=many", "?compress=1"])
def test_a_url_with_other_options_is_refused_with_the_form_that_holds(query: str) -> None:
    with pytest.raises(
        StoreError, match=r"The store_url is not .*with \?insert_quorum=N at most; write it in this form"
    ):
        open_server(f"http://user:secret@127.0.0.1:1/db{query}")


class Replicas:
    """Clients of a server whose database has replicas: the engine, what else the catalogue answers, and what is set."""

    def __init__(self, engine: str = "Replicated", answer: object = 1) -> None:
        self.engine, self.answer = engine, answer
        self.settings: list[dict[str, object]] = []

    def open(self) -> Any:
        own: dict[str, object] = {}
        self.settings.append(own)
        return SimpleNamespace(
            set_client_setting=own.__setitem__,
            close=lambda: None,
            query=lambda sql, **_: SimpleNamespace(
                result_rows=[("apidae", self.engine)] if "system.databases" in sql else [(self.answer,)]
            ),
        )


def test_rows_count_as_stored_when_most_replicas_have_them() -> None:
    replicas = Replicas()
    store = ClickHouseStore(replicas.open, is_bare=True)
    assert store.layout.replicas == "apidae"
    assert all(own["insert_quorum"] == "auto" for own in replicas.settings) and len(replicas.settings) > 2
    fewer = Replicas()
    ClickHouseStore(fewer.open, is_bare=True, replica_settings={"insert_quorum": "1"})
    assert all(own["insert_quorum"] == "1" for own in fewer.settings)


def test_shards_are_refused() -> None:
    with pytest.raises(StoreError, match="The database apidae has 2 shards; make it of one shard with replicas"):
        ClickHouseStore(Replicas(answer=2).open, is_bare=True)


def test_distributed_tables_of_an_earlier_version_are_refused_by_the_name_of_one() -> None:
    with pytest.raises(StoreError, match=r"The table routes of the database apidae is of the engine Distributed"):
        ClickHouseStore(Replicas("Atomic", "routes").open, is_bare=True)

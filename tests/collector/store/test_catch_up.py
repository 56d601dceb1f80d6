"""A second start makes good what a crash left between a route, or a word, and its name."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector.ingest.reader import WalReader
from collector.ingest.reports import RevealedWord
from collector.ingest.reveal import RevealBook
from collector.ingest.wal import Append, Wal
from collector.inventory.catalogue import Catalogue
from collector.inventory.mapping import EndpointMapping
from collector.rows import Route, Segment, Service
from collector.store.arrow import build_routes
from collector.store.base import StoreError
from collector.store.clickhouse import ClickHouseStore
from collector.store.writer import StoreWriter
from tests.collector.wire_batches import make_batch

pytestmark = pytest.mark.store

NOW = int(time.time())
SERVICE = Service(cluster="", namespace="", workload="web", workload_kind=1, host_name="h", port=80)


def start_catalogue(store: ClickHouseStore) -> tuple[Catalogue, RevealBook]:
    reveals = RevealBook()
    return Catalogue(store, EndpointMapping(writer=store, clock=time.time), reveals), reveals


def list_templates(store: ClickHouseStore) -> dict[int, str]:
    return dict(store.query("SELECT route_id, url_template FROM endpoint_routes FINAL"))


def make_route(route_id: int, *segments: Segment) -> Route:
    return Route(
        route_id=route_id, service=SERVICE, host="h", method="GET", segments=segments, has_trailing_slash=False
    )


def test_routes_stored_before_a_crash_are_named_by_the_replay(store: ClickHouseStore, tmp_path: Path) -> None:
    wal = Wal(tmp_path, readers=("store",), essential="store")
    payload = make_batch(rows=6, base=NOW - 60).SerializeToString()
    wal.append([Append(node="n", boot_id="b", sequence=1, received_unix_ns=NOW * 10**9, payload=payload)])

    def crash(routes: Sequence[Route]) -> None:
        raise StoreError("The process died here.")

    def start_writer(map_endpoints: object) -> StoreWriter:
        return StoreWriter(
            reader=WalReader(tmp_path, "store"),
            store=store,
            log_id=wal.id,
            find_durable=lambda: wal.position,
            map_endpoints=map_endpoints,  # type: ignore[arg-type]
        )

    with pytest.raises(StoreError):
        start_writer(crash).drain()
    assert store.query("SELECT count() FROM routes FINAL") == [(2,)] and list_templates(store) == {}
    for _ in range(2):
        catalogue, _ = start_catalogue(store)
        writer = start_writer(catalogue.map_routes)
        writer.recover()
        assert writer.drain() == 0
        assert list_templates(store) == dict.fromkeys((11, 12), "/users/{user_id}")
        assert set(catalogue.list_endpoints()) == {11, 12}
        assert store.query("SELECT sum(calls) FROM rows_minute") == [(1 + 2 + 3 + 4 + 5 + 6,)]
    wal.close()


def test_a_route_that_was_never_named_is_named(store: ClickHouseStore) -> None:
    store.insert_arrow("routes", build_routes([(make_route(1, Segment(1, "orders", 0, 0)), NOW)]))
    catalogue, _ = start_catalogue(store)
    assert list_templates(store) == {1: "/orders"} and list(catalogue.list_endpoints()) == [1]


def test_a_word_kept_before_a_crash_names_its_routes_once(store: ClickHouseStore) -> None:
    hidden = make_route(1, Segment(2, "", 77, 7)), make_route(2, Segment(2, "", 88, 7))
    store.insert_arrow("routes", build_routes([(route, NOW) for route in hidden]))
    first, _ = start_catalogue(store)
    assert list_templates(store) == {1: "/{word}", 2: "/{word}"}
    word = RevealedWord(hash=77, text="pending", key_id=1, time=datetime.fromtimestamp(NOW, UTC))
    store.insert_records("revealed_words", [word])
    catalogue, reveals = start_catalogue(store)
    assert list_templates(store) == {1: "/pending", 2: "/{word}"}
    assert catalogue.list_endpoints()[1] != first.list_endpoints()[1]
    assert list(reveals.list_questions()) == [[88]]
    written = store.query("SELECT max(version) FROM endpoint_routes")
    start_catalogue(store)
    assert store.query("SELECT max(version) FROM endpoint_routes") == written

"""A second start makes good what a crash left between a route, or a word, and its name."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apidae.v1 import stream_pb2
from sqlalchemy import delete

from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.table import TemplateTable
from collector.log.base import Append
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.receiver.reports import FormerName, HiddenWords, RevealBook, RevealedWord, convert_former_names
from collector.receiver.sensor_status import Greeting
from collector.receiver.writer import StoreWriter
from collector.storage.arrow import build_routes
from collector.storage.base import StoreError
from collector.storage.clickhouse import ClickHouseStore
from collector.storage.state.store import StateStore
from collector.storage.state.tables.base import TABLE_WRITES
from tests.collector.wire_batches import make_batch

pytestmark = pytest.mark.store

NOW = int(time.time())
SERVICE = Service(cluster="", namespace="", workload="web", workload_kind=1, host_name="h", port=80)


def start_catalogue(store: ClickHouseStore, state: StateStore) -> tuple[Catalogue, RevealBook]:
    reveals = RevealBook()
    return Catalogue(store, TemplateTable(state, store), reveals), reveals


def list_templates(store: ClickHouseStore) -> dict[int, str]:
    return dict(store.query("SELECT route_id, url_template FROM endpoint_routes FINAL"))


def make_route(route_id: int, *segments: Segment) -> Route:
    return Route(
        route_id=route_id, service=SERVICE, host="h", method="GET", segments=segments, has_trailing_slash=False
    )


def test_routes_stored_before_a_crash_are_named_by_the_replay(
    store: ClickHouseStore, sqlite_state: StateStore, tmp_path: Path
) -> None:
    wal = FileLog(tmp_path, readers=("store",))
    payload = make_batch(rows=6, base=NOW - 60).SerializeToString()
    wal.append([Append(node="n", boot_id="b", sequence=1, received_unix_ns=NOW * 10**9, payload=payload)])

    def crash(routes: Sequence[Route]) -> None:
        raise StoreError("The process died here.")

    def start_writer(map_endpoints: object) -> StoreWriter:
        return StoreWriter(
            reader=FileLogReader(tmp_path, "store"),
            store=store,
            log_id=wal.id,
            map_endpoints=map_endpoints,  # type: ignore[arg-type]
        )

    with pytest.raises(StoreError):
        start_writer(crash).drain()
    assert store.query("SELECT count() FROM routes FINAL") == [(2,)] and list_templates(store) == {}
    for batches in (1, 0):
        catalogue, _ = start_catalogue(store, sqlite_state)
        writer = start_writer(catalogue.map_routes)
        writer.learn_routes()
        assert writer.drain() == batches
        assert list_templates(store) == dict.fromkeys((11, 12), "/users/{user_id}")
        assert set(catalogue.list_endpoints()) == {11, 12}
        assert store.query("SELECT sum(calls) FROM rows_minute") == [(1 + 2 + 3 + 4 + 5 + 6,)]
    wal.close()


def test_a_route_that_was_never_named_is_named(store: ClickHouseStore, sqlite_state: StateStore) -> None:
    store.insert_arrow("routes", build_routes([(make_route(1, Segment(1, "orders", 0, 0)), NOW)]))
    catalogue, _ = start_catalogue(store, sqlite_state)
    assert list_templates(store) == {1: "/orders"} and list(catalogue.list_endpoints()) == [1]
    assert catalogue.take_changed() == catalogue.list_endpoints() and not catalogue.take_changed()
    catalogue.map_routes([make_route(2, Segment(1, "orders", 0, 0)), make_route(1, Segment(1, "orders", 0, 0))])
    assert list(catalogue.take_changed()) == [2]


def test_a_word_kept_before_a_crash_names_its_routes_once(store: ClickHouseStore, sqlite_state: StateStore) -> None:
    hidden = make_route(1, Segment(2, "", 77, 7)), make_route(2, Segment(2, "", 88, 7))
    store.insert_arrow("routes", build_routes([(route, NOW) for route in hidden]))
    first, _ = start_catalogue(store, sqlite_state)
    assert list_templates(store) == {1: "/{word}", 2: "/{word}"}
    word = RevealedWord(hash=77, text="pending", key_id=1, time=datetime.fromtimestamp(NOW, UTC))
    TemplateTable(sqlite_state, store).add_words([word])
    catalogue, reveals = start_catalogue(store, sqlite_state)
    assert list_templates(store) == {1: "/pending", 2: "/{word}"}
    assert catalogue.list_endpoints()[1] != first.list_endpoints()[1]
    catalogue.group()
    assert reveals.choose(HiddenWords([77, 88]), 0.0) == [88]
    written = store.query("SELECT max(version) FROM endpoint_routes")
    start_catalogue(store, sqlite_state)
    assert store.query("SELECT max(version) FROM endpoint_routes") == written


def test_routes_are_grouped_as_more_is_seen_of_them(
    store: ClickHouseStore, sqlite_state: StateStore, tmp_path: Path
) -> None:
    """Users by names of their own: words at first, one parameter once there are many, and that over a second start."""
    users = Segment(1, "users", 0, 0)
    names = [make_route(n, users, Segment(2, "", 1_000 + n, 6)) for n in range(1, 7)]
    catalogue, reveals = start_catalogue(store, sqlite_state)
    ids: set[str] = set()
    for count in (1, 6):
        new = names[:count] if count == 1 else names[1:]
        store.insert_arrow("routes", build_routes([(route, NOW) for route in new]))
        catalogue.map_routes(new)
        call_routes(store, new)
        moved = catalogue.group()
        assert moved == (0 if count == 1 else 6)
        asked = reveals.choose(HiddenWords(range(1_001, 1_007)), 0.0)
        assert asked == ([1_001] if count == 1 else [])  # Values are not asked for.
        assert set(list_templates(store).values()) == {"/users/{word}" if count == 1 else "/users/{user_name}"}
        assert len(set(catalogue.list_endpoints().values())) == 1
        ids = ids | set(catalogue.list_endpoints().values())
    aliases = store.query("SELECT endpoint_id, route_id FROM endpoint_aliases FINAL")
    assert {endpoint_id for endpoint_id, _ in aliases} == ids - set(catalogue.list_endpoints().values()) != set()
    assert catalogue.group() == 0
    assert catalogue.group(is_all=True) == 0
    again, _ = start_catalogue(store, sqlite_state)
    assert set(list_templates(store).values()) == {"/users/{user_name}"}
    again.learn([RevealedWord(hash=1_001, text="alice", key_id=1, time=datetime.fromtimestamp(NOW, UTC))])
    assert again.group() == 0
    assert set(list_templates(store).values()) == {"/users/{user_name}"}


def test_paths_of_soap_are_names(store: ClickHouseStore, sqlite_state: StateStore) -> None:
    """Six services by words that the sensor keeps to itself are values, unless samples show that they are SOAP."""
    services = [make_route(n, Segment(1, "services", 0, 0), Segment(2, "", 1_000 + n, 6)) for n in range(1, 7)]
    catalogue, _ = start_catalogue(store, sqlite_state)
    store.insert_arrow("routes", build_routes([(route, NOW) for route in services]))
    catalogue.map_routes(services)
    call_routes(store, services)
    catalogue.group()
    assert set(list_templates(store).values()) == {"/services/{service_name}"}
    for route in services:
        store.execute(
            "INSERT INTO operation_samples (route_id, protocol, kind, name, calls, time) "
            "VALUES ({route_id:UInt64}, 'soap', 'action', 'GetOrder', 1, now('UTC'))",
            {"route_id": route.route_id},
        )
    catalogue.group(is_all=True)
    assert set(list_templates(store).values()) == {"/services/{word}"}


def call_routes(store: ClickHouseStore, routes: Sequence[Route]) -> None:
    """One call of each, answered 2xx."""
    for route in routes:
        store.execute(
            "INSERT INTO routes_day (role, route_id, time, last_seen, calls, success_calls) "
            "VALUES (1, {route_id:UInt64}, toStartOfDay(now('UTC')), now('UTC'), 1, 1)",
            {"route_id": route.route_id},
        )


def list_services(store: ClickHouseStore) -> dict[int, tuple[str, str, str]]:
    rows = store.query("SELECT route_id, namespace, workload, host_name FROM endpoint_routes FINAL")
    return {row[0]: tuple(row[1:]) for row in rows}


def test_calls_of_a_container_become_its_workloads_when_a_sensor_says_so(
    store: ClickHouseStore, sqlite_state: StateStore
) -> None:
    """And stay so: at the next grouping, at the next start, for routes that come later."""
    container = replace(SERVICE, cluster="east", workload="0123456789ab", workload_kind=2, host_name="n1")
    cart = replace(SERVICE, cluster="east", namespace="shop", workload="cart", workload_kind=4, host_name="")
    items = Segment(1, "items", 0, 0)
    early = [
        replace(make_route(1, items), service=container),
        replace(make_route(2, items), service=replace(container, host_name="n2")),  # The same id, on another node.
        replace(make_route(3, items), service=cart),
    ]
    store.insert_arrow("routes", build_routes([(route, NOW) for route in early]))
    catalogue, _ = start_catalogue(store, sqlite_state)
    before = catalogue.list_endpoints()
    coverage = stream_pb2.Coverage()
    coverage.workloads.add(cluster="west", namespace="shop", workload="cart", former_names=["0123456789ab", "nginx"])
    coverage.workloads.add(workload="web", former_names=["0123456789cd"])
    greeting = Greeting(
        cluster="east",
        node="n1",
        boot_id="b",
        key_id=1,
        version="",
        kernel_release="",
        policy_epoch=0,
        features=frozenset(),
    )
    told = convert_former_names(coverage, greeting, NOW)
    assert [(one.cluster, one.node, one.former_name) for one in told] == [("east", "n1", "0123456789ab")]
    assert catalogue.choose_former_names(told) == told
    catalogue.take_former_names(told)
    assert catalogue.choose_former_names(told) == []
    healed = {1: ("shop", "cart", ""), 2: ("", "0123456789ab", "n2"), 3: ("shop", "cart", "")}
    assert list_services(store) == healed
    after = catalogue.list_endpoints()
    assert after[1] == after[3] == before[3] != before[1] and after[2] == before[2]
    assert store.query("SELECT endpoint_id, route_id FROM endpoint_aliases FINAL") == [(before[1], 1)]
    later = replace(make_route(4, items, items), service=container)
    store.insert_arrow("routes", build_routes([(later, NOW)]))
    catalogue.map_routes([later])
    again, _ = start_catalogue(store, sqlite_state)
    for one in (catalogue, again):
        one.group(is_all=True)
        assert list_services(store) == {**healed, 4: ("shop", "cart", "")}


def test_a_copy_that_lost_names_gets_them_from_the_state(
    store: ClickHouseStore, sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = [make_route(n, Segment(1, f"orders{n}", 0, 0)) for n in range(1, 4)]
    store.insert_arrow("routes", build_routes([(route, NOW) for route in routes]))
    catalogue, _ = start_catalogue(store, sqlite_state)
    written = "SELECT route_id, version, endpoint_id, url_template FROM endpoint_routes FINAL ORDER BY route_id"
    before = store.query(written)
    store.execute("TRUNCATE TABLE endpoint_routes")
    assert catalogue.group(is_all=True) == 0
    assert store.query(written) == before and len(before) == 3
    # A state that was restored from a backup has lower numbers than the copy.
    with sqlite_state.write() as connection:
        connection.execute(delete(TABLE_WRITES))
    store.execute("INSERT INTO endpoint_routes (route_id, version, endpoint_id) VALUES (1, 5000, 'later')")
    assert catalogue.group(is_all=True) == 0
    assert [row[2:] for row in store.query(written)] == [row[2:] for row in before]
    # An insert that fails is repeated by the next look, and the route has its name in the state by then.
    later = make_route(4, Segment(1, "bills", 0, 0))

    def fail(*_: object) -> None:
        raise StoreError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "insert_records", fail)
        with pytest.raises(StoreError):
            catalogue.map_routes([later])
    assert 4 not in list_templates(store)
    catalogue.follow()
    assert list_templates(store)[4] == "/bills" and 4 in catalogue.list_endpoints()


def test_another_collector_follows_edits_and_words(store: ClickHouseStore, sqlite_state: StateStore) -> None:
    users = make_route(1, Segment(1, "users", 0, 0), Segment(3, "", 0, 0))
    hidden = make_route(2, Segment(1, "users", 0, 0), Segment(2, "", 77, 7))
    store.insert_arrow("routes", build_routes([(route, NOW) for route in (users, hidden)]))
    one, _ = start_catalogue(store, sqlite_state)
    other, _ = start_catalogue(store, sqlite_state)
    editor = TemplateEditor(store=store, table=TemplateTable(sqlite_state, store), names=one, clock=lambda: NOW)
    edit = editor.rename(one.list_endpoints()[1], place=1, name="account", by="ada")
    one.learn([RevealedWord(hash=77, text="me", key_id=1, time=datetime.fromtimestamp(NOW, UTC))])
    other.group()
    assert list_templates(store) == {1: "/users/{account}", 2: "/users/me"}
    one.follow()
    assert other.list_endpoints() == one.list_endpoints()
    # The one that takes over names later routes by the same edit, and what is known is not named anew.
    later = make_route(3, Segment(1, "users", 0, 0), Segment(4, "", 0, 0))
    store.insert_arrow("routes", build_routes([(later, NOW)]))
    other.map_routes([users, hidden, later])
    assert list_templates(store) == {1: "/users/{account}", 2: "/users/me", 3: "/users/{account}"}
    editor.undo(edit.id, by="bob")
    other.group()
    one.follow()
    assert other.list_endpoints() == one.list_endpoints()
    assert list_templates(store)[1] == list_templates(store)[3] == "/users/{user_id}"


def test_another_collector_asks_its_sensors_for_hidden_words_and_follows_former_names(
    store: ClickHouseStore, sqlite_state: StateStore
) -> None:
    container = replace(SERVICE, cluster="east", workload="0123456789ab", workload_kind=2, host_name="n1")
    hidden = make_route(1, Segment(1, "users", 0, 0), Segment(2, "", 77, 7))
    called = replace(make_route(2, Segment(1, "items", 0, 0)), service=container)
    store.insert_arrow("routes", build_routes([(route, NOW) for route in (hidden, called)]))
    one, _ = start_catalogue(store, sqlite_state)
    other, reveals = start_catalogue(store, sqlite_state)
    one.group()
    other.follow()
    assert reveals.choose(HiddenWords([77, 78]), 0.0) == [77]
    name = FormerName(
        cluster="east", node="n1", former_name="0123456789ab", namespace="shop", workload="cart",
        time=datetime.fromtimestamp(NOW, UTC),
    )  # fmt: skip
    one.take_former_names([name])
    one.learn([RevealedWord(hash=77, text="me", key_id=1, time=datetime.fromtimestamp(NOW, UTC))])
    one.group()
    other.follow()
    assert reveals.choose(HiddenWords([77]), 99.0) == []
    assert other.choose_former_names([name]) == [] and list_services(store)[2] == ("shop", "cart", "")
    assert other.list_endpoints() == one.list_endpoints() and list_templates(store)[1] == "/users/me"

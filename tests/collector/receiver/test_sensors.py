"""The registry: what a sensor said last, what changed, and its bound."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import collector.receiver.sensors
from collector.receiver.sensor_status import Greeting, HealthReport, SensorStatus, StageAccount
from collector.receiver.sensor_table import SensorTable, import_sensors, read_statuses
from collector.receiver.sensors import FLUSH_BURST, FLUSH_SECONDS, HEARD_SECONDS, HEARD_SHARED_SECONDS, SensorRegistry
from collector.storage.base import StoreError
from collector.storage.state.store import StateStore
from tests.collector.conftest import empty


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


REPORT = HealthReport(
    state=2,
    reason="paused",
    capture="syscalls",
    fallback_reason="no cgroup v2 is mounted",
    lag_ms=1_500,
    spool_bytes=1,
    memory_bytes=2,
    cpu_ns=3,
    account=StageAccount(seen_calls=15, lost_calls=1, stages='[{"stage": "x"}]'),
)


def greet(registry: SensorRegistry, node: str = "a", boot_id: str = "b", cluster: str = "c") -> None:
    greeting = Greeting(
        cluster=cluster,
        node=node,
        boot_id=boot_id,
        key_id=5,
        version="1",
        kernel_release="6",
        policy_epoch=3,
        features=frozenset(),
        name=node,
    )
    registry.record_hello(greeting, 900.0)


def test_what_was_last_said_holds() -> None:
    clock = Clock()
    registry = SensorRegistry(clock)
    greet(registry)
    clock.now = 105.0
    registry.record_health("a", REPORT)
    registry.record_health("a", replace(REPORT, account=None))  # Its stages are as before.
    clock.now = 107.0
    registry.record_batch("a")
    (status,) = registry.list_statuses()
    assert (status.seen_calls, status.lost_calls, status.first_seen, status.last_heard_at) == (15, 1, 100.0, 107.0)
    assert status.is_paused and status.lag_seconds == 1.5 and status.version == "1"
    assert status.certificate_not_after == 900.0
    assert (status.capture, status.fallback_reason) == ("syscalls", "no cgroup v2 is mounted")
    greet(registry)
    assert not registry.list_statuses()[0].is_paused


def test_an_account_is_of_one_process() -> None:
    registry = SensorRegistry(Clock())
    greet(registry)
    registry.record_health("a", REPORT)
    greet(registry)
    assert registry.list_statuses()[0].seen_calls == 15
    greet(registry, boot_id="another")
    (status,) = registry.list_statuses()
    assert (status.seen_calls, status.lost_calls, status.stages) == (0, 0, "[]")


def test_changes_are_taken_once() -> None:
    registry = SensorRegistry(Clock())
    registry.load([SensorStatus(node="old", first_seen=5.0, seen_calls=7)])
    assert registry.take_changed() == []
    registry.record_batch("old")
    greet(registry, "new")
    assert [(s.node, s.seen_calls, s.first_seen) for s in registry.take_changed()] == [
        ("new", 0, 100.0),
        ("old", 7, 5.0),
    ]
    assert registry.take_changed() == []


def test_sensors_past_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector.receiver.sensors, "SENSOR_LIMIT", 2)
    registry = SensorRegistry(Clock())
    for node in "abc":
        greet(registry, node)
    greet(registry, "a")
    assert [status.node for status in registry.list_statuses()] == ["a", "b"]
    assert registry.unlisted == 1


def test_nodes_of_two_clusters_that_have_one_name_are_two() -> None:
    clock = Clock()
    registry = SensorRegistry(clock)

    def connect(cluster: str) -> str:
        name = registry.find_name("node-1", cluster)
        greet(registry, name, cluster=cluster)
        registry.record_health(name, replace(REPORT, state=1))
        return name

    assert [connect("east"), connect("west"), connect("east"), connect("west")] == ["node-1", "west/node-1"] * 2
    assert connect("") == "-/node-1"
    assert [(one.node, one.cluster) for one in registry.list_statuses()] == [
        ("-/node-1", ""),
        ("node-1", "east"),
        ("west/node-1", "west"),
    ]
    # After a restart it is the same.
    again = SensorRegistry(clock)
    again.load(registry.list_statuses())
    assert again.find_name("node-1", "west") == "west/node-1"


@pytest.mark.parametrize(("state", "seconds", "name"), [(3, 0, "a"), (1, 601, "a"), (2, 0, "new/a"), (1, 599, "new/a")])
def test_a_cluster_that_got_another_name_keeps_its_nodes(state: int, seconds: float, name: str) -> None:
    """A sensor that was paused lives; one that has stopped or long been silent may be the same."""
    clock = Clock()
    registry = SensorRegistry(clock)
    greet(registry)
    registry.record_health("a", replace(REPORT, state=state))
    clock.now += seconds
    assert registry.find_name("a", "new") == name


class Site:
    """Two processes that share a state, as on PostgreSQL, or one of each."""

    def __init__(self, state: StateStore) -> None:
        self.clock = Clock()
        self.state = state

    def open(self) -> SensorRegistry:
        registry = SensorRegistry(self.clock, SensorTable(self.state), monotonic=self.clock)
        registry.exchange()
        return registry

    def wait(self, seconds: float, *registries: SensorRegistry) -> None:
        self.clock.now += seconds
        for registry in registries:
            registry.exchange()


@pytest.fixture
def site(state: StateStore) -> Site:
    return Site(state)


@pytest.fixture
def shared(postgresql_database: StateStore) -> Site:
    return Site(empty(postgresql_database))


def count_writes(site: Site) -> int:
    return site.state.count_writes(["sensors"])


def test_a_restart_knows_who_was_heard(site: Site) -> None:
    registry = site.open()
    greet(registry)
    registry.record_health("a", REPORT)
    registry.flush()
    assert site.open().list_statuses() == registry.list_statuses() == list(read_statuses(site.state))


def test_news_is_written_every_five_seconds_and_only_what_changed(site: Site) -> None:
    registry, before = site.open(), count_writes(site)
    for epoch in range(55):
        registry.record_policy("a", epoch=epoch, refusal="")
        site.wait(1, registry)
    written = count_writes(site) - before
    assert FLUSH_BURST + 55 / FLUSH_SECONDS - 2 <= written <= 2 * (FLUSH_BURST + 55 / FLUSH_SECONDS)
    site.wait(60, registry)
    before = count_writes(site)
    site.wait(600, registry)
    assert count_writes(site) == before


def test_what_a_sensor_only_counts_is_written_now_and_then_and_at_the_end(site: Site) -> None:
    registry = site.open()
    registry.record_batch("a")
    registry.flush()
    before, wait = count_writes(site), HEARD_SHARED_SECONDS if site.state.is_shared else HEARD_SECONDS
    for _ in range(int(2 * wait) + 1):
        registry.record_batch("a")
        site.wait(1, registry)
    assert count_writes(site) == before + 2
    registry.record_batch("a")
    registry.flush()
    assert count_writes(site) == before + 3


def test_collectors_know_what_each_other_heard(shared: Site) -> None:
    first, second = shared.open(), shared.open()
    greet(first, "a")
    greet(second, "b")
    shared.wait(1, first, second, first)
    assert [one.node for one in first.list_statuses()] == [one.node for one in second.list_statuses()] == ["a", "b"]
    # It moves, and the word of the collector that it left counts no more.
    first.record_health("a", REPORT)
    shared.clock.now += 1
    greet(second, "a", boot_id="new")
    second.flush()
    first.flush()
    shared.wait(1, first, second)
    assert {one.boot_id for one in (first.list_statuses()[0], second.list_statuses()[0])} == {"new"}
    assert read_statuses(shared.state)[0].boot_id == "new"


def test_a_sensor_that_another_collector_hears_is_not_silent(shared: Site) -> None:
    here, there = shared.open(), shared.open()
    greet(there)

    def measure() -> float:
        return here.measure_silence(here.list_statuses()[0], shared.clock.now)

    for _ in range(60):
        there.record_batch("a")
        shared.wait(1, there, here)
        assert measure() <= 0
    for _ in range(20):
        shared.wait(1, there, here)
    assert 10 <= measure() <= 20
    greet(here)
    assert measure() == 0


def test_silence_is_not_counted_while_the_state_cannot_be_read(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = shared.open(), shared.open()
    greet(there)
    shared.wait(1, there, here)

    def fail(_: SensorTable) -> list[SensorStatus]:
        raise StoreError("away")

    with monkeypatch.context() as patched:
        patched.setattr(SensorTable, "read_new", fail)
        shared.clock.now += 100
        with pytest.raises(StoreError):
            here.exchange()
        assert here.measure_silence(here.list_statuses()[0], shared.clock.now) == 0
    here.exchange()  # The other collector had no chance to write yet.
    assert here.measure_silence(here.list_statuses()[0], shared.clock.now) <= 0
    shared.wait(30, here)
    assert here.measure_silence(here.list_statuses()[0], shared.clock.now) >= 20


def test_what_could_not_be_written_is_written_later(sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Site(sqlite_state).open()
    greet(registry)

    def fail(*_: object) -> None:
        raise StoreError("away")

    with monkeypatch.context() as patched:
        patched.setattr(SensorTable, "write", fail)
        with pytest.raises(StoreError):
            registry.flush()
    registry.flush()
    assert [one.node for one in read_statuses(sqlite_state)] == ["a"]


def test_two_collectors_give_nodes_of_one_name_two_names(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shared.open(), shared.open()
    assert not first.is_settled("n", "east")
    assert first.claim_name("n", "east") == "n" and first.is_settled("n", "east")
    assert second.claim_name("n", "west") == "west/n" and second.claim_name("n", "east") == "n"
    assert first.claim_name("n", "west") == "west/n"
    shared.wait(1, first, second)
    assert [(one.node, one.cluster) for one in second.list_statuses()] == [("n", "east"), ("west/n", "west")]

    def fail(*_: object) -> None:
        raise StoreError("away")

    monkeypatch.setattr(SensorTable, "claim", fail)
    assert first.claim_name("m", "east") == "m"


def test_sensors_of_an_earlier_version_are_known(state: StateStore) -> None:
    old = {"node": "a", "cluster": "c", "seen_calls": 2**64 - 1, "stages": "[]", "first_seen": 5.0, "updated_at": 6.0}
    rows = SimpleNamespace(read=lambda _, convert: [[convert(old)]])
    with state.write() as connection:
        import_sensors(connection, rows)
    (status,) = read_statuses(state)
    assert (status.node, status.cluster, status.seen_calls, status.first_seen) == ("a", "c", 2**64 - 1, 5.0)
    assert SensorTable(state).read_new() == [status]

"""Leases: one holder at a time, an epoch that fences what an earlier holder still writes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from collector.storage.base import LeaseLostError, StoreError
from collector.storage.state import leases as leases_module
from collector.storage.state.leases import Fence, LeaseKeeper, Leases
from collector.storage.state.store import StateStore, open_state, upsert
from collector.storage.state.tables.base import IMPORTS
from collector.storage.state.tables.leases import LEASES
from tests.collector.conftest import empty

NAMES = ("detect", "jobs")


@pytest.fixture
def shared(postgresql_database: StateStore) -> StateStore:
    """An empty state of several processes."""
    return empty(postgresql_database)


def end(state: StateStore, name: str) -> None:
    """As if the holder had not renewed for long."""
    with state.write() as connection:
        connection.execute(update(LEASES).where(LEASES.c.name == name).values(until=1.0))


def note(fence: Fence, name: str) -> None:
    with fence.write() as connection:
        upsert(connection, IMPORTS, [{"name": name, "time": 1.0, "rows": 1}])


def list_names(state: StateStore) -> list[str]:
    with state.read() as connection:
        return sorted(connection.execute(select(IMPORTS.c.name)).scalars())


def test_a_lease_has_one_holder_until_it_ends(shared: StateStore) -> None:
    first, second = Leases(shared, holder="a", address="10.0.0.1:1"), Leases(shared, holder="b")
    assert {name: lease.holder for name, lease in first.take(NAMES).items()} == dict.fromkeys(NAMES, "a")
    held = second.take(NAMES)
    assert {lease.holder for lease in held.values()} == {"a"} and held["jobs"].address == "10.0.0.1:1"
    end(shared, "jobs")
    assert second.find("jobs") is None
    held = second.take(NAMES)
    assert (held["detect"].holder, held["jobs"].holder, held["jobs"].epoch) == ("a", "b", 2)
    assert first.take(NAMES)["jobs"].holder == "b"


def test_renewing_keeps_the_epoch_and_a_gap_of_the_holder_does_not(shared: StateStore) -> None:
    leases = Leases(shared)
    begun = leases.take(["jobs"])["jobs"]
    renewed = leases.take(["jobs"])["jobs"]
    assert (renewed.epoch, renewed.until > begun.until) == (1, True)
    end(shared, "jobs")
    assert leases.take(["jobs"])["jobs"].epoch == 2, "somebody else may have had it in between"


def test_ends_are_of_the_clock_of_the_database(shared: StateStore) -> None:
    lease = Leases(shared, ttl_seconds=3.0).take(["jobs"])["jobs"]
    with shared.read() as connection:
        now = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
    assert lease.until <= now + 3.0
    Leases(shared, holder="late", ttl_seconds=-1.0).take(["writer"])
    assert Leases(shared).take(["writer"])["writer"].holder != "late"


def test_a_released_lease_is_taken_over_at_once(shared: StateStore) -> None:
    first, second = Leases(shared), Leases(shared)
    first.take(NAMES)
    first.release(["jobs"])
    held = second.take(NAMES)
    assert (held["jobs"].holder, held["detect"].holder) == (second.holder, first.holder)


def test_who_lost_a_lease_writes_nothing(state: StateStore) -> None:
    first, second = Leases(state), Leases(state)
    fence = first.make_fence(first.take(["jobs"])["jobs"])
    note(fence, "mine")
    end(state, "jobs")
    note(fence, "late, and nobody took over")
    second.take(["jobs"])
    with pytest.raises(LeaseLostError, match="Another collector does the work of 'jobs' now"):
        note(fence, "too late")
    with pytest.raises(LeaseLostError), fence.state.write() as connection:
        upsert(connection, IMPORTS, [{"name": "checked last", "time": 1.0, "rows": 1}])
        fence.check(connection)
    assert list_names(state) == ["late, and nobody took over", "mine"]


def test_a_takeover_waits_for_what_the_holder_is_writing(shared: StateStore) -> None:
    first, second = Leases(shared), Leases(shared)
    fence = first.make_fence(first.take(["jobs"])["jobs"])
    end(shared, "jobs")
    seen: list[list[str]] = []

    def take_over() -> None:
        second.take(["jobs"])
        seen.append(list_names(shared))

    thread = threading.Thread(target=take_over)
    with fence.write() as connection:
        thread.start()
        upsert(connection, IMPORTS, [{"name": "under way", "time": 1.0, "rows": 1}])
        with shared.read() as other:  # Until the other waits for the row.
            waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            while not other.execute(waiting).scalar_one():
                assert thread.is_alive()
                other.execute(text("SELECT pg_stat_clear_snapshot(), pg_sleep(0.01)"))
    thread.join()
    assert seen == [["under way"]], "what it wrote is there when the next one begins"


def test_many_processes_get_each_lease_once(shared: StateStore) -> None:
    names = [f"partition-{number}" for number in range(20)]
    all_leases = [Leases(shared) for _ in range(4)]
    failures: list[BaseException] = []

    def work(leases: Leases, order: list[str]) -> None:
        try:
            for _ in range(5):
                leases.take(order)
        except BaseException as error:
            failures.append(error)

    orders = [names, names[::-1], names, names[::-1]]
    threads = [threading.Thread(target=work, args=one) for one in zip(all_leases, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    held = all_leases[0].take(names)
    assert sorted(held) == sorted(names) and {lease.epoch for lease in held.values()} == {1}


def test_the_one_process_of_a_file_takes_everything_at_its_start(sqlite_state: StateStore) -> None:
    before = Leases(sqlite_state)
    fence = before.make_fence(before.take(NAMES)["jobs"])
    changes: list[tuple[str, int]] = []
    keeper = LeaseKeeper(
        Leases(sqlite_state), NAMES, on_change=lambda name, fence: changes.append((name, fence.epoch if fence else 0))
    )
    keeper.start()
    assert sorted(changes) == [("detect", 2), ("jobs", 2)]
    own = keeper.find_fence("jobs")
    assert own is not None
    note(own, "mine")
    with pytest.raises(LeaseLostError):
        note(fence, "of the previous process")
    keeper.stop()
    assert keeper.find_fence("jobs") is None and keeper.find_lease("jobs") is not None


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_keeper_reports_what_it_got_and_lost(shared: StateStore) -> None:
    clock, changes = Clock(), list[tuple[str, bool]]()
    keeper = LeaseKeeper(
        Leases(shared),
        NAMES,
        on_change=lambda name, fence: changes.append((name, fence is not None)),
        monotonic=clock,
    )
    keeper.look()
    assert sorted(changes) == [("detect", True), ("jobs", True)]
    old = keeper.find_fence("jobs")
    clock.now += 2.9
    keeper.look()
    clock.now += 2.9
    assert len(changes) == 2 and keeper.find_fence("jobs") == old, "renewed"
    end(shared, "jobs")
    other = Leases(shared, address="10.0.0.2:2")
    other.take(NAMES)
    keeper.look()
    assert changes[2:] == [("jobs", False)] and keeper.find_fence("jobs") is None
    lease = keeper.find_lease("jobs")
    assert lease is not None and lease.address == "10.0.0.2:2"
    other.release(NAMES)
    keeper.look()
    new = keeper.find_fence("jobs")
    assert changes[3:] == [("jobs", True)] and new is not None and old is not None and new.epoch == old.epoch + 2


def test_without_the_database_leases_are_lost_when_their_time_is_over(
    shared: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, changes = Clock(), list[tuple[str, bool]]()
    leases = Leases(shared)
    keeper = LeaseKeeper(
        leases, ["jobs"], on_change=lambda name, fence: changes.append((name, fence is not None)), monotonic=clock
    )
    keeper.look()

    def fail(names: object) -> None:
        raise StoreError("PostgreSQL cannot be used.")

    monkeypatch.setattr(leases, "take", fail)
    clock.now += 2.0
    with pytest.raises(StoreError):
        keeper.look()
    assert keeper.find_fence("jobs") is not None and len(changes) == 1
    clock.now += 1.0
    assert keeper.find_fence("jobs") is None, "also where the thread hangs"
    with pytest.raises(StoreError):
        keeper.look()
    assert changes == [("jobs", True), ("jobs", False)]
    monkeypatch.undo()
    keeper.look()
    assert changes[2:] == [("jobs", True)]


def test_a_lease_that_was_given_back_is_taken_before_the_next_renewal(
    shared: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "RENEW_SECONDS", 3_600.0)
    other, got = Leases(shared), list[str]()
    other.take(NAMES)
    has_jobs = threading.Event()

    def note_change(name: str, fence: Fence | None) -> None:
        got.append(name)
        has_jobs.set()

    keeper = LeaseKeeper(Leases(shared), NAMES, on_change=note_change)
    keeper.start()
    assert not got
    other.release(["jobs"])
    assert has_jobs.wait(60)
    keeper.stop()
    assert got == ["jobs"]


HOLDER = """
import sys
from pathlib import Path
from collector.storage.state.leases import LeaseKeeper, Leases
from collector.storage.state.store import open_state
keeper = LeaseKeeper(Leases(open_state(Path("."), sys.argv[1])), ["jobs"])
keeper.start()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.full
def test_who_is_killed_is_succeeded_within_five_seconds(
    shared: StateStore, postgresql_url: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, postgresql_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        got = threading.Event()
        keeper = LeaseKeeper(Leases(shared), ["jobs"], on_change=lambda name, fence: got.set())
        keeper.start()
        assert not got.is_set()
        process.send_signal(signal.SIGKILL)
        assert got.wait(60)
    fence = keeper.find_fence("jobs")
    assert fence is not None and fence.epoch == 2
    keeper.stop()


def test_an_open_state_says_whether_it_is_shared(shared: StateStore, tmp_path: Path) -> None:
    alone = open_state(tmp_path)
    assert (alone.is_shared, shared.is_shared) == (False, True)
    alone.close()


def test_renewing_is_not_counted_as_a_write(state: StateStore) -> None:
    before = state.count_writes(["leases"])
    Leases(state).take(NAMES)
    assert state.count_writes(["leases"]) == before

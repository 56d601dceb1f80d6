"""Detectors follow those of another collector, and take over from them at any moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from collector.alerting.pending import PendingReports
from collector.detection.engine import Engine
from collector.detection.follower import Follower
from collector.detection.memory import LostTrackError
from collector.detection.messages import Erase, Mapped, SignalBatch
from collector.detection.shared_memory import StateMemory
from collector.log.base import Append
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.storage.base import LeaseLostError
from collector.storage.state.leases import Fence, Leases
from collector.storage.state.store import StateStore
from collector.storage.state.tables.detectors import DETECTOR_CUTS, DETECTOR_STATES
from collector.storage.state.tables.leases import LEASES
from tests.accuracy.volume import write_batch
from tests.collector.alerting.test_service import make_signal
from tests.collector.detection.stream import START

WINDOWS = range(46)  # 20 calls a minute, and 2,000 from minute 40 on.


class Installation:
    """One log, one state, and what was reported, each number once."""

    def __init__(self, state: StateStore, directory: Path) -> None:
        self.state, self.directory = state, directory
        self.wal = FileLog(directory, readers=["detectors"])
        self.sent = 0
        self.kept: list[object] = []
        self.next = 1

    def send(self, until: int) -> None:
        for w in range(self.sent, until):
            payload = write_batch(START + 60 * w, 2_000 if w >= 40 else 20, 60, w + 1)
            received = (START + 60 * w + 61) * 10**9
            self.wal.append([Append(node="n", boot_id="b", sequence=w + 1, received_unix_ns=received, payload=payload)])
        self.sent = until

    def take(self, told: SignalBatch) -> None:
        self.kept += told.signals[max(0, self.next - told.first) :]
        self.next = max(self.next, told.first + len(told.signals))

    def take_lease(self) -> Fence:
        """For another process than the last one."""
        with self.state.write() as connection:
            connection.execute(update(LEASES).values(until=1.0))
        leases = Leases(self.state)
        return leases.make_fence(leases.take(["detect"])["detect"])

    def start(self, fence: Fence | None = None) -> Follower:
        """A process. It leads where it has a fence."""
        mapping: dict[int, str] = {}
        follower = Follower(
            reader=FileLogReader(self.directory, "detectors"),
            engine=Engine(endpoint_of_route=mapping),
            memory=StateMemory(self.state, fence),
            mapping=mapping,
            is_leading=fence is not None,
            report=self.take,
        )
        follower.resume()
        follower.obey(Mapped({}))
        return follower


def work(follower: Follower) -> None:
    while follower.step():
        follower.taken = follower.next_signal


@pytest.fixture
def one(state: StateStore, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(state, tmp_path)
    yield installation
    installation.wal.close()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, sqlite_database: StateStore) -> list[object]:
    """The signals where nobody dies."""
    with sqlite_database.write() as connection:
        for table in (LEASES, DETECTOR_CUTS, DETECTOR_STATES):
            connection.execute(table.delete())
    alone = Installation(sqlite_database, tmp_path_factory.mktemp("log"))
    leader = alone.start(alone.take_lease())
    for until in WINDOWS:
        alone.send(until + 1)
        work(leader)
    assert alone.kept
    alone.wal.close()
    return alone.kept


FULL = pytest.mark.full


@pytest.mark.parametrize(
    ("dies_at", "saves_at"),
    [
        (41, 20),
        *(
            pytest.param(dies_at, saves_at, marks=FULL)
            for dies_at in (1, 30, 41, 42, 45)
            for saves_at in (0, 20, 41)
            if (dies_at, saves_at) != (41, 20)
        ),
    ],
)
def test_who_takes_over_reports_the_same(
    one: Installation, expected: list[object], dies_at: int, saves_at: int
) -> None:
    leader, standby = one.start(one.take_lease()), None
    for until in WINDOWS:
        one.send(until + 1)
        if until == dies_at:
            assert standby is not None
            standby.lead(one.take_lease())
            leader = standby
        work(leader)
        if until == saves_at:
            assert leader.save()
        if until == 0:
            standby = one.start()
        elif until % 3 == 0 and standby is not leader and standby is not None:
            work(standby)
    assert one.kept == expected and leader.is_leading


def test_one_that_follows_reports_and_writes_nothing(one: Installation) -> None:
    leader, standby = one.start(one.take_lease()), one.start()
    one.send(46)
    work(leader)
    kept = list(one.kept)
    one.kept.clear()
    one.next = 1
    work(standby)
    assert kept and not one.kept and standby.position == leader.position and not standby.save()
    assert standby.engine.used_calls == leader.engine.used_calls


def test_signals_that_the_holder_did_not_hand_over_are_reported(one: Installation, expected: list[object]) -> None:
    leader, standby = one.start(one.take_lease()), one.start()
    leader.report = lambda batch: None  # It dies before they are in the state.
    for until in WINDOWS:
        one.send(until + 1)
        work(leader)
        leader.taken = 1
        work(standby)
    standby.lead(one.take_lease())
    work(standby)
    assert one.kept == expected


def test_numbers_go_on_after_those_that_came(one: Installation) -> None:
    leader, standby = one.start(one.take_lease()), one.start()
    one.send(3)
    work(leader)
    work(standby)
    pending = PendingReports(one.state)
    pending.add_signals(f"log/{leader.learnt_from}", 1, [make_signal(n) for n in range(4)])  # It found more.
    standby.lead(one.take_lease())
    work(standby)
    assert (standby.next_signal, standby.taken, standby.save()) == (5, 5, True)


def test_a_former_holder_keeps_nothing(one: Installation) -> None:
    leader = one.start(one.take_lease())
    one.send(2)
    work(leader)
    one.take_lease()
    one.send(3)
    with pytest.raises(LeaseLostError):
        leader.step()
    with pytest.raises(LeaseLostError):
        leader.save()


def test_who_lost_track_says_so_and_goes_on_from_the_checkpoint(one: Installation, expected: list[object]) -> None:
    leader, standby = one.start(one.take_lease()), one.start()
    one.send(10)
    work(leader)
    assert leader.save()
    one.send(20)
    work(leader)
    assert leader.save()
    with pytest.raises(LostTrackError):
        work(standby)
    standby = one.start()  # Again.
    work(standby)
    assert standby.position == leader.position
    for until in range(20, 46):
        one.send(until + 1)
        work(leader)
        work(standby)
    standby.lead(one.take_lease())
    work(standby)
    assert standby.is_leading and one.kept


def test_what_the_holder_was_asked_for_is_done_by_who_follows(one: Installation) -> None:
    leader, standby = one.start(one.take_lease()), one.start()
    one.send(1)
    work(leader)
    (route,) = leader.engine.subjects.list_routes()
    leader.obey(Mapped({route: "an endpoint"}))
    leader.obey(Erase(1, "principal:1"))
    one.send(3)
    work(leader)
    work(standby)
    assert standby.mapping == {route: "an endpoint"}
    names = [
        [name.endpoint_id for name in ends.list_names(ends.live().tolist()) if name is not None]
        for ends in (leader.engine.subjects.endpoints, standby.engine.subjects.endpoints)
    ]
    assert names[0] == names[1] and "an endpoint" in names[0]
    assert leader.done and not standby.done
    standby.obey(Erase(7, "principal:2"))
    standby.obey(Mapped({route: "another"}))
    assert not standby.done and standby.mapping == {route: "an endpoint"}
    standby.lead(one.take_lease())
    one.send(4)
    work(standby)
    assert [done.number for done in standby.done] == [7] and standby.mapping == {route: "another"}


def test_what_is_kept_begins_with_each_checkpoint(one: Installation) -> None:
    leader = one.start(one.take_lease())
    for until in range(5):
        one.send(until + 1)
        work(leader)
    with one.state.read() as connection:
        before = connection.execute(select(DETECTOR_CUTS.c.number)).scalars().all()
    assert leader.save()
    with one.state.read() as connection:
        after = connection.execute(select(DETECTOR_CUTS).order_by(DETECTOR_CUTS.c.number)).all()
    assert len(before) == 6 and [row.is_checkpoint for row in after] == [True, *[False] * 5, True]
    leader.obey(Erase(1, "principal:1"))
    assert leader.save()
    with one.state.read() as connection:
        assert len(connection.execute(select(DETECTOR_CUTS)).all()) == 1, "no message names who is erased"
    again = one.start(one.take_lease())
    assert again.position == leader.position and again.next_signal == leader.next_signal

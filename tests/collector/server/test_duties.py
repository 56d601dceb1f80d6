"""A process starts the features of its roles, leased ones with their lease, and begins anew where it lost one."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from collector.api.forwarding import HERE
from collector.core.feature import LEASED, Feature, Job, Role
from collector.server.duties import Duties
from collector.server.listeners import StartError
from collector.server.tenure import Tenure
from collector.storage.state.leases import Fence, Lease
from tests.waiting import wait_until

ME, OTHER = "me", "other"


@dataclass
class Keeper:
    """Leases as a test says, by name: holder and epoch."""

    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    is_shared: bool = True
    is_released: bool = False

    def start(self) -> None:
        """As `LeaseKeeper`."""

    def stop(self) -> None:
        self.is_released = True

    def find_fence(self, name: str) -> Fence | None:
        holder, epoch = self.leases.get(name, (OTHER, 0))
        return Fence(cast(Any, None), name, epoch) if holder == ME else None

    def find_lease(self, name: str) -> Lease | None:
        if name not in self.leases:
            return None
        holder, epoch = self.leases[name]
        return Lease(name=name, holder=holder, address=f"http://{holder}", until=0.0, epoch=epoch)

    def is_own(self, lease: Lease) -> bool:
        return lease.holder == ME


class Office:
    """One process: what it did, in order."""

    def __init__(self, *, roles: tuple[Role, ...] = tuple(Role), is_alone: bool = False) -> None:
        self.log: list[str] = []
        self.keeper = Keeper()
        self.changed, self.lost = threading.Event(), threading.Event()
        self.errors: list[Exception] = []
        self.duties = Duties(
            [self._make(role.value if role else "all", role) for role in (None, Role.JOBS, Role.INGEST, Role.WRITER)]
        )
        self.tenure = Tenure(cast(Any, self.keeper), roles, self.changed)
        self._own_only = ("log_url",) if is_alone else ()

    def begin(self) -> None:
        self.tenure.begin(self.duties, on_lost=self.lost.set, on_error=self.errors.append, own_only=self._own_only)

    def _make(self, name: str, role: Role | None) -> Feature:
        def note(what: str) -> Callable[[], None]:
            return lambda: self.log.append(f"{what} {name}")

        return Feature(name=name, role=role, start=note("start"), stop=note("stop"), jobs=(Job(works=(note("do"),)),))

    def give(self, holder: str, epoch: int, *roles: Role) -> None:
        self.keeper.leases |= {role.value: (holder, epoch) for role in roles or LEASED}
        self.changed.set()

    def work(self) -> list[str]:
        """The jobs of one round."""
        before = len(self.log)
        for job in self.duties.list_jobs():
            for do in job.works:
                do()
        done = self.log[before:]
        del self.log[before:]
        return done


@pytest.fixture
def office() -> Any:
    office = Office()
    yield office
    office.tenure.stop()


def test_all_features_start_in_their_order_and_stop_in_the_opposite_one(office: Office) -> None:
    office.give(ME, 1)
    office.begin()
    assert office.log == ["start all", "start ingest", "start jobs", "start writer"]
    assert office.work() == ["do all", "do jobs", "do ingest", "do writer"]
    assert office.tenure.find_holder() == HERE
    office.log.clear()
    office.tenure.stop()
    office.duties.stop([Role.WRITER])
    office.duties.stop([None, *Role])
    assert office.log == ["stop writer", "stop jobs", "stop ingest", "stop all"]
    office.tenure.release()
    assert office.keeper.is_released and office.work() == []


def test_a_standby_does_what_is_shared_and_takes_over_what_comes_to_it(office: Office) -> None:
    office.give(OTHER, 1)
    office.begin()
    assert office.log == ["start all", "start ingest"] and office.work() == ["do all", "do ingest"]
    assert office.tenure.find_holder() == "http://other"
    office.keeper.leases.clear()
    assert office.tenure.find_holder() is None, "nobody does the jobs"
    office.give(ME, 2)
    wait_until(lambda: office.tenure.find_holder() == HERE)
    assert office.log[2:] == ["start jobs", "start writer"]
    assert not office.lost.is_set() and not office.errors


def test_a_process_that_was_succeeded_begins_anew(office: Office) -> None:
    office.give(ME, 1)
    office.begin()
    office.give(OTHER, 2)
    wait_until(office.lost.is_set)
    assert office.tenure.find_holder() == "http://other"


def test_a_process_that_another_one_succeeded_between_two_looks_begins_anew(office: Office) -> None:
    office.give(ME, 1)
    office.begin()
    office.give(ME, 3)
    wait_until(office.lost.is_set)


def test_who_lost_a_lease_to_nobody_goes_on(office: Office) -> None:
    """As while the database was away."""
    office.give(ME, 1, Role.JOBS, Role.DETECT)
    office.begin()
    office.keeper.leases.clear()
    assert office.tenure.find_holder() is None
    office.keeper.leases |= {Role.WRITER: (ME, 7)}
    office.give(ME, 2, Role.JOBS, Role.DETECT)
    wait_until(lambda: "start writer" in office.log)
    assert office.tenure.find_holder() == HERE
    assert office.log.count("start jobs") == 1 and not office.lost.is_set()


def test_a_process_without_the_roles_takes_none_of_their_leases() -> None:
    office = Office(roles=(Role.INGEST,))
    office.give(ME, 1)
    office.begin()
    assert office.log == ["start all", "start ingest"]
    office.tenure.stop()


def test_a_second_collector_with_a_log_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.server.tenure.TTL_SECONDS", 0.0)
    office = Office(is_alone=True)
    office.give(OTHER, 1)
    with pytest.raises(StartError, match="collector at http://other uses this state; stop it, or set log_url"):
        office.begin()
    assert office.log == []

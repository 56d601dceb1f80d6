"""Groups of consumers by the objects that they share, and what BOLA makes of them."""

from random import Random

import numpy as np
import pytest

from collector.alerting.alert import AbuseSignal, AlertKind
from collector.detection.abuse.sharing import MEMBERS_MAX, SharingGroups
from collector.detection.framework.slots import SlotTable
from tests.collector.detection.abuse.test_abuse import LATER, Scene, user
from tests.collector.detection.stream import Row

FIRMS, COLLEAGUES, SHARED = 12, 6, 40


class Readers:
    """Consumers by number, and who read each object first."""

    def __init__(self) -> None:
        self.consumers = SlotTable(10_000)
        self.groups = SharingGroups(self.consumers)
        self._first: dict[object, int] = {}

    def read(self, reader: int, thing: object) -> None:
        slot = self.consumers.touch(np.array([reader], np.uint64), 1).slots
        before = self._first.setdefault(thing, reader)
        if before != reader:
            self.groups.share(slot, np.array([[before], [0]], np.uint64), 1)
        else:
            self.groups.share(slot, np.zeros((2, 1), np.uint64), 1)

    def count_members(self, *readers: int) -> int:
        found = self.groups.find(np.array(readers, np.uint64))
        return int((found == found[0]).sum())


def test_colleagues_who_come_to_what_each_other_read_are_one_group() -> None:
    readers, random = Readers(), Random(1)
    for _ in range(200):
        readers.read(random.randrange(1, 7), random.randrange(SHARED))
    assert readers.count_members(*range(1, 7)) == 6


def test_an_attacker_is_of_no_group_and_makes_none() -> None:
    """It reads three objects of each of 40 people, before them or after them."""
    readers = Readers()
    for person in range(1, 41):
        order = (99, person) if person % 2 else (person, 99)
        for reader in order:
            for number in range(3):
                readers.read(reader, (person, number))
    assert readers.count_members(99, *range(1, 41)) == 1 and not readers.groups.is_member(np.arange(41)).any()


def test_who_reads_what_all_have_makes_them_no_group() -> None:
    """A partner reads all devices again and again, as they do, and each is first at some of its objects."""
    readers, random = Readers(), Random(2)
    for _ in range(4_000):
        device = random.randrange(1, 101)
        readers.read(random.choice((99_999, device)), (device, random.randrange(30)))
    assert readers.count_members(*range(1, 101)) == 1


def test_a_group_has_a_bound() -> None:
    readers = Readers()
    for one in range(1, MEMBERS_MAX + 100):
        for _ in range(3):
            for reader, owner in ((one, one + 1), (one + 1, one)):
                slot = readers.consumers.touch(np.array([reader, owner], np.uint64), 1).slots[:1]
                readers.groups.share(slot, np.array([[owner], [0]], np.uint64), 1)
    groups = readers.groups.find(np.arange(1, MEMBERS_MAX + 100, dtype=np.uint64))
    assert np.unique(groups, return_counts=True)[1].max() <= MEMBERS_MAX


def open_shared(seed: int, steps: int) -> list[list[Row]]:
    """Colleagues of twelve firms read what their firms have, and come back to some of it."""
    random = Random(seed)
    rows = []
    for _ in range(steps):
        firm = random.randrange(FIRMS)
        person = 1_000 + firm * COLLEAGUES + random.randrange(COLLEAGUES)
        things = tuple(100_000 + firm * SHARED + random.randrange(SHARED) for _ in range(2))
        rows.append([user(person, route=4, calls=2, objects=things, address=f"82.{firm}.1.{person % 250}")])
    return rows


def find_accused(signals: list[AbuseSignal]) -> set[str]:
    return {signal.consumer for signal in signals if signal.kind is AlertKind.BOLA and not signal.is_notice}


STEP_SECONDS, STEPS = 20, 2_500
EVENING = LATER + STEPS * STEP_SECONDS


@pytest.fixture(scope="module")
def day() -> tuple[bytes, set[str]]:
    """What is known after a day of twelve firms, and who was accused on it."""
    scene = Scene()
    scene.pass_history()
    accused = find_accused(scene.run(open_shared(1, STEPS), step=STEP_SECONDS))
    return scene.save(), accused


def read_other_firms(reader: int) -> list[list[Row]]:
    random = Random(3)
    return [
        [user(reader, route=4, objects=(100_000 + firm * SHARED + random.randrange(SHARED),))]
        for firm in range(1, FIRMS)
    ]


def test_colleagues_who_share_what_their_firm_has_are_not_accused(day: tuple[bytes, set[str]]) -> None:
    assert day[1] == set()


@pytest.mark.parametrize("reader", [99, 1_000])
def test_who_reads_what_many_firms_have_is_accused(day: tuple[bytes, set[str]], reader: int) -> None:
    """A stranger, and a colleague of one of them."""
    signals = Scene(day[0]).run(read_other_firms(reader), start=EVENING, step=600)
    assert find_accused(signals) == {f"principal:{reader:016x}"}

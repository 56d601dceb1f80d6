"""Clocks that were wrong for a while and are put right: which jump of time is undone, and a follower on a real log
that goes on."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from collector.alerting.alert import AlertSignal, Direction
from collector.detection.follower import Follower
from collector.detection.messages import SignalBatch
from collector.detection.process import DetectorProcess
from collector.detection.read_boundaries import (
    BEHIND_SECONDS,
    KEPT_MAX,
    KEPT_SECONDS,
    SETTLED_SECONDS,
    Jump,
    Jumps,
    Lost,
)
from collector.log.base import Append
from collector.log.files import FileLog
from collector.log.open import LogPlace
from tests.accuracy.volume import write_batch
from tests.collector.detection.stream import START
from tests.collector.detection.test_process import follow, wait_for
from tests.figures import read_values

DAY = 86_400
HONEST, BURST = 20, 2_000  # Calls a minute.
KNOWN = 60  # Minutes before the clocks go wrong.


def look_for(jumps: Jumps, since: int, newest: int) -> list[Jump | Lost]:
    """What is said while batches come for twice the time that settles it, each 10 s."""
    said = [jumps.look(since + 10 * i, newest) for i in range(2 * SETTLED_SECONDS // 10)]
    return [one for one in said if one is not None]


def test_of_a_jump_that_is_undone_is_said_once_the_time_has_settled() -> None:
    jumps, jump = Jumps(), Jump(left=START, landed=START + DAY)
    jumps.note(jump)
    assert all(jumps.look(START + 300 + i, START + DAY + 300) is None for i in range(SETTLED_SECONDS))
    assert jumps.look(START + 300 + SETTLED_SECONDS, START + DAY + 300) is jump
    jumps.undo(jump)
    assert not jumps.kept


@pytest.mark.parametrize("behind", [-5, 0, BEHIND_SECONDS])
def test_what_is_hardly_behind_is_waited_for(behind: int) -> None:
    jumps = Jumps()
    jumps.note(Jump(left=START, landed=START + 600))
    assert all(jumps.look(START + 600 + i - behind, START + 600 + i) is None for i in range(1_000))


def test_a_clock_that_is_wrong_for_a_moment_undoes_nothing() -> None:
    jumps = Jumps()
    jumps.note(Jump(left=START, landed=START + DAY))
    for minute in range(10):
        assert jumps.look(START + 60 * minute, START + DAY + 60 * minute) is None
        assert jumps.look(START + DAY + 60 * minute, START + DAY + 60 * minute) is None


def test_time_that_calls_came_in_is_no_jump_and_said_once() -> None:
    jumps = Jumps()
    jumps.note(Jump(left=START, landed=START + 8 * 3_600))  # A night.
    assert look_for(jumps, START + 12 * 3_600, START + 14 * 3_600) == [Lost.LOST]
    assert look_for(jumps, START - 3_600, START + 14 * 3_600) == [Lost.LOST]
    assert look_for(Jumps(), START, START + DAY) == [Lost.LOST]
    first = Jumps()
    first.note(Jump(left=0, landed=START))
    assert look_for(first, START - 50 * DAY, START + DAY + 1) == [Lost.LOST]


@pytest.mark.parametrize(("hours", "back", "is_undone"), [(5, 3_600, True), (5, 3_000, False), (11, 3_600, False)])
def test_a_jump_is_undone_by_a_clock_that_goes_back_as_far_where_it_is_worth_it(
    hours: int, back: int, is_undone: bool
) -> None:
    jumps, jump = Jumps(), Jump(left=START, landed=START + 3_660)
    jumps.note(jump)
    newest = jump.landed + hours * 3_600
    assert look_for(jumps, newest - back, newest) == [jump if is_undone else Lost.LOST]


def test_of_two_jumps_the_one_is_undone_that_the_time_lies_in() -> None:
    first, second = Jump(left=START, landed=START + DAY), Jump(left=START + DAY + 60, landed=START + 5 * DAY)
    for time, undone, left in ((START + 100, first, ()), (START + DAY + 100, second, (first,))):
        jumps = Jumps()
        jumps.note(first)
        jumps.note(second)
        assert look_for(jumps, time, START + 5 * DAY) == [undone]
        jumps.undo(undone)
        assert jumps.kept == list(left)


def test_few_are_kept_the_longest_and_for_a_week() -> None:
    jumps, jump = Jumps(), Jump(left=START, landed=START + 365 * DAY)
    jumps.note(jump)
    for pause in range(KEPT_MAX + 1):
        jumps.note(Jump(left=jump.landed + DAY * pause + DAY // 2, landed=jump.landed + DAY * (pause + 1)))
    assert len(jumps.kept) == KEPT_MAX and jumps.kept[0] is jump
    assert look_for(jumps, START + 4 * DAY, jump.landed + 4 * DAY) == [jump]
    assert jumps.look(jump.landed + 5 * DAY, jump.landed + 5 * DAY) is None
    assert look_for(jumps, START + 8 * DAY, jump.landed + KEPT_SECONDS + 1) == [Lost.LOST]
    jumps.note(Jump(left=jump.landed + 8 * DAY, landed=jump.landed + 9 * DAY))
    assert jump not in jumps.kept


def test_a_checkpoint_holds_them() -> None:
    jumps, other = Jumps(), Jumps()
    jumps.note(Jump(left=0, landed=START))
    jumps.note(Jump(left=START + 5, landed=START + DAY))
    jumps.look(START + 300, START + DAY)
    other.load(jumps.dump())
    assert other.kept == jumps.kept
    assert look_for(other, START + 310, START + DAY) == look_for(jumps, START + 310, START + DAY) == [jumps.kept[-1]]
    empty = Jumps()
    empty.load(Jumps().dump())
    assert empty.kept == []


class Installation:
    """A node and a collector by one clock; one endpoint is called each minute."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wal = FileLog(directory, readers=["detectors"])
        self.told: list[SignalBatch] = []
        self.follower: Follower = follow(directory, self.told)
        self.sequence = 0
        self.minute = 0

    def run(self, calls: Iterable[int], *, wrong: int = 0, saves: bool = False) -> list[AlertSignal]:
        """So many calls, minute by minute, by clocks that are `wrong` by so many seconds; what was told of it."""
        before = len(self.told)
        for count in calls:
            self.sequence += 1
            time = START + 60 * self.minute + wrong
            payload = write_batch(time, count, 60, self.sequence)
            self.wal.append(
                [
                    Append(
                        node="n",
                        boot_id="b",
                        sequence=self.sequence,
                        received_unix_ns=(time + 61) * 10**9,
                        payload=payload,
                    )
                ]
            )
            self.minute += 1
            while self.follower.step():
                pass
        if saves:
            self.follower.taken = self.follower.next_signal
            assert self.follower.save()
        return [signal for told in self.told[before:] for signal in told.signals]  # type: ignore[misc]

    def restart(self) -> None:
        """As after a kill: from the last checkpoint."""
        self.follower = follow(self.directory, [])
        while self.follower.step():
            pass

    def list_states(self) -> list[str]:
        """Of before a jump, on disk."""
        return sorted(path.name for path in self.directory.glob("detectors.state.before-*"))


Install = Callable[..., Installation]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """One by name."""
    made: list[Installation] = []

    def make(name: str = "one") -> Installation:
        made.append(Installation(tmp_path / name))
        return made[-1]

    yield make
    for installation in made:
        installation.wal.close()


@pytest.mark.parametrize("wrong", [1_800, DAY, 365 * DAY])
@pytest.mark.parametrize("minutes", [5, 40])
def test_detection_goes_on_once_all_clocks_are_right_again(install: Install, wrong: int, minutes: int) -> None:
    one = install()
    assert one.run([HONEST] * KNOWN) == []
    one.run([HONEST] * minutes, wrong=wrong)
    assert one.run([HONEST] * 6) == []
    told = one.run([BURST])
    assert {signal.direction for signal in told} == {Direction.ABOVE}
    assert {signal.window_start + signal.window_seconds - START > 60 * (one.minute - 1) for signal in told} == {True}
    assert max(signal.calls for signal in told) <= BURST + 5 * HONEST  # None of the wrong time, nor twice.
    engine = one.follower.engine
    assert engine.used_calls + engine.dropped_calls["late"] == HONEST * (KNOWN + minutes + 6) + BURST
    assert engine.dropped_calls["late"] <= HONEST * 5
    (sentence,) = one.follower.sentences
    assert sentence.startswith("The clock went back by ") and "detectors go on from what they knew at " in sentence
    assert one.follower.count().totals.jumps_undone == 1


def test_what_was_learnt_before_is_known_after(install: Install) -> None:
    one, other = install(), install("other")
    for installation in (one, other):
        installation.run([BURST] * KNOWN)
    one.run([BURST] * 10, wrong=DAY)
    one.run([BURST] * 6)
    other.run([BURST] * 16)
    slots = other.follower.engine.subjects.pairs.live()
    for mine, right in zip(*(each.follower.engine.pairs.windowed.values() for each in (one, other)), strict=True):
        assert mine.levels(slots) == pytest.approx(right.levels(slots), rel=0.01)
    assert one.run([BURST] * 60) == [] == other.run([BURST] * 60)


def test_a_new_installation_whose_clocks_were_wrong_learns_anew(install: Install) -> None:
    one = install()
    one.run([HONEST] * 30, wrong=DAY)
    one.run([HONEST] * 60)
    assert "detectors go on from nothing" in one.follower.sentences[0]
    assert one.run([BURST])


def test_a_clock_that_goes_back_where_nothing_is_kept_is_said_with_what_to_do(install: Install) -> None:
    one = install()
    one.run([HONEST] * KNOWN)
    one.run([HONEST] * 20, wrong=-1_800)
    (sentence,) = one.follower.sentences
    assert "detectors judge nothing until 2023-11-14 23:12 UTC" in sentence
    assert f"move {one.follower.memory.place} away" in sentence
    assert one.follower.engine.watermark == START + 60 * (KNOWN - 1)
    assert one.run([HONEST] * 5) == []
    assert one.run([BURST])


@pytest.mark.parametrize("saved_until", [0, 1, 2, 3])
def test_a_crash_anywhere_goes_on_alike(install: Install, saved_until: int) -> None:
    """Killed at the end, with the last checkpoint in one of the stretches: what is kept aside is there again."""
    one = install()
    stretches = [([HONEST] * KNOWN, 0), ([HONEST] * 10, DAY), ([HONEST] * 2, 0), ([HONEST] * 9 + [BURST], 0)]
    for index, (calls, wrong) in enumerate(stretches):
        told = one.run(calls, wrong=wrong, saves=index < saved_until)
    assert told
    alive = one.follower
    one.restart()
    assert one.follower.position == alive.position
    assert one.follower.engine.watermark == alive.engine.watermark
    assert one.follower.next_signal == alive.next_signal
    assert one.follower.jumps.kept == alive.jumps.kept
    one.follower.taken = one.follower.next_signal
    assert one.follower.save()
    assert one.list_states() == sorted(f"detectors.state.{jump.name}" for jump in one.follower.jumps.kept if jump.left)


def test_a_state_of_before_that_is_gone_or_damaged_is_as_none(install: Install) -> None:
    for name, content in (("gone", None), ("damaged", b"not a checkpoint")):
        one = install(name)
        one.run([HONEST] * 30)
        one.run([HONEST] * 5, wrong=DAY)
        (state,) = one.directory.glob("detectors.state.before-*")
        state.unlink() if content is None else state.write_bytes(content)
        one.run([HONEST] * 10)
        assert "nothing is kept of before" in one.follower.sentences[0]


def test_a_real_child_says_it_and_it_is_counted(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    one = install()
    for calls, wrong in (([HONEST] * 30, 0), ([HONEST] * 5, DAY), ([HONEST] * 5, 0)):
        one.run(calls, wrong=wrong)
    process = DetectorProcess(
        log=LogPlace(directory=one.directory), checkpoint_path=one.directory / "detectors.own", take=lambda told: None
    )
    assert read_values(process.figures()) == {"detector_restarts": 0, "detector_messages_dropped": 0}
    process.start()
    wait_for(process, lambda: bool(caplog.records))
    process.stop()
    assert [record.message for record in caplog.records] == one.follower.sentences
    process.counts = one.follower.count()
    assert read_values(process.figures()) == {
        "detector_restarts": 0,
        "detector_messages_dropped": 0,
        "detector_signals_held_back": one.follower.engine.held_back_count,
        "detector_calls_used": HONEST * 36,
        "detector_calls_dropped/client_side": 0,
        "detector_calls_dropped/proxy": 0,
        "detector_calls_dropped/estimated": 0,
        "detector_calls_dropped/late": HONEST * 4,
        "detector_calls_dropped/ahead": 0,
        "detector_subjects_evicted": 0,
        "detector_batches_refused": 0,
        "detector_jumps_undone": 1,
        "detector_batches_lost": 0,
        "detector_batches_skipped": 0,
        "detector_disk_errors": 0,
        "detector_batches_waiting": 0,
    }

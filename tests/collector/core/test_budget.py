"""Work under a budget ends when its time is over, when nobody wants it, and when the process stops."""

import threading
from collections.abc import Callable

import pytest

from collector.core.budget import (
    Budget,
    BudgetBook,
    OverTimeError,
    StoppedError,
    check_budget,
    find_budget,
    hold,
    use_budget,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_work_goes_on_until_its_time_is_over() -> None:
    clock = Clock()
    with BudgetBook(clock).open(seconds=20) as budget:
        clock.now = 20.0
        check_budget()
        assert budget.left_seconds == 0 and not budget.is_over_time
        clock.now = 20.1
        with pytest.raises(OverTimeError, match="took longer than 20 s"):
            check_budget()
    check_budget()


def test_cancelled_work_ends_what_it_waits_for() -> None:
    ended: list[str] = []
    with BudgetBook().open() as budget:
        budget.cancel()
        with pytest.raises(StoppedError), budget.interrupted_by(lambda: ended.append("never begun")):
            raise AssertionError
    budget = Budget("b", seconds=None)
    with budget.interrupted_by(lambda: ended.append("first")):
        budget.cancel()
        budget.cancel()
    budget.cancel()
    assert ended == ["first", "first"]


def test_a_stop_ends_what_runs_and_what_begins_later() -> None:
    book = BudgetBook()
    with book.open():
        assert len(book) == 1
        book.stop()
        with pytest.raises(StoppedError):
            check_budget()
    with book.open(), pytest.raises(StoppedError):
        check_budget()
    assert len(book) == 0


def test_what_must_be_done_as_a_whole_runs_without_a_budget() -> None:
    book = BudgetBook()
    book.stop()
    with book.open(), use_budget(None):
        check_budget()
        assert find_budget() is None


@pytest.mark.parametrize("has_budget", [True, False])
def test_whoever_waits_for_a_lock_waits_no_longer_than_the_budget(has_budget: bool) -> None:
    lock, clock = threading.Lock(), Clock()

    def wait(run: Callable[[], None]) -> None:
        if has_budget:
            with BudgetBook(clock).open(seconds=5):
                clock.now = 6.0
                with pytest.raises(OverTimeError):
                    run()
        else:
            release = threading.Timer(0.2, lock.release)
            release.start()
            run()
            release.join()

    def run() -> None:
        with hold(lock):
            assert not has_budget

    lock.acquire()
    wait(run)
    assert lock.locked() is has_budget


def test_labels_differ_between_books() -> None:
    with BudgetBook().open() as one, BudgetBook().open() as other:
        assert one.label != other.label

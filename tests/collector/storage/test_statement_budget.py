"""A statement ends with the budget under which it runs. The server of these tests runs one statement at a time, so what
needs several is tried with the embedded engine alone."""

import threading
from collections.abc import Callable

import pytest

from collector.core.budget import Budget, BudgetBook, OverTimeError, StoppedError
from collector.storage.base import Store, StoreError
from tests.waiting import wait_until

pytestmark = pytest.mark.store

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 3"
_LISTED = "SELECT count() FROM system.processes WHERE Settings['log_comment'] = {label:String}"


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.query(ENDLESS),
        lambda store: store.query_columns(ENDLESS),
        lambda store: list(store.stream_columns(ENDLESS)),
    ],
)
def test_a_statement_ends_when_its_time_is_over(store: Store, ask: Callable[[Store], object]) -> None:
    with BudgetBook().open(seconds=0.3), pytest.raises(OverTimeError, match=r"took longer than 0\.3 s"):
        ask(store)


def test_a_statement_ends_when_it_is_cancelled(embedded: Store) -> None:
    ended: list[BaseException] = []
    opened: list[Budget] = []
    book = BudgetBook()

    def work() -> None:
        try:
            with book.open() as budget:
                opened.append(budget)
                embedded.query(ENDLESS)
        except StoppedError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: opened and embedded.query(_LISTED, {"label": opened[0].label}) == [(1,)], "the statement runs")
    book.stop()
    thread.join(60)
    assert len(ended) == 1 and len(book) == 0
    assert embedded.query(_LISTED, {"label": opened[0].label}) == [(0,)]
    assert embedded.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SELECT number FROM numbers(1000000)", "too many rows"),
        ("SELECT groupArray(number) FROM numbers(200000000) GROUP BY number % 3", "out of memory"),
    ],
)
def test_a_question_has_bounds_of_rows_and_memory(store: Store, sql: str, advice: str) -> None:
    with BudgetBook().open(seconds=60), pytest.raises(StoreError) as raised:
        store.query_columns(sql)
    assert advice in raised.value.advice


def test_a_stream_may_have_more_rows_than_an_answer(store: Store) -> None:
    with BudgetBook().open(seconds=600):
        blocks = store.stream_columns("SELECT number AS n FROM numbers(300000)")
        assert sum(len(block["n"]) for block in blocks) == 300_000


def test_many_groups_take_little_memory(embedded: Store) -> None:
    """Some 1 GB where all of them are in memory."""
    many = "SELECT toString(number) AS n, groupUniqArray(number) AS same FROM numbers(3000000) GROUP BY n"
    with BudgetBook().open(seconds=600):
        assert embedded.query_columns(f"SELECT count() AS n FROM ({many}) WHERE same != []") == {"n": [3_000_000]}


def test_whoever_writes_is_not_held_up_by_questions_of_a_client(embedded: Store) -> None:
    """Three questions at once, more than requests may run, leave statements without a budget their clients."""
    book = BudgetBook()
    ended: list[BaseException] = []

    def work() -> None:
        try:
            with book.open():
                embedded.query(ENDLESS)
        except StoppedError as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        running = "SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%'"
        wait_until(lambda: embedded.query(running)[0][0] >= 3, "three questions run")
        assert embedded.query("SELECT 1") == [(1,)]
    finally:

        def stop() -> bool:
            book.stop()
            return not any(thread.is_alive() for thread in threads)

        wait_until(stop, "the questions end")
    assert len(ended) == 3

"""What sensors offer is asked for where the store lacks it, at the pace of the store, so that nothing is dropped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from collector.receiver.schemas import SchemaRecord
from collector.schemas.offers import ASKED_OF_ROUND, SchemaOffers
from collector.schemas.service import QUEUE_LIMIT, SchemaQueue
from collector.storage.embedded import EmbeddedStore

NODES = 1_000
STATES_OF_NODE = 40


def make_record(node: str, digest: int, version: int = 1) -> SchemaRecord:
    return SchemaRecord(
        route_id=digest,
        part=1,
        status_class=0,
        media_type="",
        node=node,
        boot_id="b",
        generation=1,
        version=version,
        samples=1,
        left_out=0,
        fields="[]",
        operations="[]",
        time=datetime.fromtimestamp(1_800_000_000, UTC),
        operation="",
        digest=digest,
    )


class Memory:
    """A table of digests."""

    def __init__(self) -> None:
        self.digests: set[int] = set()

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        assert parameters is not None
        return {"missing": [digest for digest in parameters["digests"] if digest not in self.digests]}

    def insert(self, table: str, records: Sequence[SchemaRecord]) -> None:
        self.digests.update(record.digest for record in records)


def test_of_a_thousand_sensors_that_come_back_every_state_arrives_and_none_is_dropped() -> None:
    table, queue = Memory(), SchemaQueue()
    offers = SchemaOffers(table, queue)
    states = {f"node-{number}": range(number * 100, number * 100 + STATES_OF_NODE) for number in range(NODES)}
    assert NODES * STATES_OF_NODE > QUEUE_LIMIT
    known = set(states["node-0"])
    table.digests |= known
    asked: list[int] = []

    def send(node: str, digests: Sequence[int]) -> None:
        asked.extend(digests)
        queue.add([make_record(node, digest) for digest in digests])

    for node, digests in states.items():
        offers.add(node, list(digests), partial(send, node))
    rounds = 0
    while len(table.digests) < NODES * STATES_OF_NODE and rounds < 100:
        before = len(asked)
        offers.answer()
        assert len(asked) - before <= ASKED_OF_ROUND
        rounds += 1
        if rounds % 5 == 0:
            queue.flush(table.insert)
    queue.flush(table.insert)
    assert table.digests == {digest for digests in states.values() for digest in digests}
    assert queue.dropped == 0 and len(asked) == len(set(asked)) and known.isdisjoint(asked)


def test_while_the_store_takes_nothing_nothing_more_is_asked_for_than_there_is_room() -> None:
    table, queue = Memory(), SchemaQueue()
    offers = SchemaOffers(table, queue)
    for number in range(NODES):
        digests = list(range(number * 100, number * 100 + STATES_OF_NODE))
        offers.add(
            str(number), digests, lambda asked, node=str(number): queue.add([make_record(node, one) for one in asked])
        )
    for _ in range(50):
        offers.answer()
    assert queue.dropped == 0 and queue.room == 0


def test_a_newer_offer_takes_the_place_of_one_that_waits() -> None:
    table = Memory()
    offers = SchemaOffers(table, SchemaQueue())
    asked: list[Sequence[int]] = []
    offers.add("a", [1, 2], asked.append)
    offers.add("a", [2, 3], asked.append)
    offers.answer()
    offers.answer()
    assert asked == [[2, 3]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(Path(tmp_path_factory.mktemp("store")) / "tables")
    yield store
    store.close()


def test_the_tables_say_what_they_lack(store: EmbeddedStore) -> None:
    highest = 2**64 - 1
    store.insert_records("schemas", [make_record("a", 1), make_record("a", highest), make_record("b", 7)])
    asked: dict[str, Sequence[int]] = {}

    def note(node: str) -> Callable[[Sequence[int]], None]:
        return lambda digests: asked.update({node: digests})

    offers = SchemaOffers(store, SchemaQueue())
    offers.add("a", [1, 2, highest], note("a"))
    offers.add("b", [7], note("b"))
    offers.add("c", [2**63 + 5], note("c"))
    offers.answer()
    assert asked == {"a": [2], "c": [2**63 + 5]}

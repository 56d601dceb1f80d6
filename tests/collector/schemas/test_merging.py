"""States of several processes are one schema, in any order and any number of times."""

import random

from collector.receiver.schemas import SchemaRecord
from collector.schemas.json_schema import render
from collector.schemas.merging import Part, StoredSchema
from collector.schemas.service import EndpointSchema, SchemaQueue, merge
from tests.collector.inventory.seed import NOW
from tests.collector.risk.traffic import make_jwt
from tests.collector.schemas.states import Node, tell_all


def _read(records: list[SchemaRecord]) -> EndpointSchema:
    """As the table holds them: the highest version of each key."""
    newest: dict[object, SchemaRecord] = {}
    for record in records:
        known = newest.get(record.key)
        if known is None or known.version < record.version:
            newest[record.key] = record
    return merge(
        StoredSchema(
            part=Part(one.part), status_class=one.status_class, media_type=one.media_type, samples=one.samples,
            left_out=one.left_out, fields=one.fields, operations=one.operations,
        )
        for one in newest.values()
    )  # fmt: skip


def _make_records() -> list[SchemaRecord]:
    nodes = [Node(), Node("node-b"), Node("node-a", "boot-2")]
    records: list[SchemaRecord] = []
    for number in range(12):
        node = nodes[number % 3]
        status = ("active", "pending")[number % 2]
        told = {"id": number, "status": status, **({"note": "a b"} if number % 3 else {})}
        node.call(1, f"/orders?page={number}", asked={"query": "query ListOrders { a }"}, told=told, consumer=number)
        records += node.tell()
    return records


def test_any_order_and_repetition_gives_the_same() -> None:
    records = _make_records()
    first = _read(records)
    for seed in range(5):
        mixed = [*records, *records[::3]]
        random.Random(seed).shuffle(mixed)
        assert _read(mixed) == first


def test_counts_add_up_over_processes() -> None:
    found = _read(_make_records())
    (body,) = found.find(Part.RESPONSE_BODY, 2)
    assert (body.samples, body.root.objects) == (12, 12)
    schema = render(body.root)
    assert schema["required"] == ["id", "status"]
    assert schema["properties"]["id"] == {"type": "integer", "format": "int32"}
    assert schema["properties"]["note"]["x-apidae-share"] == round(8 / 12, 4)
    (operation,) = found.operations
    assert (operation.protocol, operation.name, operation.sampled_calls) == ("graphql", "ListOrders", 12)


def test_tokens_add_up_over_processes_and_are_no_operations() -> None:
    nodes = [Node(), Node("node-b")]
    for number in range(6):
        nodes[number % 2].call(1, "/orders", f"Authorization: Bearer {make_jwt('hour' if number else 'none', NOW)}")
    found = _read([record for node in nodes for record in node.tell()])
    assert found.operations == () and found.operation_samples == 0 and found.token_samples == 6
    told = [(one.claim, one.value, one.sampled_calls) for one in found.tokens]
    assert told == [
        ("algorithm", "HS256", 5), ("algorithm", "none", 1), ("issuer", "id.example", 6),
        ("lifetime", "3600", 5), ("lifetime", "900", 1),
    ]  # fmt: skip


def test_a_closed_set_is_the_union_of_what_processes_know() -> None:
    nodes = [Node("a"), Node("b")]
    for number in range(90):  # Over an hour and a half.
        caller, seconds_ago = number // 2 % 4 + 1, 60 * (90 - number)
        for node, other in zip(nodes, ("pending", "closed"), strict=True):
            told = {"status": ("active", other)[number % 2]}
            node.call(1, "/a", told=told, consumer=caller, seconds_ago=seconds_ago)
    (body,) = _read(tell_all(nodes)).find(Part.RESPONSE_BODY, 2)
    assert render(body.root)["properties"]["status"]["enum"] == ["active", "closed", "pending"]
    third = Node("c")
    third.call(1, "/a", told={"status": "alice"})
    (body,) = _read(tell_all([*nodes, third]) + [one for node in nodes for one in _again(node)]).find(
        Part.RESPONSE_BODY, 2
    )
    assert "enum" not in render(body.root)["properties"]["status"]


def _again(node: Node) -> list[SchemaRecord]:
    node.book.offer_all()
    return node.tell()


def test_the_queue_keeps_what_the_store_did_not_take() -> None:
    class Store:
        def __init__(self) -> None:
            self.is_failing = True
            self.taken: list[SchemaRecord] = []

        def insert_records(self, table: str, records: list[SchemaRecord]) -> None:
            if self.is_failing:
                raise RuntimeError("full")
            self.taken = records

    queue, store, node = SchemaQueue(), Store(), Node()
    node.call(1, "/a?page=1")
    queue.add(node.tell())
    for _ in range(2):
        try:
            queue.flush(store.insert_records)
        except RuntimeError:
            store.is_failing = False
            node.call(1, "/a?page=2")
            queue.add(node.tell())
    assert [record.samples for record in store.taken] == [2]

"""Recognised calls: records estimated from their sizes, responses read where they came with the record, and a sample
asked for where one is much larger than any that was read."""

import json
from dataclasses import replace

import pytest

from sensor.core.calls import BodyFlag
from sensor.ebpf.abi import EVENT, LEAF, EventKind, KernelEvent, RecordFlag
from sensor.offload.kernel_cache import MapName
from sensor.sensitive.kinds import DataKind, DataPlace, make_codes
from tests.sensor.describe.bodies.messages import response_head
from tests.sensor.offload.conftest import Sensor
from tests.sensor.offload.kernel import Call
from tests.sensor.offload.test_matcher import make, teach

ROW_BYTES = len(json.dumps({"email": "user0000@example.org"})) + 2


def make_body(count: int) -> bytes:
    return json.dumps([{"email": f"user{i:04}@example.org"} for i in range(count)]).encode()


def answer(count: int) -> bytes:
    """A whole response of so many records."""
    body = make_body(count)
    return response_head(length=len(body)) + body


@pytest.fixture
def known(sensor: Sensor) -> Call:
    """A call whose route is taught, and of which two responses were read."""
    call = make("/v1/orders", response=answer(5))
    teach(sensor, call)
    route_id = sensor.describe(call).target.route.route_id
    for count in (5, 40):
        size = len(answer(count))
        sensor.bodies.estimates.learn(route_id, records=count, response_bytes=size, head_bytes=90, is_list=True)
    return call


def convert(sensor: Sensor, *calls: Call, flags: int = 0):
    """Rows of recognised calls."""
    assert {sensor.take(call) for call in calls} == {"record"}
    for record in sensor.kernel.records:
        record["connection"], record["call"] = 5, 6
        record["flags"] |= flags
    return sensor.convert()


def give_piece(sensor: Sensor, data: bytes, head_bytes: int) -> None:
    """A response that went up before its record, with its head."""
    blank = KernelEvent._make(EVENT.unpack(bytes(EVENT.size)))
    event = blank._replace(
        connection=5, call=6, position=(1 << 32) - head_bytes, kind=EventKind.RESPONSE_BODY, profile=1
    )
    sensor.pieces.take(event, data)


def test_records_are_estimated_from_sizes(sensor: Sensor, known: Call) -> None:
    counts = (0, 1, 17, 40, 80)
    rows = convert(sensor, *(replace(known, response=answer(count)) for count in counts))
    assert rows["records"].tolist() == list(counts)
    assert set(rows["body"].tolist()) == {BodyFlag.ESTIMATED}
    assert rows["data"].tolist() == [0] * 5


def test_errors_and_unknown_routes_are_not(sensor: Sensor, known: Call) -> None:
    rows = convert(sensor, replace(known, status=404))
    assert (rows["records"].tolist(), rows["body"].tolist()) == ([0], [0])
    other = make("/v1/users", response=answer(5))
    teach(sensor, other)
    assert convert(sensor, other)["body"].tolist() == [0]


def test_a_response_that_came_with_its_record_is_read(sensor: Sensor, known: Call) -> None:
    told = answer(333)
    give_piece(sensor, told, told.index(b"\r\n\r\n") + 4)
    (row,) = rows = convert(sensor, replace(known, response=told), flags=RecordFlag.BODY)
    assert (int(row["records"]), int(row["body"])) == (333, BodyFlag.RESPONSE_READ | BodyFlag.MEASURED)
    found = sensor.facts.find_data(rows["data"])
    assert set(found.values.tolist()) == make_codes(DataPlace.RESPONSE_BODY, {DataKind.EMAIL})
    assert sensor.pieces.waiting_bytes == 0


def test_without_its_pieces_it_is_estimated(sensor: Sensor, known: Call) -> None:
    (row,) = convert(sensor, replace(known, response=answer(17)), flags=RecordFlag.BODY)
    assert (int(row["records"]), int(row["body"])) == (17, BodyFlag.ESTIMATED)


def test_a_jump_in_size_makes_the_next_call_a_sample(sensor: Sensor, known: Call) -> None:
    (leaf,) = sensor.kernel.maps[MapName.LEAVES]
    number = LEAF.unpack(sensor.kernel.maps[MapName.LEAVES][leaf])[1]
    convert(sensor, replace(known, response=answer(100)))
    sensor.flush()
    assert LEAF.unpack(sensor.kernel.maps[MapName.LEAVES][leaf])[0] > 0
    (row,) = convert(sensor, replace(known, response=answer(1_000)))
    assert abs(int(row["records"]) - 1_000) <= 1  # A longer Content-Length is no record.
    sensor.flush()
    assert LEAF.unpack(sensor.kernel.maps[MapName.LEAVES][leaf]) == (0, number, 0, 0, 0)
    assert sensor.take(known) == "head"

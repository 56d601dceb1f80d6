"""Kinds of data have the same number and class in the sensor, on the wire and in the collector."""

from apidae.v1 import data_pb2

from collector.inventory import bodies
from sensor.classify.sensitive.kinds import DATA_CLASSES, DATA_KIND_NUMBERS, RESPONSE_SHIFT


def test_one_number_and_one_class() -> None:
    wire = {name.removeprefix("DATA_KIND_"): number for name, number in data_pb2.DataKind.items() if number}
    assert {kind.value: number for kind, number in DATA_KIND_NUMBERS.items()} == wire
    assert {
        number: (kind.value.lower(), DATA_CLASSES[kind].value) for kind, number in DATA_KIND_NUMBERS.items()
    } == bodies.DATA_KINDS
    assert bodies.RESPONSE_SHIFT == RESPONSE_SHIFT > max(wire.values())

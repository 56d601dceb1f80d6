"""Kinds of data have the same number and class in the sensor, on the wire and in the collector; weaknesses too."""

from apidae.v1 import data_pb2

from collector.inventory.endpoints import bodies
from collector.inventory.endpoints import operations as authentication
from sensor.core.calls import AuthenticationKind
from sensor.sensitive.kinds import (
    DATA_CLASSES,
    DATA_KIND_NUMBERS,
    HEAD_READ,
    PLACE_SHIFT,
    CallFact,
    DataClass,
    DataPlace,
)


def test_one_number_and_one_class() -> None:
    wire = {name.removeprefix("DATA_KIND_"): number for name, number in data_pb2.DataKind.items() if number}
    assert {kind.value: number for kind, number in DATA_KIND_NUMBERS.items()} == wire
    assert {
        number: (kind.value.lower(), DATA_CLASSES[kind].value) for kind, number in DATA_KIND_NUMBERS.items()
    } == bodies.DATA_KINDS
    assert max(wire.values()) < 1 << PLACE_SHIFT == bodies.PLACE_SIZE


def test_forty_classes_in_six_groups() -> None:
    told = [one for one in DATA_CLASSES.values() if one is not DataClass.CUSTOM]
    assert len(told) >= 40
    assert set(told) == set(DataClass) - {DataClass.CUSTOM}


def test_one_number_of_places() -> None:
    wire = {name.removeprefix("DATA_PLACE_"): number for name, number in data_pb2.DataPlace.items() if number}
    assert {place.name: place.value for place in DataPlace} == wire
    facts = {name.removeprefix("CALL_FACT_"): number for name, number in data_pb2.CallFact.items() if number}
    assert {fact.name: fact.value for fact in CallFact} == facts
    assert (bodies.HEAD_READ, bodies.ENCRYPTED, bodies.FROM_LOOPBACK) == (
        HEAD_READ,
        DataPlace.CALL << PLACE_SHIFT | CallFact.ENCRYPTED,
        DataPlace.CALL << PLACE_SHIFT | CallFact.LOOPBACK,
    )


def test_one_bit_of_a_weakness() -> None:
    wire = {
        number: name.removeprefix("AUTHENTICATION_KIND_").lower()
        for name, number in data_pb2.AuthenticationKind.items()
    }
    weak = {
        kind.bit_length() - 1: str(kind.name).lower()
        for kind in AuthenticationKind
        if AuthenticationKind.JWT_UNSIGNED <= kind < AuthenticationKind.POSSIBLE_CREDENTIAL
    }
    assert authentication.WEAKNESSES == weak == {number: wire[number] for number in weak}

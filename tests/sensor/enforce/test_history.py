"""Shares of the traffic: of addresses, networks and credentials, of ten minutes, by calls."""

from ipaddress import ip_network

import pytest

from sensor.aggregate.aggregator import Aggregator
from sensor.core.calls import Role
from sensor.enforce.block import Block, BlockKind
from sensor.enforce.history import CALLS_LEAST, MINUTES, CallHistory
from tests.sensor.records import make_record

SECOND_NS = 1_000_000_000
START_NS = 1_700_000_040 * SECOND_NS


def fill(history: CallHistory, calls: int, now_ns: int = 0, **who: object) -> None:
    aggregator = Aggregator()
    for n in range(calls):
        aggregator.add(make_record(time_unix_ns=START_NS + n, role=Role.SERVER, **who))
    history.add(aggregator.flush(), now_ns)


def address(text: str) -> Block:
    return Block(id=text, kind=BlockKind.ADDRESS, network=ip_network(text))


def test_shares_are_of_calls() -> None:
    history = CallHistory()
    fill(history, 30, client_address="203.0.113.7", credential=5, principal=50)
    fill(history, 70, client_address="198.51.100.1", credential=6, principal=60)
    measure = history.measure_share
    assert measure([address("203.0.113.7")]) == pytest.approx(0.3)
    assert measure([address("203.0.113.0/24")]) == pytest.approx(0.3)
    assert measure([address("192.0.2.1")]) == 0
    assert measure([Block(id="c", kind=BlockKind.CREDENTIAL, hash=6)]) == pytest.approx(0.7)
    assert measure([Block(id="p", kind=BlockKind.PRINCIPAL, hash=50)]) == pytest.approx(0.3)
    assert measure([address("203.0.113.7"), address("198.51.100.1")]) == 1


def test_few_calls_say_nothing_and_old_ones_are_forgotten() -> None:
    history = CallHistory()
    fill(history, CALLS_LEAST - 1, client_address="203.0.113.7")
    assert history.measure_share([address("203.0.113.7")]) == 0
    for minute in range(1, MINUTES + 1):
        fill(history, 10, minute * 60 * SECOND_NS, client_address="198.51.100.1")
    assert history.measure_share([address("203.0.113.7")]) == 0
    assert history.measure_share([address("198.51.100.1")]) == 1


def test_what_this_node_calls_does_not_count() -> None:
    history = CallHistory()
    aggregator = Aggregator()
    for n in range(50):
        aggregator.add(make_record(time_unix_ns=START_NS + n, role=Role.CLIENT, client_address="203.0.113.7"))
    history.add(aggregator.flush(), 0)
    assert history.measure_share([address("203.0.113.7")]) == 0

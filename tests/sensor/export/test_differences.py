"""A stream begins with everything; after it only what changed is sent, and everything again every ten minutes."""

from dataclasses import replace
from itertools import pairwise

import pytest

from sensor.core.health import StageCount
from sensor.coverage.row import CoverageRole, Handshakes, PortCoverage, PortProtocol, WeakChoice
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.export.differences import COUNTS_SECONDS, SETTLED_SECONDS, WHOLE_SECONDS, CoverageReport, Differences
from tests.sensor.export.sending import make_service

ADDRESSES = ["10.244.0.1"]
WEB = PortCoverage(
    service=make_service(), protocol=PortProtocol.HTTP, connections=1, bytes=2, address="0.0.0.0", reason=""
)
CALLED = replace(WEB, role=CoverageRole.OUTBOUND, address="192.0.2.1", protocol=PortProtocol.ENCRYPTED)
CART = WorkloadFacts(
    cluster="east", namespace="shop", workload="cart", kind="Deployment", labels=(("team", "a"),), zone="", pods=2
)


def compare(
    differences: Differences,
    *ports: PortCoverage,
    now: float = 1.0,
    workloads: tuple[WorkloadFacts, ...] = (CART,),
    addresses: list[str] = ADDRESSES,
) -> CoverageReport:
    return differences.compare_coverage(ports, workloads, addresses, now)


def begin() -> Differences:
    """Of a stream whose collector takes differences and has the first report."""
    differences = Differences(is_taken=True)
    first = compare(differences, WEB, CALLED, now=0.0)
    assert (list(first.ports), list(first.workloads), first.is_difference) == ([WEB, CALLED], [CART], False)
    return differences


def test_nothing_is_sent_while_nothing_changes() -> None:
    differences = begin()
    assert compare(differences, WEB, CALLED).is_empty
    assert not compare(differences, WEB, CALLED, now=WHOLE_SECONDS).is_difference
    assert compare(differences, WEB, CALLED, now=WHOLE_SECONDS + 1).is_empty


def test_only_what_changed_is_sent() -> None:
    differences = begin()
    busy, more = replace(WEB, connections=2), replace(CART, pods=3)
    report = compare(differences, busy, CALLED, workloads=(more,))
    assert (list(report.ports), list(report.workloads), list(report.node_addresses)) == ([busy], [more], [])
    assert report.is_difference and compare(differences, busy, CALLED, workloads=(more,)).is_empty
    assert list(compare(differences, busy, CALLED, addresses=["10.0.0.1", "10.0.0.2"]).node_addresses) == [
        "10.0.0.1",
        "10.0.0.2",
    ]


def test_a_port_that_is_gone_and_a_node_without_addresses_need_a_whole_report() -> None:
    differences = begin()
    assert (report := compare(differences, WEB)) == replace(report, ports=(WEB,), is_difference=False)
    assert compare(differences, WEB).is_empty
    assert not compare(differences, WEB, addresses=[]).is_difference


def test_an_older_collector_gets_everything_each_time() -> None:
    differences = Differences(is_taken=False)
    for _ in range(2):
        assert compare(differences, WEB).ports == (WEB,)
        assert not differences.compare_stages([StageCount(stage="spool", seen=1, used=1, dropped=())], 0.0)


@pytest.mark.parametrize(("count", "is_sent"), [(1, False), (2, True)])
def test_a_weak_choice_is_sent_where_it_was_made_again_and_not_because_it_grew_older(count: int, is_sent: bool) -> None:
    def make(count: int, age: int) -> PortCoverage:
        choice = WeakChoice(version="TLS 1.0", cipher_suite="RC4", count=count, age_seconds=age)
        return replace(CALLED, handshakes=Handshakes(count=1, weak_choices=(choice,)))

    differences = Differences(is_taken=True)
    compare(differences, make(1, 10))
    report = compare(differences, make(count, 20))
    assert list(report.ports) == ([make(count, 20)] if is_sent else [])


def test_stages_are_sent_where_they_changed() -> None:
    differences = Differences(is_taken=True)
    one, two = (StageCount(stage="spool", seen=seen, used=seen, dropped=()) for seen in (1, 2))
    assert [differences.compare_stages([stage], now) for stage, now in ((one, 0), (one, 1), (two, 2), (two, 3))] == [
        False,
        True,
        False,
        True,
    ]
    assert not differences.compare_stages([two], 2 + WHOLE_SECONDS)


def test_counts_are_sent_at_once_on_a_new_stream_and_once_a_minute_later() -> None:
    differences, sent, now = begin(), list[float](), 0.0
    while now < WHOLE_SECONDS - 10:
        now += 10
        if compare(differences, replace(WEB, connections=int(now)), CALLED, now=now).ports:
            sent.append(now)
    settled = [time for time in sent if time >= SETTLED_SECONDS]
    assert len(sent) - len(settled) == SETTLED_SECONDS / 10 - 1
    assert {later - earlier for earlier, later in pairwise(settled)} == {COUNTS_SECONDS}


def test_what_else_changes_is_sent_at_once_and_so_are_counts_when_the_sensor_stops() -> None:
    differences, now = begin(), SETTLED_SECONDS
    for now in (SETTLED_SECONDS, SETTLED_SECONDS + 1):
        report = compare(differences, replace(WEB, connections=int(now)), CALLED, now=now)
    assert report.is_empty
    why = replace(WEB, connections=int(now), reason="kTLS")
    assert list(compare(differences, why, CALLED, now=now + 1).ports) == [why]
    busy = replace(why, connections=7)
    differences.send_counts()
    assert list(compare(differences, busy, CALLED, now=now + 2).ports) == [busy]

"""What is left out of whole calls, of records and of what was only added up: counted, each once, and nothing else."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sensor.core.calls import Exchange, Hop, Role, Service, WorkloadKind
from sensor.coverage.row import CoverageRole, PortProtocol
from sensor.describe.filter import ENTRIES_MAX, OWN_TRAFFIC, PROBES_PER_SECOND, CallFilter, Exclusion, ExclusionAccount
from sensor.ebpf.abi import OVERFLOW_KEY, RECORD
from tests.sensor.describe.filter.test_probes import head
from tests.sensor.records import make_exchange

KUBELET, POD, OTHER_POD = 1, 7, 8


def make_service(cgroup_id: int, port: int) -> Service:
    return Service(
        cluster="", namespace="shop", workload=f"w{cgroup_id}", workload_kind=WorkloadKind.KUBERNETES, host_name="",
        port=port,
    )  # fmt: skip


@dataclass
class FakeIdentity:
    """Pods are cgroups; what is switched off is by cgroup."""

    off: dict[int, str] = field(default_factory=dict)
    ends: dict[tuple[int, int, str], str] = field(default_factory=dict)

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        return make_service(cgroup_id, local_port), Hop.ENDPOINT

    @property
    def is_leaving_out(self) -> bool:
        return bool(self.off or self.ends)

    def why_left_out(self, cgroup_id: int) -> str:
        return self.off.get(cgroup_id, "")

    def why_end_left_out(self, cgroup_id: int, local_port: int, local_address: str) -> str:
        return self.ends.get((cgroup_id, local_port, local_address), "")

    def is_kubelet(self, cgroup_id: int) -> bool:
        return cgroup_id == KUBELET

    def is_node_client(self, peer_cgroup_id: int, remote_address: str, server_cgroup_id: int) -> bool:
        return peer_cgroup_id == KUBELET


@dataclass
class FakeOwnTraffic:
    """What is Apidae's own: ends by cgroup and port, and sockets."""

    ends: set[tuple[int, int]] = field(default_factory=set)
    sockets: list[int] = field(default_factory=list)

    @property
    def cgroup_ids(self) -> frozenset[int]:
        return frozenset(cgroup_id for cgroup_id, _ in self.ends)

    def is_own(self, exchange: Exchange) -> bool:
        is_end = exchange.ends.role is Role.SERVER and (exchange.ends.cgroup_id, exchange.ends.local_port) in self.ends
        return is_end or exchange.ends.connection in self.sockets

    def is_own_end(self, cgroup_id: int, local_port: int, local_address: str) -> bool:
        return (cgroup_id, local_port) in self.ends

    def list_sockets(self) -> list[int]:
        return self.sockets


def make_pod_exchange(request: bytes = b"GET / HTTP/1.1\r\n\r\n", **fields: Any) -> Exchange:
    seen = {"time_unix_ns": 10**18, "cgroup_id": POD, "local_port": 8080}
    ends = {"local_address": "10.244.1.7", "remote_address": "10.244.2.9"}
    return make_exchange(**{"request_head": request, **seen, **ends, **fields})


@pytest.fixture
def identity() -> FakeIdentity:
    return FakeIdentity()


@pytest.fixture
def gate(identity: FakeIdentity) -> CallFilter:
    return CallFilter(identity, ExclusionAccount())


@pytest.fixture
def own() -> FakeOwnTraffic:
    return FakeOwnTraffic()


@pytest.fixture
def own_gate(identity: FakeIdentity, own: FakeOwnTraffic) -> CallFilter:
    return CallFilter(identity, ExclusionAccount(), own_traffic=own)


def counts(gate: CallFilter) -> dict[tuple[str, int, str], int]:
    rows = gate._account.cover(make_service(0, 0))
    assert all((row.protocol, row.role) == (PortProtocol.LEFT_OUT, CoverageRole.NODE) for row in rows)
    return {(row.service.workload, row.service.port, row.address): row.calls for row in rows}


def test_a_probe_of_the_kubelet_is_excluded_only_where_it_is_the_kubelets(gate: CallFilter) -> None:
    probe = head("GET /healthz", "kube-probe/1.31")
    assert gate.find_exclusion(make_pod_exchange(probe, peer_cgroup_id=KUBELET)) is not None
    assert gate.find_exclusion(make_pod_exchange(probe, peer_cgroup_id=OTHER_POD)) is None
    assert gate.find_exclusion(make_pod_exchange(probe)) is None
    assert gate.find_exclusion(make_pod_exchange(peer_cgroup_id=KUBELET)) is None
    assert counts(gate) == {("w7", 8080, "kubelet probes"): 1}
    assert gate.is_probed(make_service(POD, 8080), "/healthz")
    assert not gate.is_probed(make_service(POD, 8080), "/")


@pytest.mark.parametrize("line", ["POST /exec/kq2Wb1Xz", "POST /portforward/kq2Wb1Xz", "GET /attach/kq2Wb1Xz"])
def test_a_stream_of_kubectl_exec_is_excluded_only_where_the_kubelet_passes_it_on(gate: CallFilter, line: str) -> None:
    stream = f"{line} HTTP/1.1\r\nUpgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n".encode()
    assert gate.find_exclusion(make_pod_exchange(stream, peer_cgroup_id=KUBELET)) is not None
    assert gate.find_exclusion(make_pod_exchange(stream, peer_cgroup_id=OTHER_POD)) is None
    assert gate.find_exclusion(make_pod_exchange(stream)) is None
    other = stream.replace(b"/kq2Wb1Xz", b"/17")
    assert gate.find_exclusion(make_pod_exchange(other, peer_cgroup_id=KUBELET)) is None
    assert counts(gate) == {("w7", 8080, "kubelet streams"): 1}


def test_a_scrape_comes_from_the_own_networks(gate: CallFilter) -> None:
    scrape = head("GET /metrics", "Prometheus/2.55.0")
    assert gate.find_exclusion(make_pod_exchange(scrape)) is not None
    assert gate.find_exclusion(make_pod_exchange(scrape, remote_address="35.1.2.3")) is None
    assert gate.find_exclusion(make_pod_exchange(scrape, role=Role.CLIENT)) is None


def test_who_calls_faster_than_a_probe_is_reported(gate: CallFilter) -> None:
    scrape = make_pod_exchange(head("GET /metrics", "Prometheus/2.55.0"))
    judged = [gate.find_exclusion(scrape) is not None for _ in range(PROBES_PER_SECOND + 5)]
    assert judged == [True] * PROBES_PER_SECOND + [False] * 5
    assert gate.fast_probes == 5
    later = make_pod_exchange(head("GET /metrics", "Prometheus/2.55.0"), time_unix_ns=10**18 + 10**9)
    assert gate.find_exclusion(later) is not None


def test_a_setting_tells_probes(identity: FakeIdentity) -> None:
    gate = CallFilter(identity, ExclusionAccount(), include_health_checks=True)
    assert (
        gate.find_exclusion(make_pod_exchange(head("GET /healthz", "kube-probe/1.31"), peer_cgroup_id=KUBELET)) is None
    )


def test_a_service_is_invalidated_once_a_path(gate: CallFilter) -> None:
    told: list[Service] = []
    gate.set_on_probed(told.append)
    for path in ("/healthz", "/healthz", "/ready"):
        gate.find_exclusion(make_pod_exchange(head(f"GET {path}", "kube-probe/1.31"), peer_cgroup_id=KUBELET))
    assert told == [make_service(POD, 8080)] * 2


def test_what_is_switched_off_is_off_at_both_ends(gate: CallFilter, identity: FakeIdentity) -> None:
    identity.off[POD] = "off"
    identity.ends[9, 80, "10.0.0.1"] = "off by its process"
    assert gate.find_exclusion(make_pod_exchange()) == Exclusion(make_service(POD, 8080), "calls", "off")
    assert gate.find_exclusion(make_pod_exchange(role=Role.CLIENT)) == Exclusion(make_service(POD, 0), "calls", "off")
    assert gate.find_exclusion(make_pod_exchange(cgroup_id=OTHER_POD)) is None
    assert gate.find_exclusion(make_pod_exchange(cgroup_id=9, local_port=80, local_address="10.0.0.1")) is not None
    assert gate.find_exclusion(make_pod_exchange(calls=0)) is not None  # The closing part of a call that was counted.
    assert counts(gate) == {("w7", 8080, "calls"): 1, ("w7", 0, "calls"): 1, ("w9", 80, "calls"): 1}


def test_records_of_what_is_off_and_of_the_kubelet_are_counted_and_go(gate: CallFilter, identity: FakeIdentity) -> None:
    records = np.zeros(7, RECORD)
    records["calls"] = [1, 2, 1, 1, 1, 3, 1]
    records["role"] = [1, 1, 2, 1, 1, 1, 1]
    records["cgroup_id"] = [POD, POD, POD, OTHER_POD, OTHER_POD, OTHER_POD, OTHER_POD]
    records["peer_cgroup_id"] = [0, KUBELET, KUBELET, 0, KUBELET, KUBELET, 55]
    records["local_port"] = [8080, 8080, 41_000, 80, 80, 81, 81]
    identity.off[POD] = "off"
    told = gate.filter_records(records)
    assert told["peer_cgroup_id"].tolist() == [0, 55]
    assert counts(gate) == {
        ("w7", 8080, "calls"): 3,
        ("w7", 0, "calls"): 1,
        ("w8", 80, "kubelet probes"): 1,
        ("w8", 81, "kubelet probes"): 3,
    }
    assert sum(counts(gate).values()) + told["calls"].sum() == records["calls"].sum()


def test_own_calls_are_excluded_by_who_serves_and_by_who_makes_them(
    own_gate: CallFilter, own: FakeOwnTraffic, identity: FakeIdentity
) -> None:
    own.ends, own.sockets = {(POD, 8080)}, [5]
    identity.off[POD] = "off"  # Own goes first: each call is counted once.
    assert own_gate.find_exclusion(make_pod_exchange(calls=3)) is not None
    assert own_gate.find_exclusion(make_pod_exchange(cgroup_id=OTHER_POD, connection=5)) is not None
    assert own_gate.find_exclusion(make_pod_exchange(cgroup_id=OTHER_POD, connection=5, role=Role.CLIENT)) is not None
    assert own_gate.find_exclusion(make_pod_exchange(cgroup_id=OTHER_POD)) is None
    assert counts(own_gate) == {
        ("w7", 8080, OWN_TRAFFIC): 3,
        ("w8", 8080, OWN_TRAFFIC): 1,
        ("w8", 0, OWN_TRAFFIC): 1,
    }
    assert "Apidae serves or makes these" in own_gate._account.cover(make_service(0, 0))[0].reason


def test_without_own_traffic_to_exclude_it_is_reported_like_any_other(gate: CallFilter) -> None:
    assert gate.find_exclusion(make_pod_exchange()) is None
    assert not gate.is_own_end(POD, 8080, "10.244.1.7")


def test_records_of_own_calls_are_counted_and_go(own_gate: CallFilter, own: FakeOwnTraffic) -> None:
    own.ends, own.sockets = {(POD, 8080)}, [5, 6]
    records = np.zeros(7, RECORD)
    records["calls"] = [1, 2, 4, 8, 16, 32, 64]
    records["role"] = [1, 1, 1, 2, 1, 2, 1]
    records["cgroup_id"] = [POD, POD, OTHER_POD, POD, OTHER_POD, OTHER_POD, OTHER_POD]
    records["local_port"] = [8080, 8081, 8080, 8080, 80, 41_000, 80]
    records["connection"] = [1, 2, 3, 4, 5, 6, 7]
    told = own_gate.filter_records(records)
    assert told["calls"].tolist() == [2, 4, 8, 64]
    assert counts(own_gate) == {
        ("w7", 8080, OWN_TRAFFIC): 1,
        ("w8", 80, OWN_TRAFFIC): 16,
        ("w8", 0, OWN_TRAFFIC): 32,
    }
    assert sum(counts(own_gate).values()) + told["calls"].sum() == records["calls"].sum()


def test_own_calls_that_were_only_added_up_are_excluded(own_gate: CallFilter, own: FakeOwnTraffic) -> None:
    server, client = OVERFLOW_KEY.pack(POD, 8080, 1, 2), OVERFLOW_KEY.pack(POD, 8080, 2, 2)
    own.ends = {(POD, 8080)}
    told = own_gate.filter_overflow({server: (5, 50, 500, 0), client: (1, 1, 1, 1)})
    assert told == {server: (0, 0, 0, 0), client: (1, 1, 1, 1)}
    assert counts(own_gate) == {("w7", 8080, OWN_TRAFFIC): 5}


def test_records_are_not_copied_where_nothing_is_excluded(gate: CallFilter) -> None:
    records = np.zeros(3, RECORD)
    assert gate.filter_records(records) is records


def test_what_was_only_added_up_is_excluded_while_it_is_off(gate: CallFilter, identity: FakeIdentity) -> None:
    key, other = OVERFLOW_KEY.pack(POD, 8080, 1, 2), OVERFLOW_KEY.pack(OTHER_POD, 80, 1, 2)
    assert gate.filter_overflow({key: (5, 50, 500, 0), other: (1, 1, 1, 1)})[key] == (5, 50, 500, 0)
    identity.off[POD] = "off"
    told = gate.filter_overflow({key: (9, 90, 900, 0), other: (2, 2, 2, 2)})
    assert told == {key: (5, 50, 500, 0), other: (2, 2, 2, 2)}
    identity.off.clear()
    told = gate.filter_overflow({key: (10, 100, 1000, 0), other: (2, 2, 2, 2)})
    assert told[key] == (6, 60, 600, 0)
    assert counts(gate) == {("w7", 8080, "calls"): 4}


def test_an_account_is_bounded_and_loses_nothing() -> None:
    account = ExclusionAccount()
    for number in range(ENTRIES_MAX + 3):
        account.add(Exclusion(make_service(number, 80), "calls", "off"), 2)
    rows = account.cover(make_service(0, 0))
    assert len(rows) == ENTRIES_MAX + 1
    assert sum(row.calls for row in rows) == account.calls == 2 * (ENTRIES_MAX + 3)
    assert (rows[-1].address, rows[-1].calls) == ("others", 6)

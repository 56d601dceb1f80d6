"""Weak TLS: what sensors say of handshakes, judged for endpoints that are read and for services that are not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apidae.v1 import stream_pb2

from collector.inventory.coverage.coverage import WeakChoice
from collector.receiver.reports import convert_coverage
from collector.risk.finding import Severity
from collector.risk.tls import SECONDS, find_weak_ciphers, find_weak_versions
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.risk.test_assessment import Desk

AES_CBC = "TLS_RSA_WITH_AES_128_CBC_SHA"
RC4 = "TLS_ECDHE_RSA_WITH_RC4_128_SHA"
STRONG = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
ENCRYPTED, HTTPS = 2, 11


def choose(version: str, suite: str) -> WeakChoice:
    return WeakChoice(version=version, cipher_suite=suite, count=3, last_seen=int(NOW))


@pytest.mark.parametrize(
    ("version", "severity"),
    [
        ("SSL 3.0", Severity.HIGH),
        ("TLS 1.0", Severity.MEDIUM),
        ("TLS 1.1", Severity.MEDIUM),
        ("TLS 1.2", None),
        ("TLS 1.3", None),
    ],
)
def test_versions(version: str, severity: Severity | None) -> None:
    found = find_weak_versions([choose(version, AES_CBC)])
    assert (found.severity if found is not None else None) is severity


@pytest.mark.parametrize(
    ("suite", "severity"),
    [
        ("TLS_RSA_WITH_NULL_SHA256", Severity.HIGH),
        ("TLS_ECDH_anon_WITH_AES_128_CBC_SHA", Severity.HIGH),
        ("TLS_RSA_EXPORT_WITH_RC4_40_MD5", Severity.HIGH),
        ("TLS_RSA_WITH_DES_CBC_SHA", Severity.HIGH),
        (RC4, Severity.HIGH),
        ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", Severity.MEDIUM),
        (AES_CBC, Severity.LOW),
        ("TLS_RSA_WITH_AES_128_GCM_SHA256", Severity.LOW),
        ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
        (STRONG, None),
        ("TLS_AES_128_GCM_SHA256", None),
        ("0x1234", None),
    ],
)
def test_cipher_suites(suite: str, severity: Severity | None) -> None:
    found = find_weak_ciphers([choose("TLS 1.2", suite)])
    assert (found.severity if found is not None else None) is severity


def test_the_gravest_counts_and_all_are_named() -> None:
    found = find_weak_ciphers([choose("TLS 1.2", AES_CBC), choose("TLS 1.2", RC4), choose("TLS 1.2", STRONG)])
    assert found is not None
    assert (found.severity, found.signs) == (Severity.HIGH, (AES_CBC, RC4))
    assert found.why.startswith("6 of the handshakes looked at")


@pytest.fixture
def desk(tmp_path: Path, sqlite_state: StateStore) -> Iterator[Desk]:
    store = EmbeddedStore(tmp_path / "store")
    yield Desk(store, sqlite_state)
    store.close()


def hear(desk: Desk, protocol: int, *choices: tuple[str, str, int], node: str = "node-1") -> None:
    """One report of the port 8080 of `orders`: (version, cipher suite, age in seconds) each."""
    coverage = stream_pb2.Coverage()
    port = coverage.ports.add(protocol=protocol, role=1, connections=9, address="::")
    port.service.workload, port.service.workload_kind, port.service.port = "orders", 1, 8080
    port.service.host_name = "node-1"
    port.handshakes.count = 9
    for version, suite, age in choices:
        port.handshakes.weak_choices.add(version=version, cipher_suite=suite, count=4, age_seconds=age)
    desk.store.insert_records(
        "coverage_rows", convert_coverage(coverage, node=node, boot_id="b", now_unix_seconds=desk.now)
    )


def find(desk: Desk, rule: str) -> Any:
    (found,) = [one for one in desk.get("findings")["items"] if one["rule"] == rule]
    return found


@pytest.mark.store
def test_a_service_that_nobody_can_read_has_findings_of_its_own(desk: Desk) -> None:
    hear(desk, ENCRYPTED, ("TLS 1.0", AES_CBC, 60))
    hear(desk, ENCRYPTED, ("TLS 1.0", AES_CBC, 60), node="node-2")
    desk.assessor.look()
    version, cipher = find(desk, "weak_tls_version"), find(desk, "weak_tls_cipher")
    assert (version["owasp"], version["service"], version["endpoint_id"]) == ("API8:2023", "orders:8080", "")
    assert version["why"].startswith("8 of the handshakes") and "TLS 1.0" in version["why"]
    assert cipher["severity"] == "low" and AES_CBC in cipher["why"]
    page = desk.client.get("/coverage").text
    assert "Weak TLS version · orders:8080" in page
    port = desk.get("coverage/ports")["items"][0]
    assert [one["version"] for one in port["handshakes"]["weak_choices"]] == ["TLS 1.0"]


@pytest.mark.store
def test_accepted_until_it_grows_and_fixed_when_it_is_over(desk: Desk) -> None:
    hear(desk, ENCRYPTED, ("TLS 1.1", STRONG, 60))
    desk.assessor.look()
    assert desk.decide(find(desk, "weak_tls_version")["id"], "accepted")["state"] == "accepted"
    desk.now += 60
    desk.assessor.look()
    assert find(desk, "weak_tls_version")["state"] == "accepted"
    hear(desk, ENCRYPTED, ("TLS 1.0", STRONG, 5), ("TLS 1.1", STRONG, 120))
    desk.assessor.look()
    grown = find(desk, "weak_tls_version")
    assert (grown["state"], grown["is_reopened"], grown["note"]) == ("open", True, "It grew: TLS 1.0.")
    desk.now += SECONDS + 60
    hear(desk, ENCRYPTED, ("TLS 1.0", STRONG, SECONDS + 65), ("TLS 1.1", STRONG, SECONDS + 180))
    desk.assessor.look()
    assert find(desk, "weak_tls_version")["state"] == "fixed"


@pytest.mark.store
def test_fixed_opens_again_only_by_later_handshakes(desk: Desk) -> None:
    hear(desk, ENCRYPTED, ("TLS 1.0", STRONG, 60))
    desk.assessor.look()
    desk.decide(find(desk, "weak_tls_version")["id"], "fixed")
    desk.now += 600
    hear(desk, ENCRYPTED, ("TLS 1.0", STRONG, 660))
    desk.assessor.look()
    assert find(desk, "weak_tls_version")["state"] == "fixed"
    hear(desk, ENCRYPTED, ("TLS 1.0", STRONG, 5))
    desk.assessor.look()
    assert find(desk, "weak_tls_version")["state"] == "open"


@pytest.mark.store
def test_of_a_service_that_is_read_its_endpoints_have_them(desk: Desk) -> None:
    hear(desk, ENCRYPTED, ("TLS 1.0", RC4, 60))
    desk.assessor.look()
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders/{order_id}"), 10)
    seed.calls(seed.endpoint(2, "GET", "/orders/{order_id}", port=80), 10)
    seed.write(desk.store)
    hear(desk, HTTPS, ("TLS 1.0", RC4, 60))
    desk.now += 1
    desk.assessor.look()
    assert {one["note"] for one in desk.get("findings", endpoint_id="", state="fixed")["items"]} == {
        "Its calls are read now: its endpoints have the finding."
    }
    risk, other = desk.get("endpoints/ep0001/risk"), desk.get("endpoints/ep0002/risk")
    assert {one["rule"]: one["severity"] for one in risk["findings"]} == {
        "weak_tls_version": "medium",
        "weak_tls_cipher": "high",
    }
    assert other["findings"] == [] and risk["score"] > other["score"]
    fixed = desk.decide(risk["findings"][0]["id"], "fixed")
    assert fixed["state"] == "fixed"
    hear(desk, HTTPS, ("TLS 1.0", RC4, 90))
    desk.now += 60
    desk.assessor.look()
    assert desk.get(f"findings/{fixed['id']}")["finding"]["state"] == "fixed"

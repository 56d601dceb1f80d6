"""One-time tokens, revocations, and how many failures an address has."""

import asyncio
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import select

import collector.trust.enrollment
from collector.core.config import CollectorSettings
from collector.core.keys import KeyFileError
from collector.storage.state.store import StateStore, open_state
from collector.storage.state.tables.trust import ENROLLMENTS
from collector.trust.authority import rotate_own_authority
from collector.trust.enroller import (
    ALL_FAILURES,
    HOST_FAILURES,
    HOSTS_LIMIT,
    Application,
    Enroller,
    FailureAllowance,
)
from collector.trust.enrollment import KEPT_SECONDS, EnrollmentRefusedError, EnrollmentTable, TokenReviewer
from collector.trust.files import Trust
from collector.trust.identity import BACKDATE_SECONDS, SensorCertificate
from collector.trust.revocation import CertificateTable, IssuedCertificate
from collector.trust.secrets import SecretTable
from collector.trust.tls_terminator import REMEMBERED_LIMIT, RefusalLog
from tests.collector.running import clean_environment
from tests.collector.trust.conftest import KEY

NOW = 1_000_000.0
ISSUED = IssuedCertificate(serial="1", cluster="east", node="n", issued_at=NOW, not_after=NOW + 90, way="token")


@pytest.fixture
def enrollments(state: StateStore) -> EnrollmentTable:
    return EnrollmentTable(state)


@pytest.fixture
def certificates(state: StateStore) -> CertificateTable:
    return CertificateTable(state)


def make(table: EnrollmentTable, *, now: float = NOW, node: str = "", cluster: str = "") -> str:
    _, token = table.make(now=now, ttl_seconds=60, node=node, cluster=cluster, pin="-")
    return token


def take(table: EnrollmentTable, token: str, *, now: float = NOW, node: str = "n", cluster: str = "") -> str:
    """Why it was refused, or ""."""
    try:
        table.take(token, now=now, node=node, cluster=cluster)
    except EnrollmentRefusedError as error:
        return error.reason
    return ""


def test_a_token_is_for_one_node_once_and_for_a_while(enrollments: EnrollmentTable) -> None:
    token = make(enrollments, node="n", cluster="c")
    assert take(enrollments, token, node="m", cluster="c") == "other_node"
    assert take(enrollments, token, node="n", cluster="d") == "other_node"
    assert take(enrollments, token, cluster="c", now=NOW + 60) == "expired"
    assert take(enrollments, token, cluster="c", now=NOW + 59) == ""
    assert take(enrollments, token, cluster="c", now=NOW + 59) == "used"
    (used,) = enrollments.list_all()
    assert (used.used_at, used.used_by) == (NOW + 59, "node n of cluster c")


def test_tokens_that_nobody_made(enrollments: EnrollmentTable) -> None:
    token = make(enrollments)
    prefix, number, secret, pin = token.split(".")
    for wrong in ("", "apidae1", f"{prefix}.{number}.{'x' * 43}.{pin}", f"{prefix}.{'0' * 16}.{secret}.{pin}"):
        assert take(enrollments, wrong) == "unknown"
    assert take(enrollments, f"{prefix}.../../etc.{secret}.{pin}") == "unknown"
    assert take(enrollments, token) == ""
    # Who has not the secret is not told that it was used.
    assert take(enrollments, f"{prefix}.{number}.{'x' * 43}.{pin}") == "unknown"


def test_of_two_at_a_time_one_gets_in(state: StateStore) -> None:
    token = make(EnrollmentTable(state))
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def race() -> None:
        start.wait()
        outcomes.append(take(EnrollmentTable(state), token))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["", *["used"] * 3]


def test_secrets_are_not_kept_and_old_tokens_are_forgotten(state: StateStore, enrollments: EnrollmentTable) -> None:
    token = make(enrollments)
    with state.read() as connection:
        assert token.split(".")[2] not in str(connection.execute(select(ENROLLMENTS)).all())
    make(enrollments, now=NOW + 61 + KEPT_SECONDS)
    (left,) = enrollments.list_all()
    assert left.made_at > NOW


def test_more_tokens_than_the_limit_are_one_sentence(
    enrollments: EnrollmentTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector.trust.enrollment, "ENROLLMENTS_LIMIT", 1)
    make(enrollments)
    with pytest.raises(KeyFileError, match="1 enrolment tokens"):
        make(enrollments)


def certificate(serial: int = 171, *, issued_at: float = NOW, cluster: str | None = "c") -> SensorCertificate:
    begin = issued_at - BACKDATE_SECONDS
    return SensorCertificate(
        serial=serial, not_before=begin, not_after=begin + 9_999, cluster=cluster, nodes=frozenset({"n"})
    )


def test_revocations_by_node_and_by_serial(certificates: CertificateTable) -> None:
    assert certificates.load_revocations().find_reason(certificate()) == ""
    certificates.revoke(now=NOW + 5, node=("c", "n"))
    certificates.revoke(now=NOW + 5, serial="00:AB")
    known = certificates.load_revocations()
    assert known.find_reason(certificate()) == "certificate ab is revoked"
    assert known.find_reason(certificate(1)) == "the certificates of node n of cluster c are revoked"
    assert known.find_reason(certificate(1, issued_at=NOW + 6)) == ""
    assert known.find_reason(certificate(1, cluster="d")) == ""
    assert known.is_node_revoked(cluster="c", node="n") and not known.is_node_revoked(cluster="", node="n")
    assert certificates.allow(now=4.0, node=("c", "n")) and not certificates.allow(now=4.0, node=("c", "n"))
    assert certificates.load_revocations().find_reason(certificate(1)) == ""
    with pytest.raises(ValueError, match="invalid literal"):
        certificates.revoke(now=NOW, serial="no number")


def test_failures_run_out_and_come_back() -> None:
    now = [0.0]
    allowance = FailureAllowance(lambda: now[0])
    for _ in range(HOST_FAILURES):
        assert allowance.find_wait("a") == 0
        allowance.spend("a")
    assert 0 < allowance.find_wait("a") <= 6.0 and allowance.find_wait("b") == 0
    now[0] += 6.1
    assert allowance.find_wait("a") == 0
    for number in range(ALL_FAILURES):
        allowance.spend(f"host-{number}")
    assert allowance.find_wait("b") > 0
    now[0] += 1.0
    assert allowance.find_wait("b") == 0
    for number in range(HOSTS_LIMIT + 9):
        allowance.spend(f"other-{number}")
    assert len(allowance._hosts) == HOSTS_LIMIT


def test_refusals_are_counted_always_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = RefusalLog(lambda: now[0])
    for _ in range(3):
        log.record("expired", "10.0.0.1", "told")
    log.record("expired", "10.0.0.2", "told")
    log.record("revoked", "10.0.0.1", "told")
    assert log.counts == {"expired": 4, "revoked": 1} and len(caplog.records) == 3
    now[0] += 60
    log.record("expired", "10.0.0.1", "told")
    assert len(caplog.records) == 4
    for number in range(REMEMBERED_LIMIT + 9):
        log.record("expired", str(number), "told")
    assert len(log._logged) == REMEMBERED_LIMIT


def test_issued_certificates_are_listed_until_they_end(certificates: CertificateTable) -> None:
    assert certificates.list_issued() == []
    for number in range(3):
        certificates.record_issued(replace(ISSUED, serial=str(number), not_after=NOW + number))
    assert [item.serial for item in certificates.list_issued()] == ["0", "1", "2"]
    assert len(certificates.list_issued(node="n")) == 3 and certificates.list_issued(node="m") == []
    certificates.forget_expired(NOW + 1)
    assert [item.serial for item in certificates.list_issued()] == ["2"]


def test_a_token_for_any_node_gives_no_certificate_of_one_that_has_one(enrollments: EnrollmentTable) -> None:
    for node, reason in (("", "taken"), ("n", "")):
        token = make(enrollments, node=node)
        try:
            enrollments.take(token, now=NOW, node="n", cluster="", is_taken=True)
        except EnrollmentRefusedError as error:
            assert error.reason == reason and "--node n" in str(error)
        else:
            assert not reason


def open_trust(directory: Path, state: StateStore) -> Trust:
    secrets = SecretTable(state, KEY)
    return Trust(CollectorSettings(data_dir=directory), ["localhost"], lambda: NOW, state=state, secrets=secrets)


def enroll_pod(trust: Trust, cluster: str) -> None:
    """With the token of a Pod on node-7, and a request that is no such thing."""
    reviewer = cast(TokenReviewer, SimpleNamespace(find_node=AsyncMock(return_value="node-7")))
    enroller = Enroller(trust=trust, reviewer=reviewer, cluster="east", clock=lambda: NOW)
    application = Application(host="10.0.0.9", cluster=cluster, node="node-7", request=b"", token="of its Pod")
    asyncio.run(enroller.enroll(application))


@pytest.mark.parametrize("cluster, reason", [("east", "revoked"), ("west", "other_cluster"), ("", "other_cluster")])
def test_a_revoked_node_stays_revoked_whatever_cluster_it_names(
    tmp_path: Path, sqlite_state: StateStore, cluster: str, reason: str
) -> None:
    trust = open_trust(tmp_path, sqlite_state)
    trust.certificates.revoke(now=NOW, node=("east", "node-7"))
    with pytest.raises(EnrollmentRefusedError) as refused:
        enroll_pod(trust, cluster)
    assert refused.value.reason == reason


def test_a_node_that_was_just_allowed_is_let_in_by_what_it_is_given(tmp_path: Path, sqlite_state: StateStore) -> None:
    """A certificate's times are whole seconds: one of the same second is covered by the revocation, which is gone."""
    trust = open_trust(tmp_path, sqlite_state)
    trust.certificates.revoke(now=NOW, node=("east", "node-7"))
    trust.refresh()
    trust.certificates.allow(now=NOW, node=("east", "node-7"))
    assert trust.revocations.is_node_revoked(cluster="east", node="node-7")  # Until the next look.
    with pytest.raises(EnrollmentRefusedError, match="No certificate can be made"):
        enroll_pod(trust, "east")
    assert not trust.revocations.is_node_revoked(cluster="east", node="node-7")


def test_a_node_is_revoked_in_the_cluster_that_it_is_of(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as state:
        CertificateTable(state).record_issued(ISSUED)

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-c", "from common.main import main; main()", "certificates", "revoke"]
        command += ["--data-dir", str(tmp_path), *arguments]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    code, said = run("--node", "n")
    assert code == 1 and "node n of cluster (none) has no certificate; it is of east" in said
    assert run("--node", "n", "--cluster", "east") == (0, "")
    code, said = run("--node", "m")  # Mistyped, or one that is to have none.
    assert code == 0 and "No certificate of node m is known" in said
    with closing(open_state(tmp_path)) as state:
        assert CertificateTable(state).load_revocations().is_node_revoked(cluster="east", node="n")


def test_a_revoked_certificate_takes_no_name(certificates: CertificateTable) -> None:
    def has_certificate(now: float = NOW) -> bool:
        return certificates.has_valid(cluster="east", node="n", now=now)

    assert not has_certificate()
    certificates.record_issued(replace(ISSUED, serial="a1"))
    assert has_certificate() and not has_certificate(NOW + 90)
    assert not certificates.has_valid(cluster="", node="n", now=NOW)
    certificates.revoke(now=NOW, serial="a1")
    assert not has_certificate()
    certificates.record_issued(replace(ISSUED, serial="a2"))
    assert has_certificate()
    certificates.revoke(now=NOW, node=("east", "n"))
    assert not has_certificate()
    certificates.record_issued(replace(ISSUED, serial="a3", issued_at=NOW + 1))
    assert has_certificate()


def test_another_collector_sees_what_was_changed_at_the_next_look(tmp_path: Path, state: StateStore) -> None:
    def make_trust(name: str) -> Trust:
        settings = CollectorSettings(data_dir=tmp_path / name)
        trust = Trust(settings, ["localhost"], time.time, state=state, secrets=SecretTable(state, KEY))
        assert trust.refresh() and not trust.refresh()
        return trust

    first, second = make_trust("1"), make_trust("2")
    assert first.bundle == second.bundle
    first.certificates.revoke(now=NOW, serial="ab")
    assert not second.refresh() and second.revocations.serials == {"ab": NOW}
    rotate_own_authority(SecretTable(state, KEY), now=time.time(), overlap_seconds=9_999.0)
    assert first.refresh() and second.refresh() and first.bundle == second.bundle
    assert second.authority.cross is not None

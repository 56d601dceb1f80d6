"""One-time tokens, revocations, and how many failures an address has."""

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest

from collector.core.config import CollectorSettings
from collector.core.keys import KeyFileError
from collector.trust.enroller import (
    ALL_FAILURES,
    HOST_FAILURES,
    HOSTS_LIMIT,
    Application,
    Enroller,
    FailureAllowance,
)
from collector.trust.enrollment import (
    KEPT_SECONDS,
    EnrollmentRefusedError,
    TokenReviewer,
    list_enrollments,
    make_enrollment,
    take_enrollment,
)
from collector.trust.files import TRUST_DIRECTORY, Trust
from collector.trust.identity import BACKDATE_SECONDS, SensorCertificate
from collector.trust.revocation import (
    ISSUED_FILE,
    REVOCATIONS_FILE,
    IssuedCertificate,
    allow,
    forget_expired,
    list_issued,
    load_revocations,
    normalise_serial,
    record_issued,
    revoke,
)
from collector.trust.tls_terminator import REMEMBERED_LIMIT, RefusalLog
from tests.collector.running import clean_environment

NOW = 1_000_000.0


def make(directory: Path, *, now: float = NOW, node: str = "", cluster: str = "") -> str:
    _, token = make_enrollment(directory, now=now, ttl_seconds=60, node=node, cluster=cluster, pin="-")
    return token


def take(directory: Path, token: str, *, now: float = NOW, node: str = "n", cluster: str = "") -> str:
    """Why it was refused, or ""."""
    try:
        take_enrollment(directory, token, now=now, node=node, cluster=cluster)
    except EnrollmentRefusedError as error:
        return error.reason
    return ""


def test_a_token_is_for_one_node_once_and_for_a_while(tmp_path: Path) -> None:
    token = make(tmp_path, node="n", cluster="c")
    assert take(tmp_path, token, node="m", cluster="c") == "other_node"
    assert take(tmp_path, token, node="n", cluster="d") == "other_node"
    assert take(tmp_path, token, cluster="c", now=NOW + 60) == "expired"
    assert take(tmp_path, token, cluster="c", now=NOW + 59) == ""
    assert take(tmp_path, token, cluster="c", now=NOW + 59) == "used"
    (used,) = list_enrollments(tmp_path)
    assert (used.used_at, used.used_by) == (NOW + 59, "node n of cluster c")


def test_tokens_that_nobody_made(tmp_path: Path) -> None:
    token = make(tmp_path)
    prefix, number, secret, pin = token.split(".")
    for wrong in ("", "apidae1", f"{prefix}.{number}.{'x' * 43}.{pin}", f"{prefix}.{'0' * 16}.{secret}.{pin}"):
        assert take(tmp_path, wrong) == "unknown"
    assert take(tmp_path, f"{prefix}.../../etc.{secret}.{pin}") == "unknown"
    assert take(tmp_path, token) == ""
    # Who has not the secret is not told that it was used.
    assert take(tmp_path, f"{prefix}.{number}.{'x' * 43}.{pin}") == "unknown"


def test_of_two_at_a_time_one_gets_in(tmp_path: Path) -> None:
    token = make(tmp_path)
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def race() -> None:
        start.wait()
        outcomes.append(take(tmp_path, token))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["", *["used"] * 7]


def test_secrets_are_not_kept_and_old_tokens_are_forgotten(tmp_path: Path) -> None:
    token = make(tmp_path)
    (file,) = tmp_path.iterdir()
    assert token.split(".")[2] not in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    make(tmp_path, now=NOW + 61 + KEPT_SECONDS)
    assert not file.exists() and len(list_enrollments(tmp_path)) == 1
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    with pytest.raises(KeyFileError, match="is damaged; remove the file"):
        list_enrollments(tmp_path)


def certificate(serial: int = 171, *, issued_at: float = NOW, cluster: str | None = "c") -> SensorCertificate:
    begin = issued_at - BACKDATE_SECONDS
    return SensorCertificate(
        serial=serial, not_before=begin, not_after=begin + 9_999, cluster=cluster, nodes=frozenset({"n"})
    )


def test_revocations_by_node_and_by_serial(tmp_path: Path) -> None:
    path = tmp_path / "revoked.json"
    assert load_revocations(path).find_reason(certificate()) == ""
    revoke(path, now=NOW + 5, node=("c", "n"))
    revoke(path, now=NOW + 5, serial="00:AB")
    known = load_revocations(path)
    assert known.find_reason(certificate()) == "certificate ab is revoked"
    assert known.find_reason(certificate(1)) == "the certificates of node n of cluster c are revoked"
    assert known.find_reason(certificate(1, issued_at=NOW + 6)) == ""
    assert known.find_reason(certificate(1, cluster="d")) == ""
    assert known.is_node_revoked(cluster="c", node="n") and not known.is_node_revoked(cluster="", node="n")
    assert allow(path, node=("c", "n")) and not allow(path, node=("c", "n"))
    assert load_revocations(path).find_reason(certificate(1)) == ""
    with pytest.raises(ValueError, match="invalid literal"):
        normalise_serial("no number")
    path.write_text("[]")
    with pytest.raises(KeyFileError, match="are damaged"):
        load_revocations(path)


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


def test_issued_certificates_are_listed_until_they_end(tmp_path: Path) -> None:
    path = tmp_path / "issued.jsonl"
    assert list_issued(path) == []
    for number in range(3):
        item = IssuedCertificate(
            serial=str(number), cluster="", node="n", issued_at=NOW, not_after=NOW + number, way="kubernetes"
        )
        record_issued(path, item)
    with path.open("a") as file:
        file.write('{"serial": "cut')
    assert [item.serial for item in list_issued(path)] == ["0", "1", "2"]
    forget_expired(path, NOW + 1)
    assert [item.serial for item in list_issued(path)] == ["2"]


def test_a_token_for_any_node_gives_no_certificate_of_one_that_has_one(tmp_path: Path) -> None:
    for node, reason in (("", "taken"), ("n", "")):
        token = make(tmp_path, node=node)
        try:
            take_enrollment(tmp_path, token, now=NOW, node="n", cluster="", is_taken=True)
        except EnrollmentRefusedError as error:
            assert error.reason == reason and "--node n" in str(error)
        else:
            assert not reason


@pytest.mark.parametrize("cluster, reason", [("east", "revoked"), ("west", "other_cluster"), ("", "other_cluster")])
def test_a_revoked_node_stays_revoked_whatever_cluster_it_names(tmp_path: Path, cluster: str, reason: str) -> None:
    trust = Trust(CollectorSettings(data_dir=tmp_path), ["localhost"], lambda: NOW)
    trust.directory.mkdir()
    revoke(trust.directory / REVOCATIONS_FILE, now=NOW, node=("east", "node-7"))
    reviewer = cast(TokenReviewer, SimpleNamespace(find_node=AsyncMock(return_value="node-7")))
    enroller = Enroller(trust=trust, reviewer=reviewer, cluster="east", clock=lambda: NOW)
    application = Application(host="10.0.0.9", cluster=cluster, node="node-7", request=b"", token="of its Pod")
    with pytest.raises(EnrollmentRefusedError) as refused:
        asyncio.run(enroller.enroll(application))
    assert refused.value.reason == reason


def test_a_node_is_revoked_in_the_cluster_that_it_is_of(tmp_path: Path) -> None:
    directory = tmp_path / TRUST_DIRECTORY
    directory.mkdir()
    issued = IssuedCertificate(serial="1", cluster="east", node="n", issued_at=NOW, not_after=NOW + 9, way="token")
    record_issued(directory / ISSUED_FILE, issued)

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
    assert load_revocations(directory / REVOCATIONS_FILE).is_node_revoked(cluster="east", node="n")


def test_a_revoked_certificate_takes_no_name(tmp_path: Path) -> None:
    trust = Trust(CollectorSettings(data_dir=tmp_path), ["localhost"], lambda: NOW)
    trust.directory.mkdir()
    enroller = Enroller(trust=trust, reviewer=None, cluster="", clock=lambda: NOW)

    def has_certificate(now: float = NOW) -> bool:
        return enroller._has_certificate("east", "n", now)

    assert not has_certificate()
    issued = IssuedCertificate(serial="a1", cluster="east", node="n", issued_at=NOW, not_after=NOW + 90, way="token")
    record_issued(trust.directory / ISSUED_FILE, issued)
    assert has_certificate() and not has_certificate(NOW + 90)
    revoke(trust.directory / REVOCATIONS_FILE, now=NOW, serial="a1")
    assert not has_certificate()
    record_issued(trust.directory / ISSUED_FILE, replace(issued, serial="a2"))
    assert has_certificate()
    revoke(trust.directory / REVOCATIONS_FILE, now=NOW, node=("east", "n"))
    assert not has_certificate()

"""What commands decide on the collector's host, beside its API, is in the audit log too."""

from pathlib import Path

from collector.storage.state.store import StateStore
from collector.trust.audit import AuditFilters, AuditLog
from collector.trust.authority import load_own_authority, rotate_own_authority
from collector.trust.enrollment import EnrollmentTable
from collector.trust.principal import HOST
from collector.trust.revocation import CertificateTable
from collector.trust.secrets import SecretTable, load_token, replace_token

NOW = 1_800_000_000.0


def test_each_decision_on_the_host_is_an_entry_and_holds_no_secret(
    state: StateStore, secrets: SecretTable, tmp_path: Path
) -> None:
    enrollment, token = EnrollmentTable(state).make(now=NOW, ttl_seconds=60, node="n", cluster="east", pin="p")
    certificates = CertificateTable(state)
    certificates.revoke(now=NOW, node=("east", "n"))
    certificates.revoke(now=NOW, serial="00:AB")
    assert certificates.allow(now=NOW, node=("east", "n")) and not certificates.allow(now=NOW, node=("east", "n"))
    load_own_authority(secrets, now=NOW, overlap_seconds=1.0)
    rotate_own_authority(secrets, now=NOW, overlap_seconds=1.0)
    old = load_token(secrets, tmp_path / "api.token", NOW)
    replace_token(secrets, tmp_path / "api.token", NOW)
    lines = AuditLog(state).list_lines(AuditFilters(), limit=99)[::-1]
    assert [(line.action, line.target) for line in lines] == [
        ("enrollment.created", enrollment.number),
        ("certificate.revoked", "node n of cluster east"),
        ("certificate.revoked", "serial ab"),
        ("certificate.allowed", "node n of cluster east"),
        ("authority.rotated", "authority"),
        ("token.replaced", "api.token"),
    ]
    assert {line.by for line in lines} == {HOST}
    hidden = [token, token.split(".")[2], old.value, (tmp_path / "api.token").read_text().strip()]
    assert not [text for text in hidden if text in str(lines)]

"""Files of earlier versions move into the state once, and are kept aside."""

import json
from pathlib import Path

import pytest

from collector.core.keys import KeyFileError, write_private
from collector.storage.state.store import StateStore
from collector.trust.authority import load_own_authority, make_authority, write_certificates, write_key
from collector.trust.enrollment import EnrollmentTable
from collector.trust.imports import (
    AUTHORITY_FILE,
    ENROLLMENTS_DIRECTORY,
    ISSUED_FILE,
    KEYS_FILE,
    REVOCATIONS_FILE,
    import_files,
)
from collector.trust.installation_keys import InstallationKeyTable
from collector.trust.revocation import CertificateTable
from collector.trust.secrets import SecretTable
from tests.collector.trust.conftest import KEY

NOW = 1_800_000_000.0
KEYS = json.dumps([{"key_id": 8, "secret": "ab" * 16}, {"key_id": 7, "secret": "01" * 16}]).encode()


def run(directory: Path, state: StateStore) -> None:
    import_files(directory, state, keys=InstallationKeyTable(state, KEY), secrets=SecretTable(state, KEY), now=NOW)


def write_authority(path: Path) -> bytes:
    authority = make_authority(NOW)
    assert authority.key is not None
    write_private(path, write_key(authority.key) + write_certificates((authority.certificate,)))
    return authority.bundle


def write_all(directory: Path) -> bytes:
    write_private(directory / KEYS_FILE, KEYS)
    revoked = {
        "nodes": [{"cluster": "c", "node": "n", "revoked_at": 5.0}],
        "serials": [{"serial": "ab", "revoked_at": 6.0}],
    }
    write_private(directory / REVOCATIONS_FILE, json.dumps(revoked).encode())
    issued = {"serial": "1", "cluster": "c", "node": "n", "issued_at": NOW, "not_after": NOW + 9, "way": "kubernetes"}
    line = json.dumps(issued).encode()
    write_private(directory / ISSUED_FILE, line + b"\n" + line + b'\n{"serial": "cut')
    token = {"node": "n", "cluster": "", "made_at": NOW, "expires_at": NOW + 9, "used_at": 0.0, "used_by": ""}
    token["secret_sha256"] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # Of "secret".
    write_private(directory / ENROLLMENTS_DIRECTORY / f"{'0' * 16}.json", json.dumps(token).encode())
    used = token | {"used_at": NOW, "used_by": "node m"}
    write_private(directory / ENROLLMENTS_DIRECTORY / f"{'1' * 16}.used", json.dumps(used).encode())
    return write_authority(directory / AUTHORITY_FILE)


def test_all_files_move_and_a_second_start_finds_none(tmp_path: Path, state: StateStore) -> None:
    bundle = write_all(tmp_path)
    for _ in range(2):
        run(tmp_path, state)
        assert [key.key_id for key in InstallationKeyTable(state, KEY).list_all()] == [8, 7]
        authority = load_own_authority(SecretTable(state, KEY), now=NOW, overlap_seconds=1.0)
        assert authority.bundle == bundle
        table = CertificateTable(state)
        revocations = table.load_revocations()
        assert (revocations.nodes, revocations.serials) == ({("c", "n"): 5.0}, {"ab": 6.0})
        assert [one.serial for one in table.list_issued()] == ["1"]
        assert {one.number[0]: one.used_by for one in EnrollmentTable(state).list_all()} == {"0": "", "1": "node m"}
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        "installation.keys.imported",
        "tls/authority.pem.imported",
        "tls/revoked.json.imported",
        "tls/issued.jsonl.imported",
        f"tls/enrollments.imported/{'0' * 16}.json",
        f"tls/enrollments.imported/{'1' * 16}.used",
    }
    taken = EnrollmentTable(state).take(f"apidae1.{'0' * 16}.secret.-", now=NOW, node="n", cluster="")
    assert taken.used_by == "node n"


def test_a_crash_before_the_rename_is_made_good(tmp_path: Path, state: StateStore) -> None:
    write_all(tmp_path)
    run(tmp_path, state)
    for path in list(tmp_path.rglob("*.imported")):
        path.rename(path.with_name(path.name.removesuffix(".imported")))
    run(tmp_path, state)
    assert len(InstallationKeyTable(state, KEY).list_all()) == 2 and not (tmp_path / KEYS_FILE).exists()


def test_keys_and_an_authority_of_another_installation_stop_the_start(tmp_path: Path, state: StateStore) -> None:
    InstallationKeyTable(state, KEY).load(NOW)
    write_private(tmp_path / KEYS_FILE, KEYS)
    with pytest.raises(KeyFileError, match=r"installation\.keys are not those of .*move the file away"):
        run(tmp_path, state)
    (tmp_path / KEYS_FILE).unlink()
    load_own_authority(SecretTable(state, KEY), now=NOW, overlap_seconds=1.0)
    write_authority(tmp_path / AUTHORITY_FILE)
    with pytest.raises(KeyFileError, match=r"authority\.pem is not that of .*move the file away"):
        run(tmp_path, state)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b'[{"key_id": 1, "secret": "00"}]', b"x"])
@pytest.mark.parametrize("name", [KEYS_FILE, AUTHORITY_FILE, REVOCATIONS_FILE, f"{ENROLLMENTS_DIRECTORY}/0.json"])
def test_a_damaged_file_is_one_sentence_and_stays(
    tmp_path: Path, sqlite_state: StateStore, name: str, content: bytes
) -> None:
    write_private(tmp_path / name, content)
    with pytest.raises(KeyFileError, match="damaged"):
        run(tmp_path, sqlite_state)
    assert (tmp_path / name).read_bytes() == content

"""The audit of pinned packages: ranges as OSV evaluates them, and a run without advisories that says so."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scripts.audit import ROOT, find_matches, is_affected, list_documents, read_pins

LOCK = """\
anyio==4.16.0 \\
    --hash=sha256:59bb
backports-zstd==1.8.0 ; python_version < "3.14" \\
    --hash=sha256:029b
PyYAML==6.0.4
"""


def make_advisory(name: str, *events: dict[str, str], **fields: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": name}
    affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}
    return {"id": f"PYSEC-{name}", "modified": "2026-11-01T00:00:00Z", "affected": [affected], **fields}


@pytest.mark.parametrize(
    ("version", "is_hit"),
    [("0.9", False), ("1.0", True), ("1.4.9", True), ("1.5", False), ("2.1", True), ("2.3", False)],
)
def test_the_last_event_at_or_before_a_version_decides(version: str, is_hit: bool) -> None:
    events = [{"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"last_affected": "2.2"}]
    assert is_affected(version, {"ranges": [{"type": "ECOSYSTEM", "events": events}]}) is is_hit


def test_a_pinned_version_is_found_in_json_and_yaml(tmp_path: Path) -> None:
    pins = {"run.lock": read_pins(LOCK)}
    assert pins["run.lock"] == {"anyio": "4.16.0", "backports-zstd": "1.8.0", "pyyaml": "6.0.4"}
    (tmp_path / "a.yaml").write_text(
        "id: PYSEC-1\nmodified: 2026-11-02T00:00:00Z\naffected:\n- package: {ecosystem: PyPI, name: pyYAML}\n"
        "  versions: ['6.0.3', 6.0.4]\n"
    )
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("b.json", json.dumps(make_advisory("anyio", {"introduced": "0"}, {"fixed": "5"})))
        archive.writestr("c.json", json.dumps(make_advisory("anyio", {"introduced": "0"}, withdrawn="2026-01-01")))
        archive.writestr("d.json", "not an advisory")
    of_directory = find_matches(pins, list_documents(tmp_path))
    assert [(one.package, one.advisory) for one in of_directory.matches] == [("pyyaml", "PYSEC-1")]
    of_archive = find_matches(pins, list_documents(tmp_path / "all.zip"))
    assert [(one.package, one.version) for one in of_archive.matches] == [("anyio", "4.16.0")]
    assert (of_archive.advisories, of_archive.newest, of_directory.newest) == (2, "2026-11-01", "2026-11-02")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.audit", *arguments]
    return subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)


def test_without_advisories_it_did_not_run_and_that_is_no_failure(tmp_path: Path) -> None:
    for arguments in ((), (str(tmp_path / "none"),), (str(tmp_path),)):
        done = run(*arguments)
        assert done.returncode == 0 and "did not run" in done.stdout, (done.stdout, done.stderr)


def test_a_shipped_package_with_an_advisory_fails(tmp_path: Path) -> None:
    advisory = make_advisory("grpcio", {"introduced": "0"}, summary="bad")
    (tmp_path / "a.json").write_text(json.dumps(advisory))
    done = run(str(tmp_path))
    assert done.returncode == 1 and "run.lock: grpcio" in done.stdout and "PYSEC-grpcio bad" in done.stdout

"""The audit log forgets decisions that are older than is set, and keeps the others as they are."""

from pathlib import Path

import msgspec

from collector.response.block_store import AuditEntry, AuditLog


def make_entry(time: float) -> AuditEntry:
    return AuditEntry(time=time, by="ada", action="approved", block_id="b1", target="address:10.0.0.9", why="")


def test_decisions_that_are_too_old_are_removed_from_both_files_and_no_other(tmp_path: Path) -> None:
    path, earlier = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    earlier.write_bytes(b"".join(msgspec.json.encode(make_entry(time)) + b"\n" for time in (1, 2)))
    log = AuditLog(path)
    for time in (3, 40, 50):
        log.add(make_entry(time))
    with path.open("ab") as file:
        file.write(b'{"time": 60, "by"')  # As a crash leaves it.
    assert log.prune(40) == 3
    assert earlier.read_bytes() == b""
    assert path.read_bytes().count(b"\n") == 2 and path.read_bytes().endswith(b'"by"')
    assert [entry.time for entry in log.list_recent(9)] == [50, 40]
    assert [entry.time for entry in AuditLog(path).list_recent(9)] == [50, 40]
    before = path.stat().st_mtime_ns
    assert log.prune(40) == 0 and path.stat().st_mtime_ns == before

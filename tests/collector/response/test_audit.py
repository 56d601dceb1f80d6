"""The audit log: newest first, pruned by age and by number, and blank where somebody was erased."""

import re

import pytest

from collector.response import audit
from collector.response.audit import AuditEntry, AuditLog, erase_mentions
from collector.storage.state.store import StateStore


def make_entry(time: float, **more: str) -> AuditEntry:
    fields = {"by": "ada", "action": "approved", "block_id": "b1", "target": "address:10.0.0.9", "why": "", **more}
    return AuditEntry(time=time, **fields)


def test_entries_that_are_too_old_or_too_many_go(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(state)
    for time in (1, 2, 3, 40, 50, 60):
        log.add(make_entry(time))
    assert log.prune(40) == 3
    assert [entry.time for entry in log.list_recent(9)] == [60, 50, 40]
    assert (log.prune(40), log._evicted_count) == (0, 0)
    monkeypatch.setattr(audit, "ENTRIES_MAX", 2)
    assert (log.prune(40), log._evicted_count) == (0, 1)
    assert log.list_recent(9) == [make_entry(60), make_entry(50)]
    assert log.list_recent(1) == [make_entry(60)]


def test_a_name_is_blanked_in_every_text_and_nothing_else_changes(state: StateStore) -> None:
    log = AuditLog(state)
    before = [make_entry(1), make_entry(2, target="address:10.0.0.8", why="as 10.0.0.9", by="sensor 10.0.0.9")]
    for entry in (*before, make_entry(3, target="address:10.0.0.8")):
        log.add(entry)
    with state.write() as connection:
        assert erase_mentions(connection, re.compile(r"10\.0\.0\.9")) == 2
    assert log.list_recent(9) == [
        make_entry(3, target="address:10.0.0.8"),
        make_entry(2, target="address:10.0.0.8", why="as erased", by="sensor erased"),
        make_entry(1, target="address:erased"),
    ]

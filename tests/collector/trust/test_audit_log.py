"""The audit log: newest first, pruned by age and by number, and blank where somebody was erased."""

import re

import pytest
from sqlalchemy import Connection, delete, select, update

from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import AUDIT_ENTRIES
from collector.trust import audit
from collector.trust.audit import PRUNED, AuditEntry, AuditFilters, AuditLog, erase_mentions, write_values
from collector.trust.principal import Principal, Role, Scope, Way, set_principal


def make_entry(time: float, **more: str) -> AuditEntry:
    fields = {"by": "ada", "action": "approved", "block_id": "b1", "target": "address:10.0.0.9", "why": "", **more}
    return AuditEntry(time=time, **fields)


def make_erasure(time: float, **more: str) -> AuditEntry:
    return make_entry(time, **{"action": "erased", "block_id": "", "target": "address:erased", **more})


def change(state: StateStore, number: int, **values: str) -> None:
    with state.write() as connection:
        connection.execute(update(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number == number).values(values))


def test_entries_that_are_too_old_or_too_many_go(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(state)
    for time in (1, 2, 3, 40, 50, 60):
        log.add(make_entry(time))
    assert log.prune(40, 70) == 3
    assert [(entry.time, entry.action) for entry in log.list_recent(9)] == [
        (70, PRUNED),
        (60, "approved"),
        (50, "approved"),
        (40, "approved"),
    ]
    assert (log.prune(40, 70), log._evicted_count) == (0, 0)
    monkeypatch.setattr(audit, "ENTRIES_MAX", 2)
    assert (log.prune(40, 80), log._evicted_count) == (0, 2)
    assert [entry.time for entry in log.list_recent(9)] == [80, 70, 60]
    assert log.check().fault == ""
    assert log.prune(1_000, 1_000) == 2  # The last one stays, for the next one stands on it.
    assert [entry.time for entry in log.list_recent(9)] == [1_000, 80]
    log.add(make_entry(1_001))
    check = log.check()
    assert (check.fault, check.entries, check.first, check.last) == ("", 3, 8, 10)


def test_who_sees_blocks_sees_no_decision_on_users(state: StateStore) -> None:
    log = AuditLog(state)
    log.add(make_entry(1))
    log.add(make_entry(2, action="token.created", target="ci"))
    assert [entry.time for entry in log.list_recent(9)] == [1]
    assert [line.action for line in log.list_lines(AuditFilters(), limit=9)] == ["token.created", "approved"]


def test_a_name_is_blanked_in_every_text_and_nothing_else_changes(state: StateStore) -> None:
    log = AuditLog(state)
    before = [make_entry(1), make_entry(2, target="address:10.0.0.8", why="as 10.0.0.9", by="sensor 10.0.0.9")]
    for entry in (*before, make_entry(3, target="address:10.0.0.8")):
        log.add(entry)
    with state.write() as connection:
        assert erase_mentions(connection, re.compile(r"10\.0\.0\.9"), make_erasure(4)) == 2
    assert log.list_recent(9) == [
        make_erasure(4, after='{"entries":[[1,2]]}'),
        make_entry(3, target="address:10.0.0.8"),
        make_entry(2, target="address:10.0.0.8", why="as erased", by="sensor erased"),
        make_entry(1, target="address:erased"),
    ]


def test_the_chain_holds_from_the_first_entry_to_the_last(state: StateStore) -> None:
    log = AuditLog(state)
    assert (log.check().entries, log.check().fault) == (0, "")
    for time in range(1, 6):
        log.add(make_entry(time, why="\0\ud800" + "x" * 9_999, before=write_values(role="viewer", names=["é"])))
    check = log.check()
    assert (check.entries, check.first, check.last, check.unchained, check.erased) == (5, 1, 5, 0, 0)
    assert (check.fault, check.last_hash) == ("", log.list_lines(AuditFilters(), limit=1)[0].hash)


CHANGES = {"by": "eve", "action": "lifted", "target": "address:10.0.0.1", "why": "no", "way": "oidc", "time": 9.0}


@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_entry_is_named(column: str, state: StateStore) -> None:
    log = AuditLog(state)
    for time in range(1, 6):
        log.add(make_entry(time))
    with state.write() as connection:
        connection.execute(update(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number == 3).values({column: CHANGES[column]}))
    assert log.check().fault == "Entry 3 was changed."


@pytest.mark.parametrize(
    ("gone", "fault"),
    [((1,), "Entry 1 is missing."), ((3,), "Entry 3 is missing."), ((2, 3, 4), "Entries 2 to 4 are missing.")],
)
def test_a_missing_entry_is_named(gone: tuple[int, ...], fault: str, state: StateStore) -> None:
    log = AuditLog(state)
    for time in range(1, 7):
        log.add(make_entry(time))
    with state.write() as connection:
        connection.execute(delete(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number.in_(gone)))
    assert log.check().fault == fault


def test_a_missing_entry_shows_also_where_the_others_close_ranks(state: StateStore) -> None:
    log = AuditLog(state)
    for time in range(1, 7):
        log.add(make_entry(time))
    with state.write() as connection:
        connection.execute(delete(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number == 3))
        for number in (4, 5, 6):
            own = AUDIT_ENTRIES.c.number == number
            connection.execute(update(AUDIT_ENTRIES).where(own).values(number=number - 1))
    assert log.check().fault == "Entry 3 was changed."


def test_an_erasure_keeps_the_chain_and_says_where_it_was(state: StateStore) -> None:
    log = AuditLog(state)
    for time in range(1, 4):
        log.add(make_entry(time, target=f"address:10.0.0.{time}", after=write_values(consumer=f"10.0.0.{time}")))
    with state.write() as connection:
        erase_mentions(connection, re.compile(r"10\.0\.0\.2"), make_erasure(4))
        kept = connection.execute(select(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number == 2)).one()
    assert (kept.target, kept.after, kept.salt) == ("address:erased", '{"consumer":"erased"}', "")
    check = log.check()
    assert (check.fault, check.erased) == ("", 1)
    assert [line.is_erased for line in log.list_lines(AuditFilters(), limit=9)] == [False, False, True, False]


@pytest.mark.parametrize("column", ["by", "target", "why", "before", "after"])
def test_an_entry_that_only_looks_erased_is_named(column: str, state: StateStore) -> None:
    log = AuditLog(state)
    for time in range(1, 5):
        log.add(make_entry(time, target=f"address:10.0.0.{time}"))
    with state.write() as connection:
        erase_mentions(connection, re.compile(r"10\.0\.0\.2"), make_erasure(5))
    change(state, 3, salt="", **{column: "eve"})
    assert log.check().fault == "Entry 3 was changed: it has no salt, and no erasure names it."


def test_what_an_erasure_says_is_never_blanked_and_shows_a_change(state: StateStore) -> None:
    log = AuditLog(state)
    for time in (1, 2, 3):
        log.add(make_entry(time, target=f"10.0.0.{time}"))
    with state.write() as connection:
        erase_mentions(connection, re.compile("10.0.0.2"), make_erasure(4, by="7"))
        assert erase_mentions(connection, re.compile("[247]"), make_erasure(5)) == 1
    check = log.check()
    assert (check.fault, check.erased) == ("", 2)
    assert [(one.by, one.after) for one in log.list_recent(2)] == [
        ("ada", '{"entries":[[4,4]]}'),
        ("erased", '{"entries":[[2,2]]}'),
    ]
    change(state, 4, after='{"entries":[[1,3]]}')
    assert log.check().fault == "Entry 4 was changed."


def test_an_erasure_of_many_entries_is_said_in_several(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_RANGES_MAX", 2)
    log = AuditLog(state)
    for time in range(1, 11):
        log.add(make_entry(time, target=f"address:10.0.0.{time % 3}"))
    with state.write() as connection:
        assert erase_mentions(connection, re.compile(r"10\.0\.0\.[12]"), make_erasure(11)) == 7
        assert erase_mentions(connection, re.compile("10.0.0.7"), make_erasure(12)) == 0
    said = [one.after for one in log.list_recent(3)]
    assert said == ['{"entries":[]}', '{"entries":[[7,8],[10,10]]}', '{"entries":[[1,2],[4,5]]}']
    assert (log.check().fault, log.check().erased) == ("", 7)
    log.prune(5, 13)
    assert (log.check().fault, log.check().erased) == ("", 4)


def test_entries_that_go_during_a_check_are_not_missing(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(state)
    for time in range(1, 5):
        log.add(make_entry(time))
    find = audit._find_pruned

    def find_and_prune(connection: Connection) -> tuple[int, str]:
        found = find(connection)
        assert log.prune(3, 5) == 2
        return found

    monkeypatch.setattr(audit, "_find_pruned", find_and_prune)
    check = log.check()
    assert (check.fault, check.first, check.last) == ("", 1, 4)


def test_entries_without_a_chain_are_counted_and_what_follows_is_checked(state: StateStore) -> None:
    log = AuditLog(state)
    for time in (1, 2):
        log.add(make_entry(time))
    with state.write() as connection:
        connection.execute(update(AUDIT_ENTRIES).values(hash="", seal="", salt=""))
    for time in (3, 4):
        log.add(make_entry(time))
    check = log.check()
    assert (check.fault, check.entries, check.unchained, check.erased) == ("", 4, 2, 0)
    with state.write() as connection:
        connection.execute(update(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number == 3).values(why="no"))
    assert log.check().fault == "Entry 3 was changed."


def test_entries_are_filtered_and_come_in_pages(state: StateStore) -> None:
    log = AuditLog(state)
    for time, by, action in ((1, "token:ci", "token.created"), (2, "ada", "token.revoked"), (3, "ada", "began")):
        log.add(make_entry(time, by=by if time == 1 else f"{by}, asked by bob", action=action))
    assert [one.time for one in log.list_lines(AuditFilters(actor="ada"), limit=9)] == [3, 2]
    assert [one.time for one in log.list_lines(AuditFilters(action="token"), limit=9)] == [2, 1]
    assert [one.time for one in log.list_lines(AuditFilters(start=2, end=3), limit=9)] == [2]
    assert [one.time for one in log.list_lines(AuditFilters(), limit=9, before=3)] == [2, 1]


def test_an_entry_knows_how_who_decided_had_shown_it(state: StateStore) -> None:
    log = AuditLog(state)
    set_principal(Principal(actor="token:ci", role=Role.ADMIN, scope=Scope(), way=Way.TOKEN))
    try:
        log.add(make_entry(1))
    finally:
        set_principal(None)
    log.add(make_entry(2))
    assert [one.way for one in log.list_recent(9)] == ["", "token"]


def test_what_entries_take_is_shown_with_how_long_they_are_kept(state: StateStore) -> None:
    log = AuditLog(state)
    assert (log.measure(400, 9.0).rows, log.measure(400, 9.0).span_seconds) == (0, 0)
    for time in (100, 200):
        log.add(make_entry(time))
    stored = log.measure(400, 100 + 2 * 86_400)
    assert (stored.rows, stored.span_seconds, stored.kept_seconds) == (2, 2 * 86_400, 400 * 86_400)
    assert stored.bytes_full == 400 * stored.bytes_a_day > 0

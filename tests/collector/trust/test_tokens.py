"""Named API tokens and the first one: what opens, what is kept, and what ends with what."""

from dataclasses import dataclass

import pytest
from sqlalchemy import select

from collector.core.errors import ConflictError
from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import API_TOKENS
from collector.trust.audit import AuditFilters, AuditLog
from collector.trust.principal import Principal, Role, Scope, Way
from collector.trust.sessions import SessionTable
from collector.trust.tokens import ApiToken, TokenTable


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def make(table: TokenTable, name: str = "ci", **more: object) -> tuple[ApiToken, str]:
    given = {"role": Role.VIEWER, "scope": Scope(namespaces=("shop",)), "expires_at": 0.0, "by": "ada"} | more
    return table.make(name, **given)  # type: ignore[arg-type]


def test_a_token_opens_as_its_name_with_its_role_and_scope(state: StateStore) -> None:
    table = TokenTable(state, Clock())
    made, secret = make(table)
    found = TokenTable(state, Clock()).find(secret)
    assert found is not None and (found.id, found.name) == (made.id, "ci")
    scope = Scope(namespaces=("shop",))
    assert found.principal == Principal(actor="token:ci", role=Role.VIEWER, scope=scope, way=Way.TOKEN)
    for wrong in ("", "apidae_", secret[:-1], f"{secret}x", secret.upper()):
        assert table.find(wrong) is None


def test_what_another_collector_did_with_a_token_is_known(state: StateStore) -> None:
    first, second = TokenTable(state, Clock()), TokenTable(state, Clock())
    assert second.list_all() == []
    _, secret = make(first)
    assert second.find(secret) is not None
    second.revoke("ci", by="ada")
    assert second.find(secret) is None


def test_the_state_does_not_hold_the_secret(state: StateStore) -> None:
    _, secret = make(TokenTable(state, Clock()))
    with state.read() as connection:
        assert secret not in str(connection.execute(select(API_TOKENS)).all())


def test_a_token_expires(sqlite_state: StateStore) -> None:
    clock = Clock()
    table = TokenTable(sqlite_state, clock)
    _, secret = make(table, expires_at=clock.now + 60)
    clock.now += 59
    assert table.find(secret) is not None
    clock.now += 1
    assert table.find(secret) is None
    assert [one.name for one in table.list_all()] == ["ci"]


def test_use_is_written_at_most_each_minute(sqlite_state: StateStore) -> None:
    clock = Clock()
    table = TokenTable(sqlite_state, clock)
    _, secret = make(table)
    writes = []
    for step in (0, 1, 58, 1, 59, 1):
        clock.now += step
        table.find(secret)
        writes.append(sqlite_state.count_writes([API_TOKENS.name]))
    assert [one - writes[0] for one in writes] == [0, 0, 0, 1, 1, 2]
    assert table.list_all()[0].last_used_at == clock.now


def test_revoking_ends_the_sessions_that_it_opened_and_is_in_the_audit_log(state: StateStore) -> None:
    clock = Clock()
    table, sessions = TokenTable(state, clock), SessionTable(state, clock)
    made, _ = make(table)
    other, _ = make(table, "other")
    opened = [
        sessions.begin(
            lambda _, one=one: one.principal, until=clock.now + 60, address="", find_opener=lambda _, one=one: one.id
        )
        for one in (made, other)
    ]
    table.revoke("ci", by="token:root")
    assert [sessions.find(one or "") is not None for one in opened] == [False, True]
    entry = AuditLog(state).list_lines(AuditFilters(action="token.revoked"), limit=9)[0]
    assert (entry.by, entry.target) == ("token:root", "ci")
    assert entry.before == '{"clusters":[],"namespaces":["shop"],"role":"viewer","sessions":1}'
    assert table.revoke("ci", by="ada") is None


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 61, "é"])
def test_a_name_of_a_token_is_plain(name: str, sqlite_state: StateStore) -> None:
    with pytest.raises(ValueError, match="is not a name of a token"):
        make(TokenTable(sqlite_state, Clock()), name)


def test_a_name_is_given_once(sqlite_state: StateStore) -> None:
    table = TokenTable(sqlite_state, Clock())
    make(table)
    with pytest.raises(ConflictError, match="There is a token 'ci' already"):
        make(table)


def test_the_first_token_goes_off_only_while_another_admin_can_enter(state: StateStore) -> None:
    clock = Clock()
    table = TokenTable(state, clock)
    for name, more in {
        "viewer": {"scope": Scope()},
        "bound": {"role": Role.ADMIN},
        "expired": {"role": Role.ADMIN, "scope": Scope(), "expires_at": clock.now},
    }.items():
        make(table, name, **more)
    with pytest.raises(ConflictError, match="only way in of an admin"):
        table.switch_first(False, by="ada", has_login=True)
    make(table, "root", role=Role.ADMIN, scope=Scope())
    table.switch_first(False, by="ada", has_login=False)
    assert not table.is_first_open and not TokenTable(state, clock).is_first_open
    table.switch_first(True, by="the host", has_login=False)
    assert table.is_first_open
    entries = AuditLog(state).list_lines(AuditFilters(action="first-token"), limit=9)
    assert [(one.by, one.after) for one in entries] == [("the host", '{"is_on":true}'), ("ada", '{"is_on":false}')]

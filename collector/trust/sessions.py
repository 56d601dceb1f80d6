"""Open sessions of pages, in the state: whichever collector a browser asks knows them, also after a restart.

A session is a cookie of 256 random bits, and its row holds the SHA-256 of it. So nobody opens a page with what the
state holds. The row has the principal as it was when the session began. What gives it less ends the session instead:
the first token that is replaced or switched off, a named token that is revoked, a role binding that changes. Who it is
is decided in the transaction that begins it, so none begins after such an end with what another collector still knew.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select

from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, read_row
from collector.storage.state.tables.trust import SESSIONS
from collector.trust.audit import AuditEntry, add_entries, write_values
from collector.trust.principal import Principal, Role, Way, read_scope

SESSIONS_MAX: Final = 10_000  # Past it the oldest ends; only who may enter opens one.
ACTOR_SESSIONS_MAX: Final = 50  # Past it the actor's own oldest ends.
SESSION_BYTES: Final = 32
_ID_BYTES: Final = 8

Decide = Callable[[Connection], Principal | None]  # In the transaction that begins a session.


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session without its secret. Times are unix seconds. `opener`: by what it was opened, so that it ends with
    that. Name and groups are those of an OpenID provider."""

    id: str
    began_at: float
    until: float
    principal: Principal
    opener: str = ""
    user_name: str = ""
    user_groups: tuple[str, ...] = ()
    address: str = ""


class SessionTable:
    """Methods block, and raise StoreError."""

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        self._state, self._clock = state, clock
        self._open = StateCache(state, (SESSIONS.name,), _read)

    def begin(
        self,
        decide: Decide,
        *,
        until: float,
        address: str,
        find_opener: Callable[[str], str] = lambda secret: "",
        user_name: str = "",
        user_groups: tuple[str, ...] = (),
    ) -> str | None:
        """Open a session, and forget those that ended; its secret, which is kept nowhere. `decide` says whose it is,
        and that nothing of it changes before the transaction ends; None where nothing opens. `find_opener` gives the
        opener of a secret."""
        secret, now = secrets.token_urlsafe(SESSION_BYTES), self._clock()
        newest = select(SESSIONS.c.session_hash).order_by(SESSIONS.c.until.desc(), SESSIONS.c.session_hash)
        with self._state.write() as connection:
            principal = decide(connection)
            if principal is None:
                return None
            session = Session(
                id=secrets.token_hex(_ID_BYTES),
                began_at=now,
                until=until,
                principal=principal,
                opener=find_opener(secret),
                user_name=user_name,
                user_groups=user_groups,
                address=address,
            )
            connection.execute(delete(SESSIONS).where(SESSIONS.c.until <= now))
            own = select(SESSIONS.c.id).where(SESSIONS.c.actor == principal.actor)
            newest_own = own.order_by(SESSIONS.c.began_at.desc(), SESSIONS.c.id)
            old = connection.execute(newest_own.offset(ACTOR_SESSIONS_MAX - 1)).scalars().all()
            if old:
                connection.execute(delete(SESSIONS).where(SESSIONS.c.id.in_(old)))
            connection.execute(insert(SESSIONS), {"session_hash": _hash(secret), **_write(session)})
            past = connection.execute(newest.offset(SESSIONS_MAX)).scalars().all()
            if past:
                connection.execute(delete(SESSIONS).where(SESSIONS.c.session_hash.in_(past)))
            after = write_values(session=session.id, role=principal.role, address=address)
            add_entries(connection, [_make_entry(now, principal, "session.began", principal.actor, after=after)])
        self._open.look()
        return secret

    def find(self, secret: str) -> Session | None:
        """The session of a cookie, where it is open. What another collector began is known at once, what it ended
        within a second. Under a flood of unknown ones both take a second."""
        own = _hash(secret)
        found = self._open.recall().get(own) or self._open.recall_missing().get(own)
        return found if found is not None and found.until > self._clock() else None

    def look(self) -> None:
        """Sessions were ended beside this table."""
        self._open.look()

    def list_open(self, actor: str = "") -> list[Session]:
        """All, or those of one actor; the newest first."""
        now = self._clock()
        found = [one for one in self._open.read().values() if one.until > now and actor in ("", one.principal.actor)]
        return sorted(found, key=lambda one: (one.began_at, one.id), reverse=True)

    def end(self, secret: str) -> None:
        """Sign out: close the session of a cookie, where it is open."""
        own, now = SESSIONS.c.session_hash == _hash(secret), self._clock()
        with self._state.write() as connection:
            row = connection.execute(select(SESSIONS).where(own)).first()
            if row is not None:
                connection.execute(delete(SESSIONS).where(own))
                principal, before = read_principal(row), write_values(session=row.id)
                entry = _make_entry(now, principal, "session.ended", principal.actor, before=before)
                add_entries(connection, [entry])
        self._open.look()

    def end_one(self, session_id: str, *, by: str) -> bool:
        """Close a session by its id; whether it was open."""
        return self._end(SESSIONS.c.id == session_id, by, session_id) > 0

    def end_all(self, actor: str, *, by: str) -> int:
        """Sign an actor out everywhere; how many sessions were open."""
        return self._end(SESSIONS.c.actor == actor, by, actor)

    def _end(self, condition: ColumnElement[bool], by: str, target: str) -> int:
        with self._state.write() as connection:
            ended = connection.execute(delete(SESSIONS).where(condition).returning(SESSIONS.c.actor)).scalars().all()
            if ended:
                before = write_values(actor=ended[0], sessions=len(ended))
                add_entries(
                    connection,
                    [AuditEntry(time=self._clock(), by=by, action="session.ended", target=target, before=before)],
                )
        self._open.look()
        return len(ended)


def list_sessions(connection: Connection, way: Way) -> list[Session]:
    """Those that were opened in one way."""
    return [_read_one(row) for row in connection.execute(select(SESSIONS).where(SESSIONS.c.way == way))]


def _make_entry(now: float, principal: Principal, action: str, target: str, **values: str) -> AuditEntry:
    return AuditEntry(time=now, by=principal.actor, way=principal.way.value, action=action, target=target, **values)


def _hash(secret: str) -> str:
    # Plain SHA-256: the secret is 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(connection: Connection) -> Mapping[str, Session]:
    return {row.session_hash: _read_one(row) for row in connection.execute(select(SESSIONS))}


def _read_one(row: Row[Any]) -> Session:
    return read_row(Session, row, principal=read_principal(row))


def read_principal(row: Row[Any]) -> Principal:
    """From the columns of a row."""
    return Principal(actor=row.actor, role=Role(row.role), scope=read_scope(row), way=Way(row.way))


def _write(session: Session) -> dict[str, Any]:
    row = asdict(session)
    principal: dict[str, Any] = row.pop("principal")
    scope: dict[str, Any] = principal.pop("scope")
    lists = {name: list(value) for name, value in scope.items()} | {"user_groups": list(session.user_groups)}
    return row | principal | lists

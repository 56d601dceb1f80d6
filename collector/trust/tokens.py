"""API tokens: the named ones, in the state, and whether the collector's own, the first one, opens anything.

A token is `apidae_` and 256 random bits, so its row holds a plain SHA-256 of it. It is shown once. Who revokes it ends
the sessions of pages that were signed in with it, in one transaction.

The first token is the way in of the first admin. It can be switched off while another admin could switch it on again.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, exists, func, insert, or_, select, update

from collector.core.errors import ConflictError
from collector.storage.base import StoreError
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, lock_table, read_row
from collector.storage.state.tables.trust import API_TOKENS, CLOSED_WAYS, ROLE_BINDINGS, SESSIONS
from collector.trust.audit import AuditEntry, add_entries, write_values
from collector.trust.principal import Principal, Role, Scope, Way, read_scope

TOKENS_MAX: Final = 1_000
TOKEN_PREFIX: Final = "apidae_"  # By which scanners of secrets know one.
SECRET_BYTES: Final = 32
USED_SECONDS: Final = 60.0  # Between two writes of when a token was used last.
TOKEN_DAYS_MAX: Final = 3_660
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}\Z")
_ID_BYTES: Final = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token without its secret; times are unix seconds. `expires_at` is 0 for one that does not expire."""

    id: str
    name: str
    role: Role
    scope: Scope
    made_by: str
    made_at: float
    expires_at: float = 0.0
    last_used_at: float = 0.0

    @property
    def principal(self) -> Principal:
        """Who enters with it."""
        return Principal(actor=f"token:{self.name}", role=self.role, scope=self.scope, way=Way.TOKEN)

    def is_valid(self, now: float) -> bool:
        """Whether it opens anything."""
        return not self.expires_at or now < self.expires_at


@dataclass(frozen=True, slots=True)
class _Known:
    by_hash: Mapping[str, ApiToken]
    is_first_open: bool


class TokenTable:
    """Thread-safe. Methods block, and raise StoreError."""

    def __init__(
        self, state: StateStore, clock: Callable[[], float], on_ended: Callable[[], object] = lambda: None
    ) -> None:
        """`on_ended` is called where sessions of pages ended with what opened them."""
        self._state, self._clock, self._on_ended = state, clock, on_ended
        self._known = StateCache(state, (API_TOKENS.name, CLOSED_WAYS.name), _read)

    @property
    def is_first_open(self) -> bool:
        """Whether the first token opens anything. What another collector changed is known within a second."""
        return self._known.recall().is_first_open

    def confirm_first(self, connection: Connection) -> bool:
        """Whether the first token opens anything, in a transaction before whose end nobody switches it."""
        lock_table(connection, CLOSED_WAYS)
        return not connection.execute(select(exists().where(CLOSED_WAYS.c.way == Way.FIRST_TOKEN))).scalar()

    def confirm(self, connection: Connection, token_id: str) -> Principal | None:
        """Who enters with a token, in a transaction before whose end nobody revokes it."""
        own = select(API_TOKENS).where(API_TOKENS.c.id == token_id).with_for_update(read=True)
        row = connection.execute(own).first()
        token = None if row is None else _read_token(row)
        return token.principal if token is not None and token.is_valid(self._clock()) else None

    def find(self, secret: str) -> ApiToken | None:
        """The token with this secret, where it is valid. When it was used is written at most each minute."""
        own = _hash(secret)
        # The lookup is by the hash, of which nobody chooses the letters: its time says nothing of a secret.
        found = self._known.recall().by_hash.get(own) or (
            self._known.recall_missing().by_hash.get(own) if secret.startswith(TOKEN_PREFIX) else None
        )
        now = self._clock()
        if found is None or not found.is_valid(now):
            return None
        if now - found.last_used_at >= USED_SECONDS:
            self._note_use(found, now)
        return found

    def _note_use(self, token: ApiToken, now: float) -> None:
        """Nobody is refused because that cannot be written."""
        late = API_TOKENS.c.last_used_at <= now - USED_SECONDS
        try:
            with self._state.write() as connection:
                connection.execute(update(API_TOKENS).where(API_TOKENS.c.id == token.id, late).values(last_used_at=now))
        except StoreError as error:
            logger.warning("When the API token %s was used cannot be written: %s", token.name, error)
        self._known.look()

    def list_all(self) -> list[ApiToken]:
        """By name, also those that expired."""
        return sorted(self._known.read().by_hash.values(), key=lambda token: token.name)

    def make(self, name: str, *, role: Role, scope: Scope, expires_at: float, by: str) -> tuple[ApiToken, str]:
        """A new token and its secret, which is kept nowhere. Raises ConflictError where the name is taken or there are
        too many; ValueError for another name."""
        if not NAME.match(name):
            raise ValueError(f"{name[:80]!r} is not a name of a token; use 1 to 60 letters, digits and ._-")
        secret, now = f"{TOKEN_PREFIX}{secrets.token_urlsafe(SECRET_BYTES)}", self._clock()
        made = ApiToken(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            role=role,
            scope=scope,
            made_by=by,
            made_at=now,
            expires_at=expires_at,
        )
        with self._state.write() as connection:
            lock_table(connection, API_TOKENS)
            if connection.execute(select(exists().where(API_TOKENS.c.name == name))).scalar():
                raise ConflictError(f"There is a token {name!r} already; revoke it, or choose another name.")
            if connection.execute(select(func.count()).select_from(API_TOKENS)).scalar_one() >= TOKENS_MAX:
                raise ConflictError(f"There are {TOKENS_MAX} tokens; revoke some first.")
            connection.execute(insert(API_TOKENS), {**_write(made), "secret_sha256": _hash(secret)})
            after = write_values(role=role, **asdict(scope), expires_at=expires_at)
            add_entries(connection, [AuditEntry(time=now, by=by, action="token.created", target=name, after=after)])
        self._known.look()
        return made, secret

    def revoke(self, name: str, *, by: str) -> ApiToken | None:
        """End a token and the sessions that it opened; None where there is no such token."""
        with self._state.write() as connection:
            row = connection.execute(select(API_TOKENS).where(API_TOKENS.c.name == name)).first()
            if row is None:
                return None
            token = _read_token(row)
            connection.execute(delete(API_TOKENS).where(API_TOKENS.c.id == token.id))
            ended = connection.execute(delete(SESSIONS).where(SESSIONS.c.opener == token.id)).rowcount
            before = write_values(role=token.role, **asdict(token.scope), sessions=ended)
            add_entries(
                connection,
                [AuditEntry(time=self._clock(), by=by, action="token.revoked", target=name, before=before)],
            )
        self._known.look()
        self._on_ended()
        return token

    def switch_first(self, is_open: bool, *, by: str, has_login: bool) -> None:
        """Switch the first token on or off. `has_login`: whether people can log in at an OpenID provider. Raises
        ConflictError where no other admin could enter."""
        own, now = CLOSED_WAYS.c.way == Way.FIRST_TOKEN, self._clock()
        with self._state.write() as connection:
            lock_table(connection, CLOSED_WAYS)
            was_open = connection.execute(select(exists().where(own))).scalar() is not True
            if was_open == is_open:
                return
            if is_open:
                connection.execute(delete(CLOSED_WAYS).where(own))
            else:
                if not has_other_admin(connection, now, has_login=has_login):
                    raise ConflictError(
                        "The first token is the only way in of an admin; make a token with the role admin and without "
                        "limits first, or bind a user or group of the OpenID provider to that role."
                    )
                row = {"way": Way.FIRST_TOKEN, "closed_by": by, "closed_at": now}
                connection.execute(insert(CLOSED_WAYS), row)
                connection.execute(delete(SESSIONS).where(SESSIONS.c.way == Way.FIRST_TOKEN))
            before, after = write_values(is_on=was_open), write_values(is_on=is_open)
            entry = AuditEntry(
                time=now, by=by, action="first-token.switched", target="first token", before=before, after=after
            )
            add_entries(connection, [entry])
        self._known.look()
        self._on_ended()


def has_other_admin(connection: Connection, now: float, *, has_login: bool) -> bool:
    """Whether somebody without the first token may do and see everything."""
    valid = or_(API_TOKENS.c.expires_at == 0, API_TOKENS.c.expires_at > now)
    rows = list(connection.execute(select(API_TOKENS).where(API_TOKENS.c.role == Role.ADMIN, valid)))
    if has_login:
        rows += connection.execute(select(ROLE_BINDINGS).where(ROLE_BINDINGS.c.role == Role.ADMIN))
    return any(read_scope(row).is_all for row in rows)


def _hash(secret: str) -> str:
    # Plain SHA-256: the secret is 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(connection: Connection) -> _Known:
    closed = connection.execute(select(exists().where(CLOSED_WAYS.c.way == Way.FIRST_TOKEN))).scalar()
    rows = connection.execute(select(API_TOKENS))
    return _Known({row.secret_sha256: _read_token(row) for row in rows}, not closed)


def _read_token(row: Row[Any]) -> ApiToken:
    return read_row(ApiToken, row, scope=read_scope(row))


def _write(token: ApiToken) -> dict[str, Any]:
    row = asdict(token)
    scope: dict[str, Any] = row.pop("scope")
    return row | {name: list(value) for name, value in scope.items()}

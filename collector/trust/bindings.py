"""Role bindings: what a user or a group of the OpenID provider may do. Without one, a login opens nothing.

One binding decides: the user's own, else that of the user's groups with the highest role, of equal ones the first by
name. A binding that changes ends the sessions to which it gave something else, in one transaction.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select

from collector.core.errors import ConflictError
from collector.storage.state.store import StateStore, lock_table, read_row, upsert
from collector.storage.state.tables.trust import ROLE_BINDINGS, SESSIONS
from collector.trust.audit import AuditEntry, add_entries, write_values
from collector.trust.principal import Principal, Role, Scope, Way, read_scope
from collector.trust.sessions import list_sessions

BINDINGS_MAX: Final = 1_000


class BindingKind(StrEnum):
    """Whom a binding is for."""

    USER = "user"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleBinding:
    """One of them. `made_at`: unix seconds, of the last change."""

    kind: BindingKind
    name: str
    role: Role
    scope: Scope
    made_by: str
    made_at: float


_Bindings = Mapping[tuple[str, str], RoleBinding]


class BindingTable:
    """Methods block, and raise StoreError."""

    def __init__(
        self, state: StateStore, clock: Callable[[], float], on_ended: Callable[[], object] = lambda: None
    ) -> None:
        """`on_ended` is called where sessions ended with what a binding gave."""
        self._state, self._clock, self._on_ended = state, clock, on_ended

    def list_all(self) -> list[RoleBinding]:
        """By kind and name."""
        with self._state.read() as connection:
            return sorted(_read(connection).values(), key=lambda one: (one.kind, one.name))

    def find_principal(self, connection: Connection, name: str, groups: Iterable[str]) -> Principal | None:
        """Who a user of the provider is here, in a transaction before whose end no binding changes; None without a
        binding."""
        lock_table(connection, ROLE_BINDINGS)
        return _decide(_read(connection), name, groups)

    def put(self, kind: BindingKind, name: str, *, role: Role, scope: Scope, by: str) -> RoleBinding:
        """Bind, or bind anew. Raises ConflictError where there are too many."""
        made = RoleBinding(kind=kind, name=name, role=role, scope=scope, made_by=by, made_at=self._clock())
        row = asdict(made)
        lists: dict[str, Any] = row.pop("scope")
        with self._state.write() as connection:
            lock_table(connection, ROLE_BINDINGS)
            before = _read(connection)
            if (kind, name) not in before and len(before) >= BINDINGS_MAX:
                raise ConflictError(f"There are {BINDINGS_MAX} role bindings; remove one first.")
            upsert(connection, ROLE_BINDINGS, [row | {key: list(value) for key, value in lists.items()}])
            self._note(connection, before, before.get((kind, name)), made, by)
        self._on_ended()
        return made

    def remove(self, kind: BindingKind, name: str, *, by: str) -> RoleBinding | None:
        """Unbind; None where there is no such binding."""
        with self._state.write() as connection:
            lock_table(connection, ROLE_BINDINGS)
            before = _read(connection)
            gone = before.get((kind, name))
            if gone is None:
                return None
            own = (ROLE_BINDINGS.c.kind == kind) & (ROLE_BINDINGS.c.name == name)
            connection.execute(delete(ROLE_BINDINGS).where(own))
            self._note(connection, before, gone, None, by)
        self._on_ended()
        return gone

    def _note(
        self, connection: Connection, before: _Bindings, old: RoleBinding | None, new: RoleBinding | None, by: str
    ) -> None:
        """End the sessions of whom the change concerns, and record it."""
        after = _read(connection)
        ended = [
            session.id
            for session in list_sessions(connection, Way.OIDC)
            if _decide(before, session.user_name, session.user_groups)
            != _decide(after, session.user_name, session.user_groups)
        ]
        connection.execute(delete(SESSIONS).where(SESSIONS.c.id.in_(ended)))
        named = old or new
        assert named is not None
        entry = AuditEntry(
            time=self._clock(),
            by=by,
            action="binding.removed" if new is None else "binding.changed" if old else "binding.created",
            target=f"{named.kind}:{named.name}",
            before=_write_values(old),
            after=_write_values(new),
        )
        add_entries(connection, [entry])


def _decide(bindings: _Bindings, name: str, groups: Iterable[str]) -> Principal | None:
    own = bindings.get((BindingKind.USER, name))
    if own is None:
        found = [one for group in sorted(set(groups)) if (one := bindings.get((BindingKind.GROUP, group)))]
        own = next((one for role in reversed(Role) for one in found if one.role is role), None)
    return None if own is None else Principal(actor=f"oidc:{name}", role=own.role, scope=own.scope, way=Way.OIDC)


def _write_values(binding: RoleBinding | None) -> str:
    return "" if binding is None else write_values(role=binding.role, **asdict(binding.scope))


def _read(connection: Connection) -> _Bindings:
    return {(row.kind, row.name): _read_one(row) for row in connection.execute(select(ROLE_BINDINGS))}


def _read_one(row: Row[Any]) -> RoleBinding:
    return read_row(RoleBinding, row, scope=read_scope(row))

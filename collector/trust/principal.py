"""Who a request is from, what that person or program may do, and what it may see.

`Access` (collector/api/access.py) finds the principal of each request before any route is called. Routes and what they
call read it with `find_principal`: their threads run in a copy of the request's context.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.core.scope import EVERYTHING, Scope, set_scope

__all__ = ["Principal", "Role", "Scope", "Way", "find_principal", "read_scope", "set_principal"]

# Names of the credentials that are nobody's own, as decisions keep them.
API_TOKEN: Final = "api-token"
APPROVAL_TOKEN: Final = "approval-token"
PAGE_SESSION: Final = "page-session"
HOST: Final = "the collector's host"  # A command that works on the state itself, as the collector's user.
NO_CREDENTIAL: Final = "no-auth"  # Authentication is off, or the request needs none.


class Role(StrEnum):
    """What a principal may do. Each may do what those before it may."""

    VIEWER = "viewer"  # Reads.
    ANALYST = "analyst"  # Decides on alerts and findings, and edits the inventory.
    RESPONDER = "responder"  # Blocks clients.
    ADMIN = "admin"  # Says who may do what.

    def covers(self, needed: "Role") -> bool:
        """Whether this role may do what `needed` may. Roles are texts, so `<` would compare letters."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS: Final = {role: rank for rank, role in enumerate(Role)}


def read_scope(row: Any) -> Scope:
    """From a row of the state with these columns."""
    return Scope(clusters=tuple(row.clusters), namespaces=tuple(row.namespaces))


class Way(StrEnum):
    """How a principal showed who it is."""

    FIRST_TOKEN = "first token"  # The collector's own API token, or a page that was signed in with it.
    TOKEN = "token"  # A named API token.
    OIDC = "oidc"  # A login at an OpenID provider.
    NO_AUTH = "no auth"  # The collector asks for nothing (setting `no_auth`).


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """One person or program. `actor` is the name that decisions keep; nobody can choose another one."""

    actor: str
    role: Role
    scope: Scope
    way: Way


_principal: ContextVar[Principal | None] = ContextVar("principal", default=None)


def find_principal() -> Principal | None:
    """Whose request this is. None in work of the collector itself, and in requests that need no credential: health
    checks, the sign-in and the files of pages."""
    return _principal.get()


def set_principal(principal: Principal | None) -> None:
    """Whose request this is, and with it what it may see."""
    _principal.set(principal)
    set_scope(EVERYTHING if principal is None else principal.scope)

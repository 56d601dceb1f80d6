"""/me, /tokens, /first-token, /role-bindings and /sessions: who asks, who may enter, and who is signed in."""

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field

from collector.api.authenticator import Authenticator
from collector.api.base_model import Model, OptionalTime, Time
from collector.api.parameters import ActionBody, Items, NoParameters, Word, name_actor
from collector.api.problem import Problem, show
from collector.inventory.filters import Parameters, Text
from collector.trust.bindings import BindingKind, BindingTable, RoleBinding
from collector.trust.principal import Principal, Role, Scope, Way, find_principal
from collector.trust.sessions import Session, SessionTable
from collector.trust.tokens import NAME, TOKEN_DAYS_MAX, ApiToken, TokenTable

SCOPE_NAMES_MAX: Final = 50
DAY_SECONDS: Final = 86_400
TOKEN_DAYS: Final = 90


def _check_place(value: str) -> str:
    if not value or not value.isprintable() or len(value) > 320:
        raise ValueError("use names of 1 to 320 printable characters")
    return value


Place = Annotated[str, AfterValidator(_check_place)]


def _check_token_name(value: str) -> str:
    if not NAME.match(value):
        raise ValueError("use 1 to 60 letters, digits and ._-")
    return value


class ScopedBody(ActionBody):
    """A role, and where it holds."""

    role: Word[Role] = Field(description="What it may do: each role may do what those before it may.")
    clusters: Items[Place] = Field(default=(), max_length=SCOPE_NAMES_MAX, description="Only these; none means all.")
    namespaces: Items[Place] = Field(
        default=(),
        max_length=SCOPE_NAMES_MAX,
        description="Only these: NAMESPACE, or CLUSTER/NAMESPACE; none means all.",
        examples=[["shop", "east/bank"]],
    )

    @property
    def scope(self) -> Scope:
        """As principals have it."""
        return Scope(clusters=self.clusters, namespaces=self.namespaces)


class TokenBody(ScopedBody):
    """A new token."""

    name: Annotated[str, AfterValidator(_check_token_name)] = Field(
        description="1 to 60 letters, digits and ._-", examples=["ci"]
    )
    days: int = Field(
        default=TOKEN_DAYS, ge=0, le=TOKEN_DAYS_MAX, description="Until it expires; 0 for one that does not."
    )


class PrincipalModel(Model):
    """Who asks."""

    actor: str = Field(description="The name that decisions keep.")
    role: Role
    clusters: tuple[str, ...] = Field(description="What it may see: only these; none means all.")
    namespaces: tuple[str, ...]
    way: Way = Field(description="How it showed who it is.")


class TokenModel(Model):
    """A token without its secret."""

    name: str
    role: Role
    clusters: tuple[str, ...]
    namespaces: tuple[str, ...]
    made_by: str
    made_at: Time
    expires_at: OptionalTime
    last_used_at: OptionalTime = Field(description="Written at most each minute.")
    is_expired: bool


class TokenListModel(Model):
    """All tokens."""

    items: tuple[TokenModel, ...]
    is_first_token_on: bool = Field(description="Whether the collector's own token opens anything.")


class NewTokenModel(Model):
    """A token that was made just now."""

    token: str = Field(description="The secret. It is shown this once.")
    made: TokenModel


class FirstTokenBody(ActionBody):
    """Whether the collector's own token is to open anything."""

    is_on: bool


class FirstTokenModel(Model):
    """Whether the collector's own token opens anything."""

    is_on: bool


class BindingName(ActionBody):
    """Whose binding."""

    kind: Word[BindingKind]
    name: Place = Field(description="As the provider's ID token has it.", examples=["oncall"])


class BindingBody(ScopedBody, BindingName):
    """What a user or a group of the OpenID provider may do."""


class BindingModel(Model):
    """What a user or a group of the OpenID provider may do."""

    kind: BindingKind
    name: str
    role: Role
    clusters: tuple[str, ...]
    namespaces: tuple[str, ...]
    made_by: str
    made_at: Time


class BindingListModel(Model):
    """All bindings."""

    items: tuple[BindingModel, ...]


class SessionModel(Model):
    """A page that is signed in."""

    id: str
    actor: str
    role: Role
    way: Way
    began_at: Time
    until: Time
    address: str = Field(description="Where it was signed in from.")


class SessionListModel(Model):
    """Open sessions, the newest first."""

    items: tuple[SessionModel, ...]


class SessionParameters(Parameters):
    """Whose."""

    all: bool = Field(default=False, description="Of everybody, for an admin.")


class EndSessionsBody(ActionBody):
    """Whose sessions are to end."""

    actor: Text = Field(default="", max_length=300, description="Of somebody else, for an admin; default: your own.")


class EndedModel(Model):
    """How many sessions ended."""

    ended: int


def require_admin() -> Principal:
    """The principal of the request. Raises Problem unless it is an admin who sees everything."""
    principal = find_principal()
    if principal is None or not principal.role.covers(Role.ADMIN) or not principal.scope.is_all:
        role = "nobody" if principal is None else f"{principal.actor}, a {principal.role}"
        raise Problem(403, f"This needs the role admin for everything, and you are {role}; ask an admin.")
    return principal


def find_own() -> Principal:
    """The principal of the request."""
    principal = find_principal()
    if principal is None:
        raise Problem(401, "This needs an API token or a session.")
    return principal


def make_token(tokens: TokenTable, body: TokenBody, now: float) -> tuple[ApiToken, str]:
    """A new token and its secret. Raises ConflictError, StoreError."""
    expires_at = now + body.days * DAY_SECONDS if body.days else 0.0
    return tokens.make(body.name, role=body.role, scope=body.scope, expires_at=expires_at, by=body.by)


def close_session(sessions: SessionTable, session_id: str) -> None:
    """End one of the principal's own, or anybody's for an admin. Raises Problem, StoreError."""
    own = find_own()
    if session_id not in [one.id for one in sessions.list_open(own.actor)]:
        require_admin()
    if not sessions.end_one(session_id, by=name_actor()):
        raise Problem(404, f"There is no open session {show(session_id)}; look it up in /api/v1/sessions.")


def close_sessions(sessions: SessionTable, body: EndSessionsBody) -> int:
    """End all of the principal, or of somebody else for an admin; how many. Raises Problem, StoreError."""
    own = find_own()
    if body.actor not in ("", own.actor):
        require_admin()
    return sessions.end_all(body.actor or own.actor, by=body.by)


def view_token(token: ApiToken, now: float) -> TokenModel:
    """As it is shown."""
    return TokenModel(
        name=token.name,
        role=token.role,
        clusters=token.scope.clusters,
        namespaces=token.scope.namespaces,
        made_by=token.made_by,
        made_at=token.made_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        is_expired=not token.is_valid(now),
    )


def view_session(session: Session) -> SessionModel:
    """As it is shown."""
    return SessionModel(
        id=session.id,
        actor=session.principal.actor,
        role=session.principal.role,
        way=session.principal.way,
        began_at=session.began_at,
        until=session.until,
        address=session.address,
    )


def view_binding(binding: RoleBinding) -> BindingModel:
    """As it is shown."""
    return BindingModel(
        kind=binding.kind,
        name=binding.name,
        role=binding.role,
        clusters=binding.scope.clusters,
        namespaces=binding.scope.namespaces,
        made_by=binding.made_by,
        made_at=binding.made_at,
    )


def build_user_routes(
    *, authenticator: Authenticator, bindings: BindingTable, clock: Callable[[], float], has_login: bool
) -> APIRouter:
    """Routes of tokens, role bindings and sessions. `has_login`: people log in at an OpenID provider."""
    router = APIRouter(tags=["users"])
    tokens, sessions = authenticator.tokens, authenticator.sessions

    @router.get("/me", summary="Show who you are")
    def get_me(_: Annotated[NoParameters, Query()]) -> PrincipalModel:
        """The principal of this request: its role, and what it may see."""
        own = find_own()
        return PrincipalModel(
            actor=own.actor,
            role=own.role,
            clusters=own.scope.clusters,
            namespaces=own.scope.namespaces,
            way=own.way,
        )

    @router.get("/tokens", summary="List API tokens")
    def list_tokens(_: Annotated[NoParameters, Query()]) -> TokenListModel:
        """The named ones, and whether the collector's own is on. For an admin."""
        require_admin()
        items = tuple(view_token(one, clock()) for one in tokens.list_all())
        return TokenListModel(items=items, is_first_token_on=tokens.is_first_open)

    @router.post("/tokens", summary="Make an API token", status_code=201)
    def create_token(body: TokenBody) -> NewTokenModel:
        """A token with a role, and a scope; its secret is in this answer and nowhere else. For an admin."""
        require_admin()
        made, secret = make_token(tokens, body, clock())
        return NewTokenModel(token=secret, made=view_token(made, clock()))

    @router.delete("/tokens/{name}", summary="Revoke an API token")
    def revoke_token(name: str) -> TokenModel:
        """It opens nothing any more, and sessions that were signed in with it end. For an admin."""
        require_admin()
        gone = tokens.revoke(name, by=name_actor())
        if gone is None:
            raise Problem(404, f"There is no token {show(name)}; look it up in /api/v1/tokens.")
        return view_token(gone, clock())

    @router.put("/first-token", summary="Switch the first token on or off")
    def switch_first_token(body: FirstTokenBody) -> FirstTokenModel:
        """The collector's own token. It goes off only while another admin can enter. For an admin."""
        require_admin()
        tokens.switch_first(body.is_on, by=body.by, has_login=has_login)
        return FirstTokenModel(is_on=body.is_on)

    @router.get("/role-bindings", summary="List role bindings")
    def list_bindings(_: Annotated[NoParameters, Query()]) -> BindingListModel:
        """What users and groups of the OpenID provider may do. For an admin."""
        require_admin()
        return BindingListModel(items=tuple(view_binding(one) for one in bindings.list_all()))

    @router.put("/role-bindings", summary="Bind a user or a group to a role")
    def put_binding(body: BindingBody) -> BindingModel:
        """Replaces the one of the same user or group; sessions to which it gave something else end. For an admin."""
        require_admin()
        return view_binding(bindings.put(body.kind, body.name, role=body.role, scope=body.scope, by=body.by))

    @router.post("/role-bindings/remove", summary="Remove a role binding")
    def remove_binding(body: BindingName) -> BindingModel:
        """Sessions that it let in end. For an admin."""
        require_admin()
        gone = bindings.remove(body.kind, body.name, by=body.by)
        if gone is None:
            raise Problem(
                404, f"There is no role binding of the {body.kind} {show(body.name)}; see /api/v1/role-bindings."
            )
        return view_binding(gone)

    @router.get("/sessions", summary="List sessions")
    def list_sessions(parameters: Annotated[SessionParameters, Query()]) -> SessionListModel:
        """Pages that are signed in as you are, or all for an admin."""
        own = require_admin() if parameters.all else find_own()
        found = sessions.list_open("" if parameters.all else own.actor)
        return SessionListModel(items=tuple(view_session(one) for one in found))

    @router.delete("/sessions/{session_id}", summary="End a session")
    def end_session(session_id: str) -> EndedModel:
        """Of your own, or of anybody for an admin."""
        close_session(sessions, session_id)
        return EndedModel(ended=1)

    @router.post("/sessions/end", summary="Sign out everywhere")
    def end_sessions(body: EndSessionsBody) -> EndedModel:
        """End all sessions of yours, or of somebody for an admin."""
        return EndedModel(ended=close_sessions(sessions, body))

    return router

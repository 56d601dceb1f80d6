"""Finds the principal of a request, by an API token or by the session of a page; opens and ends sessions."""

import asyncio
import hashlib
import hmac
import math
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection

from collector.trust.guesses import GuessLimit
from collector.trust.principal import API_TOKEN, NO_CREDENTIAL, PAGE_SESSION, Principal, Role, Scope, Way
from collector.trust.sessions import Decide, Session, SessionTable
from collector.trust.tokens import ApiToken, TokenTable
from common.token_bucket import TokenBuckets

SESSION_SECONDS: Final = 12 * 3600  # A working day.
COOKIE_NAME: Final = "apidae_session"
LOGINS_MAX: Final = 10  # Of one actor at once; each is an entry in the audit log.
LOGINS_PER_SECOND: Final = 0.1
_ACTORS_MAX: Final = 4_096

_ANYONE: Final = Principal(actor=NO_CREDENTIAL, role=Role.ADMIN, scope=Scope(), way=Way.NO_AUTH)
_PROGRAM: Final = Principal(actor=API_TOKEN, role=Role.ADMIN, scope=Scope(), way=Way.FIRST_TOKEN)
_PAGE: Final = Principal(actor=PAGE_SESSION, role=Role.ADMIN, scope=Scope(), way=Way.FIRST_TOKEN)


class StrangerError(Exception):
    """Why a request may not enter, in one sentence."""


class SlowedError(StrangerError):
    """It is to wait: its credential is wrong, as too many of its network were, or it logs in too often."""

    def __init__(self, reason: str, seconds: float) -> None:
        """`reason` ends with what to do other than to wait."""
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"{reason}, or wait {self.seconds} s.")


class Authenticator:
    """Knows the tokens and the open sessions. Thread-safe; what looks at the state blocks, and raises StoreError."""

    def __init__(
        self,
        *,
        token: str | None,
        clock: Callable[[], float],
        sessions: SessionTable,
        tokens: TokenTable,
        guesses: GuessLimit | None = None,
        issuer: str = "",
    ) -> None:
        """`token`: the first one; None: authentication is off (loopback only; the composition sees to that). `clock`:
        unix seconds. `issuer`: the OpenID provider at which people log in; empty where they cannot."""
        self._token = token
        self._clock = clock
        self._issuer = hashlib.sha256(issuer.encode()).hexdigest() if issuer else ""  # As sessions name it.
        self.sessions = sessions
        self.tokens = tokens
        self._guesses = guesses or GuessLimit(clock)
        self._logins: TokenBuckets[str] = TokenBuckets(LOGINS_PER_SECOND, LOGINS_MAX, clock, keys_max=_ACTORS_MAX)
        self.figures = self._guesses.list_figures

    @property
    def is_open(self) -> bool:
        """Whether everyone may enter."""
        return self._token is None

    async def identify_soon(self, request: HTTPConnection) -> Principal:
        """As `identify`, in the event loop."""
        if self.is_open or ("authorization" not in request.headers and COOKIE_NAME not in request.cookies):
            return self.identify(request)
        return await asyncio.to_thread(self.identify, request)

    def identify(self, request: HTTPConnection) -> Principal:
        """Who asks. Raises StrangerError."""
        if self.is_open:
            return _ANYONE
        header = request.headers.get("authorization")
        if header is None:
            session = self.find_session(request)
            if session is not None:
                return session.principal
            raise StrangerError(
                "This needs an API token; send it as the header 'Authorization: Bearer TOKEN', or sign in at /login."
            )
        scheme, _, bearer = header.partition(" ")
        if scheme.lower() != "bearer" or not bearer.strip():
            raise StrangerError(
                "The Authorization header is not of the form 'Bearer TOKEN'; send the API token that way."
            )
        found = self._check_token(bearer.strip(), name_address(request))
        if found is None:
            raise StrangerError(
                "The API token is wrong, revoked or expired; use one that `apidae tokens list` shows, or the first one "
                "in the collector's file api.token or its api_token_file."
            )
        return found if isinstance(found, Principal) else found.principal

    def is_still(self, request: HTTPConnection, principal: Principal | None) -> bool:
        """Whether a request that stays open would enter again as the same principal."""
        try:
            return self.identify(request) == principal
        except StrangerError:
            return False

    def find_session(self, request: HTTPConnection) -> Session | None:
        """The open session of a request."""
        secret = request.cookies.get(COOKIE_NAME)
        session = self.sessions.find(secret) if secret else None
        if secret is None or session is None:
            return None
        if session.principal.way is Way.FIRST_TOKEN and not (
            self.tokens.is_first_open and hmac.compare_digest(session.opener, self._bind_first(secret))
        ):
            return None
        if session.principal.way is Way.OIDC and (not self._issuer or session.opener != self._issuer):
            return None  # Its names and groups are those of another provider.
        return session

    def sign_in(self, candidate: str, address: str) -> str | None:
        """The secret of a new session, for a token; None for anything else. Raises SlowedError."""
        found = self._check_token(candidate, address)
        until = self._clock() + SESSION_SECONDS
        if found is None:
            return None
        if isinstance(found, Principal):
            self._pace_login(_PAGE.actor)
            return self.sessions.begin(
                lambda connection: _PAGE if self.tokens.confirm_first(connection) else None,
                until=until,
                address=address,
                find_opener=self._bind_first,
            )
        self._pace_login(found.principal.actor)
        return self.sessions.begin(
            lambda connection: self.tokens.confirm(connection, found.id),
            until=min(until, found.expires_at or until),
            address=address,
            find_opener=lambda _: found.id,
        )

    def begin_session(self, decide: Decide, name: str, groups: tuple[str, ...], address: str) -> str | None:
        """The secret of a new session of who logged in at a provider; None where `decide` finds no role. Raises
        SlowedError."""
        self._pace_login(f"oidc:{name}")
        return self.sessions.begin(
            decide,
            until=self._clock() + SESSION_SECONDS,
            address=address,
            find_opener=lambda _: self._issuer,
            user_name=name,
            user_groups=groups,
        )

    def sign_out(self, request: HTTPConnection) -> None:
        """End the session of a request, where it has one."""
        session = request.cookies.get(COOKIE_NAME)
        if session is not None:
            self.sessions.end(session)

    def _pace_login(self, actor: str) -> None:
        """Raises SlowedError where somebody logs in too often."""
        if wait := self._logins.take(actor):
            raise SlowedError(f"{actor} logged in too often; go on in a page that is signed in", wait)

    def _check_token(self, candidate: str, address: str) -> Principal | ApiToken | None:
        """The named token, or who enters with the first one. Raises SlowedError."""
        if self._is_first(candidate):
            return _PROGRAM
        token = self.tokens.find(candidate)
        if token is None and (wait := self._guesses.note_wrong(address, candidate)):
            raise SlowedError(
                "Too many wrong tokens came from this address, and this one is wrong too; send a right one", wait
            )
        return token

    def _bind_first(self, secret: str) -> str:
        """By which a session knows the first token that opened it, and nobody who reads it can try tokens."""
        key, content = (text.encode("utf-8", "surrogatepass") for text in (self._token or "", secret))
        return hmac.new(key, content, "sha256").hexdigest()

    def _is_first(self, candidate: str) -> bool:
        """In time that does not depend on where they differ."""
        return (
            self._token is not None
            and hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self._token.encode())
            and self.tokens.is_first_open
        )


def name_address(request: HTTPConnection) -> str:
    """Where a request comes from."""
    return request.client.host if request.client is not None else ""

"""Finds the principal of a request, by the API token or by the session of a page; opens and ends sessions."""

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection

from collector.trust.principal import API_TOKEN, NO_CREDENTIAL, PAGE_SESSION, Principal, Role, Scope, Way
from collector.trust.sessions import SessionTable

SESSION_SECONDS: Final = 12 * 3600  # A working day.
SESSION_BYTES: Final = 32
COOKIE_NAME: Final = "apidae_session"

_ANYONE: Final = Principal(actor=NO_CREDENTIAL, role=Role.ADMIN, scope=Scope(), way=Way.NO_AUTH)
_PROGRAM: Final = Principal(actor=API_TOKEN, role=Role.ADMIN, scope=Scope(), way=Way.FIRST_TOKEN)
_PAGE: Final = Principal(actor=PAGE_SESSION, role=Role.ADMIN, scope=Scope(), way=Way.FIRST_TOKEN)


class StrangerError(Exception):
    """Why a request may not enter, in one sentence."""


class Authenticator:
    """Knows the token and the open sessions. A session that was signed out opens nothing any more. Thread-safe; what
    looks at sessions blocks, and raises StoreError."""

    def __init__(self, *, token: str | None, clock: Callable[[], float], sessions: SessionTable) -> None:
        """`token` None: authentication is off (loopback only; the composition sees to that). `clock`: unix seconds."""
        self._token = token
        self._clock = clock
        self._sessions = sessions

    @property
    def is_open(self) -> bool:
        """Whether everyone may enter."""
        return self._token is None

    async def identify_soon(self, request: HTTPConnection) -> Principal:
        """As `identify`, in the event loop."""
        if COOKIE_NAME in request.cookies and "authorization" not in request.headers:
            return await asyncio.to_thread(self.identify, request)
        return self.identify(request)

    def identify(self, request: HTTPConnection) -> Principal:
        """Who asks. Raises StrangerError."""
        if self._token is None:
            return _ANYONE
        header = request.headers.get("authorization")
        if header is None:
            session = request.cookies.get(COOKIE_NAME)
            if session is not None and self._sessions.find_end(self._hash(session)) > self._clock():
                return _PAGE
            raise StrangerError(
                "This needs the API token; send it as the header 'Authorization: Bearer TOKEN', or sign in at /login."
            )
        scheme, _, bearer = header.partition(" ")
        if scheme.lower() != "bearer" or not bearer.strip():
            raise StrangerError(
                "The Authorization header is not of the form 'Bearer TOKEN'; send the API token that way."
            )
        if not self._is_token(bearer.strip()):
            raise StrangerError(
                "The API token is wrong; use the one in the collector's file api.token, or in its api_token_file."
            )
        return _PROGRAM

    def is_still(self, request: HTTPConnection, principal: Principal | None) -> bool:
        """Whether a request that stays open would enter again as the same principal."""
        try:
            return self.identify(request) == principal
        except StrangerError:
            return False

    def sign_in(self, candidate: str) -> str | None:
        """The id of a new session, for the token; None for anything else."""
        if not self._is_token(candidate):
            return None
        session = secrets.token_urlsafe(SESSION_BYTES)
        now = self._clock()
        self._sessions.begin(self._hash(session), now, now + SESSION_SECONDS)
        return session

    def sign_out(self, request: HTTPConnection) -> None:
        """End the session of a request, where it has one."""
        session = request.cookies.get(COOKIE_NAME)
        if session is not None:
            self._sessions.end(self._hash(session))

    def _hash(self, session: str) -> str:
        key, content = (text.encode("utf-8", "surrogatepass") for text in (self._token or "", session))
        return hmac.new(key, content, "sha256").hexdigest()

    def _is_token(self, candidate: str) -> bool:
        """In time that does not depend on where they differ."""
        return self._token is not None and hmac.compare_digest(
            candidate.encode("utf-8", "surrogatepass"), self._token.encode()
        )

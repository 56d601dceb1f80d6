"""Who may ask: whoever shows the API token, or a browser's session that was opened with it."""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection

SESSION_SECONDS: Final = 12 * 3600  # A working day.
SESSIONS_MAX: Final = 10_000  # Past it the oldest ends; only who has the token opens one.
SESSION_BYTES: Final = 32
COOKIE_NAME: Final = "apidae_session"


class Authenticator:
    """Knows the token and the open sessions. Sessions are in memory only: they end with the process, and a session
    that was signed out opens nothing any more. Used in the event loop."""

    def __init__(self, *, token: str | None, clock: Callable[[], float]) -> None:
        """`token` None: authentication is off (loopback only; the composition sees to that). `clock`: unix seconds."""
        self._token = token
        self._clock = clock
        self._sessions: OrderedDict[str, float] = OrderedDict()  # Until when, by id; the oldest first.

    @property
    def is_open(self) -> bool:
        """Whether everyone may enter."""
        return self._token is None

    def find_refusal(self, request: HTTPConnection) -> str:
        """Why a request may not enter, in one sentence; empty when it may."""
        if self._token is None:
            return ""
        header = request.headers.get("authorization")
        if header is None:
            if self._sessions.get(request.cookies.get(COOKIE_NAME, ""), 0.0) > self._clock():
                return ""
            return (
                "This needs the API token; send it as the header 'Authorization: Bearer TOKEN', or sign in at /login."
            )
        scheme, _, bearer = header.partition(" ")
        if scheme.lower() != "bearer" or not bearer.strip():
            return "The Authorization header is not of the form 'Bearer TOKEN'; send the API token that way."
        if not self._is_token(bearer.strip()):
            return "The API token is wrong; use the one in the collector's file api.token, or in its api_token_file."
        return ""

    def sign_in(self, candidate: str) -> str | None:
        """The id of a new session, for the token; None for anything else."""
        if not self._is_token(candidate):
            return None
        session = secrets.token_urlsafe(SESSION_BYTES)
        self._sessions[session] = self._clock() + SESSION_SECONDS
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return session

    def sign_out(self, request: HTTPConnection) -> None:
        """End the session of a request, where it has one."""
        self._sessions.pop(request.cookies.get(COOKIE_NAME, ""), None)

    def _is_token(self, candidate: str) -> bool:
        """In time that does not depend on where they differ."""
        return self._token is not None and hmac.compare_digest(
            candidate.encode("utf-8", "surrogatepass"), self._token.encode()
        )

"""The check in front of the API's routes: a bearer token, or the session a browser got for it."""

from collections.abc import Callable

from fastapi import Request

from collector.api.credential import COOKIE_NAME, is_session, is_token, read_bearer
from collector.api.problem import Problem

CHALLENGE = {"www-authenticate": 'Bearer realm="apidae"'}


class Gate:
    """Lets a request in or not. `token` None means that authentication is off (loopback only; the composition sees
    to that)."""

    def __init__(self, *, token: str | None, clock: Callable[[], float]) -> None:
        self._token = token
        self._clock = clock

    @property
    def is_open(self) -> bool:
        """Whether everyone may enter."""
        return self._token is None

    def refusal(self, request: Request) -> str:
        """Why the request may not enter, in one sentence; empty when it may."""
        if self._token is None:
            return ""
        header = request.headers.get("authorization")
        if header is None:
            session = request.cookies.get(COOKIE_NAME, "")
            if session and is_session(session, self._token, self._clock()):
                return ""
            return (
                "This needs the API token; send it as the header 'Authorization: Bearer TOKEN', or sign in at /login."
            )
        bearer = read_bearer(header)
        if bearer is None:
            return "The Authorization header is not of the form 'Bearer TOKEN'; send the API token that way."
        if not is_token(bearer, self._token):
            return "The API token is wrong; use the one that the collector printed at its first start."
        return ""

    async def require(self, request: Request) -> None:
        """A FastAPI dependency; raises a 401 problem."""
        refusal = self.refusal(request)
        if refusal:
            raise Problem(401, refusal, CHALLENGE)

"""What a request must pass before any route sees it. The one place where it is decided who may enter.

In this order, and nothing is read before the step that needs it:

1. The API token or a session; without, 401 or the way to the sign-in. The body is not read.
2. The body, counted and timed while it comes: 413, 408.
3. Room among the requests that are worked on: 503. What needs no token takes none and needs none.

Health checks, the sign-in and the page's files need no token; all else does, also what does not exist. How many
connections there are, and how long a request head may take, is one floor below: `collector.http_server`.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector.api.authenticate import Authenticator
from collector.api.guard import SAFE_METHODS
from collector.api.problem import internal_problem, problem_response, show

API_PREFIX: Final = "/api/v1"
# Orchestrators ask these, and have no token.
HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz", f"{API_PREFIX}/healthz", f"{API_PREFIX}/readyz"})
SIGN_IN_PATHS: Final = frozenset({"/login", "/logout", "/theme"})
STATIC_PREFIX: Final = "/static/"
METRICS_PATH: Final = "/metrics"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimit:
    """How long a body may be, and how long it may take."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Bounds of requests; the defaults are the product's."""

    # Without a token: a form with a token of at most some hundred characters.
    public_body: BodyLimit = BodyLimit(bytes=4 * 1024, seconds=10.0)
    # The longest body besides descriptions names 100 endpoints or 1,000 of their ids.
    body: BodyLimit = BodyLimit(bytes=64 * 1024, seconds=10.0)
    # An API description of 4 MiB as a string of JSON, over 1 Mbit/s.
    large_bodies: Mapping[str, BodyLimit] = field(
        default_factory=lambda: {f"{API_PREFIX}/specs": BodyLimit(bytes=5 * 1024 * 1024, seconds=60.0)}
    )
    # Worked on at once. Of these 40 run, one in each thread of Starlette's pool; the others wait for a thread.
    requests: int = 128


class Access:
    """An ASGI layer; it goes before the application and after the guards that read no body."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator, limits: RequestLimits) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limits = limits
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_public = path in HEALTH_PATHS or path in SIGN_IN_PATHS or path.startswith(STATIC_PREFIX)
        if not is_public and (refusal := self._authenticator.find_refusal(HTTPConnection(scope))):
            await _refuse_stranger(scope, refusal)(scope, receive, send)
            return
        limit = self._limits.public_body if is_public else self._limits.large_bodies.get(path, self._limits.body)
        body = await _read_body(path, receive, limit)
        if body is None:
            return  # The client left.
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        if is_public:
            await self._answer(scope, _replay(body, receive), send)
            return
        if self._working >= self._limits.requests:
            sentence = f"{self._working} requests are being worked on, which is the limit; try again in a second."
            await problem_response(503, sentence, {"retry-after": "1"})(scope, receive, send)
            return
        self._working += 1
        try:
            await self._answer(scope, _replay(body, receive), send)
        finally:
            self._working -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A loop's boundary: a mistake of ours ends one request, not the connection."""
        is_started = False

        async def send_noted(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:
            if is_started:
                raise
            logger.exception("%s %s failed", scope["method"], show(scope["path"]))
            await internal_problem()(scope, receive, send)


def _refuse_stranger(scope: Scope, refusal: str) -> Response:
    """A program gets the reason, a person the sign-in and then the page that was asked for."""
    path: str = scope["path"]
    is_page = scope["method"] in SAFE_METHODS and not path.startswith(f"{API_PREFIX}/") and path != METRICS_PATH
    if not is_page:
        return problem_response(401, refusal, {"www-authenticate": 'Bearer realm="apidae"'})
    query = scope["query_string"].decode("latin-1")
    here = f"{path}?{query}" if query else path
    login = f"/login?next={quote(here, safe='')}"
    if "hx-request" in Headers(scope=scope):
        # htmx would swap the sign-in into a part of the page; this has it go there.
        return Response(status_code=401, headers={"hx-redirect": login})
    return RedirectResponse(login, status_code=303)


async def _read_body(path: str, receive: Receive, limit: BodyLimit) -> bytes | Response | None:
    """The whole body, why it is not taken, or None where the client left."""
    body = bytearray()
    try:
        async with asyncio.timeout(limit.seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > limit.bytes:
                    where = show(path)
                    return problem_response(413, f"The body is longer than {limit.bytes} bytes, the limit at {where}.")
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        return problem_response(408, f"The body did not come within {limit.seconds:g} s; send it faster.")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read, then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again

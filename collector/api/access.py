"""What a request must pass before any route sees it: token or session, body limits, room, and guards of browsers.

This is the one place that decides who may enter. The order is fixed, and nothing is read before the step that needs it:

1. Its principal, by the API token or a session (collector/api/authenticator.py). Without one: 401 or the way to the
   sign-in. The body is not read.
2. The body, counted and timed while it comes: 413, 408. Long ones share a budget of bytes until they are answered: 503.
3. A turn among the requests of all clients (collector/api/request_queue.py), else 503. Then a budget of time: past it
   503, and what the request asked of the store is ended. So it is where its client leaves, unless it changes something.
   What needs no token takes no turn and needs none; nor do the stream of events and a backup.

Health checks, the sign-in and the page's files need no token. Everything else does, also what does not exist.
`collector.server.http_server` bounds connections and the time of a request head.

Three ASGI layers without state guard browsers. `SecurityHeaders` allows only Apidae's own files: no inline script or
style, no frames, no referrer. `SameSite` refuses writes that a browser sends for another site (Fetch Metadata, or
Origin in older browsers). Programs send neither header and pass. `LoopbackHost` protects a collector without
authentication from DNS rebinding: a page that points its own name at 127.0.0.1 still sends that name as Host.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector.api.authenticator import COOKIE_NAME, Authenticator, SlowedError, StrangerError, name_address
from collector.api.problem import internal_problem, problem_response, show
from collector.api.request_queue import BodyBudget, BusyError, QueueLimits, RequestQueue
from collector.core.budget import Budget, BudgetBook
from collector.core.connections import find_network
from collector.storage.base import StoreError
from collector.trust.principal import set_principal

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: dict[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
# Where the page came by TLS, a browser asks for nothing of this host without it for a year. Where it did not, browsers
# ignore this (RFC 6797, 8.1).
_STRICT_TRANSPORT = "max-age=31536000"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def has_tls(scheme: str, public_url: str) -> bool:
    """Whether browsers come by TLS, which a proxy may end before the collector."""
    return scheme == "https" or public_url.startswith("https://")


class SecurityHeaders:
    """Adds HEADERS to every response, and forbids caches to keep what a token was needed for."""

    def __init__(self, app: ASGIApp, *, public_url: str) -> None:
        self._app = app
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if has_tls(scope["scheme"], self._public_url):
                    headers["strict-transport-security"] = _STRICT_TRANSPORT
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class SameSite:
    """Refuses requests that change something and come from another site."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and is_cross_site(Headers(scope=scope)):
            sentence = "This request comes from another site; open the collector's own address and do it there."
            await problem_response(403, sentence)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class LoopbackHost:
    """Refuses requests whose Host is not a name of this machine's loopback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if host_name(host) not in LOOPBACK_NAMES:
                sentence = (
                    f"The Host header is {show(host)}, but without authentication only localhost is answered; "
                    "use http://localhost or start it without --no-auth."
                )
                await problem_response(421, sentence)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_cross_site(headers: Headers) -> bool:
    """Whether a browser says that another site made this request."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host", "")
    except ValueError:
        return True


def host_name(authority: str) -> str:
    """The name in a Host header, without port and brackets; empty where it is malformed."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


API_PREFIX: Final = "/api/v1"
# Orchestrators ask these, and have no token.
HEALTH_PATHS: Final = frozenset({"/healthz", "/readyz", f"{API_PREFIX}/healthz", f"{API_PREFIX}/readyz"})
SIGN_IN_PATHS: Final = frozenset({"/login", "/login/oidc", "/login/callback", "/logout", "/theme"})
STATIC_PREFIX: Final = "/static/"
METRICS_PATH: Final = "/metrics"
# Answered for as long as its client listens; it takes no turn, and has a bound of its own (collector/api/events.py).
STREAM_PATH: Final = f"{API_PREFIX}/events"
# The same; one at a time (collector/api/backup.py).
BACKUP_PATH: Final = f"{API_PREFIX}/backup"

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
        default_factory=lambda: dict.fromkeys(
            (f"{API_PREFIX}/specs", f"{API_PREFIX}/specs/compare", "/specs"),
            BodyLimit(bytes=5 * 1024 * 1024, seconds=60.0),
        )
    )
    queue: QueueLimits = field(default_factory=QueueLimits)
    # From its turn to its response. Clients wait longer (35 s of the `apidae` command).
    work_seconds: float = 20.0
    # Between two tries to end the work of a client that left.
    cancel_seconds: float = 0.2


class Access:
    """An ASGI layer; it goes before the application and after the guards that read no body."""

    def __init__(
        self, app: ASGIApp, *, authenticator: Authenticator, budgets: BudgetBook, limits: RequestLimits
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._budgets = budgets
        self._limits = limits
        self._queue = RequestQueue(limits.queue)
        self._bodies = BodyBudget(limits.queue)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_public = path in HEALTH_PATHS or path in SIGN_IN_PATHS or path.startswith(STATIC_PREFIX)
        request = HTTPConnection(scope)
        try:
            # Read in the routes' threads, which run in a copy of this context.
            set_principal(None if is_public else await self._authenticator.identify_soon(request))
        except SlowedError as error:
            wait = {"retry-after": str(error.seconds)}
            await problem_response(429, str(error), wait)(scope, receive, send)
            return
        except StrangerError as error:
            await _refuse_stranger(scope, str(error))(scope, receive, send)
            return
        except StoreError as error:
            await problem_response(503, error.answer, {"retry-after": "5"})(scope, receive, send)
            return
        client = name_client(scope)
        large = self._limits.large_bodies.get(path)
        try:
            if is_public or path in (STREAM_PATH, BACKUP_PATH):
                await self._enter(scope, receive, send, self._limits.public_body, None)
            elif large is None:
                await self._enter(scope, receive, send, self._limits.body, client)
            else:
                with self._bodies.open(client) as take:
                    await self._enter(scope, receive, send, large, client, take)
        except BusyError as error:
            self._budgets.counts.requests_busy += 1
            await problem_response(503, f"{error}; try again in a second.", {"retry-after": "1"})(scope, receive, send)

    async def _enter(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limit: BodyLimit,
        client: str | None,
        take: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Read the body, wait for a turn of this client, and answer; without a client at once. Raises BusyError."""
        body = await _read_body(scope["path"], receive, limit, take)
        if body is None:
            return  # The client left.
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif client is None:
            await self._answer(scope, _replay(body, receive), send)
        else:
            async with self._queue.enter(client):
                await self._work(scope, _replay(body, receive), receive, send)

    async def _work(self, scope: Scope, replay: Receive, receive: Receive, send: Send) -> None:
        """Answer within the budget of one request."""
        if scope["path"] != METRICS_PATH:  # A program reads these all the time.
            self._budgets.note_request()
        with self._budgets.open(seconds=self._limits.work_seconds) as budget:
            watching: asyncio.Task[None] | None = None
            if scope["method"] in SAFE_METHODS:  # A change is made as a whole, whoever waits for it.
                watching = asyncio.create_task(self._cancel_abandoned(budget, receive))
            try:
                await self._answer(scope, replay, send)
            finally:
                if watching is not None:
                    watching.cancel()
                self._budgets.counts.requests_over_time += budget.is_over_time

    async def _cancel_abandoned(self, budget: Budget, receive: Receive) -> None:
        """Ends the work of a request whose client leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._budgets.counts.requests_abandoned += 1
        while True:
            await asyncio.to_thread(budget.cancel)
            await asyncio.sleep(self._limits.cancel_seconds)

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


def name_client(scope: Scope) -> str:
    """Whose turn a request takes: that of the session by which it came in, else of a network, as for connections."""
    request = HTTPConnection(scope)
    if "authorization" not in request.headers and (session := request.cookies.get(COOKIE_NAME)):
        return session
    host = name_address(request)
    try:
        return find_network(host)
    except ValueError:
        return host


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


async def _read_body(
    path: str, receive: Receive, limit: BodyLimit, take: Callable[[int], None]
) -> bytes | Response | None:
    """The whole body, why it is not taken, or None where the client left. Each part is taken of a budget first. Raises
    BusyError."""
    body = bytearray()
    try:
        async with asyncio.timeout(limit.seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                take(len(part))
                body += part
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

"""What stands in front of every route: security headers on the way out, refusal of other sites' requests on the way in.

Three ASGI layers without state. `SecurityHeaders` sets a policy under which the page runs only our own files: no
inline script or style, no frames,
no referrer. `SameSite` refuses writes that a browser sends on behalf of another site (Fetch Metadata, or Origin
where the browser is
older); programs send neither header and pass. `LoopbackHost` guards a collector without authentication against DNS
rebinding: a page that
points its own name at 127.0.0.1 still sends its own name as Host.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector.api.problem import problem_response, show

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
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class SecurityHeaders:
    """Adds HEADERS to every response, and forbids caches to keep what a token was needed for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
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

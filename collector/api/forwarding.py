"""Passes changes on to the collector that does the jobs, and its answers back.

Several collectors share one state, and one of them at a time decides: the holder of the lease `jobs`. Each may be asked
anything. What only reads is answered here; what changes something goes to the holder (as the standbys of HashiCorp
Vault do). Where nobody holds the lease the answer is 503: after a failure another collector has it within some seconds.

A request is passed on when it was admitted here, with the credential by which it came: the holder has the same state,
and so knows the same tokens and sessions. It is passed on once: who is asked so and is not the holder says 503.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api.access import SAFE_METHODS, SIGN_IN_PATHS
from collector.api.problem import problem_response

HERE: Final = ""  # Whoever asks is the holder.
# Where the collector answers that does the jobs: HERE, another's URL, or None where there is none now.
FindHolder = Callable[[], str | None]
LOOK_SECONDS: Final = 0.25  # Between two looks at who does the jobs, while an answer is waited for.
FORWARD_SECONDS: Final = 25.0  # A change takes 20 s at most, and clients wait longer.
AGAIN_SECONDS: Final = 1
FORWARDED: Final = "apidae-forwarded"  # A header of what was passed on.
# Of a connection, and not of what is passed on. Browsers were checked here.
_CONNECTION_HEADERS: Final = frozenset(
    ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
_OWN_HEADERS: Final = _CONNECTION_HEADERS | {
    *("accept-encoding", "host", "origin", "proxy-authorization", "sec-fetch-site"),
}
_ANSWERED_HEADERS: Final = _CONNECTION_HEADERS | {"content-encoding", "date", "server"}
_NOBODY: Final = "No collector does the jobs at the moment; another one takes over in some seconds, try again then."
_SUCCEEDED: Final = (
    "Another collector took over from the one that was asked; see whether the change was made, and try again."
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Other collectors of the same state. `make_context` gives by what their certificates are checked."""

    find_holder: FindHolder = lambda: HERE
    make_context: Callable[[], ssl.SSLContext] = ssl.create_default_context


class Forwarding:
    """An ASGI layer within `Access`, which read the body."""

    def __init__(self, app: ASGIApp, *, peers: Peers) -> None:
        self._app = app
        self._peers = peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or scope["path"] in SIGN_IN_PATHS:
            await self._app(scope, receive, send)
            return
        holder = self._peers.find_holder()
        if holder == HERE:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if holder is None or FORWARDED in headers:
            response = problem_response(503, _NOBODY, {"retry-after": str(AGAIN_SECONDS)})
        else:
            response = await self._forward(holder, scope, headers, await _read_body(receive))
        await response(scope, receive, send)

    async def _forward(self, holder: str, scope: Scope, headers: Headers, body: bytes) -> Response:
        import httpx  # One collector passes nothing on.

        path = scope.get("raw_path") or scope["path"].encode()
        query = scope["query_string"]
        target = httpx.URL(holder).copy_with(raw_path=path + (b"?" + query if query else b""))
        passed = [(name, value) for name, value in headers.items() if name not in _OWN_HEADERS]
        passed.append((FORWARDED, "1"))
        try:
            # One for each change, of which there are few: it keeps no connection that nobody would close.
            async with httpx.AsyncClient(
                verify=self._peers.make_context(), timeout=FORWARD_SECONDS, trust_env=False, follow_redirects=False
            ) as client:
                asking = asyncio.ensure_future(client.request(scope["method"], target, headers=passed, content=body))
                while not (await asyncio.wait((asking,), timeout=LOOK_SECONDS))[0]:
                    if self._peers.find_holder() != holder:  # One that stands still answers nobody.
                        asking.cancel()
                        return problem_response(503, _SUCCEEDED, {"retry-after": str(AGAIN_SECONDS)})
                answer = await asking
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            logger.error("%s could not be asked, which does the jobs: %s", holder, str(error) or type(error).__name__)
            sentence = f"The collector that does the jobs does not answer ({type(error).__name__}); try again."
            return problem_response(503, sentence, {"retry-after": str(AGAIN_SECONDS)})
        response = Response(answer.content, answer.status_code)
        for name, value in answer.headers.multi_items():
            if name not in _ANSWERED_HEADERS:
                response.headers.append(name, value)
        return response


async def _read_body(receive: Receive) -> bytes:
    """What `Access` has read, as one message."""
    message = await receive()
    return bytes(message.get("body", b""))

"""An application of ASGI for granian, whose TLS is rustls: 200 and an order to anything."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b'{"state": "sent"}'


async def application(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})

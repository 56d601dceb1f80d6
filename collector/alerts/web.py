"""Where carriers over HTTP send to: addresses without surprises, and what an answer means. EDGE: HTTP."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from collector.alerts.delivery import Outcome

TIMEOUT_SECONDS = 5.0


def make_client(transport: httpx.BaseTransport | None) -> httpx.Client:
    """A client that follows no redirect (what a person configured is the only place that gets alerts) and no proxy
    variable. `transport` replaces the network in tests."""
    return httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, transport=transport)


def post(client: httpx.Client, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
    """One POST."""
    try:
        status = client.post(url, content=body, headers=dict(headers)).status_code
    except httpx.HTTPError:
        return Outcome.UNANSWERED
    if 200 <= status < 300:
        return Outcome.DELIVERED
    return Outcome.REFUSED if 400 <= status < 500 and status not in (408, 429) else Outcome.UNANSWERED


def show_target(url: str) -> str:
    """Scheme, host and port: never the path, query or user, which may hold a token."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

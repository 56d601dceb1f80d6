"""The base of notifiers over HTTP: checked addresses, clients without redirects, and what an answer means. EDGE: HTTP.

`Posting` is the carrier of Slack, Teams, PagerDuty, OTLP, OCSF and templates. They differ only in the body, which a
pure function writes.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from collector.alerting.alert import Alert
from collector.alerting.notifiers.delivery import Outcome

TIMEOUT_SECONDS = 5.0


def make_client(transport: httpx.BaseTransport | None) -> httpx.Client:
    """A client that follows no redirect (what a person configured is the only place that gets alerts) and no proxy
    variable. `transport` replaces the network in tests."""
    return httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, transport=transport)


def check_address(url: str, what: str) -> str:
    """The address. Raises ValueError with one sentence unless it is https, or http on loopback."""
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        return url
    shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the path or query: they may hold a token.
    raise ValueError(f"{what} address {shown!r} is neither https nor http on loopback; use an https:// address")


def post(
    client: httpx.Client,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    is_taken: Callable[[bytes], bool] | None = None,
) -> Outcome:
    """One POST. `is_taken` judges the body of an answer that says yes."""
    try:
        answer = client.post(url, content=body, headers=dict(headers))
    except httpx.HTTPError:
        return Outcome.UNANSWERED
    status = answer.status_code
    if 200 <= status < 300:
        return Outcome.DELIVERED if is_taken is None or is_taken(answer.content) else Outcome.REFUSED
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


JSON = "application/json"


class UnwritableError(Exception):
    """No body could be made of an alert; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Where bodies go and how they look."""

    name: str  # Of the notifier.
    url: str = field(repr=False)
    write: Callable[[Alert], bytes]  # May raise UnwritableError.
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_taken: Callable[[bytes], bool] | None = None  # Judges the body of an answer that says yes.


class Posting:
    """A carrier."""

    takes_updates = False

    def __init__(self, form: Form, *, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` replaces the network in tests."""
        self.name = form.name
        self.target = show_target(form.url)
        self._form = form
        self._client = make_client(transport)

    def send(self, alert: Alert) -> Outcome:
        """One POST."""
        form = self._form
        try:
            body = form.write(alert)
        except UnwritableError:
            return Outcome.REFUSED
        return post(self._client, form.url, body, {"content-type": form.content_type, **form.headers}, form.is_taken)

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

"""One webhook: every changed alert as a JSON POST, signed, retried with backoff, from a bounded queue. EDGE: HTTP.

Headers: `X-Apidae-Timestamp` (unix seconds) and `X-Apidae-Signature: sha256=HEX`, an HMAC-SHA256 under the configured
secret over timestamp, a dot, and the body. Redirects are not followed: the address a person configured is the only
one that gets alerts.
"""

import hashlib
import hmac
import ipaddress
import queue
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

import httpx
import msgspec

from collector.alerts.alert import Alert

QUEUE_MAX = 1_000  # Alerts waiting; a full queue drops the newest and counts it.
ATTEMPTS_MAX = 5
TIMEOUT_SECONDS = 5.0
BACKOFF_SECONDS = (1.0, 4.0, 15.0, 60.0)  # Before attempts 2 to 5.


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where to send. Raises ValueError with one sentence unless the address is https, or http on loopback."""

    url: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
            return
        shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the path or query: they may hold a token.
        raise ValueError(f"webhook address {shown!r} is neither https nor http on loopback; use an https:// address")


@dataclass(slots=True)
class WebhookCounts:
    """seen = delivered + failed + dropped + waiting."""

    seen: int = 0
    delivered: int = 0
    failed: int = 0  # Given up after ATTEMPTS_MAX, or refused with a 4xx.
    dropped: int = 0  # The queue was full.
    retried: int = 0


class Webhook:
    """A queue and the thread that empties it."""

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        clock: Callable[[], float],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`clock` gives unix seconds; `transport` replaces the network in tests."""
        self._settings = settings
        self._clock = clock
        self._client = httpx.Client(
            timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, transport=transport
        )
        self._queue: queue.Queue[Alert | None] = queue.Queue(QUEUE_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self.counts = WebhookCounts()

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def notify(self, alert: Alert) -> None:
        """Queue one alert; never blocks."""
        self.counts.seen += 1
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self.counts.dropped += 1

    def stop(self) -> None:
        """End the thread after the attempt under way; what waits is not sent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_SECONDS * 2)
        self._client.close()

    def deliver(self, alert: Alert) -> bool:
        """Send one alert with retries; whether it arrived."""
        body = msgspec.json.encode(asdict(alert))
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                self.counts.retried += 1
                if self._stopping.wait(BACKOFF_SECONDS[attempt - 1]):
                    break
            status = self._post(body)
            if 200 <= status < 300:
                self.counts.delivered += 1
                return True
            if 400 <= status < 500 and status not in (408, 429):
                break  # It will refuse it again.
        self.counts.failed += 1
        return False

    def _post(self, body: bytes) -> int:
        """Status code; 0 where there was no answer."""
        timestamp = str(int(self._clock()))
        headers = {
            "content-type": "application/json",
            "x-apidae-timestamp": timestamp,
            "x-apidae-signature": sign(self._settings.secret, timestamp, body),
        }
        try:
            return self._client.post(self._settings.url, content=body, headers=headers).status_code
        except httpx.HTTPError:
            return 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                alert = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if alert is not None:
                self.deliver(alert)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature header's value."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

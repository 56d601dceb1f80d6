"""The webhook: sends every changed alert as a signed JSON POST. EDGE: HTTP.

Headers: `X-Apidae-Timestamp` (unix seconds) and `X-Apidae-Signature: sha256=HEX`. The signature is an HMAC-SHA256 under
the configured secret over the timestamp, a dot, and the body.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import msgspec

from collector.alerting.alert import Alert, list_fields
from collector.alerting.notifiers.delivery import Outcome
from collector.alerting.notifiers.http import check_address, make_client, post, show_target


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where to send. Raises ValueError with one sentence unless the address is https, or http on loopback."""

    url: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        check_address(self.url, "webhook")


class Webhook:
    """A carrier."""

    name = "webhook"
    takes_updates = True

    def __init__(
        self, settings: WebhookSettings, *, clock: Callable[[], float], transport: httpx.BaseTransport | None = None
    ) -> None:
        """`clock` gives unix seconds; `transport` replaces the network in tests."""
        self.target = show_target(settings.url)
        self._settings = settings
        self._clock = clock
        self._client = make_client(transport)

    def send(self, alert: Alert) -> Outcome:
        """One signed POST."""
        body = msgspec.json.encode(list_fields(alert))
        timestamp = str(int(self._clock()))
        headers = {
            "content-type": "application/json",
            "x-apidae-timestamp": timestamp,
            "x-apidae-signature": sign(self._settings.secret, timestamp, body),
        }
        return post(self._client, self._settings.url, body, headers)

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature header's value."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()

"""Sends bodies over HTTP: checked addresses, signatures, clients without redirects, what answers mean. EDGE: HTTP.

`HttpSender` serves every receiver that takes a POST. They differ in the address, the headers and the body, which a
template writes (collector/alerting/notifiers/bodies).
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from collector.alerting.alert import Alert
from collector.alerting.notifiers.delivery import DeliveryOutcome, Sender
from collector.core.config import is_loopback
from collector.trust.audit import AuditLine

if TYPE_CHECKING:  # With what it imports it takes 3 MB, which a collector that sends nothing does without.
    import httpx

JSON: Final = "application/json"
OTLP_PATH: Final = "/v1/logs"
TIMEOUT_SECONDS = 5.0


def make_client(transport: "httpx.BaseTransport | None") -> "httpx.Client":
    """A client that follows no redirect (what a person configured is the only place that gets alerts) and no proxy
    variable. `transport` replaces the network in tests."""
    import httpx

    return httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, transport=transport)


def check_address(url: str, what: str) -> str:
    """The address. Raises ValueError with one sentence unless it is https, or http on loopback."""
    parts = urlsplit(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        return url
    shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the path or query: they may hold a token.
    raise ValueError(f"{what} address {shown!r} is neither https nor http on loopback; use an https:// address")


def check_plain_address(url: str, what: str, use: str) -> str:
    """The address, which may be http and holds no credential. Raises ValueError with one sentence."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment or "@" in url):
        return url.rstrip("/")
    shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the rest: it may hold a token.
    raise ValueError(f"{shown!r} is no {what}; use {use}")


def check_otlp(url: str, *, is_with_headers: bool, path: str = OTLP_PATH) -> str:
    """The address for logs, or of another path, of an OTLP endpoint (`http://collector:4318`). Raises ValueError with
    one sentence."""
    checked = check_plain_address(url, "OTLP endpoint", "http://HOST:4318 or https://HOST, keys in headers")
    parts = urlsplit(checked)
    if is_with_headers and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("headers would go in the clear; use https://")
    return checked.removesuffix(path) + path


def read_headers(text: str) -> dict[str, str]:
    """`name=value` with commas between, values percent-encoded (as OTEL_EXPORTER_OTLP_HEADERS). Raises ValueError with
    one sentence, which shows no value, unless both are ASCII."""
    headers = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = part.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        is_name = name.replace("-", "").replace("_", "").isalnum()
        if not (separator and is_name and value.isprintable() and f"{name}{value}".isascii()):
            raise ValueError(
                "headers must be NAME=VALUE with commas between, in ASCII, as in authorization=Bearer%20KEY"
            )
        headers[name] = value
    return headers


def is_accepted_by_otlp(answer: bytes) -> bool:
    """Whether no record was refused: an ExportLogsServiceResponse may accept the request and still refuse records."""
    try:
        said = msgspec.json.decode(answer) if answer else {}
    except msgspec.DecodeError:
        return True  # The status said yes.
    partial = said.get("partialSuccess") if isinstance(said, dict) else None
    refused = partial.get("rejectedLogRecords", 0) if isinstance(partial, dict) else 0
    return str(refused) in ("0", "")


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the header X-Apidae-Signature: an HMAC-SHA256 over the timestamp, a dot, and the body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def sign_headers(secret: str, now: float, body: bytes) -> dict[str, str]:
    """The headers of a webhook's POST."""
    timestamp = str(int(now))
    return {"x-apidae-timestamp": timestamp, "x-apidae-signature": sign(secret, timestamp, body)}


def post(
    client: "httpx.Client",
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    is_accepted: Callable[[bytes], bool] | None = None,
) -> DeliveryOutcome:
    """One POST, of JSON unless the headers say otherwise. `is_accepted` reads the body of an answer that says yes."""
    import httpx

    try:
        answer = client.post(url, content=body, headers={"content-type": JSON, **headers})
    except httpx.HTTPError:
        return DeliveryOutcome.UNANSWERED
    status = answer.status_code
    if 200 <= status < 300:
        is_delivered = is_accepted is None or is_accepted(answer.content)
        return DeliveryOutcome.DELIVERED if is_delivered else DeliveryOutcome.REFUSED
    is_final = 400 <= status < 500 and status not in (408, 429)
    return DeliveryOutcome.REFUSED if is_final else DeliveryOutcome.UNANSWERED


def show_target(url: str) -> str:
    """Scheme, host and port: never the path, query or user, which may hold a token."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


class UnwritableError(Exception):
    """No body could be made of an alert; one sentence."""


class HttpSender(Sender):
    """One POST an alert."""

    def __init__(
        self,
        name: str,
        url: str,
        write: Callable[[Alert], bytes],
        *,
        make_headers: Callable[[bytes], Mapping[str, str]] = lambda body: {},
        is_accepted: Callable[[bytes], bool] | None = None,
        takes_updates: bool = False,
        takes_openings: bool = False,
        write_entries: Callable[[Sequence[AuditLine]], bytes] | None = None,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        """`write` makes a body, and may raise UnwritableError; `make_headers` gives those of a body; `is_accepted`
        reads the body of an answer that says yes; `write_entries` makes a body of entries of the audit log, where it
        takes these; `transport` replaces the network in tests."""
        self.name, self.target = name, show_target(url)
        self.takes_updates, self.takes_openings = takes_updates, takes_openings
        self._url, self._write, self._make_headers, self._is_accepted = url, write, make_headers, is_accepted
        self._write_entries = write_entries
        self._client = make_client(transport)

    def send(self, alert: Alert) -> DeliveryOutcome:
        """One POST."""
        return self.send_keyed(alert, "")

    def send_keyed(self, alert: Alert, key: str) -> DeliveryOutcome:
        """One POST, with the key in a header."""
        try:
            body = self._write(alert)
        except UnwritableError:
            return DeliveryOutcome.REFUSED
        return self._post(body, key)

    def send_entries(self, entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        """One POST of all of them."""
        if self._write_entries is None:
            return DeliveryOutcome.REFUSED
        return self._post(self._write_entries(entries), key)

    def _post(self, body: bytes, key: str) -> DeliveryOutcome:
        headers = {**({"x-apidae-delivery": key} if key else {}), **self._make_headers(body)}
        return post(self._client, self._url, body, headers, self._is_accepted)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

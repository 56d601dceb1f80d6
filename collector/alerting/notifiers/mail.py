"""E-mail: sends one message an alert by SMTP (RFC 5321, 5322), encrypted unless the server is on loopback. EDGE:
sockets.

`smtps://` is TLS from the start (RFC 8314). `smtp://` switches to TLS (STARTTLS, RFC 3207) and sends nothing where the
server cannot. On loopback it may send in clear text. Messages of an incident refer to one another, so they are one
thread.
"""

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.errors import HeaderParseError, MessageDefect
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from collector.alerting.alert import Alert, AlertState, LabelledAlert
from collector.alerting.notifiers.delivery import DeliveryOutcome, Sender
from collector.alerting.notifiers.templates import cut, headline, list_facts
from collector.core.config import is_loopback

TIMEOUT_SECONDS: Final = 10.0
PORTS: Final = {"smtp": 587, "smtps": 465}
SUBJECT_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """Where to send and to whom. Raises ValueError with one sentence."""

    url: str = field(repr=False)  # smtp://USER:PASSWORD@HOST:587 or smtps://HOST:465.
    sender: str
    recipients: Sequence[str]

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            port: int | None = parts.port or 0
        except ValueError:
            port = None
        if parts.scheme not in PORTS or not parts.hostname or port is None or parts.path.strip("/") or parts.query:
            shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the rest: it holds a password.
            raise ValueError(f"{shown!r} is no address of a mail server; use smtp://HOST:587 or smtps://HOST:465")
        for name, address in (("sender", self.sender), *(("recipients", one) for one in self.recipients)):
            _check_address(name, address)


class MailSender(Sender):
    """One message an alert."""

    name = "mail"

    def __init__(self, settings: MailSettings, *, context: ssl.SSLContext | None = None) -> None:
        """`context` replaces the system's authorities in tests."""
        parts = urlsplit(settings.url)
        self._settings = settings
        self._is_tls = parts.scheme == "smtps"
        self._host, self._port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._context = context or ssl.create_default_context()
        self.target = f"{parts.scheme}://{self._host}:{self._port}"

    def send(self, alert: Alert) -> DeliveryOutcome:
        """One message over a connection of its own."""
        message = write_mail(alert, self._settings)
        try:
            with self._connect() as server:
                if not self._is_tls and not self._secure(server):
                    return DeliveryOutcome.REFUSED
                if self._user:
                    server.login(self._user, self._password)
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            return _read_codes(*(code for code, _ in error.recipients.values()))
        except smtplib.SMTPResponseException as error:
            return _read_codes(error.smtp_code)
        except smtplib.SMTPNotSupportedError:
            return DeliveryOutcome.REFUSED
        except (smtplib.SMTPException, OSError):
            return DeliveryOutcome.UNANSWERED
        return DeliveryOutcome.DELIVERED

    def _connect(self) -> smtplib.SMTP:
        if self._is_tls:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._context)
        return smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_SECONDS)

    def _secure(self, server: smtplib.SMTP) -> bool:
        """Goes over to TLS; whether a message may be sent."""
        server.ehlo_or_helo_if_needed()
        if server.has_extn("starttls"):
            server.starttls(context=self._context)
            return True
        return is_loopback(self._host)


def write_mail(alert: Alert, settings: MailSettings) -> EmailMessage:
    """A message of plain text."""
    domain = settings.sender.rpartition("@")[2]
    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    message["Subject"] = cut(f"[Apidae {alert.severity.value}] {headline(alert)}", SUBJECT_CHARACTERS_MAX)
    message["Date"] = format_datetime(datetime.fromtimestamp(int(alert.updated_at), UTC))
    message["Message-ID"] = f"<{_word(alert.id)}.{int(alert.updated_at * 1_000)}.{alert.state.value}@{domain}>"
    message["References"] = f"<incident.{_word(alert.incident_id or alert.id)}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's vacation answers.
    if alert.state is AlertState.OPEN and alert.severity.value == "high":
        message["Importance"] = "high"
    lines = [headline(alert), "", alert.why, *([alert.advice] if alert.advice else []), ""]
    lines += [f"{label}: {value}" for label, value in list_facts(alert)]
    if isinstance(alert, LabelledAlert) and alert.url:
        lines += ["", alert.url, f"What it means: {alert.runbook_url}"]
    message.set_content("\n".join(lines) + "\n")
    return message


def _check_address(name: str, address: str) -> None:
    try:
        parsed = Address(addr_spec=address)
    except (HeaderParseError, MessageDefect, ValueError, IndexError):
        parsed = None
    if parsed is None or not parsed.username or not parsed.domain or not address.isascii() or not address.isprintable():
        raise ValueError(f"{name} {address!r} is no address; use NAME@HOST in ASCII")


def _word(text: str) -> str:
    """What a message id may hold."""
    return "".join(c for c in text if c.isascii() and (c.isalnum() or c in "-_")) or "none"


def _read_codes(*codes: int) -> DeliveryOutcome:
    """A server's 5xx is final."""
    return DeliveryOutcome.REFUSED if all(500 <= code < 600 for code in codes) else DeliveryOutcome.UNANSWERED

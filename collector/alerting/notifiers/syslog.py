"""Syslog: sends alerts as RFC 5424 messages, with structured data or a CEF record (Common Event Format, version 0).

By UDP it is one message a datagram (RFC 5426). By TCP and TLS each message follows its length (RFC 6587 section 3.4.1,
RFC 5425). A broken connection is opened again at the next attempt. EDGE: sockets.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from collector.alerting.alert import Alert, AlertState, LabelledAlert, Severity
from collector.alerting.notifiers.delivery import DeliveryOutcome, Sender
from collector.alerting.notifiers.templates import find_address, flatten, show_time
from collector.core.destinations import SyslogFormat
from collector.trust.audit import AuditLine

TIMEOUT_SECONDS = 5.0
PORTS = {"udp": 514, "tcp": 601, "tls": 6514}  # RFC 5426, 6587's registered port, RFC 5425.
DATAGRAM_BYTES_MAX = 2_048  # What every receiver should take (RFC 5426 section 3.2).
FACILITY = 4  # security/authorization messages.
# RFC 5424 section 6.2.1: critical, warning, notice; informational for what is over.
_SEVERITIES = {Severity.HIGH: 2, Severity.MEDIUM: 4, Severity.LOW: 5}
_CLOSED = 6
_NOTICE = 5
_CEF_SEVERITIES = {Severity.HIGH: 9, Severity.MEDIUM: 6, Severity.LOW: 3}
ENTERPRISE = "32473"  # Of the ids of structured data: IANA's number for examples, for we have none.
_NAME_CHARACTERS_MAX = 255
_MESSAGE_CHARACTERS_MAX = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogSettings:
    """Where to send and how. Raises ValueError with one sentence."""

    url: str  # udp://HOST:514, tcp://HOST:601 or tls://HOST:6514.
    format: SyslogFormat = SyslogFormat.RFC5424
    host_name: str = ""  # Of this collector.
    version: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in PORTS or not parts.hostname or port == -1 or parts.path or parts.query:
            raise ValueError(
                f"{self.url!r} is no syslog address; use udp://HOST:514, tcp://HOST:601 or tls://HOST:6514"
            )


class SyslogSender(Sender):
    """One message an alert."""

    name = "syslog"

    def __init__(self, settings: SyslogSettings, *, connect: Callable[[str, str, int], socket.socket] | None = None):
        """`connect` (scheme, host, port) replaces the network in tests."""
        parts = urlsplit(settings.url)
        self._settings = settings
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._connect = connect or _connect
        self._socket: socket.socket | None = None
        self.target = f"{self._scheme}://{self._host}:{self._port}"

    def send(self, alert: Alert) -> DeliveryOutcome:
        """One message."""
        return self._send(write_message(alert, self._settings))

    def send_entries(self, entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        """One message an entry. After a break all are sent again, with the same numbers."""
        for entry in entries:
            outcome = self._send(write_entry(entry, self._settings))
            if outcome is not DeliveryOutcome.DELIVERED:
                return outcome
        return DeliveryOutcome.DELIVERED

    def _send(self, message: bytes) -> DeliveryOutcome:
        try:
            if self._socket is None:
                self._socket = self._connect(self._scheme, self._host, self._port)
            if self._scheme == "udp":
                self._socket.send(message[:DATAGRAM_BYTES_MAX].decode("utf-8", "ignore").encode())
            else:
                self._socket.sendall(str(len(message)).encode() + b" " + message)
        except OSError:
            self.close()
            return DeliveryOutcome.UNANSWERED
        return DeliveryOutcome.DELIVERED

    def close(self) -> None:
        """Let the connection go."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


def write_message(alert: Alert, settings: SyslogSettings) -> bytes:
    """A whole SYSLOG-MSG of RFC 5424 section 6, UTF-8."""
    severity = _CLOSED if alert.state is AlertState.CLOSED else _SEVERITIES[alert.severity]
    host = _name(settings.host_name)
    header = f"<{FACILITY * 8 + severity}>1 {show_time(alert.updated_at)} {host} apidae - {alert.kind.value}"
    if settings.format is SyslogFormat.CEF:
        return f"{header} - {write_cef(alert, settings.version)}".encode()
    return f"{header} {_write_data(alert)} ".encode() + b"\xef\xbb\xbf" + _flat(f"{alert.title}: {alert.why}").encode()


def write_entry(entry: AuditLine, settings: SyslogSettings) -> bytes:
    """The same of an entry of the audit log."""
    header = f"<{FACILITY * 8 + _NOTICE}>1 {show_time(entry.time)} {_name(settings.host_name)} apidae - audit"
    sentence = f"{entry.by}: {entry.action} {entry.target}"
    if settings.format is SyslogFormat.CEF:
        extension = {
            "externalId": str(entry.number),
            "cat": "audit",
            "act": entry.action,
            "suser": entry.by,
            "rt": str(int(entry.time * 1_000)),
            "reason": entry.why,
            "msg": sentence,
        } | _custom({"target": entry.target, "before": entry.before, "after": entry.after, "way": entry.way})
        names = (settings.version, f"audit.{entry.action}", "Audit log", str(_CEF_SEVERITIES[Severity.LOW]))
        return f"{header} - {_join_cef(names, extension)}".encode()
    values = {
        "number": str(entry.number),
        **{name: getattr(entry, name) for name in ("by", "way", "action", "target", "why", "before", "after", "hash")},
    }
    return f"{header} {_write_element('audit', values)} ".encode() + b"\xef\xbb\xbf" + _flat(sentence).encode()


def write_cef(alert: Alert, version: str) -> str:
    """One CEF record: seven fields of the header by bars, then the extension by keys of the dictionary."""
    names = (version, alert.kind.value, alert.title, str(_CEF_SEVERITIES[alert.severity]))
    source = find_address(alert)
    extension = {
        "externalId": alert.id,
        "cat": alert.kind.value,
        "outcome": alert.state.value,
        "start": str(int(alert.opened_at * 1_000)),
        "rt": str(int(alert.updated_at * 1_000)),
        "end": str(int(alert.closed_at * 1_000)) if alert.closed_at is not None else "",
        "src": source,
        "suid": "" if source else alert.consumer,
        "dvchost": alert.node,
        "cnt": str(alert.calls) if alert.calls else "",
        "reason": alert.risk,
        "msg": _flat(alert.why),
    } | _custom({"incident": alert.incident_id, "endpoint": alert.endpoint_id, "confidence": alert.confidence.value})
    return _join_cef(names, extension)


def _join_cef(names: tuple[str, ...], extension: dict[str, str]) -> str:
    header = ("CEF:0", "Apidae", "Apidae", *names)
    values = (f"{key}={_escape(_flat(value), ('=',))}" for key, value in extension.items() if value)
    return "|".join(_escape(_flat(field), ("|",)) for field in header) + "|" + " ".join(values)


def _custom(values: dict[str, str]) -> dict[str, str]:
    """CEF's custom strings with their labels."""
    pairs = [(f"cs{n}", label, value) for n, (label, value) in enumerate(values.items(), 1) if value]
    return {key: text for name, label, value in pairs for key, text in ((name, value), (f"{name}Label", label))}


def _write_data(alert: Alert) -> str:
    """STRUCTURED-DATA: one element."""
    values = {
        "id": alert.id,
        "incident": alert.incident_id,
        "state": alert.state.value,
        "severity": alert.severity.value,
        "confidence": alert.confidence.value,
        "consumer": alert.consumer,
        "endpoint": alert.endpoint_id,
        "node": alert.node,
        "risk": alert.risk,
        "calls": str(alert.calls),
        "score": f"{alert.score:.3f}",
        "loss": f"{alert.loss_ratio:.4f}",
        "url": alert.url if isinstance(alert, LabelledAlert) else "",
        "runbook": alert.runbook_url if isinstance(alert, LabelledAlert) else "",
    }
    return _write_element("alert", values)


def _write_element(name: str, values: dict[str, str]) -> str:
    parameters = "".join(f' {key}="{_escape(_flat(value), (chr(34), "]"))}"' for key, value in values.items() if value)
    return f"[{name}@{ENTERPRISE}{parameters}]"


def _escape(text: str, specials: tuple[str, ...]) -> str:
    """A backslash before itself and each special character."""
    text = text.replace("\\", "\\\\")
    for special in specials:
        text = text.replace(special, f"\\{special}")
    return text


def _flat(text: str) -> str:
    """One line of bounded length."""
    return flatten(text)[:_MESSAGE_CHARACTERS_MAX]


def _name(text: str) -> str:
    """A HOSTNAME: printable ASCII without spaces; a dash where there is none."""
    return "".join(c for c in text if "!" <= c <= "~")[:_NAME_CHARACTERS_MAX] or "-"


def _connect(scheme: str, host: str, port: int) -> socket.socket:
    """Raises OSError."""
    if scheme == "udp":
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(family, kind, protocol)
        datagrams.connect(address)
        return datagrams
    plain = socket.create_connection((host, port), TIMEOUT_SECONDS)
    if scheme == "tcp":
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise

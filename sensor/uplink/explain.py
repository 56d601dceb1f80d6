"""Why a dial failed, in words that say what to change.

gRPC's core tells handshakes that fail on our side. Of what the other side did not like it says only that the socket was
closed; then one handshake of our own asks again, for TLS tells the reason in an alert (RFC 8446 section 6.2).
"""

import asyncio
import contextlib
import os
import socket
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sensor.uplink.certificates import CredentialError, read_times
from sensor.uplink.target import Credentials, Target

ANSWER_SECONDS: Final = 3.0
_ENROLL: Final = "enrol this sensor with `apidae enroll`"

# What gRPC's core says of a dial that failed, and the fix; the first one that is in its text is told.
_DIAL_FAULTS: Final = (
    (
        "WRONG_VERSION_NUMBER",
        "it does not speak TLS",
        "give the collector a certificate or drop --collector-ca-file",
    ),
    ("certificate has expired", "its certificate has expired, by this machine's clock", "compare the clocks, renew it"),
    (
        "certificate is not yet valid",
        "its certificate is not valid yet, by this machine's clock",
        "compare the clocks",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not from an authority that --collector-ca-file or the system knows",
        f"correct --collector-ca-file, or {_ENROLL}",
    ),
    ("Hostname Verification", "its certificate has another name", "correct --collector or --collector-server-name"),
    ("not match", "its certificate has another name", "correct --collector or --collector-server-name"),
    ("Expected SETTINGS frame", "it does not speak gRPC in the clear", "name the gRPC port, and TLS if it has it"),
    ("Connection refused", "connection refused", "start it or correct --collector"),
    ("lookup", "no such host", "correct --collector"),
)
# Alerts of the other side, and what they mean of this sensor's certificate.
_ALERTS: Final = (
    ("UNKNOWN_CA", "it does not know the authority of this sensor's certificate", _ENROLL),
    ("CERTIFICATE_EXPIRED", "this sensor's certificate has expired, by the collector's clock", _ENROLL),
    ("BAD_CERTIFICATE", "it does not take this sensor's certificate", "compare the clocks"),
    ("UNSUPPORTED_CERTIFICATE", "this sensor's certificate is not one for clients", _ENROLL),
    ("CERTIFICATE_REQUIRED", "it asks for a certificate and this sensor has none", _ENROLL),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One sentence: what went wrong on the way to the collector, and the fix."""

    sentence: str
    is_certificate_refused: bool = False  # The collector does not take this sensor's.


async def explain_dial(target: Target, credentials: Credentials, details: str) -> Explanation:
    """Ask, where gRPC does not know; at most some seconds."""
    for mark, reason, fix in _DIAL_FAULTS:
        if mark in details:
            return Explanation(sentence=f"the collector at {target} cannot be reached (UNAVAILABLE: {reason}); {fix}")
    found = _find_alert(details, credentials)
    if found is None:
        ask = _ask_why if credentials.is_secure(target) else _ask_tls
        found = await asyncio.to_thread(ask, target, credentials)
    if found is None:
        found = Explanation(sentence=f"{details}); start it or correct --collector")
    return replace(found, sentence=f"the collector at {target} cannot be reached (UNAVAILABLE: {found.sentence}")


def _ask_why(target: Target, credentials: Credentials) -> Explanation | None:
    """The meaning of the alert that answers our certificate; None where there is none."""
    try:
        context = _make_context(credentials)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        return Explanation(sentence=f"this sensor's certificate and key cannot be used: {reason}); {_ENROLL}")
    try:
        with (
            socket.create_connection((target.host, target.port), ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=credentials.server_name or target.host) as secure,
        ):
            secure.recv(1)
    except ssl.SSLError as error:
        return _find_alert(error.reason or "", credentials)
    except OSError:
        return None
    return None


def _find_alert(text: str, credentials: Credentials) -> Explanation | None:
    """The meaning of the alert that a text names; None where it names none. The sentence begins at the reason."""
    for alert, reason, fix in _ALERTS:
        if f"ALERT_{alert}" in text:
            is_refused = credentials.chain is not None
            return Explanation(sentence=f"{_add_times(reason, credentials)}); {fix}", is_certificate_refused=is_refused)
    return None


def _ask_tls(target: Target, credentials: Credentials) -> Explanation | None:
    """Whether it speaks TLS where we did not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Nothing is said on it.
    with (
        contextlib.suppress(OSError),
        socket.create_connection((target.host, target.port), ANSWER_SECONDS) as plain,
        context.wrap_socket(plain),
    ):
        return Explanation(sentence=f"it speaks TLS and this sensor does not); give --collector-ca-file, or {_ENROLL}")
    return None


def _make_context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cadata=credentials.authorities.decode("ascii") if credentials.authorities is not None else None
    )
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    if credentials.chain is not None and credentials.key is not None:
        # The module reads files only; this one is in memory.
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(credentials.key + b"\n" + credentials.chain)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password="")
    return context


def _add_times(reason: str, credentials: Credentials) -> str:
    with contextlib.suppress(CredentialError):
        if credentials.chain is not None:
            times = read_times(credentials.chain, "")
            begin, end = (
                datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
                for time in (times.not_before, times.not_after)
            )
            return f"{reason}, which is good from {begin} to {end}"
    return reason

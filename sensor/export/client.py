"""Keeps the stream to the collector open: dials again as long as the sensor lives, and explains why a dial failed.

One `Uplink` owns the spool and makes one `Session` (sensor/export/session.py) after another. A session begins with
hello and welcome, sends everything that waits from the oldest on, and ends with the first error. The next one sends
again what was not acknowledged. So a redial may repeat a batch, which the collector knows by its key, and never loses
one.

It runs in the sensor's one asyncio loop (grpc.aio), not in threads. So capture, windows, spool and acknowledgements
need no locks. `sensor.agent.agent` yields between slices of exchanges, so acknowledgements wait milliseconds. gRPC's
own work runs in its C core without the interpreter lock.

Off loopback the stream always uses TLS (sensor/export/target.py).

`explain_dial` names the fix. gRPC's core reports only handshakes that fail on this side. When the peer refuses, it
reports a closed socket. Then one more handshake reads the reason from the TLS alert (RFC 8446 section 6.2).
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

import grpc

from common.retry import Backoff
from sensor.core.clock import Clock
from sensor.export.certificates import CertificateKeeper, CredentialError, EnrollmentError, read_times
from sensor.export.messages import SensorIdentity
from sensor.export.session import (
    RedirectError,
    Session,
    SessionError,
    SessionListener,
    SessionTimes,
    StatusError,
    wait_at_most,
)
from sensor.export.spool import Spool, SpoolEntry
from sensor.export.state import StateError
from sensor.export.target import DialCredentials, Target, open_channel, parse_target

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


async def explain_dial(target: Target, credentials: DialCredentials, details: str) -> Explanation:
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


def _ask_why(target: Target, credentials: DialCredentials) -> Explanation | None:
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


def _find_alert(text: str, credentials: DialCredentials) -> Explanation | None:
    """The meaning of the alert that a text names; None where it names none. The sentence begins at the reason."""
    for alert, reason, fix in _ALERTS:
        if f"ALERT_{alert}" in text:
            is_refused = credentials.chain is not None
            return Explanation(sentence=f"{_add_times(reason, credentials)}); {fix}", is_certificate_refused=is_refused)
    return None


def _ask_tls(target: Target, credentials: DialCredentials) -> Explanation | None:
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


def _make_context(credentials: DialCredentials) -> ssl.SSLContext:
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


def _add_times(reason: str, credentials: DialCredentials) -> str:
    with contextlib.suppress(CredentialError):
        if credentials.chain is not None:
            times = read_times(credentials.chain, "")
            begin, end = (
                datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
                for time in (times.not_before, times.not_after)
            )
            return f"{reason}, which is good from {begin} to {end}"
    return reason


logger = logging.getLogger(__name__)

# Statuses that no second try cures: the sensor's own words or its token are wrong.
REJECTING_CODES: Final = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)
REFUSAL_REASONS_LIMIT: Final = 32
_OTHER_REASONS: Final = "other"


class UplinkRejectedError(Exception):
    """The collector does not want this sensor, or the way to it is set wrongly; the message says what to change."""


# What of a rejection's words says which fix.
_REJECTION_FIXES: Final = (
    ("token", "give it the collector's sensor token with --token-file"),
    ("certificate", "enrol this sensor with `apidae enroll` and a token of `apidae enrollment create`"),
)


def _tell_rejection(target: Target, error: StatusError) -> str:
    """One sentence: why the collector does not want this sensor, and the fix."""
    reason, _, advice = error.details.rstrip(".").partition(";")
    fix = advice.strip() or "install one version on both"
    if error.code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        is_other_node = "says it is" in reason
        fix = fix if is_other_node else next((fix for mark, fix in _REJECTION_FIXES if mark in reason), fix)
    elif error.code is not grpc.StatusCode.UNAVAILABLE:
        fix = "install one version on both"
    return f"the collector at {target} rejects this sensor ({error.code.name}: {reason.rstrip('.')}); {fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    target: Target
    identity: SensorIdentity
    token: Callable[[], str]  # Read at every dial, so that a rotated file is taken up; empty = none. May raise OSError.
    first_backoff_seconds: float = 0.5
    # All sensors of a collector that was away are back so soon after its start, each at another moment.
    longest_backoff_seconds: float = 12.0
    times: SessionTimes = field(default_factory=SessionTimes)


class UplinkListener(SessionListener, Protocol):
    """What an uplink asks and tells besides."""

    def on_connection(self, is_connected: bool) -> None: ...


class Uplink:
    """Sends what is given to it, for as long as it takes. `run` is its task."""

    def __init__(
        self,
        *,
        settings: UplinkSettings,
        keeper: CertificateKeeper,
        spool: Spool,
        clock: Clock,
        listener: UplinkListener,
        random_source: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._keeper = keeper
        self._credentials: DialCredentials | None = None  # Those of the last dial.
        self._target = settings.target
        self._spool = spool
        self._clock = clock
        self._listener = listener
        self._backoff = Backoff(
            first_seconds=settings.first_backoff_seconds,
            longest_seconds=settings.longest_backoff_seconds,
            jitter=0.5,
            draw=random_source,
        )
        self._session: Session | None = None
        self._welcomed = asyncio.Event()
        self._dial_now = asyncio.Event()  # Cuts the wait before the next dial short.
        self._dialled = asyncio.Event()  # A dial that ended after it was cleared: in a session, or in none.
        self._rejection: UplinkRejectedError | None = None
        self.last_error = f"the collector at {settings.target} has not answered yet; start it or correct --collector"
        self.sessions_count = 0  # Sessions that were welcomed.
        self.refusal_reasons: Counter[str] = Counter()  # Batches refused, by the collector's reason; bounded.

    @property
    def is_connected(self) -> bool:
        return self._session is not None

    def send(self, *, sequence: int, payload: bytes, calls: int) -> SpoolEntry | None:
        """Take over a serialised batch: into the spool, and on its way where there is a session."""
        entry = self._spool.append(sequence=sequence, payload=payload, calls=calls, now_unix_ns=self._clock.unix_ns())
        if entry is not None and self._session is not None:
            self._session.offer(entry)
        return entry

    def tell_state(self) -> None:
        """Send health and coverage now: the state changed."""
        if self._session is not None:
            self._session.tell_state()

    async def wait_welcome(self) -> None:
        """Return after the first welcome. Raises `UplinkRejectedError` where the collector rejected the sensor before
        one."""
        await self._welcomed.wait()
        if self._rejection is not None:
            raise self._rejection

    async def drain(self) -> None:
        """Return when nothing waits in the spool and the state was told, or there is no session that could do it. Where
        something waits and there is none, the collector is dialled once more, now."""
        if self._session is None and self._spool.waiting_bytes and self._rejection is None:
            self._dialled.clear()
            self._dial_now.set()
            await self._dialled.wait()
        while self._session is not None and self._spool.waiting_bytes:
            await self._session.wait_progress()
        if self._session is not None:
            await self._session.wait_told()

    async def run(self) -> None:
        """Dial, again and again, until cancelled. Returns only when rejected before the first welcome (`wait_welcome`
        raises then)."""
        watching = asyncio.create_task(self._watch_certificates())
        try:
            while self._rejection is None:
                try:
                    await self._dial()
                except Exception:
                    # A loop boundary: what waits in the spool waits for the next stream.
                    logger.exception("talking to the collector failed; it is dialled again")
                    self._note_error("the sensor failed while it talked to the collector; its log has the traceback")
                    await self._rest()
        finally:
            watching.cancel()

    async def _watch_certificates(self) -> None:
        while True:
            try:
                await self._keeper.watch(self._find_dialled, self._redial)
            except Exception:
                logger.exception("looking for another certificate failed")

    async def _dial(self) -> None:
        try:
            self._credentials = await self._keeper.prepare()
            if await self._run_session(self._credentials):
                return  # At once, with another certificate.
            self._note_error(f"the collector at {self._target} ended the stream")
        except RedirectError as redirect:
            self._redirect(redirect.target)
        except StatusError as error:
            await self._take_status(error)
        except SessionError as error:
            self._note_error(f"{error} ({self._target})")
        except EnrollmentError as error:
            self._note_error(str(error))
            if error.is_final and not self.sessions_count:
                self._reject(str(error))
        except OSError as error:
            self._note_error(
                f"{error.filename} cannot be read ({error.strerror}); correct --token-file, --collector-ca-file, "
                "--client-cert-file or --enrollment-token-file"
            )
        except (CredentialError, StateError) as error:
            self._note_error(str(error))
        await self._rest()

    async def _rest(self) -> None:
        self._dialled.set()
        if self._rejection is None:
            await wait_at_most(self._dial_now, self._backoff.next_seconds())
            self._dial_now.clear()

    async def _take_status(self, error: StatusError) -> None:
        if error.code is grpc.StatusCode.UNAVAILABLE:
            assert self._credentials is not None
            told = await explain_dial(self._target, self._credentials, error.details)
            self._note_error(told.sentence)
            if told.is_certificate_refused:
                self._keeper.note_refusal(self._credentials)
            return
        if error.code not in REJECTING_CODES:
            self._note_error(f"the collector at {self._target} answered {error}")
            return
        sentence = _tell_rejection(self._target, error)
        self._note_error(sentence)
        if not self.sessions_count:
            self._reject(sentence)

    async def _run_session(self, credentials: DialCredentials) -> bool:
        """Whether it ended because there is another certificate."""
        async with open_channel(self._target, credentials) as channel:
            session = Session(
                channel=channel,
                metadata=self._make_metadata(),
                identity=self._settings.identity,
                times=self._settings.times,
                spool=self._spool,
                clock=self._clock,
                listener=self._listener,
                on_refusal=self._count_refusal,
            )
            try:
                await session.begin()
                self.sessions_count += 1
                self._keep_authorities(session.authorities)
                self._session = session
                self.last_error = ""
                self._welcomed.set()
                self._dialled.set()
                self._listener.on_connection(True)
                return await session.run()
            finally:
                if self._session is not None:
                    self._session = None
                    self._listener.on_connection(False)
                if session.acknowledged_count:
                    self._backoff.reset()
                session.end()

    def _make_metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._settings.token()
        # What a header may hold (RFC 9110 section 5.5); gRPC would only say "invalid metadata".
        if not (token.isascii() and token.isprintable()):
            raise CredentialError("the sensor's token is not printable ASCII; correct --token-file")
        return (("authorization", f"Bearer {token}"),) if token else ()

    def _note_error(self, text: str) -> None:
        if text != self.last_error:
            logger.warning("no stream to the collector: %s", text)
        self.last_error = text
        # A redirect is followed for as long as it leads somewhere.
        self._target = self._settings.target

    def _redirect(self, text: str) -> None:
        try:
            self._target = parse_target(text)
        except ValueError as error:
            self._note_error(f"the collector redirects to nowhere: {error}")
            return
        logger.info("the collector redirects to %s", self._target)

    def _reject(self, sentence: str) -> None:
        self._rejection = UplinkRejectedError(sentence)
        self._welcomed.set()

    def _keep_authorities(self, authorities: bytes) -> None:
        """Those that a welcome over TLS brought: the collector rotates its authority."""
        try:
            if self._credentials is not None and self._credentials.chain is not None:
                self._keeper.files.save_authorities(authorities)
        except StateError as error:
            logger.error("the collector's authorities are not kept: %s", error)

    def _find_dialled(self) -> DialCredentials | None:
        """What the stream that is open was dialled with."""
        return self._credentials if self._session is not None else None

    def _redial(self) -> None:
        if self._session is not None:
            self._session.leave()

    def _count_refusal(self, reason: str) -> None:
        is_known = reason in self.refusal_reasons or len(self.refusal_reasons) < REFUSAL_REASONS_LIMIT
        self.refusal_reasons[reason if is_known else _OTHER_REASONS] += 1
        logger.error("the collector refused a batch: %s", reason)

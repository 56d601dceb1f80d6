"""The stream to the collector, dialled again for as long as the sensor lives; what is spooled leaves it only by an
acknowledgement.

One `Uplink` owns the spool and makes one `Session` (sensor/uplink/session.py) after another. A session begins with
hello and welcome, sends everything that waits from the oldest on, and ends with the first error; the next one begins
after an exponential backoff with jitter and sends again whatever has no acknowledgement. So a redial can repeat a
batch, which the collector knows by its key, and never loses one.

It runs in the sensor's one asyncio loop (grpc.aio) and not in threads: the capture's read, the windows, the spool and
the acknowledgements then need no locks, and one turn of the loop is bounded (`sensor.run` yields between slices of
exchanges), so acknowledgements wait milliseconds. gRPC's own work happens in its C core without the interpreter lock.

Off loopback the stream is always TLS, with the installation's CA file or the system's; on loopback it is clear unless a
CA is given.
"""

import asyncio
import ipaddress
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import grpc
import grpc.aio

from sensor.clock import Clock
from sensor.config import split_address
from sensor.coverage.row import PortCoverage
from sensor.health import HealthReport
from sensor.spool import Spool, SpoolEntry
from sensor.uplink.backoff import Backoff
from sensor.uplink.messages import SensorIdentity, Welcome
from sensor.uplink.policy import PolicyResult, PolicyUpdate
from sensor.uplink.session import RedirectError, Session, SessionError, SessionTimes, StatusError

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


class CredentialError(Exception):
    """A token or an authority's file cannot be used; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a collector listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_target(text: str) -> Target:
    """HOST:PORT, an IPv6 address in brackets. Raises ValueError with a sentence."""
    host, port = split_address(text)
    if not port:
        raise ValueError(f"{text!r} has port 0; give the port on which the collector listens")
    return Target(host=host, port=port)


def _read_authorities(path: Path) -> bytes:
    """The PEM certificates in a file. Raises OSError, CredentialError."""
    content = path.read_bytes()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise CredentialError(f"{path} holds no certificates in PEM; correct --collector-ca-file") from error
    return content


# What gRPC's core says of a dial that failed, and the fix; the first one that is in its text is told.
_DIAL_FAULTS: Final = (
    ("WRONG_VERSION_NUMBER", "it does not speak TLS", "give the collector a certificate or drop --collector-ca-file"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not from an authority that --collector-ca-file or the system knows",
        "correct --collector-ca-file",
    ),
    ("Hostname Verification", "its certificate has another name", "correct --collector or --collector-server-name"),
    ("not match", "its certificate has another name", "correct --collector or --collector-server-name"),
    ("Expected SETTINGS frame", "it does not speak gRPC in the clear", "name the gRPC port, and TLS if it has it"),
    ("Connection refused", "connection refused", "start it or correct --collector"),
    ("lookup", "no such host", "correct --collector"),
)


def _tell_status(target: Target, error: StatusError) -> str:
    """One sentence: what went wrong at the collector, or on the way to it."""
    if error.code is not grpc.StatusCode.UNAVAILABLE:
        return f"the collector at {target} answered {error}"
    for mark, reason, fix in _DIAL_FAULTS:
        if mark in error.details:
            return f"the collector at {target} cannot be reached (UNAVAILABLE: {reason}); {fix}"
    return (
        f"the collector at {target} cannot be reached (UNAVAILABLE: {error.details}); start it or correct --collector"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """How to reach the collector."""

    target: Target
    identity: SensorIdentity
    token: Callable[[], str]  # Read at every dial, so that a rotated file is taken up; empty = none. May raise OSError.
    ca_file: Path | None = None
    server_name: str = ""  # Name in the collector's certificate where it is not the target's host.
    first_backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 30.0
    times: SessionTimes = field(default_factory=SessionTimes)


class UplinkListener(Protocol):
    """The rest of the sensor as the stream sees it. Called in the sensor's loop; must not block."""

    def on_welcome(self, welcome: Welcome) -> None: ...

    def on_connection(self, is_connected: bool) -> None: ...

    def on_policy(self, update: PolicyUpdate) -> PolicyResult: ...

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]: ...

    def read_health(self) -> HealthReport: ...

    def read_coverage(self) -> Sequence[PortCoverage]: ...

    @property
    def key_id(self) -> int: ...

    @property
    def policy_epoch(self) -> int: ...


class Uplink:
    """Sends what is given to it, for as long as it takes. `run` is its task."""

    def __init__(
        self,
        *,
        settings: UplinkSettings,
        spool: Spool,
        clock: Clock,
        listener: UplinkListener,
        random_source: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._target = settings.target
        self._spool = spool
        self._clock = clock
        self._listener = listener
        self._backoff = Backoff(
            first_seconds=settings.first_backoff_seconds,
            longest_seconds=settings.longest_backoff_seconds,
            random_source=random_source,
        )
        self._session: Session | None = None
        self._welcomed = asyncio.Event()
        self._rejection: UplinkRejectedError | None = None
        self.last_error = f"the collector at {settings.target} has not answered yet; start it or correct --collector"
        self.sessions_count = 0  # Sessions that were welcomed.
        self.refusal_reasons: Counter[str] = Counter()  # Batches refused, by the collector's reason; bounded.

    @property
    def is_connected(self) -> bool:
        """Whether a session is welcomed and not ended."""
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
        """Return when nothing waits in the spool and the state was told, or there is no session that could do it."""
        while self._session is not None and self._spool.waiting_bytes:
            await self._session.wait_progress()
        if self._session is not None:
            await self._session.wait_told()

    async def run(self) -> None:
        """Dial, again and again, until cancelled. Returns only when rejected before the first welcome (`wait_welcome`
        raises then)."""
        while True:
            try:
                await self._run_session()
                self._note_error(f"the collector at {self._target} ended the stream")
            except RedirectError as redirect:
                self._redirect(redirect.target)
            except StatusError as error:
                self._note_error(_tell_status(self._target, error))
                if error.code in REJECTING_CODES and not self.sessions_count:
                    self._reject(error)
                    return
            except SessionError as error:
                self._note_error(f"{error} ({self._target})")
            except OSError as error:
                self._note_error(
                    f"{error.filename} cannot be read ({error.strerror}); correct --token-file or --collector-ca-file"
                )
            except CredentialError as error:
                self._note_error(str(error))
            await asyncio.sleep(self._backoff.next_seconds())

    async def _run_session(self) -> None:
        async with self._open_channel() as channel:
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
                self._session = session
                self.last_error = ""
                self._welcomed.set()
                self._listener.on_connection(True)
                await session.run()
            finally:
                if self._session is not None:
                    self._session = None
                    self._listener.on_connection(False)
                if session.acknowledged_count:
                    self._backoff.reset()
                session.end()

    def _open_channel(self) -> grpc.aio.Channel:
        options: list[tuple[str, int | str]] = [
            # A half-open connection is found within 15 s, before a minute of rows waits for nothing.
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_send_message_length", -1),
            # Without it, channels to one address share a connection and its backoff, and ours would come on top.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        if self._target.is_loopback:
            options.append(("grpc.enable_http_proxy", 0))
            if self._settings.ca_file is None:
                return grpc.aio.insecure_channel(str(self._target), options=options)
        ca = _read_authorities(self._settings.ca_file) if self._settings.ca_file else None
        if self._settings.server_name:
            options.append(("grpc.ssl_target_name_override", self._settings.server_name))
        return grpc.aio.secure_channel(str(self._target), grpc.ssl_channel_credentials(ca), options=options)

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

    def _reject(self, error: StatusError) -> None:
        is_token = error.code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
        fix = "give it the collector's sensor token with --token-file" if is_token else "install one version on both"
        reason = f"{error.code.name}: {error.details.split(';')[0].rstrip('.')}"
        self._rejection = UplinkRejectedError(f"the collector at {self._target} rejects this sensor ({reason}); {fix}")
        self._welcomed.set()

    def _count_refusal(self, reason: str) -> None:
        is_known = reason in self.refusal_reasons or len(self.refusal_reasons) < REFUSAL_REASONS_LIMIT
        self.refusal_reasons[reason if is_known else _OTHER_REASONS] += 1
        logger.error("the collector refused a batch: %s", reason)

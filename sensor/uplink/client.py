"""The stream to the collector, dialled again for as long as the sensor lives; what is spooled leaves it only by an
acknowledgement.

One `Uplink` owns the spool and makes one `Session` (sensor/uplink/session.py) after another. A session begins with
hello and welcome, sends everything that waits from the oldest on, and ends with the first error; the next one begins
after an exponential backoff with jitter and sends again whatever has no acknowledgement. So a redial can repeat a
batch, which the collector knows by its key, and never loses one.

It runs in the sensor's one asyncio loop (grpc.aio) and not in threads: the capture's read, the windows, the spool and
the acknowledgements then need no locks, and one turn of the loop is bounded (`sensor.run` yields between slices of
exchanges), so acknowledgements wait milliseconds. gRPC's own work happens in its C core without the interpreter lock.

Off loopback the stream is always TLS (sensor/uplink/target.py), with the certificate that the keeper has at that
moment.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import grpc

from sensor.clock import Clock
from sensor.spool import Spool, SpoolEntry
from sensor.uplink.backoff import Backoff
from sensor.uplink.certificates import CredentialError
from sensor.uplink.enroll import EnrollmentError
from sensor.uplink.explain import explain_dial
from sensor.uplink.keeper import CertificateKeeper
from sensor.uplink.messages import SensorIdentity
from sensor.uplink.session import (
    RedirectError,
    Session,
    SessionError,
    SessionListener,
    SessionTimes,
    StatusError,
    wait_at_most,
)
from sensor.uplink.state import StateError
from sensor.uplink.target import Credentials, Target, open_channel, parse_target

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
    """How to reach the collector."""

    target: Target
    identity: SensorIdentity
    token: Callable[[], str]  # Read at every dial, so that a rotated file is taken up; empty = none. May raise OSError.
    first_backoff_seconds: float = 0.5
    longest_backoff_seconds: float = 30.0
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
        self._credentials: Credentials | None = None  # Those of the last dial.
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
        self._dial_now = asyncio.Event()  # Cuts the wait before the next dial short.
        self._dialled = asyncio.Event()  # A dial that ended after it was cleared: in a session, or in none.
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
        """One session, and the wait after it."""
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
        """The wait before the next dial."""
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

    async def _run_session(self, credentials: Credentials) -> bool:
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

    def _find_dialled(self) -> Credentials | None:
        """What the stream that is open was dialled with."""
        return self._credentials if self._session is not None else None

    def _redial(self) -> None:
        if self._session is not None:
            self._session.leave()

    def _count_refusal(self, reason: str) -> None:
        is_known = reason in self.refusal_reasons or len(self.refusal_reasons) < REFUSAL_REASONS_LIMIT
        self.refusal_reasons[reason if is_known else _OTHER_REASONS] += 1
        logger.error("the collector refused a batch: %s", reason)

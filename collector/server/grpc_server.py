"""The gRPC server for sensors: in clear text on loopback, otherwise behind the TLS terminator.

It joins what is trusted (`trust`), who is admitted (`Admission`), who gets a certificate (`Enroller`), and the two
services. `look` and `apply`, every second, take new certificates, authorities and revocations into use while it runs.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import time
from pathlib import Path

import grpc

from collector.alerting.alert import AlertKind
from collector.alerting.self_monitoring import Validity
from collector.core.config import CollectorSettings
from collector.core.feature import Role
from collector.core.keys import KeyFileError, Token
from collector.receiver.service import GRPC_LIMIT_BYTES, CollectorService, EnrollmentService
from collector.server.listeners import StartError, bind
from collector.storage.base import StoreError
from collector.storage.state.store import StateStore
from collector.trust.admission import Admission
from collector.trust.enroller import Enroller
from collector.trust.enrollment import TokenReviewer
from collector.trust.files import Trust, TrustError
from collector.trust.identity import list_own_names
from collector.trust.revocation import Revocations
from collector.trust.secrets import SecretTable
from collector.trust.tls_terminator import RefusalLog, TlsTerminator
from common.figures import Figure, list_figures, make_gauges, make_labelled, make_totals
from common.settings import split_address

# Where Kubernetes mounts a Pod's account, and the audience of the tokens that sensors show (deploy/helm).
ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AUDIENCE = "apidae"
_INNER_LISTEN = "127.0.0.1:0"
_OPTIONS = (
    ("grpc.max_receive_message_length", GRPC_LIMIT_BYTES),
    ("grpc.so_reuseport", 0),  # Else a second collector would share the port instead of failing.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # Connections on which nobody calls: a sensor has its stream, an enrolment its one call.
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 8),  # A sensor has its stream and, at times, the call for its next certificate.
)

logger = logging.getLogger(__name__)


class Entrance:
    """Made in a thread (it reads and writes files), started and stopped in the event loop."""

    def __init__(
        self, settings: CollectorSettings, token: Token | None, *, state: StateStore, secrets: SecretTable
    ) -> None:
        """`token` is the sensors', where it is taken. Raises StartError."""
        self._settings = settings
        self._refusals = RefusalLog(time.monotonic)
        self._trust = _open_trust(settings, state, secrets)
        self._terminator: TlsTerminator | None = None
        if settings.is_grpc_secure and Role.INGEST in settings.roles:
            assert self._trust is not None
            trust = self._trust
            listener = bind(settings.grpc_listen, "grpc_listen")
            self._terminator = TlsTerminator(listener, find_context=lambda: trust.context, refusals=self._refusals)
        self.admission = Admission(
            token=token,
            takes_certificates=settings.takes_certificates,
            find_peer=self._terminator.find_peer if self._terminator is not None else None,
            on_admitted=self._terminator.admit if self._terminator is not None else lambda _peer: None,
            find_revocations=lambda: self._trust.revocations if self._trust is not None else Revocations(),
            refusals=self._refusals,
            clock=time.time,
        )
        self._enrollment: EnrollmentService | None = None
        self._server: grpc.aio.Server | None = None
        self._terminating: asyncio.Task[None] | None = None
        self._http_context: ssl.SSLContext | None = None
        self._version, self._bundle = (self._trust.version, self._trust.bundle) if self._trust is not None else (0, b"")
        self._error = ""
        self._error_count = 0

    @property
    def authorities(self) -> bytes:
        """PEM by which sensors know this collector; empty where they know it otherwise."""
        return self._trust.bundle if self._trust is not None else b""

    def make_client_context(self) -> ssl.SSLContext:
        """To check the certificates of other collectors of the same authority, or of one that the system trusts."""
        context = ssl.create_default_context()
        if self._trust is not None:
            context.load_verify_locations(cadata=self._trust.bundle.decode())
        return context

    def list_validities(self) -> tuple[Validity, ...]:
        """From when to when the certificates hold that are used now; none without TLS."""
        if self._trust is None:
            return ()
        trust, authority = self._trust, self._trust.authority.certificate
        return (
            Validity(
                kind=AlertKind.COLLECTOR_CERTIFICATE,
                not_before=trust.server_not_before,
                not_after=trust.server_not_after,
            ),
            Validity(
                kind=AlertKind.AUTHORITY_CERTIFICATE,
                not_before=authority.not_valid_before_utc.timestamp(),
                not_after=authority.not_valid_after_utc.timestamp(),
            ),
        )

    @property
    def terminator_address(self) -> tuple[str, int] | None:
        """Host and port of the listener that ends TLS; None where sensors come in the clear, on loopback."""
        return self._terminator.address if self._terminator is not None else None

    @property
    def server_files(self) -> tuple[Path, Path] | None:
        """Certificate and key of the listeners, where TLS is spoken."""
        return self._trust.server_files if self._trust is not None else None

    async def start(self, ingest: CollectorService) -> int:
        """Take sensors from now on; the port. Raises StartError."""
        server = grpc.aio.server(options=list(_OPTIONS))
        server.add_generic_rpc_handlers((ingest.build_handler(),))
        if self._terminator is not None and self._trust is not None and self._settings.takes_certificates:
            enroller = Enroller(
                trust=self._trust,
                reviewer=_open_reviewer(self._settings),
                cluster=self._settings.cluster,
            )
            self._enrollment = EnrollmentService(enroller, self.admission, self._trust)
            server.add_generic_rpc_handlers((self._enrollment.build_handler(),))
        listen = self._settings.grpc_listen if self._terminator is None else _INNER_LISTEN
        try:
            port = server.add_insecure_port(listen)
        except RuntimeError as error:
            # gRPC does not say why; a socket of our own does.
            bind(listen, "grpc_listen").close()
            raise StartError(f"grpc_listen {listen} cannot be listened on; choose another.") from error
        await server.start()
        self._server = server
        if self._terminator is None:
            return port
        self._terminating = asyncio.create_task(self._terminator.serve(port))
        return self._terminator.port

    async def stop(self, grace_seconds: float) -> None:
        """End all streams in order, then the connections."""
        if self._server is not None:
            await self._server.stop(grace_seconds)
        if self._terminating is not None:
            self._terminating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._terminating

    def close(self) -> None:
        """Of one that was never started: give the port back."""
        if self._terminator is not None:
            self._terminator.close()

    def keep_current(self, context: ssl.SSLContext) -> None:
        """The people's listener: its context gets each new certificate too."""
        self._http_context = context

    def look(self) -> None:
        """Read what changed; blocks. What cannot be read leaves in use what was, and is logged once."""
        if self._trust is None:
            return
        try:
            self._trust.refresh()
            self._error = ""
        except (TrustError, KeyFileError, StoreError) as error:
            self._error_count += 1
            if str(error) != self._error:
                logger.error("What was read before stays in use: %s", error)
            self._error = str(error)

    def apply(self, ingest: CollectorService) -> None:
        """Let what changed take effect. Called in the event loop, every second."""
        if self._trust is None:
            return
        ingest.check_certificates()
        if self._version == self._trust.version:
            return
        self._version = self._trust.version
        logger.info("Connections see other certificates or authorities from now on.")
        if self._http_context is not None:
            try:
                self._trust.load_server_pair(self._http_context)
            except TrustError as error:
                # Replaced a second time since it was looked at: the next look takes it.
                logger.error("The people's listener keeps its certificate: %s", error)
        if self._bundle != self._trust.bundle:
            # It comes with the welcome, so sensors dial again.
            self._bundle = self._trust.bundle
            ingest.end_streams()

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = "Connections and requests of sensors that were refused, by reason."
        found = [*make_labelled("refused", text, "reason", self._refusals.counts.items())]
        if self._trust is not None:
            left = self._trust.server_not_after - time.time()
            text = "Seconds until the collector's own certificate expires."
            found += make_gauges([("tls_certificate_left_seconds", text, left)])
        if self._terminator is not None:
            text = "Times that certificates or revocations could not be read; what was read before stays in use."
            found += (*self._terminator.figures(), *make_totals([("trust_errors", text, self._error_count)]))
        if self._enrollment is not None:
            found += list_figures(self._enrollment.counts, "sensors_")
        return tuple(found)


def _open_trust(settings: CollectorSettings, state: StateStore, secrets: SecretTable) -> Trust | None:
    if not (settings.is_grpc_secure or settings.is_http_secure):
        return None
    listens = [split_address(listen)[0] for listen in (settings.grpc_listen, settings.http_listen)]
    trust = Trust(settings, list_own_names(listens, settings.tls_server_names), time.time, state=state, secrets=secrets)
    try:
        trust.refresh()
        trust.certificates.forget_expired(time.time())
    except (TrustError, KeyFileError) as error:
        raise StartError(str(error)) from error
    return trust


def _open_reviewer(settings: CollectorSettings) -> TokenReviewer | None:
    if not settings.kubernetes_enrollment_accounts:
        return None
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise StartError(
            "kubernetes_enrollment_accounts is set outside a cluster (there is no KUBERNETES_SERVICE_HOST); drop it."
        )
    return TokenReviewer(
        account_dir=ACCOUNT_DIRECTORY,
        audience=AUDIENCE,
        accounts=settings.kubernetes_enrollment_accounts,
    )

"""Gives sensors their certificates: for a one-time token, a Kubernetes service account's token, or the one in use.

Takes a request for a certificate and the proof of the right to one. Gives the chain, or an `EnrollmentRefusedError`
whose sentence the sensor prints. The used token and the certificate's row are written before the answer, in a
thread.

`FailureAllowance` limits failed tries: a token bucket per address, and one for all addresses. A token has 256 random
bits, so this does not prevent guesses. It prevents that failed tries cost anything.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from collector.trust.authority import SENSOR_CERTIFICATE_SECONDS, AuthorityError, issue_sensor_certificate
from collector.trust.enrollment import TOKEN_PREFIX, EnrollmentRefusedError, TokenReviewer
from collector.trust.files import Trust
from collector.trust.identity import SensorCertificate
from collector.trust.revocation import IssuedCertificate
from common.bounded import BoundedDict
from common.token_bucket import TokenBucket

HOST_FAILURES: Final = 10
HOST_FAILURES_PER_SECOND: Final = 1 / 6
ALL_FAILURES: Final = 300
ALL_FAILURES_PER_SECOND: Final = 5.0
HOSTS_LIMIT: Final = 4_096


class FailureAllowance:
    """`find_wait` before a try, `spend` after one that failed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that do not go back."""
        self._clock = clock
        self._hosts: BoundedDict[str, TokenBucket] = BoundedDict(HOSTS_LIMIT)
        self._all = TokenBucket(ALL_FAILURES_PER_SECOND, ALL_FAILURES, clock)

    def find_wait(self, host: str) -> float:
        """Seconds until the address may try again; 0 where it may now."""
        known = self._hosts.get(host, self._all)
        return max(known.find_wait(), self._all.find_wait())

    def spend(self, host: str) -> None:
        """A try that failed."""
        bucket = self._hosts.use(host) or TokenBucket(HOST_FAILURES_PER_SECOND, HOST_FAILURES, self._clock)
        self._hosts[host] = bucket
        bucket.spend()
        self._all.spend()


NAME_LIMIT: Final = 253
REQUEST_LIMIT_BYTES: Final = 16 * 1024
# Questions to the Kubernetes API at once: a whole cluster may start its sensors in one minute.
REVIEWS_LIMIT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a sensor asks with."""

    host: str  # Address it comes from.
    cluster: str
    node: str
    request: bytes  # PKCS #10, DER.
    token: str = ""


class Enroller:
    """One for the collector. Used in the event loop."""

    def __init__(
        self,
        *,
        trust: Trust,
        reviewer: TokenReviewer | None,
        cluster: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`reviewer` is None where Kubernetes lets nobody in; `cluster` is the one that it asks."""
        self._trust = trust
        self._reviewer = reviewer
        self._cluster = cluster
        self._clock = clock
        self._allowance = FailureAllowance(time.monotonic)
        self._reviews = asyncio.Semaphore(REVIEWS_LIMIT)

    async def enroll(self, application: Application) -> bytes:
        """A first certificate. Raises EnrollmentRefusedError, AccessError, ApiError, StoreError."""
        wait = self._allowance.find_wait(application.host)
        if wait > 0:
            raise EnrollmentRefusedError(
                "rate", f"Too many enrolments of {application.host} failed; try again in {wait:.0f} s."
            )
        try:
            _check(application)
            if application.token.startswith(f"{TOKEN_PREFIX}."):
                return await asyncio.to_thread(self._enroll_by_token, application)
            return await self._enroll_by_kubernetes(application)
        except EnrollmentRefusedError:
            self._allowance.spend(application.host)
            raise

    async def renew(self, certificate: SensorCertificate, request: bytes, *, cluster: str, node: str) -> bytes:
        """The next certificate of the same node. Raises EnrollmentRefusedError, StoreError."""
        application = Application(host="", cluster=cluster, node=node, request=request)
        _check(application)
        return await asyncio.to_thread(self._issue, application, f"renewal of {certificate.serial_text}")

    def _enroll_by_token(self, application: Application) -> bytes:
        now, (cluster, node) = self._clock(), (application.cluster, application.node)
        taken = self._trust.enrollments.take(
            application.token,
            now=now,
            node=node,
            cluster=cluster,
            is_taken=self._trust.certificates.has_valid(cluster=cluster, node=node, now=now),
        )
        return self._issue(application, f"token {taken.number}")

    async def _enroll_by_kubernetes(self, application: Application) -> bytes:
        if self._reviewer is None:
            raise EnrollmentRefusedError(
                "unknown",
                "The enrolment token is no one-time token, and this collector takes none of Kubernetes.",
            )
        cluster, node = application.cluster, application.node
        if cluster != self._cluster:
            # The token proves a node of this cluster. Under another name a revoked node would come back.
            raise EnrollmentRefusedError(
                "other_cluster",
                f"Service account tokens are of cluster {self._cluster or '(none)'}, and the sensor says "
                f"{cluster or '(none)'}; correct its --cluster.",
            )
        async with self._reviews:
            found = await self._reviewer.find_node(application.token)
        if found != node:
            raise EnrollmentRefusedError(
                "other_node", f"The service account token is of a Pod on node {found}, not on {node}; correct --node."
            )
        # Of this moment, not of the last look: who was just allowed need not try twice, here and with its certificate.
        revocations = await asyncio.to_thread(self._trust.read_revocations)
        if revocations.is_node_revoked(cluster=cluster, node=node):
            raise EnrollmentRefusedError(
                "revoked", f"Node {node} is revoked; allow it with `apidae certificates allow` on the collector."
            )
        return await asyncio.to_thread(self._issue, application, "kubernetes")

    def _issue(self, application: Application, way: str) -> bytes:
        now = self._clock()
        try:
            chain = issue_sensor_certificate(
                self._trust.authority,
                application.request,
                cluster=application.cluster,
                node=application.node,
                now=now,
                seconds=SENSOR_CERTIFICATE_SECONDS,
            )
        except AuthorityError as error:
            raise EnrollmentRefusedError("request", f"No certificate can be made: {error}.") from error
        leaf = x509.load_pem_x509_certificates(chain)[0]
        self._trust.certificates.record_issued(
            IssuedCertificate(
                serial=f"{leaf.serial_number:x}",
                cluster=application.cluster,
                node=application.node,
                issued_at=now,
                not_after=leaf.not_valid_after_utc.timestamp(),
                way=way,
            )
        )
        return chain


def _check(application: Application) -> None:
    for what, text, least in (("node", application.node, 1), ("cluster", application.cluster, 0)):
        if not least <= len(text) <= NAME_LIMIT or not text.isprintable():
            raise EnrollmentRefusedError(
                "request", f"The {what} has {len(text)} characters; it needs {least} to {NAME_LIMIT}, all printable."
            )
    if len(application.request) > REQUEST_LIMIT_BYTES:
        raise EnrollmentRefusedError("request", f"The certificate request has {len(application.request)} bytes.")

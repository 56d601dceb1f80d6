"""Manages the sensor's certificate and the authorities that it trusts: loads, enrols, renews and notices replaced
files.

Certificates come from the operator's files or from the state directory. There, key and certificate are one file, so
that a crash never leaves a pair that does not fit. All is read again at every dial. The key is made here and never
leaves the node.

`CertificateKeeper.prepare` runs before each dial, and every few seconds beside the stream. The stream goes on with the
old certificate until there is a new one.

Enrolment: the first certificate costs a token, the next ones the certificate in use. A one-time token holds the SHA-256
of a public key. First, one TLS handshake that trusts nobody looks for a certificate of that key in the collector's
chain. That certificate is the only authority that the second connection trusts, and the token goes over that one. So a
party in between, which has no such key, learns nothing.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from apidae.v1 import enroll_pb2

from sensor.core.clock import Clock
from sensor.core.printable import SENTENCE_BYTES_MAX, make_printable
from sensor.export.state import StateDirectory, StateError
from sensor.export.target import DialCredentials, Target, open_channel

PAIR_FILE: Final = "certificate.pem"
AUTHORITIES_FILE: Final = "collector-ca.pem"
# Of a certificate's life; the rest is for whoever has to notice that renewal fails.
RENEW_RATIO: Final = 2 / 3
_KEY_BEGIN: Final = b"-----BEGIN PRIVATE KEY-----"
_CERTIFICATE_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


class CredentialError(Exception):
    """A token, a certificate or an authority's file cannot be used; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTimes:
    not_before: float
    not_after: float

    def is_due(self, now: float) -> bool:
        return now >= self.not_before + (self.not_after - self.not_before) * RENEW_RATIO

    def is_expired(self, now: float) -> bool:
        return now >= self.not_after


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    key: bytes = field(repr=False)  # PEM.
    request: bytes  # PKCS #10, DER.


class CertificateFiles:
    """Reads and writes them. Paths that are None are the state directory's."""

    def __init__(
        self, state: StateDirectory, *, ca_file: Path | None, cert_file: Path | None, key_file: Path | None
    ) -> None:
        self._state = state
        self._ca_file = ca_file
        self._cert_file = cert_file
        self._key_file = key_file

    @property
    def is_managed(self) -> bool:
        """Whether the certificate is ours to renew; the operator's is only read again."""
        return self._cert_file is None

    @property
    def certificate_path(self) -> Path:
        """For sentences."""
        return self._cert_file or self._state.path / PAIR_FILE

    def load(self, server_name: str) -> DialCredentials:
        """What a dial takes. Raises OSError, StateError, CredentialError."""
        pair = self._read_pair()
        return DialCredentials(
            authorities=self._read_authorities(),
            server_name=server_name,
            chain=pair[0] if pair else None,
            key=pair[1] if pair else None,
        )

    def save(self, *, key: bytes, chain: bytes, authorities: bytes) -> None:
        """Keep a new certificate. Raises StateError, CredentialError where it is none."""
        read_times(chain, "the collector's answer")
        self.save_authorities(authorities)
        self._state.write_bytes(PAIR_FILE, key + chain)

    def save_authorities(self, authorities: bytes) -> None:
        """Keep the authorities by which the collector is known from now on; none keeps those there are. Raises
        StateError."""
        if authorities and is_authorities(authorities) and self._state.read_bytes(AUTHORITIES_FILE) != authorities:
            self._state.write_bytes(AUTHORITIES_FILE, authorities)

    def _read_authorities(self) -> bytes | None:
        if self._ca_file is None:
            return self._state.read_bytes(AUTHORITIES_FILE)
        content = self._ca_file.read_bytes()
        if not is_authorities(content):
            raise CredentialError(f"{self._ca_file} holds no certificates in PEM; correct --collector-ca-file")
        return content

    def _read_pair(self) -> tuple[bytes, bytes] | None:
        if self._cert_file is not None and self._key_file is not None:
            return self._cert_file.read_bytes(), self._key_file.read_bytes()
        content = self._state.read_bytes(PAIR_FILE)
        if content is None:
            return None
        begin = content.find(_CERTIFICATE_BEGIN)
        if begin < 0 or not content.startswith(_KEY_BEGIN):
            raise CredentialError(f"{self.certificate_path} is damaged; enrol this sensor again with `apidae enroll`")
        return content[begin:], content[:begin]


def is_authorities(pem: bytes) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return True


def read_times(chain: bytes, where: str) -> CertificateTimes:
    """Of the first certificate. Raises CredentialError that names `where`."""
    # Here, not above: the library takes 10 MB, which a sensor without a certificate can do without.
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise CredentialError(f"{where} holds no certificate in PEM; correct it or enrol again") from error
    return CertificateTimes(
        not_before=leaf.not_valid_before_utc.timestamp(), not_after=leaf.not_valid_after_utc.timestamp()
    )


def make_key_request() -> KeyRequest:
    """ECDSA on P-256. The collector takes only the key of it, so it names nobody."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
    return KeyRequest(
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        request=request.public_bytes(Encoding.DER),
    )


TIMEOUT_SECONDS: Final = 20.0
HANDSHAKE_SECONDS: Final = 5.0
_SERVICE: Final = "/apidae.v1.EnrollmentService"
_ONE_TIME: Final = re.compile(r"apidae1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{43}\.([0-9a-f]{64}|-)\Z")


class EnrollmentError(Exception):
    """No certificate was given; one sentence. `is_final`: the same token gets none later either."""

    def __init__(self, sentence: str, *, is_final: bool) -> None:
        super().__init__(sentence)
        self.is_final = is_final


async def enroll(
    *, target: Target, token: str, cluster: str, node: str, files: CertificateFiles, server_name: str
) -> None:
    """Exchange a token for a certificate, and keep it. Raises EnrollmentError, CredentialError, OSError, StateError."""
    if not token:
        raise CredentialError("the enrolment token is empty; give what `apidae enrollment create` printed")
    credentials = replace(files.load(server_name), chain=None, key=None)
    if token.startswith("apidae1."):
        found = _ONE_TIME.match(token)
        if found is None:
            raise CredentialError(
                "the enrolment token is not whole; copy all of what `apidae enrollment create` printed"
            )
        if found.group(1) != "-":
            anchor = await asyncio.to_thread(_find_anchor, target, found.group(1))
            credentials = replace(credentials, authorities=anchor)
    if not credentials.is_secure(target):
        raise CredentialError(
            f"the enrolment token does not name the authority of {target}, as one that begins with apidae1. does: copy "
            "all of what `apidae enrollment create` printed, or give --collector-ca-file"
        )
    fresh = await asyncio.to_thread(make_key_request)
    request = enroll_pb2.EnrollRequest(token=token, cluster=cluster, node=node, certificate_request=fresh.request)
    answer = await _call(target, credentials, "Enroll", request, enroll_pb2.EnrollResponse)
    certificate = answer.certificate
    files.save(key=fresh.key, chain=certificate.chain, authorities=certificate.authorities)


async def renew(*, target: Target, files: CertificateFiles, server_name: str) -> None:
    """Exchange the certificate in use for the next one, and keep it. Raises as `enroll`."""
    fresh = await asyncio.to_thread(make_key_request)
    request = enroll_pb2.RenewRequest(certificate_request=fresh.request)
    answer = await _call(target, files.load(server_name), "Renew", request, enroll_pb2.RenewResponse)
    certificate = answer.certificate
    files.save(key=fresh.key, chain=certificate.chain, authorities=certificate.authorities)


async def _call(target: Target, credentials: DialCredentials, method: str, request: Any, answer: Any) -> Any:
    async with open_channel(target, credentials) as channel:
        call = channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _tell(target, error) from error


def _tell(target: Target, error: grpc.aio.AioRpcError) -> EnrollmentError:
    code, details = error.code(), make_printable(error.details() or "no details", SENTENCE_BYTES_MAX)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return EnrollmentError(
            f"the collector at {target} gives no certificates; set its sensor_auth to certificate or any", is_final=True
        )
    is_final = code in (
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    said = "refuses to enrol this sensor" if is_final else "did not enrol this sensor"
    return EnrollmentError(
        f"the collector at {target} {said} ({code.name}): {details[:1].lower()}{details[1:].rstrip('.')}",
        is_final=is_final,
    )


def _find_anchor(target: Target, pin: str) -> bytes:
    """PEM of the certificate with that public key among those which are shown; blocks. Raises EnrollmentError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Nothing is said on this connection; what is pinned is looked for below.
    try:
        with (
            socket.create_connection((target.host, target.port), HANDSHAKE_SECONDS) as plain,
            context.wrap_socket(plain) as secure,
        ):
            shown = _read_chain(secure)
    except OSError as error:
        is_clear = isinstance(error, ssl.SSLError)
        reason = "it does not speak TLS" if is_clear else error.strerror or str(error) or "no answer"
        raise EnrollmentError(
            f"the collector at {target} cannot be reached ({reason}); start it or correct --collector", is_final=False
        ) from error
    for der in shown:
        if hmac.compare_digest(_fingerprint(der), pin):
            return ssl.DER_cert_to_PEM_cert(der).encode()
    raise EnrollmentError(
        f"{target} is not the collector that made the enrolment token (none of its certificates has the key that the "
        "token names); correct --collector, or make another token",
        is_final=True,
    )


def _read_chain(secure: ssl.SSLSocket) -> list[bytes]:
    """All certificates that the other side showed, DER."""
    public: Any = getattr(secure, "get_unverified_chain", None)
    if public is not None:  # Python 3.13.
        return [bytes(der) for der in public()]
    inner: Any = secure._sslobj  # type: ignore[attr-defined]
    return [ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in inner.get_unverified_chain()]


def _fingerprint(der: bytes) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        public = x509.load_der_x509_certificate(der).public_key()
    except ValueError:
        return ""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
# Between two tries to renew: a tenth of the life, so that three tries at least fit into the last third.
RETRY_RATIO: Final = 1 / 10
RETRY_SECONDS_LONGEST: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """Who asks, where, and with what token."""

    target: Target
    cluster: str
    node: str
    server_name: str = ""
    token_file: Path | None = None
    look_seconds: float = LOOK_SECONDS


class CertificateKeeper:
    """One for the uplink."""

    def __init__(self, settings: KeeperSettings, files: CertificateFiles, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._retry_at = 0.0
        self._refused_chain: bytes | None = None
        self.files = files

    async def prepare(self) -> DialCredentials:
        """What a dial takes now, after what is to be done for it. Raises EnrollmentError, CredentialError, OSError,
        StateError."""
        credentials = self.files.load(self._settings.server_name)
        if not self.files.is_managed:
            return credentials
        now = self._clock.unix_ns() / 1e9
        if credentials.chain is None:
            return await self._enroll() if self._settings.token_file is not None else credentials
        times = read_times(credentials.chain, str(self.files.certificate_path))
        is_useless = times.is_expired(now) or credentials.chain == self._refused_chain
        if is_useless and self._settings.token_file is not None:
            return await self._enroll()
        if times.is_due(now) and not times.is_expired(now) and now >= self._retry_at:
            life = times.not_after - times.not_before
            self._retry_at = now + min(life * RETRY_RATIO, RETRY_SECONDS_LONGEST)
            return await self._renew(credentials)
        return credentials

    def note_refusal(self, credentials: DialCredentials) -> None:
        """The collector does not take this certificate: it has another authority than the one that signed it, or
        another clock. The next dial enrols again where there is a token."""
        self._refused_chain = credentials.chain

    async def watch(self, find_dialled: Callable[[], DialCredentials | None], redial: Callable[[], None]) -> None:
        """Until cancelled: redial where what a dial would take now is not what the stream has."""
        while True:
            await asyncio.sleep(self._settings.look_seconds)
            dialled = find_dialled()
            if dialled is None:
                continue  # The next dial prepares by itself.
            try:
                current = await self.prepare()
            except (EnrollmentError, CredentialError, OSError, StateError) as error:
                # The stream goes on with what it has; a dial says it again.
                logger.debug("no other certificate: %s", error)
                continue
            if current != dialled and find_dialled() is dialled:
                logger.info("certificate or authority is another one; dialling again")
                redial()

    async def _enroll(self) -> DialCredentials:
        settings = self._settings
        assert settings.token_file is not None
        token = settings.token_file.read_text().strip()
        await enroll(
            target=settings.target,
            token=token,
            cluster=settings.cluster,
            node=settings.node,
            files=self.files,
            server_name=settings.server_name,
        )
        logger.info("enrolled: the certificate is in %s", self.files.certificate_path)
        return self.files.load(settings.server_name)

    async def _renew(self, credentials: DialCredentials) -> DialCredentials:
        """The next certificate, or the one in use where there is none yet."""
        settings = self._settings
        try:
            await renew(target=settings.target, files=self.files, server_name=settings.server_name)
        except EnrollmentError as error:
            logger.warning("the certificate is not renewed yet: %s", error)
            return credentials
        logger.info("renewed the certificate in %s", self.files.certificate_path)
        return self.files.load(settings.server_name)

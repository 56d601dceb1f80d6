"""Getting a certificate of the collector: the first one with a token, the next ones with the one in use.

A one-time token bears the SHA-256 of a public key. Before anything is said, one TLS handshake that trusts nobody looks
for a certificate of that key among those which the collector shows; it then is the only authority that the second
connection trusts, over which the token goes. Who stands in between has no such key and learns nothing.
"""

import asyncio
import hashlib
import hmac
import re
import socket
import ssl
from dataclasses import replace
from typing import Any, Final

import grpc
import grpc.aio
from apidae.v1 import enroll_pb2

from sensor.uplink.certificates import CertificateFiles, CredentialError, make_key_request
from sensor.uplink.target import Credentials, Target, open_channel

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
            f"the enrolment token does not say by what authority {target} is known; give --collector-ca-file"
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


async def _call(target: Target, credentials: Credentials, method: str, request: Any, answer: Any) -> Any:
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
    code, details = error.code(), error.details() or "no details"
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

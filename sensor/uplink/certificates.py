"""The sensor's certificate and the authorities it trusts: the operator's files, or those of the state directory.

In the state directory key and certificate are one file, so that a crash never leaves a pair that does not fit. All is
read again at every dial. The key is made here and never leaves the node.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sensor.uplink.state import StateDirectory
from sensor.uplink.target import Credentials

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
    """When a certificate is good, unix seconds."""

    not_before: float
    not_after: float

    def is_due(self, now: float) -> bool:
        """Whether it should be renewed."""
        return now >= self.not_before + (self.not_after - self.not_before) * RENEW_RATIO

    def is_expired(self, now: float) -> bool:
        """Whether it is of no use any more."""
        return now >= self.not_after


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A new key and the request for its certificate."""

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

    def load(self, server_name: str) -> Credentials:
        """What a dial takes. Raises OSError, StateError, CredentialError."""
        pair = self._read_pair()
        return Credentials(
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
        """Chain and key."""
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
    """Whether it holds certificates in PEM."""
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

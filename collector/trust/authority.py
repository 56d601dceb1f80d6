"""The certificate authority: signs certificates of sensors and of the collector, rotates, and is kept on disk.

Keys are ECDSA on P-256. A sensor's certificate is valid for a client only and the collector's for a server only
(extended key usage), so neither can act as the other. Signing is pure: bytes and certificates in and out, no files.

A rotation makes a new authority and cross-signs it: the new key under the name and signature of the old one. While it
lasts, the collector shows the cross-signed certificate. So a sensor that knows only the old authority still trusts it.
The collector takes certificates of both.

The collector's own authority is one secret of the state, so that a crash in a rotation leaves the old one or the new
one. It holds the key, the certificate, and during a rotation the cross-signed and the previous certificate. The
operator's authority is read from `ca_cert_file` and `ca_key_file` and never written.
"""

import dataclasses
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from collector.core.keys import KeyFileError
from collector.trust.identity import BACKDATE_SECONDS, write_uri
from collector.trust.secrets import SecretTable

AUTHORITY_SECONDS: Final = 3650 * 86_400
# Of sensors' certificates, and how long a former authority is trusted. A node that was away for two weeks still renews.
SENSOR_CERTIFICATE_SECONDS: Final = 30 * 86_400
_RSA_BITS_LEAST: Final = 2048

AuthorityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class AuthorityError(Exception):
    """A certificate or a request cannot be used; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Signs with `key` under `certificate`; `others` are trusted too. `key` None: it only verifies."""

    certificate: x509.Certificate
    key: AuthorityKey | None = field(repr=False)
    others: tuple[x509.Certificate, ...] = ()
    cross: x509.Certificate | None = None  # `certificate`'s key, signed by others[0].

    @property
    def bundle(self) -> bytes:
        """All that is trusted, PEM, the signing one first."""
        return write_certificates((self.certificate, *self.others))

    @property
    def anchor(self) -> x509.Certificate:
        """The last certificate that the collector shows with its own: what a one-time token pins."""
        return self.others[0] if self.cross is not None else self.certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate with those between it and its authority, and its key; PEM."""

    chain: bytes
    key: bytes = field(repr=False)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the public key (SubjectPublicKeyInfo), hexadecimal: the same for a cross-signed one."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def write_certificates(certificates: Sequence[x509.Certificate]) -> bytes:
    """PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def write_key(key: AuthorityKey) -> bytes:
    """PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_authority(now: float, seconds: float = AUTHORITY_SECONDS) -> Authority:
    """A new one with a key of its own, valid for so long from `now` (unix seconds) on."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Numbered by its key: two authorities of one name would be taken for each other when a chain is built.
    number = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:16]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Apidae authority {number}")])
    return Authority(certificate=_sign_authority(key, name, issuer=None, now=now, seconds=seconds), key=key)


def rotate_authority(old: Authority, now: float) -> Authority:
    """A new one that whoever trusts `old` trusts too. Raises AuthorityError where `old` has no key."""
    if old.key is None:
        raise AuthorityError("the authority has no key here, so it cannot be rotated here")
    new = make_authority(now)
    assert isinstance(new.key, ec.EllipticCurvePrivateKey)
    cross = _sign_authority(new.key, new.certificate.subject, issuer=old, now=now)
    return Authority(certificate=new.certificate, key=new.key, others=(old.certificate,), cross=cross)


def read_authority(certificates: bytes, key: bytes | None) -> Authority:
    """From PEM: the certificate of the key, and others that are trusted beside it; without a key the first one is
    taken. Raises AuthorityError."""
    try:
        found = x509.load_pem_x509_certificates(certificates)
    except ValueError as error:
        raise AuthorityError("holds no certificates in PEM") from error
    if key is None:
        return Authority(certificate=found[0], key=None, others=tuple(found[1:]))
    private = _read_key(key)
    own = private.public_key()
    signing = next((item for item in found if item.public_key() == own), None)
    if signing is None:
        raise AuthorityError("holds no certificate of the key")
    return Authority(certificate=signing, key=private, others=tuple(item for item in found if item is not signing))


def issue_server_certificate(authority: Authority, names: Sequence[str], *, now: float, seconds: float) -> KeyPair:
    """The collector's own certificate, for host names and addresses. Raises AuthorityError without a key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Apidae collector")])
    builder = _begin(authority, subject, key.public_key(), now=now, seconds=seconds)
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    leaf = _sign(builder, authority)
    above = (authority.cross, *authority.others) if authority.cross is not None else (authority.certificate,)
    return KeyPair(chain=write_certificates((leaf, *above)), key=write_key(key))


def issue_sensor_certificate(
    authority: Authority, request: bytes, *, cluster: str, node: str, now: float, seconds: float
) -> bytes:
    """Sign a request (PKCS #10, DER) for a node; of the request only its key counts. The chain in PEM. Raises
    AuthorityError."""
    try:
        csr = x509.load_der_x509_csr(request)
        is_proven = csr.is_signature_valid
        public = csr.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, TypeError, x509.InvalidVersion) as error:
        raise AuthorityError("the certificate request cannot be read; install one version on both sides") from error
    if not is_proven:
        raise AuthorityError("the certificate request is not signed by its own key")
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < _RSA_BITS_LEAST:
        raise AuthorityError(f"the key has {public.key_size} bits; use at least {_RSA_BITS_LEAST}")
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise AuthorityError("the key is of a kind that is not taken; use ECDSA on P-256")
    builder = _begin(authority, x509.Name([]), public, now=now, seconds=seconds)
    uri = x509.UniformResourceIdentifier(write_uri(cluster=cluster, node=node))
    # Critical: the subject is empty (RFC 5280 section 4.2.1.6), for a node's name may be longer than a common name.
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    leaf = _sign(builder, authority)
    is_root = authority.certificate.subject == authority.certificate.issuer
    return write_certificates((leaf,) if is_root else (leaf, authority.certificate))


def _read_key(pem: bytes) -> AuthorityKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError("holds no unencrypted key in PEM") from error
    if not isinstance(key, AuthorityKey):
        raise AuthorityError("holds a key that cannot sign; use ECDSA, RSA or Ed25519")
    return key


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _time(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(int(unix_seconds), UTC)


def _begin(
    authority: Authority, subject: x509.Name, public: CertificatePublicKeyTypes, *, now: float, seconds: float
) -> x509.CertificateBuilder:
    """What both kinds of leaf have; none outlives its authority."""
    end = min(_time(now + seconds), authority.certificate.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now - BACKDATE_SECONDS))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_make_usage(is_authority=False), critical=True)
        .add_extension(_identify_issuer(authority), critical=False)
    )


def _make_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _identify_issuer(authority: Authority) -> x509.AuthorityKeyIdentifier:
    """The issuer's key by the number that its certificate gives it, which need not be ours."""
    certificate = authority.certificate
    try:
        number = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        number = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(number)


def _sign(builder: x509.CertificateBuilder, authority: Authority) -> x509.Certificate:
    if authority.key is None:
        raise AuthorityError("the authority has no key here; set ca_key_file")
    return builder.sign(authority.key, _digest(authority.key))


def _digest(key: AuthorityKey) -> hashes.SHA256 | None:
    """Ed25519 brings its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _sign_authority(
    key: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    *,
    issuer: Authority | None,
    now: float,
    seconds: float = AUTHORITY_SECONDS,
) -> x509.Certificate:
    """The certificate of an authority's key: self-signed, or cross-signed by `issuer`."""
    end = _time(now + seconds)
    if issuer is not None:
        end = min(end, issuer.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now - BACKDATE_SECONDS))
        .not_valid_after(end)
        # One below: during a rotation the old authority stands above the cross-signed new one.
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_make_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is None:
        return builder.sign(key, hashes.SHA256())
    assert issuer.key is not None
    return builder.add_extension(_identify_issuer(issuer), critical=False).sign(issuer.key, _digest(issuer.key))


AUTHORITY: Final = "authority"  # Name of the secret.
# Beside the collector's certificate: what sensors and people may be given.
AUTHORITY_CERTIFICATE_FILE: Final = "ca.crt"


def load_own_authority(table: SecretTable, *, now: float, overlap_seconds: float) -> Authority:
    """Read it, or make the first one. After a rotation the one before is trusted for `overlap_seconds` more. Raises
    KeyFileError, StoreError."""
    content = table.find_or_make(AUTHORITY, lambda: _write(make_authority(now)), now)
    authority = parse_own_authority(content, table.place)
    if authority.cross is not None and now >= _made_at(authority) + overlap_seconds:
        authority = dataclasses.replace(authority, others=(), cross=None)
    return authority


def rotate_own_authority(table: SecretTable, *, now: float, overlap_seconds: float) -> Authority:
    """Put a new authority in the place of the one in use; running collectors take it up within seconds. Raises
    StoreError, and KeyFileError also while the last rotation lasts: a third one would leave sensors behind that know
    only the first."""

    def rotate(known: bytes | None) -> bytes:
        if known is None:
            raise KeyFileError(
                f"There is no authority in {table.place}; start the collector once off loopback, or correct --data-dir."
            )
        old = parse_own_authority(known, table.place)
        left = _made_at(old) + overlap_seconds - now
        if old.cross is not None and left > 0:
            raise KeyFileError(
                f"The last rotation of the authority lasts for {left / 86_400:.1f} days more, in which sensors learn "
                "the new one; rotate after that."
            )
        return _write(rotate_authority(dataclasses.replace(old, others=(), cross=None), now))

    return parse_own_authority(table.change(AUTHORITY, rotate, now, action="authority.rotated"), table.place)


def parse_own_authority(content: bytes, place: Path | str) -> Authority:
    """The authority as it is kept. Raises KeyFileError, which names the place."""
    try:
        load_pem_private_key(content, password=None)
        authority = read_authority(content, content)
    except (AuthorityError, ValueError, TypeError):
        raise KeyFileError(f"The authority in {place} is damaged; restore it from a backup.") from None
    # `others` are the cross-signed certificate, which has our key, and the one before.
    own = authority.certificate.public_key()
    cross = next((item for item in authority.others if item.public_key() == own), None)
    others = tuple(item for item in authority.others if item is not cross)
    return dataclasses.replace(authority, others=others, cross=cross)


def _made_at(authority: Authority) -> float:
    return authority.certificate.not_valid_before_utc.timestamp() + BACKDATE_SECONDS


def _write(authority: Authority) -> bytes:
    assert authority.key is not None
    above = () if authority.cross is None else (authority.cross, *authority.others)
    return write_key(authority.key) + write_certificates((authority.certificate, *above))

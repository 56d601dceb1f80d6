"""What the collector trusts and shows at this moment, read again while it runs.

Every second `refresh` looks at the state, for the own authority and the revocations, and at files, for the certificate
of the listeners and the operator's authority. What changed holds from the next connection on. Where something cannot be
read, the previous content stays in use, and the fault is logged once. The collector's own certificate is renewed before
it ends, or when its names or its authority changed.
"""

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from collector.core.config import CollectorSettings
from collector.core.keys import read_private, write_private
from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import REVOKED_CERTIFICATES, REVOKED_NODES, SECRETS
from collector.trust.authority import (
    AUTHORITY_CERTIFICATE_FILE,
    SENSOR_CERTIFICATE_SECONDS,
    Authority,
    AuthorityError,
    KeyPair,
    fingerprint,
    issue_server_certificate,
    load_own_authority,
    read_authority,
)
from collector.trust.enrollment import EnrollmentTable
from collector.trust.revocation import CertificateTable, Revocations
from collector.trust.secrets import SecretTable

TRUST_DIRECTORY: Final = "tls"
SERVER_CERTIFICATE_FILE: Final = "server.crt"
SERVER_KEY_FILE: Final = "server.key"
# Written for `apidae enrollment create`: it need not know the settings with which the collector runs.
PIN_FILE: Final = "pin"
NO_PIN: Final = "-"
SERVER_SECONDS: Final = 90 * 86_400
# Of a certificate's life; a third is left for whoever has to notice that renewal fails.
RENEW_RATIO: Final = 2 / 3
_READ_TABLES: Final = tuple(table.name for table in (SECRETS, REVOKED_CERTIFICATES, REVOKED_NODES))


class TrustError(Exception):
    """A certificate, a key or an authority cannot be used; one sentence."""


class Trust:
    """`refresh` first; it may block. `version` grows with every change of what connections see."""

    def __init__(
        self,
        settings: CollectorSettings,
        names: Sequence[str],
        clock: Callable[[], float],
        *,
        state: StateStore,
        secrets: SecretTable,
    ) -> None:
        """`names` are those of the own certificate; `clock` gives unix seconds."""
        self._settings = settings
        self._state = state
        self._secrets = secrets
        self._writes = -1
        self.certificates = CertificateTable(state)
        self.enrollments = EnrollmentTable(state)
        self._names = tuple(names)
        self._clock = clock
        self.directory = settings.data_dir / TRUST_DIRECTORY
        self._authority: Authority | None = None
        self._seen: tuple[bytes, ...] = ()
        self._context: ssl.SSLContext | None = None
        self.revocations = Revocations()
        self.version = 0
        # Authorities, PEM, by which sensors may know this collector; empty where its certificate is of another.
        self.bundle = b""
        self.server_not_before, self.server_not_after = 0.0, 0.0  # Unix seconds.

    @property
    def authority(self) -> Authority:
        """The one that signs and is trusted now."""
        assert self._authority is not None
        return self._authority

    @property
    def server_files(self) -> tuple[Path, Path]:
        """Certificate and key of the listeners."""
        if self._settings.tls_cert_file is not None and self._settings.tls_key_file is not None:
            return self._settings.tls_cert_file, self._settings.tls_key_file
        return self.directory / SERVER_CERTIFICATE_FILE, self.directory / SERVER_KEY_FILE

    @property
    def context(self) -> ssl.SSLContext:
        """For connections of sensors: a client's certificate is verified where there is one."""
        assert self._context is not None
        return self._context

    def read_revocations(self) -> Revocations:
        """Those of this moment, by which streams are let in from now on. Raises StoreError."""
        self.revocations = self.certificates.load_revocations()
        return self.revocations

    def refresh(self) -> bool:
        """Read what changed; whether connections see something else now. Raises TrustError, KeyFileError and
        StoreError."""
        writes = self._state.count_writes(_READ_TABLES)
        if writes != self._writes:
            self.read_revocations()
        authority = self._load_authority(is_new=writes != self._writes)
        self._writes = writes
        if self._settings.tls_cert_file is None:
            self._keep_server_certificate(authority)
        seen = (authority.bundle, *(_read(path) for path in self.server_files))
        if seen == self._seen:
            return False
        context = self._build_context(authority)
        leaf = _read_leaf(seen[1])
        is_ours = _is_issued_by(leaf, authority)
        self._authority, self._seen, self._context = authority, seen, context
        self.bundle = authority.bundle if is_ours else b""
        self.server_not_before = leaf.not_valid_before_utc.timestamp()
        self.server_not_after = leaf.not_valid_after_utc.timestamp()
        # For one-time tokens; without it the sensor must know the authority of our certificate already.
        write_private(self.directory / PIN_FILE, (fingerprint(authority.anchor) if is_ours else NO_PIN).encode())
        self.version += 1
        return True

    def load_server_pair(self, context: ssl.SSLContext) -> None:
        """Put the listeners' pair into another context: new connections show it. Raises TrustError."""
        certificate, key = self.server_files
        try:
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
            raise TrustError(
                f"{certificate} and {key} are no certificate in PEM and its unencrypted key "
                f"({getattr(error, 'reason', None) or 'they cannot be parsed'}); correct them."
            ) from error

    def _load_authority(self, *, is_new: bool) -> Authority:
        given = self._settings.ca_cert_file
        if given is None:
            # One that was replaced is trusted for a while, which ends by the clock.
            if self._authority is not None and self._authority.cross is None and not is_new:
                return self._authority
            now, overlap = self._clock(), SENSOR_CERTIFICATE_SECONDS
            authority = load_own_authority(self._secrets, now=now, overlap_seconds=overlap)
            beside = self.directory / AUTHORITY_CERTIFICATE_FILE
            if read_private(beside) != authority.bundle:
                write_private(beside, authority.bundle)
            return authority
        key_file = self._settings.ca_key_file
        key = _read(key_file) if key_file is not None else None
        try:
            return read_authority(_read(given), key)
        except AuthorityError as error:
            names = "ca_cert_file" if key_file is None else "ca_cert_file and ca_key_file"
            raise TrustError(f"{names}: {given} {error}; correct the files.") from error

    def _keep_server_certificate(self, authority: Authority) -> None:
        """The own certificate: made where there is none, or it is old, of other names or of another authority."""
        certificate, key = self.server_files
        chain = read_private(certificate)
        if chain is not None and read_private(key) is not None and self._is_good(chain, authority):
            return
        try:
            pair: KeyPair = issue_server_certificate(authority, self._names, now=self._clock(), seconds=SERVER_SECONDS)
        except AuthorityError as error:
            raise TrustError(
                f"There is no certificate for the listeners: {error}, or tls_cert_file and tls_key_file."
            ) from error
        # The key first: a crash in between leaves a pair that does not fit, which the next start makes anew.
        write_private(key, pair.key)
        write_private(certificate, pair.chain)

    def _is_good(self, chain: bytes, authority: Authority) -> bool:
        try:
            found = x509.load_pem_x509_certificates(chain)
            leaf = found[0]
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            return False
        borne = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
        begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        is_young = begin <= self._clock() < begin + (end - begin) * RENEW_RATIO
        above = found[1:] == [item for item in (authority.cross, *authority.others) if item is not None]
        is_chain = above if authority.cross is not None else found[1:] == [authority.certificate]
        return is_young and is_chain and borne == set(self._names) and _is_issued_by(leaf, authority)

    def _build_context(self, authority: Authority) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        # A resumed session would bring a certificate that was verified some time ago.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        context.verify_mode = ssl.CERT_OPTIONAL
        # The authority may be an intermediate one, as cert-manager makes them.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=authority.bundle.decode("ascii"))
        self.load_server_pair(context)
        return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrustError(f"{path} cannot be read ({error.strerror}); correct it or give this user the right.") from None


def _read_leaf(chain: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise TrustError(f"tls_cert_file holds no certificate in PEM ({error}); correct it.") from None


def _is_issued_by(leaf: x509.Certificate, authority: Authority) -> bool:
    try:
        leaf.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True

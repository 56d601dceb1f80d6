"""Whom a sensor's certificate names, and how that is written in it: the URI `apidae://CLUSTER/NODE`, percent-encoded.

A certificate of the operator's own making may name the node by DNS names instead; then it says nothing of the cluster.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from cryptography import x509

URI_SCHEME: Final = "apidae://"
# How far a certificate is dated back, for clocks that run behind (5 minutes is Kerberos' tolerance, RFC 4120).
BACKDATE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorCertificate:
    """What is read of a certificate that TLS has verified; times are unix seconds."""

    serial: int
    not_before: float
    not_after: float
    cluster: str | None  # None: it names no cluster.
    nodes: frozenset[str]

    @property
    def issued_at(self) -> float:
        """When it was signed, where our authority did."""
        return self.not_before + BACKDATE_SECONDS

    @property
    def serial_text(self) -> str:
        """As people write it: hexadecimal digits."""
        return f"{self.serial:x}"

    def covers(self, *, cluster: str, node: str) -> bool:
        """Whether it was made for this node."""
        return node in self.nodes and self.cluster in (None, cluster)

    def tell_subject(self) -> str:
        """Whom it names, in words."""
        if not self.nodes:
            return "no node"
        names = ", ".join(sorted(self.nodes)[:3])
        return f"node {names}" if not self.cluster else f"node {names} of cluster {self.cluster}"


def write_uri(*, cluster: str, node: str) -> str:
    """The name that goes into a certificate."""
    return f"{URI_SCHEME}{quote(cluster, safe='')}/{quote(node, safe='')}"


def read_certificate(der: bytes) -> SensorCertificate:
    """The facts of a verified certificate. Raises ValueError where it is none in DER."""
    certificate = x509.load_der_x509_certificate(der)
    cluster: str | None = None
    nodes: set[str] = set()
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith(URI_SCHEME):
            where, _, node = uri.removeprefix(URI_SCHEME).partition("/")
            cluster, nodes = unquote(where), {unquote(node)}
            break
    else:
        nodes.update(names.get_values_for_type(x509.DNSName))
    return SensorCertificate(
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        cluster=cluster,
        nodes=frozenset(nodes - {""}),
    )

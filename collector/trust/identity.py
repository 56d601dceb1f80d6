"""The names in certificates: of a sensor the URI `apidae://CLUSTER/NODE`, percent-encoded, and those of the collector.

A certificate that the operator made may name the node by DNS names instead. Then it names no cluster. The collector's
own certificate has the names of this machine and those that a setting adds.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
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

    def describe_subject(self) -> str:
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


# A documentation address (RFC 5737, RFC 3849): a socket that is "connected" to it shows the way out and sends nothing.
_SOMEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def list_own_names(listens: Sequence[str], extra: Sequence[str]) -> tuple[str, ...]:
    """`extra` first, then the hosts that are listened on, the host's names and its address on the way out."""
    names = [*extra, *(host for host in listens if not _is_wildcard(host))]
    names += [socket.gethostname(), socket.getfqdn(), *list_outgoing_addresses()]
    return tuple(dict.fromkeys(name for name in (*names, *_LOCAL) if is_name(name)))


def list_outgoing_addresses() -> list[str]:
    """This host's addresses on the way out, IPv4 and IPv6, as far as it has a route."""
    addresses: list[str] = []
    for family, somewhere in _SOMEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((somewhere, 9))
            addresses.append(str(way.getsockname()[0]))
    return addresses


def is_name(name: str) -> bool:
    """Whether a certificate can bear it: an address, or a host name of ASCII letters, digits, dots and dashes."""
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        plain = name.removeprefix("*.").replace(".", "").replace("-", "").replace("_", "")
        return name.isascii() and plain.isalnum() and len(name) <= 253


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False

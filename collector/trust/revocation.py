"""Certificates of sensors in the state: those that this collector issued, and those that are revoked.

A node's revocation covers all its certificates issued until then. A later one-time token, which a person makes, admits
the node again. A Kubernetes token, which the node has by itself, does not, until the revocation is lifted.

The list of issued certificates is for people who look or revoke. It decides nothing but whether a name is taken: a
certificate is valid by its signature, its time and the revocations.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection, delete, exists, select

from collector.storage.state.store import StateStore, read_row, upsert
from collector.storage.state.tables.trust import ISSUED_CERTIFICATES, REVOKED_CERTIFICATES, REVOKED_NODES
from collector.trust.audit import add_entries, make_entry
from collector.trust.identity import SensorCertificate
from collector.trust.principal import HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """Unix seconds of the revocation, by (cluster, node) and by serial number in hexadecimal digits."""

    nodes: dict[tuple[str, str], float] = field(default_factory=dict)
    serials: dict[str, float] = field(default_factory=dict)

    def find_reason(self, certificate: SensorCertificate) -> str:
        """Why the certificate is not taken, in words; empty where it is."""
        if certificate.serial_text in self.serials:
            return f"certificate {certificate.serial_text} is revoked"
        for (cluster, node), revoked_at in self.nodes.items():
            # A certificate's times are whole seconds.
            if certificate.covers(cluster=cluster, node=node) and certificate.issued_at <= revoked_at:
                return f"the certificates of {certificate.describe_subject()} are revoked"
        return ""

    def is_node_revoked(self, *, cluster: str, node: str) -> bool:
        """Whether the node was revoked and not let in again."""
        return (cluster, node) in self.nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """Times are unix seconds, `serial` is hexadecimal, `way` is how it was asked for."""

    serial: str
    cluster: str
    node: str
    issued_at: float
    not_after: float
    way: str


class CertificateTable:
    """Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state

    def load_revocations(self) -> Revocations:
        """All of them."""
        with self._state.read() as connection:
            nodes = connection.execute(select(REVOKED_NODES)).all()
            serials = connection.execute(select(REVOKED_CERTIFICATES)).all()
        return Revocations(
            nodes={(row.cluster, row.node): row.revoked_at for row in nodes},
            serials={row.serial: row.revoked_at for row in serials},
        )

    def revoke(self, *, now: float, node: tuple[str, str] | None = None, serial: str = "", by: str = HOST) -> None:
        """Add a node (cluster, node) or a serial number. Raises ValueError where that is not hexadecimal."""
        nodes = {} if node is None else {node: now}
        with self._state.write() as connection:
            insert_revocations(
                connection,
                Revocations(nodes=nodes, serials={normalise_serial(serial): now} if serial else {}),
            )
            target = _name_node(node) if node is not None else f"serial {normalise_serial(serial)}"
            add_entries(connection, [make_entry(now, by, "certificate.revoked", target)])

    def allow(self, *, now: float, node: tuple[str, str], by: str = HOST) -> bool:
        """Take a node's revocation back: its old certificates work again. Whether there was one."""
        cluster, name = node
        own = (REVOKED_NODES.c.cluster == cluster) & (REVOKED_NODES.c.node == name)
        with self._state.write() as connection:
            is_gone = connection.execute(delete(REVOKED_NODES).where(own)).rowcount > 0
            if is_gone:
                add_entries(connection, [make_entry(now, by, "certificate.allowed", _name_node(node))])
        return is_gone

    def record_issued(self, certificate: IssuedCertificate) -> None:
        """Keep one for the list."""
        with self._state.write() as connection:
            insert_issued(connection, [certificate])

    def list_issued(self, *, node: str | None = None) -> list[IssuedCertificate]:
        """All, or those of nodes of this name, the newest last."""
        rows = select(ISSUED_CERTIFICATES).order_by(ISSUED_CERTIFICATES.c.issued_at, ISSUED_CERTIFICATES.c.serial)
        if node is not None:
            rows = rows.where(ISSUED_CERTIFICATES.c.node == node)
        with self._state.read() as connection:
            return [read_row(IssuedCertificate, row) for row in connection.execute(rows)]

    def has_valid(self, *, cluster: str, node: str, now: float) -> bool:
        """Whether a node has a certificate that is valid and not revoked."""
        issued, revoked = ISSUED_CERTIFICATES.c, REVOKED_NODES.c
        is_revoked = exists().where(
            revoked.cluster == issued.cluster, revoked.node == issued.node, revoked.revoked_at >= issued.issued_at
        ) | exists().where(REVOKED_CERTIFICATES.c.serial == issued.serial)
        valid = select(issued.serial).where(
            issued.node == node, issued.cluster == cluster, issued.not_after > now, ~is_revoked
        )
        with self._state.read() as connection:
            return connection.execute(valid.limit(1)).first() is not None

    def forget_expired(self, now: float) -> None:
        """Keep those that are still good."""
        with self._state.write() as connection:
            connection.execute(delete(ISSUED_CERTIFICATES).where(ISSUED_CERTIFICATES.c.not_after <= now))


def insert_revocations(connection: Connection, revocations: Revocations) -> None:
    """Add some to those that are kept."""
    nodes = [{"cluster": cluster, "node": node, "revoked_at": at} for (cluster, node), at in revocations.nodes.items()]
    upsert(connection, REVOKED_NODES, nodes)
    serials = [{"serial": serial, "revoked_at": at} for serial, at in revocations.serials.items()]
    upsert(connection, REVOKED_CERTIFICATES, serials)


def insert_issued(connection: Connection, certificates: Sequence[IssuedCertificate]) -> None:
    """Add some to those that are kept."""
    upsert(connection, ISSUED_CERTIFICATES, [asdict(certificate) for certificate in certificates])


def _name_node(node: tuple[str, str]) -> str:
    cluster, name = node
    return f"node {name} of cluster {cluster}" if cluster else f"node {name}"


def normalise_serial(text: str) -> str:
    """Hexadecimal digits as `openssl x509 -serial` or a browser write them. Raises ValueError."""
    return f"{int(text.replace(':', '').strip(), 16):x}"

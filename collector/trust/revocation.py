"""Revoked certificates, by node or serial number, and the list of certificates that this collector issued.

Revocations are a JSON file that the command writes and a running collector reads. A node's revocation covers all its
certificates issued until then. A later one-time token, which a person makes, admits the node again. A Kubernetes token,
which the node has by itself, does not, until the revocation is lifted.

Issued certificates are a JSON line each, for people who look or revoke. The list decides nothing: a certificate is
valid by its signature, its time and the revocations.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from collector.core.keys import KeyFileError, read_private, write_private
from collector.trust.identity import SensorCertificate
from common.durable import append_line, parse_json

REVOCATIONS_FILE: Final = "revoked.json"


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


def load_revocations(path: Path) -> Revocations:
    """What the file says; nothing where there is none. Raises KeyFileError."""
    content = read_private(path)
    if content is None:
        return Revocations()
    damaged = KeyFileError(f"The revocations in {path} are damaged; restore the file from a backup.")
    return parse_json(content, _parse_revocations, damaged)


def _parse_revocations(found: Any) -> Revocations:
    return Revocations(
        nodes={(str(item["cluster"]), str(item["node"])): float(item["revoked_at"]) for item in found["nodes"]},
        serials={str(item["serial"]): float(item["revoked_at"]) for item in found["serials"]},
    )


def revoke(path: Path, *, now: float, node: tuple[str, str] | None = None, serial: str = "") -> None:
    """Add a node (cluster, node) or a serial number. Raises KeyFileError."""
    known = load_revocations(path)
    if node is not None:
        known = replace(known, nodes={**known.nodes, node: now})
    if serial:
        known = replace(known, serials={**known.serials, normalise_serial(serial): now})
    _write(path, known)


def allow(path: Path, *, node: tuple[str, str]) -> bool:
    """Take a node's revocation back: its old certificates work again. Whether there was one. Raises KeyFileError."""
    known = load_revocations(path)
    if node not in known.nodes:
        return False
    _write(path, replace(known, nodes={key: value for key, value in known.nodes.items() if key != node}))
    return True


def normalise_serial(text: str) -> str:
    """Hexadecimal digits as `openssl x509 -serial` or a browser write them. Raises ValueError."""
    return f"{int(text.replace(':', '').strip(), 16):x}"


def _write(path: Path, revocations: Revocations) -> None:
    content = {
        "nodes": [
            {"cluster": cluster, "node": node, "revoked_at": revoked_at}
            for (cluster, node), revoked_at in sorted(revocations.nodes.items())
        ],
        "serials": [
            {"serial": serial, "revoked_at": revoked_at} for serial, revoked_at in sorted(revocations.serials.items())
        ],
    }
    write_private(path, (json.dumps(content, indent=1) + "\n").encode())


ISSUED_FILE: Final = "issued.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """One line; times are unix seconds, `serial` is hexadecimal, `way` is how it was asked for."""

    serial: str
    cluster: str
    node: str
    issued_at: float
    not_after: float
    way: str


def record_issued(path: Path, certificate: IssuedCertificate) -> None:
    """Append one. Raises KeyFileError."""
    try:
        append_line(path, json.dumps(asdict(certificate)).encode())
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written ({error.strerror}); give this user the right.") from None


def list_issued(path: Path) -> list[IssuedCertificate]:
    """All lines that can be read, the newest last. Raises KeyFileError."""
    found = []
    for line in (read_private(path) or b"").decode("utf-8", "replace").splitlines():
        try:
            found.append(IssuedCertificate(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # Cut by a crash.
    return found


def forget_expired(path: Path, now: float) -> None:
    """Keep those that are still good. Only while nobody appends: at the collector's start. Raises KeyFileError."""
    known = list_issued(path)
    kept = [certificate for certificate in known if certificate.not_after > now]
    if len(kept) < len(known):
        write_private(path, "".join(json.dumps(asdict(certificate)) + "\n" for certificate in kept).encode())

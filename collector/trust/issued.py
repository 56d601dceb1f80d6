"""The certificates that this collector gave to sensors: a line of JSON each, for people who look or revoke.

Never read to decide anything: a certificate is good by its signature, its time and the revocations.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from collector.keys import KeyFileError
from collector.trust.files import read_private, write_private

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
    line = json.dumps(asdict(certificate)) + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(line)
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

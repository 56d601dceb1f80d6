"""The collector's own authority on disk: one 0600 file with its key, its certificate and, for as long as a rotation
lasts, the cross-signed certificate and the one before.

One file, so that a crash in a rotation leaves the old authority or the new one. The operator's own authority is read
from the files of `ca_cert_file` and `ca_key_file` instead and never written.
"""

import dataclasses
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from collector.keys import KeyFileError
from collector.trust.authority import (
    Authority,
    AuthorityError,
    make_authority,
    read_authority,
    rotate_authority,
    write_certificates,
    write_key,
)
from collector.trust.files import read_private, write_private
from collector.trust.identity import BACKDATE_SECONDS

AUTHORITY_FILE: Final = "authority.pem"
# Beside: what sensors and people may be given.
AUTHORITY_CERTIFICATE_FILE: Final = "ca.crt"


def load_own_authority(path: Path, *, now: float, overlap_seconds: float) -> Authority:
    """Read it, or make the first one. After a rotation the one before is trusted for `overlap_seconds` more. Raises
    KeyFileError."""
    authority = read_own_authority(path)
    if authority is None:
        authority = make_authority(now)
        _write(path, authority)
    if authority.cross is not None and now >= _made_at(authority) + overlap_seconds:
        authority = dataclasses.replace(authority, others=(), cross=None)
    return authority


def rotate_own_authority(path: Path, *, now: float, overlap_seconds: float) -> Authority:
    """Put a new authority in the place of the one in use; a running collector takes it up within seconds. Raises
    KeyFileError, also while the last rotation lasts: a third one would leave sensors behind that know only the first.
    """
    old = read_own_authority(path)
    if old is None:
        raise KeyFileError(
            f"There is no authority in {path}; start the collector once off loopback, or correct --data-dir."
        )
    left = _made_at(old) + overlap_seconds - now
    if old.cross is not None and left > 0:
        raise KeyFileError(
            f"The last rotation of {path} lasts for {left / 86_400:.1f} days more, in which sensors learn the new "
            "authority; rotate after that."
        )
    new = rotate_authority(dataclasses.replace(old, others=(), cross=None), now)
    _write(path, new)
    return new


def read_own_authority(path: Path) -> Authority | None:
    """The authority as it stands in the file; None where there is none. Raises KeyFileError."""
    content = read_private(path)
    if content is None:
        return None
    try:
        load_pem_private_key(content, password=None)
        authority = read_authority(content, content)
    except (AuthorityError, ValueError, TypeError):
        raise KeyFileError(f"The authority in {path} is damaged; restore the file from a backup.") from None
    # `others` are the cross-signed certificate, which has our key, and the one before.
    own = authority.certificate.public_key()
    cross = next((item for item in authority.others if item.public_key() == own), None)
    others = tuple(item for item in authority.others if item is not cross)
    return dataclasses.replace(authority, others=others, cross=cross)


def _made_at(authority: Authority) -> float:
    return authority.certificate.not_valid_before_utc.timestamp() + BACKDATE_SECONDS


def _write(path: Path, authority: Authority) -> None:
    assert authority.key is not None
    above = () if authority.cross is None else (authority.cross, *authority.others)
    write_private(path, write_key(authority.key) + write_certificates((authority.certificate, *above)))

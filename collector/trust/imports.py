"""What earlier versions kept in files of `data_dir`: moved into the state at the first start of this version.

A file is renamed to NAME.imported once its content is in the state, and nobody reads it again. A crash in between is no
matter: what is there already is not inserted a second time. Keys that are not those of the state stop the start, for
consumers under two keys never compare, and sensors know one authority.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select

from collector.core.keys import InstallationKey, KeyFileError, read_private
from collector.storage.state.store import StateStore, lock_table, upsert
from collector.storage.state.tables.trust import ENROLLMENTS, INSTALLATION_KEYS
from collector.trust.authority import AUTHORITY, parse_own_authority
from collector.trust.enrollment import Enrollment
from collector.trust.installation_keys import KEY_BYTES, InstallationKeyTable
from collector.trust.revocation import IssuedCertificate, Revocations, insert_issued, insert_revocations
from collector.trust.secrets import SecretTable
from common.durable import parse_json, sync_directory

KEYS_FILE: Final = "installation.keys"
AUTHORITY_FILE: Final = "tls/authority.pem"
REVOCATIONS_FILE: Final = "tls/revoked.json"
ISSUED_FILE: Final = "tls/issued.jsonl"
ENROLLMENTS_DIRECTORY: Final = "tls/enrollments"
IMPORTED: Final = ".imported"
_USED: Final = ".used"

logger = logging.getLogger(__name__)


def import_files(
    directory: Path, state: StateStore, *, keys: InstallationKeyTable, secrets: SecretTable, now: float
) -> None:
    """Move whichever there are of them. Raises KeyFileError, StoreError, OSError."""
    _import_keys(directory / KEYS_FILE, state, keys)
    _import_authority(directory / AUTHORITY_FILE, secrets, now)
    _import_revocations(directory / REVOCATIONS_FILE, state)
    _import_issued(directory / ISSUED_FILE, state)
    _import_enrollments(directory / ENROLLMENTS_DIRECTORY, state)


def _import_keys(path: Path, state: StateStore, table: InstallationKeyTable) -> None:
    content = read_private(path)
    if content is None:
        return
    damaged = KeyFileError(f"The installation keys in {path} are damaged; restore the file from a backup.")
    found = parse_json(content, _parse_keys, damaged)
    with state.write() as connection:
        lock_table(connection, INSTALLATION_KEYS)
        if not connection.execute(select(INSTALLATION_KEYS.c.key_id)).first():
            table.insert(connection, found)
    known = {key.key_id: key.secret for key in table.list_all()}
    if known.get(found[0].key_id) != found[0].secret:
        raise KeyFileError(
            f"The installation keys in {path} are not those of {state.place}, so consumers would not compare; move the "
            "file away to use those of the state."
        )
    _set_aside(path)


def _parse_keys(found: Any) -> tuple[InstallationKey, ...]:
    keys = tuple(
        InstallationKey(
            key_id=int(item["key_id"]),
            secret=bytes.fromhex(item["secret"]),
            made_at=float(item.get("made_at", 0.0)),
        )
        for item in found
    )
    if not keys or any(len(key.secret) != KEY_BYTES or key.key_id < 1 for key in keys):
        raise ValueError("no keys")
    return keys


def _import_authority(path: Path, table: SecretTable, now: float) -> None:
    content = read_private(path)
    if content is None:
        return
    own = parse_own_authority(content, path).certificate
    if parse_own_authority(table.find_or_make(AUTHORITY, lambda: content, now), table.place).certificate != own:
        raise KeyFileError(
            f"The authority in {path} is not that of {table.place}; move the file away to use that of the state, and "
            "enrol the sensors of this one again."
        )
    _set_aside(path)


def _import_revocations(path: Path, state: StateStore) -> None:
    content = read_private(path)
    if content is None:
        return
    found = read_revocations(content, path)
    _insert(state, lambda connection: insert_revocations(connection, found))
    _set_aside(path)


def read_revocations(content: bytes, path: Path) -> Revocations:
    """What a file says. Raises KeyFileError."""
    damaged = KeyFileError(f"The revocations in {path} are damaged; restore the file from a backup.")
    return parse_json(content, _parse_revocations, damaged)


def _parse_revocations(found: Any) -> Revocations:
    return Revocations(
        nodes={(str(item["cluster"]), str(item["node"])): float(item["revoked_at"]) for item in found["nodes"]},
        serials={str(item["serial"]): float(item["revoked_at"]) for item in found["serials"]},
    )


def _import_issued(path: Path, state: StateStore) -> None:
    content = read_private(path)
    if content is None:
        return
    found = {one.serial: one for one in read_issued(content)}
    _insert(state, lambda connection: insert_issued(connection, list(found.values())))
    _set_aside(path)


def read_issued(content: bytes) -> Iterator[IssuedCertificate]:
    """The lines that can be read."""
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            yield IssuedCertificate(**json.loads(line))
        except (ValueError, TypeError):
            continue  # Cut by a crash.


def _import_enrollments(directory: Path, state: StateStore) -> None:
    if not directory.is_dir():
        return
    rows = []
    for path in sorted(directory.iterdir()):
        content = read_private(path) if path.suffix in (".json", _USED) else None
        if content is not None:
            damaged = KeyFileError(f"The enrolment token in {path} is damaged; remove the file.")
            rows.append(parse_json(content, partial(_parse_enrollment, path.stem), damaged))
    _insert(state, lambda connection: upsert(connection, ENROLLMENTS, rows))
    _set_aside(directory)


def _parse_enrollment(number: str, found: Any) -> dict[str, Any]:
    enrollment = Enrollment(
        number=number,
        node=str(found["node"]),
        cluster=str(found["cluster"]),
        made_at=float(found["made_at"]),
        expires_at=float(found["expires_at"]),
        used_at=float(found["used_at"]),
        used_by=str(found["used_by"]),
    )
    return {**asdict(enrollment), "secret_sha256": str(found["secret_sha256"])}


def _insert(state: StateStore, insert: Callable[[Connection], None]) -> None:
    with state.write() as connection:
        insert(connection)


def _set_aside(path: Path) -> None:
    """Under a name that nobody reads."""
    path.rename(path.with_name(path.name + IMPORTED))
    sync_directory(path.parent)
    logger.info("%s is in the state now; its file is kept as %s%s.", path, path.name, IMPORTED)

"""The collector's secrets: the sensors' token, the API's token, and the installation key of every keyed hash.

Each is a file of its own in the data directory, mode 0600, made at the first start and never written into the store.
Whoever has the installation key can test guesses against stored hashes, so it lives apart from the data.

A rotation makes a new key and keeps the old one for 8 days, a day more than the age up to which rows are accepted. So
rows that a sensor counted under the old key while it was away are still accepted.
"""

import hmac
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.durable import parse_json, write_durably

SENSOR_TOKEN_FILE = "sensor.token"
API_TOKEN_FILE = "api.token"
BACKUP_TOKEN_FILE = "backup.token"
KEYS_FILE = "installation.keys"
KEY_BYTES = 16  # SipHash-2-4.
ROTATION_SECONDS = 8 * 86_400
TOKEN_BYTES = 32


class KeyFileError(Exception):
    """A secret's file cannot be used; one sentence with the path and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationKey:
    """A key and its number, which every batch names; `made_at` is unix seconds."""

    key_id: int
    secret: bytes = field(repr=False)
    made_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token; `is_new` when this start made it, so that it is announced once."""

    value: str = field(repr=False)
    is_new: bool

    def accepts(self, candidate: str) -> bool:
        """Whether `candidate` is the token, in time that does not tell where they differ."""
        return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self.value.encode())


def load_token(path: Path) -> Token:
    """Read a token, or make and keep a new one. Raises KeyFileError."""
    content = _read_text(path)
    if content is None:
        value = secrets.token_urlsafe(TOKEN_BYTES)
        write_private(path, f"{value}\n".encode())
        return Token(value=value, is_new=True)
    value = content.strip()
    if len(value) < TOKEN_BYTES:
        raise KeyFileError(f"The token in {path} has {len(value)} characters; remove the file to get a new one.")
    return Token(value=value, is_new=False)


def read_token(path: Path) -> Token:
    """A token of the operator's making; its file stays as it is. Raises KeyFileError.

    A group may read it, unlike our own files: so a Kubernetes secret reaches a process that is not root.
    """
    content = _read_text(path, forbidden_mode=0o007)
    if content is None:
        raise KeyFileError(f"The token file {path} does not exist; write the token into it, or drop the setting.")
    value = content.strip()
    if len(value) < TOKEN_BYTES or not value.isascii() or not value.isprintable():
        raise KeyFileError(
            f"The token in {path} has {len(value)} characters; use at least {TOKEN_BYTES}, printable ASCII, "
            "as `openssl rand -hex 32` makes."
        )
    return Token(value=value, is_new=False)


def load_installation_keys(path: Path, now: float) -> tuple[InstallationKey, ...]:
    """Read the keys in use, the newest first, or make the first one. Raises KeyFileError."""
    keys = list_installation_keys(path)
    if not keys:
        keys = (_make_key(now),)
        write_private(path, _write_keys(keys))
    return keys[:1] if now - keys[0].made_at >= ROTATION_SECONDS else keys


def rotate_installation_key(path: Path, now: float) -> InstallationKey:
    """Put a new key before the one in use; a running collector takes it up within seconds. Raises KeyFileError, also
    while the last rotation lasts: a third key would take the first from sensors that still use it."""
    keys = list_installation_keys(path)
    if not keys:
        raise KeyFileError(
            f"There are no installation keys in {path}; start the collector once, or correct --data-dir."
        )
    left = keys[0].made_at + ROTATION_SECONDS - now
    if len(keys) > 1 and left > 0:
        raise KeyFileError(
            f"The last rotation of {path} lasts for {left / 86_400:.1f} days more, in which sensors use both keys; "
            "rotate after that."
        )
    new = _make_key(now)
    write_private(path, _write_keys((new, keys[0])))
    return new


def _make_key(now: float) -> InstallationKey:
    # A random number, so that a sensor never takes one installation's key for another's.
    number = secrets.randbelow(2**31 - 1) + 1
    return InstallationKey(key_id=number, secret=secrets.token_bytes(KEY_BYTES), made_at=now)


def list_installation_keys(path: Path) -> tuple[InstallationKey, ...]:
    """All keys of the file, the newest first, also one that sensors no longer use but rows do; none where there is no
    file. Raises KeyFileError."""
    content = read_private(path)
    if content is None:
        return ()
    damaged = KeyFileError(f"The installation keys in {path} are damaged; restore the file from a backup.")
    return parse_json(content, _parse_keys, damaged)


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


def _write_keys(keys: tuple[InstallationKey, ...]) -> bytes:
    items = [{"key_id": key.key_id, "secret": key.secret.hex(), "made_at": key.made_at} for key in keys]
    return f"{json.dumps(items)}\n".encode()


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only this user may read, durably, in a directory that is made. Raises KeyFileError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, content)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written ({error.strerror}); give this user the right.") from None


def read_private(path: Path, forbidden_mode: int = 0o077) -> bytes | None:
    """The content; None where there is no file. Raises KeyFileError where others may read it, or we may not."""
    try:
        if path.stat().st_mode & forbidden_mode:
            raise KeyFileError(f"{path} can be read by others; make it private with `chmod 600 {path}`.")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read ({error.strerror}); give this user the right.") from None


def _read_text(path: Path, forbidden_mode: int = 0o077) -> str | None:
    content = read_private(path, forbidden_mode)
    try:
        return content.decode() if content is not None else None
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} cannot be read (it is no text); give this user the right.") from None

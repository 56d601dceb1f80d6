"""What the collector keeps secret: the sensors' token, the API's token, and the installation key of every keyed hash.

Each is a file of its own in the data directory, mode 0600, made at the first start and never written into the store.
Whoever has the installation key can test guesses against stored hashes, so it lives apart from the data.
"""

import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

SENSOR_TOKEN_FILE = "sensor.token"
API_TOKEN_FILE = "api.token"
KEYS_FILE = "installation.keys"
KEY_BYTES = 16  # SipHash-2-4.
TOKEN_BYTES = 32


class KeyFileError(Exception):
    """A secret's file cannot be used; one sentence with the path and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationKey:
    """A key and its number, which every batch names."""

    key_id: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token; `is_new` when this start made it, so that it is shown once."""

    value: str = field(repr=False)
    is_new: bool

    def accepts(self, candidate: str) -> bool:
        """Whether `candidate` is the token, in time that does not tell where they differ."""
        return hmac.compare_digest(candidate.encode("utf-8", "surrogatepass"), self.value.encode())


def load_token(path: Path) -> Token:
    """Read a token, or make and keep a new one. Raises KeyFileError."""
    content = _read(path)
    if content is None:
        value = secrets.token_urlsafe(TOKEN_BYTES)
        _create(path, value + "\n")
        return Token(value=value, is_new=True)
    value = content.strip()
    if len(value) < TOKEN_BYTES:
        raise KeyFileError(f"The token in {path} has {len(value)} characters; remove the file to get a new one.")
    return Token(value=value, is_new=False)


def read_token(path: Path) -> Token:
    """A token of the operator's making; its file stays as it is. Raises KeyFileError.

    A group may read it, unlike our own files: so a Kubernetes secret reaches a process that is not root.
    """
    content = _read(path, forbidden_mode=0o007)
    if content is None:
        raise KeyFileError(f"The token file {path} does not exist; write the token into it, or drop the setting.")
    value = content.strip()
    if len(value) < TOKEN_BYTES or not value.isascii() or not value.isprintable():
        raise KeyFileError(
            f"The token in {path} has {len(value)} characters; use at least {TOKEN_BYTES}, printable ASCII, "
            "as `openssl rand -hex 32` makes."
        )
    return Token(value=value, is_new=False)


def load_installation_keys(path: Path) -> tuple[InstallationKey, ...]:
    """Read the keys, the newest first, or make the first one. Raises KeyFileError."""
    content = _read(path)
    if content is None:
        # A random number, so that a sensor never takes one installation's key for another's.
        key = InstallationKey(key_id=secrets.randbelow(2**31 - 1) + 1, secret=secrets.token_bytes(KEY_BYTES))
        _create(path, json.dumps([{"key_id": key.key_id, "secret": key.secret.hex()}]) + "\n")
        return (key,)
    try:
        keys = tuple(
            InstallationKey(key_id=int(item["key_id"]), secret=bytes.fromhex(item["secret"]))
            for item in json.loads(content)
        )
    except (ValueError, KeyError, TypeError):
        keys = ()
    if not keys or any(len(key.secret) != KEY_BYTES or key.key_id < 1 for key in keys):
        raise KeyFileError(f"The installation keys in {path} are damaged; restore the file from a backup.")
    return keys


def _read(path: Path, forbidden_mode: int = 0o077) -> str | None:
    try:
        if path.stat().st_mode & forbidden_mode:
            raise KeyFileError(f"{path} can be read by others; make it private with `chmod 600 {path}`.")
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path} cannot be read ({_tell(error)}); give this user the right.") from None


def _tell(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is no text"


def _create(path: Path, content: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written ({error.strerror}); give this user the right.") from None

"""Tokens and installation keys, and files that only their owner may read.

`collector/trust` keeps them in the state. The files of tokens in the data directory are copies for people.
"""

import hmac
from dataclasses import dataclass, field
from pathlib import Path

from common.durable import write_durably

SENSOR_TOKEN_FILE = "sensor.token"
API_TOKEN_FILE = "api.token"
BACKUP_TOKEN_FILE = "backup.token"
APPROVAL_TOKEN_FILE = "approval.token"
WEBHOOK_SECRET_FILE = "webhook.secret"
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

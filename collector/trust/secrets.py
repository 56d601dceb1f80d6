"""Secrets in the state, wrapped with the state key, which is never in it.

The state key is 256 random bits in a file of its own, by default beside `state.db`. Each secret is encrypted with it by
AES-GCM (NIST SP 800-38D) under a random nonce of 96 bits. The secret's name is authenticated too, so that nobody can
put one secret in the place of another. Collectors that share a state need the same file.

People and programs on the host read tokens in files. So a token has a copy in `data_dir`, which the collector writes
again where it is missing. The state is what counts.
"""

import binascii
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import exists, select

from collector.core.config import CollectorSettings
from collector.core.keys import TOKEN_BYTES, KeyFileError, Token, read_private, write_private
from collector.storage.state.store import StateStore, lock_table, upsert
from collector.storage.state.tables.trust import INSTALLATION_KEYS, SECRETS
from collector.trust.audit import add_entries, make_entry
from collector.trust.principal import HOST

STATE_KEY_FILE: Final = "state.key"
STATE_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateKey:
    """Wraps and unwraps; `path` names it in sentences."""

    secret: bytes = field(repr=False)
    path: Path

    def wrap(self, name: str, content: bytes) -> bytes:
        """The content, encrypted under its name."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.secret).encrypt(nonce, content, name.encode())

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """Raises KeyFileError where another key wrapped it."""
        try:
            return AESGCM(self.secret).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError):
            raise KeyFileError(
                f"The state key in {self.path} does not open the secrets of the state; use the key file of the "
                "collector that made them (state_key_file)."
            ) from None


def open_state_key(settings: CollectorSettings, state: StateStore) -> StateKey:
    """The key of a file that the operator gave, or our own, which the first start makes. Raises KeyFileError."""
    given = settings.state_key_file
    path = settings.data_dir / STATE_KEY_FILE if given is None else given
    # A group may read one that was given: so a Kubernetes Secret reaches a process that is not root.
    content = read_private(path, forbidden_mode=0o077 if given is None else 0o007)
    if content is None:
        if given is not None:
            raise KeyFileError(
                f"The state key file {path} does not exist; write 64 hexadecimal digits into it, as `openssl rand -hex "
                "32` makes, or drop the setting."
            )
        if _has_secrets(state):
            raise KeyFileError(
                f"There is no state key in {path}, and the secrets in {state.place} are wrapped with one; copy it from "
                "the collector that made them, or name it by state_key_file."
            )
        key = StateKey(secret=secrets.token_bytes(STATE_KEY_BYTES), path=path)
        write_private(path, f"{key.secret.hex()}\n".encode())
        return key
    try:
        secret = bytes.fromhex(content.decode("ascii").strip())
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) != STATE_KEY_BYTES:
        raise KeyFileError(
            f"The state key in {path} is not 64 hexadecimal digits, as `openssl rand -hex 32` makes; restore the file "
            "from a backup."
        )
    return StateKey(secret=secret, path=path)


def _has_secrets(state: StateStore) -> bool:
    with state.read() as connection:
        kept = exists(select(SECRETS.c.name)) | exists(select(INSTALLATION_KEYS.c.key_id))
        return bool(connection.execute(select(kept)).scalar_one())


class SecretTable:
    """The secrets by name. Methods raise StoreError and KeyFileError."""

    def __init__(self, state: StateStore, key: StateKey) -> None:
        self._state = state
        self._key = key
        self.place = state.place

    def find(self, name: str) -> bytes | None:
        """None where there is no secret of this name."""
        with self._state.read() as connection:
            wrapped = connection.execute(select(SECRETS.c.wrapped).where(SECRETS.c.name == name)).scalar()
        return None if wrapped is None else self._key.unwrap(name, wrapped)

    def change(self, name: str, change: Callable[[bytes | None], bytes], now: float, *, action: str = "") -> bytes:
        """Put in its place what `change` makes of it, in one transaction; the content that is kept. `action`: of a
        person at the collector's host, for the audit log."""
        with self._state.write() as connection:
            lock_table(connection, SECRETS)
            wrapped = connection.execute(select(SECRETS.c.wrapped).where(SECRETS.c.name == name)).scalar()
            known = None if wrapped is None else self._key.unwrap(name, wrapped)
            content = change(known)
            if content != known:
                row = {"name": name, "wrapped": self._key.wrap(name, content), "made_at": now}
                upsert(connection, SECRETS, [row])
                if action:
                    add_entries(connection, [make_entry(now, HOST, action, name)])
        return content

    def find_or_make(self, name: str, make: Callable[[], bytes], now: float) -> bytes:
        """The secret; where there is none, `make` gives it."""
        found = self.find(name)
        return self.change(name, lambda known: make() if known is None else known, now) if found is None else found


def load_token(table: SecretTable, path: Path, now: float) -> Token:
    """A token of our own, named as the file with its copy for people. It is made where neither has one. Raises
    KeyFileError, StoreError."""
    copy = _read_copy(path)
    made = secrets.token_urlsafe(TOKEN_BYTES)
    value = table.find_or_make(path.name, lambda: (copy or made).encode(), now).decode()
    if copy != value:
        if copy is not None:
            logger.warning("%s held another secret than %s; it holds that of the state now.", path, table.place)
        write_private(path, f"{value}\n".encode())
    return Token(value=value, is_new=value == made)


def replace_token(table: SecretTable, path: Path, now: float) -> None:
    """Put a new token into the state and its copy. Raises KeyFileError, StoreError."""
    if table.find(path.name) is None:
        raise KeyFileError(f"There is no {path.name} in {table.place}; the collector makes it when it needs it.")
    value = table.change(path.name, lambda _: secrets.token_urlsafe(TOKEN_BYTES).encode(), now, action="token.replaced")
    write_private(path, value + b"\n")


def _read_copy(path: Path) -> str | None:
    content = read_private(path)
    if content is None:
        return None
    value = content.decode("utf-8", "replace").strip()
    if len(value) < TOKEN_BYTES or not value.isascii() or not value.isprintable():
        raise KeyFileError(
            f"The token in {path} has {len(value)} characters; remove the file, and the next start writes it again."
        )
    return value

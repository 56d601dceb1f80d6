"""The installation keys, under which sensors hash consumers and objects.

Whoever has the key can test guesses against stored hashes, so it is wrapped in the state and never near the tables.

A rotation makes a new key and keeps the old one for 8 days, a day more than the age up to which rows are accepted. So
rows that a sensor counted under the old key while it was away are still accepted.
"""

import secrets
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from collector.core.keys import InstallationKey, KeyFileError
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, lock_table
from collector.storage.state.tables.trust import INSTALLATION_KEYS
from collector.trust.secrets import StateKey

KEY_BYTES: Final = 16  # SipHash-2-4.
ROTATION_SECONDS: Final = 8 * 86_400


class InstallationKeyTable:
    """All methods raise StoreError, and KeyFileError where another state key wrapped the keys."""

    def __init__(self, state: StateStore, key: StateKey) -> None:
        self._state = state
        self._key = key
        self._cache = StateCache(state, (INSTALLATION_KEYS.name,), self._read)

    def load(self, now: float) -> tuple[InstallationKey, ...]:
        """The keys in use, the newest first; the first one is made where there is none."""
        keys = self.list_all()
        if not keys:
            with self._state.write() as connection:
                lock_table(connection, INSTALLATION_KEYS)
                keys = self._read(connection)  # Another collector may have been first.
                if not keys:
                    keys = (_make_key(now),)
                    self.insert(connection, keys)
        return keys[:1] if now - keys[0].made_at >= ROTATION_SECONDS else keys

    def list_all(self) -> tuple[InstallationKey, ...]:
        """The newest first, also one that sensors no longer use but rows do."""
        return self._cache.read()

    def rotate(self, now: float) -> InstallationKey:
        """Put a new key before the one in use; running collectors take it up within seconds. Raises KeyFileError also
        while the last rotation lasts: a third key would take the first from sensors that still use it."""
        with self._state.write() as connection:
            lock_table(connection, INSTALLATION_KEYS)
            keys = self._read(connection)
            if not keys:
                raise KeyFileError(
                    f"There are no installation keys in {self._state.place}; start the collector once, or correct "
                    "--data-dir."
                )
            left = keys[0].made_at + ROTATION_SECONDS - now
            if len(keys) > 1 and left > 0:
                raise KeyFileError(
                    f"The last rotation of the installation key lasts for {left / 86_400:.1f} days more, in which "
                    "sensors use both keys; rotate after that."
                )
            former = [key.key_id for key in keys[1:]]
            connection.execute(delete(INSTALLATION_KEYS).where(INSTALLATION_KEYS.c.key_id.in_(former)))
            new = _make_key(now)
            self.insert(connection, (new,))
        return new

    def insert(self, connection: Connection, keys: Sequence[InstallationKey]) -> None:
        """Keep keys that are new."""
        rows = [
            {"key_id": key.key_id, "wrapped": self._key.wrap(_name(key.key_id), key.secret), "made_at": key.made_at}
            for key in keys
        ]
        connection.execute(insert(INSTALLATION_KEYS), rows)

    def _read(self, connection: Connection) -> tuple[InstallationKey, ...]:
        rows = connection.execute(select(INSTALLATION_KEYS).order_by(INSTALLATION_KEYS.c.made_at.desc()))
        return tuple(
            InstallationKey(
                key_id=row.key_id, secret=self._key.unwrap(_name(row.key_id), row.wrapped), made_at=row.made_at
            )
            for row in rows
        )


def _name(key_id: int) -> str:
    return f"installation key {key_id}"


def _make_key(now: float) -> InstallationKey:
    # A random number, so that a sensor never takes one installation's key for another's.
    number = secrets.randbelow(2**31 - 1) + 1
    return InstallationKey(key_id=number, secret=secrets.token_bytes(KEY_BYTES), made_at=now)

"""Open sessions of pages, in the state: whichever collector a browser asks knows them, also after a restart.

A row holds a keyed hash of the session, with the API token as key. So nobody opens a page with what the state holds,
and a token that is replaced ends the sessions that it opened.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import SESSIONS

SESSIONS_MAX: Final = 10_000  # Past it the oldest ends; only who has the token opens one.


class SessionTable:
    """Times are unix seconds. Methods block, and raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._open = StateCache(state, (SESSIONS.name,), _read)

    def begin(self, session_hash: str, now: float, until: float) -> None:
        """Open a session, and forget those that ended."""
        newest = select(SESSIONS.c.session_hash).order_by(SESSIONS.c.until.desc(), SESSIONS.c.session_hash)
        with self._state.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.until <= now))
            connection.execute(insert(SESSIONS), {"session_hash": session_hash, "until": until})
            past = connection.execute(newest.offset(SESSIONS_MAX)).scalars().all()
            if past:
                connection.execute(delete(SESSIONS).where(SESSIONS.c.session_hash.in_(past)))
        self._open.look()

    def end(self, session_hash: str) -> None:
        """Close a session, where it is open."""
        with self._state.write() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.session_hash == session_hash))
        self._open.look()

    def find_end(self, session_hash: str) -> float:
        """Until when a session is open; 0 of one that is not. What another collector began is known at once, what it
        ended within a second."""
        until = self._open.recall().get(session_hash)
        return self._open.read().get(session_hash, 0.0) if until is None else until


def _read(connection: Connection) -> Mapping[str, float]:
    return {row.session_hash: row.until for row in connection.execute(select(SESSIONS))}

"""Writes an entry of the audit log for each export: a file of a list, a document of a service, deny lists, a backup.

The entry is written before the answer is sent, so nothing leaves without one. An actor may export `EXPORTS_MAX` times
at once and `EXPORTS_PER_SECOND` in the long run. So nobody pushes old entries out of the log by exporting. What
programs fetch again and again has an entry an hour for each actor.
"""

import math
import threading
from collections.abc import Callable, Mapping
from typing import Final

from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.trust.audit import AuditLog, make_entry
from common.bounded import BoundedDict
from common.token_bucket import TokenBuckets

EXPORTS_MAX: Final = 300
EXPORTS_PER_SECOND: Final = 0.1
POLLED_SECONDS: Final = 3_600.0
_ACTORS_MAX: Final = 4_096


class ExportLog:
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, audit: AuditLog, clock: Callable[[], float]) -> None:
        self._audit, self._clock = audit, clock
        self._room: TokenBuckets[str] = TokenBuckets(EXPORTS_PER_SECOND, EXPORTS_MAX, clock, keys_max=_ACTORS_MAX)
        self._polled: BoundedDict[tuple[str, str, str], float] = BoundedDict(_ACTORS_MAX)
        self._lock = threading.Lock()

    def note(self, kind: str, target: str, asked: Mapping[str, object] | None = None, **found: object) -> None:
        """Of `kind`, as `list`, with what was asked for and what was found. Raises Problem where an actor exports too
        much."""
        by = name_actor()
        if wait := self._room.take(by):
            seconds = math.ceil(wait)
            sentence = f"{by} exported {EXPORTS_MAX} times and more; wait {seconds} s, or ask for more at once."
            raise Problem(429, sentence, {"retry-after": str(seconds)})
        self._write(by, kind, target, asked or {}, found)

    def note_polled(self, kind: str, target: str) -> None:
        """The same of what is fetched again and again."""
        by, now = name_actor(), self._clock()
        with self._lock:
            last = self._polled.get((by, kind, target))
            if last is not None and 0 <= now - last < POLLED_SECONDS:
                return
        self._write(by, kind, target, {}, {})
        with self._lock:
            self._polled[by, kind, target] = now

    def _write(self, by: str, kind: str, target: str, asked: Mapping[str, object], found: Mapping[str, object]) -> None:
        after = {**asked, **found}
        self._audit.add(make_entry(self._clock(), by, f"export.{kind}", target, after=after or None))

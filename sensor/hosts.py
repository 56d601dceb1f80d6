"""Which host names a service is told under: the Host header comes from the attacker, so at most 100 per service, then
`other`.

A host that was served (2xx) keeps its name first: unserved names fill only what is left, and the oldest of them give
way when served ones need the room.
"""

from typing import Final

MAX_HOSTS: Final = 100  # Per service: real ones have a handful; virtual hosting above it is folded.
OTHER: Final = "other"


class HostNames:
    """The names of one service. A name admitted as served is never folded again."""

    __slots__ = ("_served", "_unserved")

    def __init__(self) -> None:
        self._served: set[str] = set()
        self._unserved: dict[str, None] = {}

    def admit(self, host: str, is_served: bool) -> tuple[str, str | None]:
        """(the name to tell: `host`, or `other` past the cap; the name that gave way for it). Amortised one look-up."""
        if host in self._served:
            return host, None
        if is_served and len(self._served) < MAX_HOSTS:
            self._served.add(host)
            self._unserved.pop(host, None)
            evicted = None
            if len(self._served) + len(self._unserved) > MAX_HOSTS:
                evicted = next(iter(self._unserved))
                del self._unserved[evicted]
            return host, evicted
        if host in self._unserved:
            return host, None
        if not is_served and len(self._served) + len(self._unserved) < MAX_HOSTS:
            self._unserved[host] = None
            return host, None
        return OTHER, None

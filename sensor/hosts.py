"""Which host names a service is told under: the Host header comes from the attacker, so at most 100 per service, then
`other`.

A host that was served (2xx) keeps its name first: unserved names fill only what is left, and give way when served ones
need the room.
"""

from typing import Final

MAX_HOSTS: Final = 100  # Per service: real ones have a handful; virtual hosting above it is folded.
MAX_SERVICES: Final = 4_096  # Ports of one node; above it every host is `other`.
OTHER: Final = "other"


class HostTable:
    """Admits host names per service. Answers once given stay: a name admitted as served is never folded again."""

    __slots__ = ("_served", "_unserved", "folded_calls")

    def __init__(self) -> None:
        self._served: dict[object, set[str]] = {}
        self._unserved: dict[object, dict[str, None]] = {}
        self.folded_calls = 0  # Calls told under `other`.

    def admit(self, service: object, host: str, is_served: bool) -> str:
        """The name to tell: `host`, or `other` past the cap. Amortised one set look-up."""
        served = self._served.get(service)
        if served is None:
            if len(self._served) >= MAX_SERVICES:
                self.folded_calls += 1
                return OTHER
            served = self._served[service] = set()
            self._unserved[service] = {}
        if host in served:
            return host
        unserved = self._unserved[service]
        if is_served and len(served) < MAX_HOSTS:
            served.add(host)
            unserved.pop(host, None)
            while unserved and len(served) + len(unserved) > MAX_HOSTS:
                unserved.pop(next(iter(unserved)))
            return host
        if host in unserved:
            return host
        if not is_served and len(served) + len(unserved) < MAX_HOSTS:
            unserved[host] = None
            return host
        self.folded_calls += 1
        return OTHER

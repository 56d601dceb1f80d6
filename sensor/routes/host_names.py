"""Keeps the host names of one service that are reported: at most `MAX_HOSTS`, the others are `other`.

Clients choose the Host header, so the names of a server that answers each of them have no end. Names that were served
(2xx) go before names that never were. Among served ones, a name's strength decides: its served calls, which lose half
of their weight in `HALF_LIFE_NS`, times the square of the networks that called it, at most `MAX_NETWORKS`. So a virtual
host that is called each day outlasts names that a client made up, and no name keeps its place for ever. Of calls that
the kernel matches, the samples count.

Where all places are taken by served names, a new one takes a place in one of two ways:

- It is at least `MARGIN` times as strong as the weakest name. Calls of names that wait for a place are counted, too
  (the counters of Space-Saving, Metwally et al. 2005, with forward decay, Cormode et al. 2009). With the margin a flood
  of ever new names changes no place, and whoever repeats each name needs twice as many calls for each further change.
- Its client has brought at least two names less than the client that has brought most, counting names that one network
  called less than `ESTABLISHED_CALLS` times. The last of that client's names then gives its place. So one client that
  floods a service only takes places from itself.

A name that loses its place and gets another has the same route ids as before.
"""

from typing import Final

from common.bounded import BoundedDict

MAX_HOSTS: Final = 100  # Of one service: real ones have a handful.
OTHER: Final = "other"
HALF_LIFE_NS: Final = 24 * 3_600_000_000_000
MARGIN: Final = 2
MAX_NETWORKS: Final = 3
ESTABLISHED_CALLS: Final = 3
# Names that wait, of all services of the sensor: of a flood of 5,000 new names a second those of the last 3 s.
MAX_WAITING: Final = 16_384
# Half lives that a clock may jump: the weight of one call stays a number.
_EXPONENT_MAX: Final = 500.0
_MINUTE_NS: Final = 60_000_000_000


class HostUse:
    """How much one host name is used. Strengths are those of one moment, so they only rise: a call of a later day
    counts twice as much."""

    __slots__ = ("bringer", "calls", "networks", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.calls = 0
        self.networks: tuple[int, ...] = ()
        self.bringer: int | None = None  # The only network that called it, while it is not established.

    @property
    def strength(self) -> float:
        """To be compared with that of other names of the service."""
        return self.weight * len(self.networks) ** 2

    def add(self, network: int, weight: float) -> None:
        """One served call."""
        self.weight += weight
        self.calls += 1
        if network not in self.networks and len(self.networks) < MAX_NETWORKS:
            self.networks += (network,)

    @property
    def is_established(self) -> bool:
        """Whether it is more than one client's invention."""
        return self.calls >= ESTABLISHED_CALLS or len(self.networks) > 1


WaitingHosts = BoundedDict[int, HostUse]


class HostNames:
    """The names of one service."""

    __slots__ = ("_brought", "_first_ns", "_least", "_served", "_unserved", "_waiting", "_weighed_ns", "_weight")

    def __init__(self, waiting: WaitingHosts) -> None:
        """`waiting`: names of all services that have no place."""
        self._served: dict[str, HostUse] = {}
        self._unserved: dict[str, None] = {}
        self._waiting = waiting
        self._brought: dict[int, int] = {}  # Names that are not established, by network.
        self._least = 0.0  # No served name is weaker.
        self._first_ns: int | None = None
        self._weighed_ns, self._weight = 0, 1.0  # The weight of a call of that time.

    def count(self, host: str, network: int, time_ns: int) -> None:
        """One served call of a host that has a place. Cost: 0.5 us."""
        use = self._served.get(host)
        if use is not None:
            use.add(network, self._weigh(time_ns))
            if use.bringer is not None and use.is_established:
                self._give_back(use)

    def admit(self, host: str, is_served: bool, network: int, time_ns: int) -> tuple[str, str | None]:
        """(the name to report: `host`, or `other` where it gets no place; the name whose place it got)."""
        if host in self._served:
            return host, None
        if not is_served:
            if host not in self._unserved:
                if len(self._served) + len(self._unserved) >= MAX_HOSTS:
                    return OTHER, None
                self._unserved[host] = None
            return host, None
        if host in self._unserved:
            del self._unserved[host]
        elif len(self._served) + len(self._unserved) >= MAX_HOSTS:
            return self._replace(host, network, time_ns)
        self._add(host, HostUse(), network, time_ns)
        return host, None

    def _replace(self, host: str, network: int, time_ns: int) -> tuple[str, str | None]:
        if self._unserved:
            evicted = next(iter(self._unserved))
            del self._unserved[evicted]
            self._add(host, HostUse(), network, time_ns)
            return host, evicted
        key = hash((id(self), host))
        use = self._waiting.get(key) or HostUse()
        weaker = self._find_weaker(use, network, self._weigh(time_ns))
        if weaker is None:
            use.add(network, self._weigh(time_ns))
            self._waiting.renew(key, use)
            return OTHER, None
        self._waiting.pop(key, None)
        self._give_back(self._served.pop(weaker))
        self._add(host, use, network, time_ns)
        return host, weaker

    def _find_weaker(self, use: HostUse, network: int, weight: float) -> str | None:
        """The name that gives its place to one with this use and one more call. Cost: 1 us, 30 us where one does."""
        networks = len(use.networks) + (network not in use.networks and len(use.networks) < MAX_NETWORKS)
        strength = (use.weight + weight) * networks**2
        if strength >= MARGIN * self._least:
            weakest = min(self._served, key=lambda name: self._served[name].strength)
            self._least = self._served[weakest].strength
            if strength >= MARGIN * self._least:
                return weakest
        most = max(self._brought, key=self._brought.__getitem__, default=network)
        if self._brought.get(most, 0) < self._brought.get(network, 0) + 2:
            return None
        return next(name for name in reversed(self._served) if self._served[name].bringer == most)

    def _add(self, host: str, use: HostUse, network: int, time_ns: int) -> None:
        use.add(network, self._weigh(time_ns))
        self._least = min(self._least, use.strength)
        if not use.is_established:
            use.bringer = network
            self._brought[network] = self._brought.get(network, 0) + 1
        self._served[host] = use

    def _give_back(self, use: HostUse) -> None:
        """It counts no more among the names that its network brought."""
        if use.bringer is not None:
            self._brought[use.bringer] -= 1
            if not self._brought[use.bringer]:
                del self._brought[use.bringer]
            use.bringer = None

    def _weigh(self, time_ns: int) -> float:
        """The weight of a call of this time against one of the first, to the minute."""
        if 0 <= time_ns - self._weighed_ns < _MINUTE_NS:
            return self._weight
        if self._first_ns is None:
            self._first_ns = time_ns
        half_lives = (time_ns - self._first_ns) / HALF_LIFE_NS
        self._weighed_ns = time_ns
        self._weight = float(2.0 ** max(-_EXPONENT_MAX, min(half_lives, _EXPONENT_MAX)))
        return self._weight

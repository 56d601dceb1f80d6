"""The contract of a kind that routes calls to Services: objects of the API server in, ways out. Pure.

A `RouteKind` says where the API serves the kind and how one object is read. To follow another kind is one entry in the
table of its project's module, a right in the chart's ClusterRole, and a test with a manifest.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from collector.kubernetes.addresses import Backend
from collector.kubernetes.objects import Object
from collector.kubernetes.rows import FactKind
from collector.kubernetes.state import ClusterState

ANY_HOST: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Calls of this host, path and method reach these backends. Conditions on headers, queries and clients do not
    count: whoever fulfils them reaches the backends too."""

    host: str = ANY_HOST
    path: str = "/"
    path_type: str = "Prefix"  # Exact, Prefix or Pattern.
    method: str = ""
    backends: tuple[Backend, ...] = ()
    addresses: tuple[str, ...] = ()
    is_tls: bool = False
    is_rewritten: bool = False  # The backends see another path.
    note: str = ""


ListWays = Callable[[Any, ClusterState], Iterable[Way]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteKind:
    """A kind at the API server. Of `versions` the first that the cluster has is followed. `list_ways` is None for what
    others refer to, as Gateways."""

    type: type[Object]
    group: str
    versions: tuple[str, ...]
    resource: str
    fact: FactKind | None = None
    list_ways: ListWays | None = None
    is_required: bool = False  # Every cluster has it.

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the API serves it, newest version first."""
        return tuple(f"/apis/{self.group}/{version}/{self.resource}" for version in self.versions)


def join_hosts(listener: str | None, hosts: Iterable[str]) -> Iterator[str]:
    """The hosts that a listener and a route have in common; `*.` takes at least one label more. An empty listener and
    no hosts each take all."""
    asked = list(hosts)
    if listener in (None, "", ANY_HOST):
        yield from asked or [ANY_HOST]
    elif not asked or ANY_HOST in asked:
        yield str(listener)
    else:
        for host in asked:
            common = join_names(str(listener), host)
            if common:
                yield common


def join_names(one: str, other: str) -> str:
    """The narrower of two names that have hosts in common; empty where they have none."""
    for wide, narrow in ((one, other), (other, one)):
        if wide == narrow or (wide.startswith("*.") and narrow.endswith(wide[1:])):
            return narrow
    return ""

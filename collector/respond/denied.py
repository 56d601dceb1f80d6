"""Who is to be refused elsewhere, as networks: of everything, and of single workloads. Pure.

Only addresses: nobody but the sensors can know a credential by its hash.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from collector.ingest.blocks import BlockKind, BlockOrder

Place = tuple[str, str]  # Namespace and workload.


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Networks as CIDR, in order. `by_workload`: only at these, beside those denied everywhere."""

    everywhere: tuple[str, ...]
    by_workload: dict[Place, tuple[str, ...]]


def collect_denied(orders: Sequence[BlockOrder], cluster: str) -> Denied:
    """Of all live blocks that hold in a cluster. One of services that are not named by namespace and workload is
    nobody's here."""
    everywhere: set[str] = set()
    found: defaultdict[Place, set[str]] = defaultdict(set)
    for order in orders:
        if order.kind is not BlockKind.ADDRESS or not order.holds_in(cluster):
            continue
        network = str(ipaddress.ip_network(order.value))
        if not order.scopes:
            everywhere.add(network)
        for scope in order.scopes:
            if scope.namespace and scope.workload:
                found[scope.namespace, scope.workload].add(network)
    by_workload = {place: tuple(sorted(networks)) for place, networks in sorted(found.items())}
    return Denied(everywhere=tuple(sorted(everywhere)), by_workload=by_workload)

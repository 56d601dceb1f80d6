"""How many of this node's calls each client made lately: what a block's share of the traffic is measured by.

Takes rows that leave for the collector, keeps sums of the last minutes by client address, credential and principal.
Server-side rows only. Bounded: past `CLIENTS_LIMIT` in a minute calls count to the total alone.
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

import numpy as np

from sensor.aggregation.rows import RowColumns, Sum, find_identities
from sensor.calls import Role
from sensor.enforce.block import Block, BlockKind, parse_network

MINUTES: Final = 10
CLIENTS_LIMIT: Final = 20_000
# With fewer calls a share says nothing.
CALLS_LEAST: Final = 20
_MINUTE_NS: Final = 60_000_000_000
_TWO_BITS: Final = np.uint64(3)
_ROLE_SHIFT: Final = np.uint64(2)

Client = str | tuple[BlockKind, int]


class CallHistory:
    """Calls by client. Not thread-safe."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, Counter[Client]]] = deque(maxlen=MINUTES)
        self._totals: deque[int] = deque(maxlen=MINUTES)

    def add(self, columns: RowColumns, now_ns: int) -> None:
        """Rows that leave now, by the monotonic clock."""
        rows, identities = columns.rows, columns.facts.identities
        roles = rows.keys >> _ROLE_SHIFT & _TWO_BITS
        is_server = roles == Role.SERVER.value
        calls = rows.sums[Sum.CALLS][is_server]
        who = find_identities(rows.keys[is_server])
        if not len(who):
            return
        clients, total = self._find_minute(now_ns)
        distinct, places = np.unique(who, return_inverse=True)
        sums = np.bincount(places, weights=calls.astype(np.float64)).astype(np.int64)
        texts = columns.facts.find_texts(identities.client_address[distinct].tolist())
        for address, credential, principal, count in zip(
            texts,
            identities.credential[distinct].tolist(),
            identities.principal[distinct].tolist(),
            sums.tolist(),
            strict=True,
        ):
            named: tuple[Client, ...] = (
                address,
                (BlockKind.CREDENTIAL, credential),
                (BlockKind.PRINCIPAL, principal),
            )
            for client in named:
                if len(clients) < CLIENTS_LIMIT or client in clients:
                    clients[client] += count
        self._totals[-1] = total + int(sums.sum())

    def _find_minute(self, now_ns: int) -> tuple[Counter[Client], int]:
        minute = now_ns // _MINUTE_NS
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Counter()))
            self._totals.append(0)
        return self._minutes[-1][1], self._totals[-1]

    @property
    def calls(self) -> int:
        """Of all clients, in these minutes."""
        return sum(self._totals)

    def measure_share(self, blocks: Iterable[Block]) -> float:
        """The part of the calls that clients of these blocks made together, 0 to 1; a call counts once for each block
        that names its client."""
        total = sum(self._totals)
        if total < CALLS_LEAST:
            return 0.0
        blocked = list(blocks)
        made = sum(_count_calls(clients, blocked) for _, clients in self._minutes)
        return min(made / total, 1.0)


def _count_calls(clients: Counter[Client], blocks: list[Block]) -> int:
    made = 0
    networks = []
    for block in blocks:
        if block.network is None:
            assert block.kind is not None
            made += clients.get((block.kind, block.hash), 0)
        elif block.network.num_addresses == 1:
            made += clients.get(str(block.network.network_address), 0)
        else:
            networks.append(block.network)
    if not networks:
        return made
    for client, calls in clients.items():
        if isinstance(client, str) and (address := parse_network(client)) is not None:
            made += calls * any(
                network.version == address.version and address.network_address in network for network in networks
            )
    return made

"""Measures each client's share of this node's calls, limits blocks by it, and knows which HTTP/2 connections are
shared.

`CallHistory` takes rows that leave for the collector, and keeps sums of the last minutes by client address, credential
and principal. It takes server-side rows only. Past `CLIENTS_LIMIT` in a minute, calls count to the total alone.

`ShareLimiter` decides whether a block leaves enough of the node's traffic alone. A block that was in force before the
start was measured then. Others wait for calls, `SETTLE_SECONDS` at most. On an idle node they then begin unmeasured and
are measured as calls come. Stopped connections count as calls that would have been made.

`SharedConnections`: a connection of one client can be reset as in HTTP/1. One that carries several clients is a
proxy's, and a reset would hit the others. All connections of such a proxy count as shared, because a new one may carry
another client a millisecond after the blocked one. Calls without a credential name nobody and share nothing. Bounded,
the least recently used is forgotten first.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from common.bounded import BoundedDict
from sensor.aggregate.rows import RowColumns, Sum, find_identities
from sensor.core.calls import Role
from sensor.core.clock import Clock
from sensor.core.config import EnforcementSettings
from sensor.enforce.block import Block, BlockKind, KnownBlocks, find_reason, parse_network
from sensor.enforce.tables import Held

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


CONNECTIONS_LIMIT: Final = 16_384
PEERS_LIMIT: Final = 4_096
# What a connection carries, where that is more than one client. No hash is negative.
_MANY: Final = -1


class SharedConnections:
    """Mutable state of one sensor."""

    def __init__(self) -> None:
        self._clients: BoundedDict[int, int] = BoundedDict(CONNECTIONS_LIMIT)  # By connection.
        self._peers: BoundedDict[str, None] = BoundedDict(PEERS_LIMIT)  # Addresses whose connections are shared.

    def note(self, connection: int, peer: str, client: int) -> None:
        """A call of this client (a hash; 0: nobody) came on a connection from that address."""
        if not client:
            return
        known = self._clients.get(connection)
        if known is None:
            self._clients[connection] = client
            return
        self._clients.move_to_end(connection)
        if known != client:
            self._clients[connection] = _MANY
            self._peers.renew(peer, None)

    def is_shared(self, connection: int, peer: str) -> bool:
        """Whether others than one client are, or may come to be, on that connection."""
        return peer in self._peers or self._clients.get(connection) == _MANY


SETTLE_SECONDS: Final = 5.0


class ShareLimiter:
    """Of one sensor. `count_stopped` gives the connections that a block has stopped."""

    def __init__(
        self,
        *,
        limits: EnforcementSettings,
        clock: Clock,
        history: CallHistory,
        known: KnownBlocks,
        count_stopped: Callable[[Held], int],
    ) -> None:
        self._limits, self._clock, self._history, self._known = limits, clock, history, known
        self._count_stopped = count_stopped
        self._began_ns = clock.monotonic_ns()

    def begin(self) -> None:
        """Calls are seen from now on."""
        self._began_ns = self._clock.monotonic_ns()

    def admit(self, block: Block, others: Iterable[Block]) -> tuple[str, bool]:
        """Why a block does not begin (empty where it does), and whether it was measured."""
        is_known = self._known.is_known(block)
        if is_known or self._history.calls < CALLS_LEAST:
            reason = find_reason(block, self._limits, share=0.0)
            waited_ns = self._clock.monotonic_ns() - self._began_ns
            if reason or is_known or waited_ns >= SETTLE_SECONDS * 1e9:
                return reason, is_known
            return f"this sensor has seen {self._history.calls} calls since its start, too few to know its share", False
        return find_reason(block, self._limits, share=self._history.measure_share([block, *others])), True

    def check(self, held: Held) -> str:
        """Why a block that began unmeasured ends; empty where it goes on, measured once enough is known."""
        if held.is_measured:
            return ""
        stopped, calls = self._count_stopped(held), self._history.calls
        if stopped + calls < CALLS_LEAST:
            return ""
        held.is_measured = True
        share = stopped / (stopped + calls)
        if share <= self._limits.max_call_share:
            return ""
        return (
            f"it was blocked while this node was idle, and made {share:.0%} of what came since; this sensor's limit "
            f"is {self._limits.max_call_share:.0%}"
        )

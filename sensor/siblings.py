"""Names for calls of gRPC whose path is not known, by what the same client calls at the same service on connections
that were seen from their beginning.

Only where there is one answer. Named is a call whose client workload is known and called, on two other connections or
more, nothing but one method there; whose own connection has shown no second unknown endpoint; and which, like the
calls before it on that connection, has a status and sizes that calls of that method have. Everything else stays
unknown. What was named so is told as inferred: a client may call a second method on its old connections only, which
nobody can rule out.

How often that is right is measured over all pairs of methods of a recorded conversation (docs/http2.md; printed by
tests/sensor/test_siblings.py with -s).
"""

from typing import Final

import msgspec

from sensor.calls import CallKind, CallRecord, Exchange, Service
from sensor.kinds import CallFacts
from sensor.protocols.http1 import RequestHead

MIN_CONNECTIONS: Final = 2
MIN_CALLS: Final = 8
# Of the unknown endpoint, before one is named.
MIN_ALIKE: Final = 4
# Clients at services, and connections joined late, that are remembered; the oldest goes first.
PAIRS_MAX: Final = 4_096
CONNECTIONS_MAX: Final = 16_384
# The call that unknown ones are may be as much smaller or larger than all that were seen.
_SLACK: Final = 1.25
_METHOD: Final = "POST"

_Pair = tuple[str, Service]


class Named(msgspec.Struct, frozen=True):
    """What a call may be named."""

    host: str
    path: str


class _Habit:
    """What one client calls at one service, as long as it is one method."""

    __slots__ = ("calls", "connections", "is_mixed", "largest", "named", "smallest", "statuses")

    def __init__(self, named: Named) -> None:
        self.named = named
        self.is_mixed = False
        self.connections: set[int] = set()
        self.calls = 0
        self.statuses: set[int | None] = {None}  # Of RPCs; None: not known.
        self.smallest = [1 << 62, 1 << 62]  # Bytes of requests and responses.
        self.largest = [0, 0]

    def see(self, exchange: Exchange, rpc_status: int | None) -> None:
        self.calls += 1
        self.statuses.add(rpc_status)
        if len(self.connections) < MIN_CONNECTIONS:
            self.connections.add(exchange.connection)
        for side, size in enumerate((exchange.request_bytes, exchange.response_bytes)):
            self.smallest[side] = min(self.smallest[side], size)
            self.largest[side] = max(self.largest[side], size)

    def is_like(self, exchange: Exchange, rpc_status: int | None) -> bool:
        return rpc_status in self.statuses and all(
            smallest / _SLACK <= size <= largest * _SLACK
            for size, smallest, largest in zip(
                (exchange.request_bytes, exchange.response_bytes), self.smallest, self.largest, strict=True
            )
        )


class _Joined:
    """A connection that was joined late, and its only unknown endpoint."""

    __slots__ = ("alike", "is_refused", "unknown")

    def __init__(self, unknown: bytes) -> None:
        self.unknown = unknown
        self.alike = 0  # Calls that the habit of its client may be.
        self.is_refused = False  # It has another endpoint, or a call that is not like: for good.


class Siblings:
    """Not thread-safe."""

    __slots__ = ("_habits", "_joined", "inferred_count")

    def __init__(self) -> None:
        self._habits: dict[_Pair, _Habit] = {}
        self._joined: dict[int, _Joined] = {}
        self.inferred_count = 0

    def see(self, exchange: Exchange, head: RequestHead, facts: CallFacts, record: CallRecord) -> None:
        """A call of which all is known."""
        if facts.kind is not CallKind.GRPC or facts.is_request_unknown or not record.client_workload:
            return
        pair, named = (record.client_workload, record.route.service), Named(head.host, head.path)
        habit = self._habits.get(pair)
        if habit is None:
            if len(self._habits) >= PAIRS_MAX:
                del self._habits[next(iter(self._habits))]
            habit = self._habits[pair] = _Habit(named)
        habit.is_mixed = habit.is_mixed or habit.named != named
        if not habit.is_mixed and exchange.is_final:
            habit.see(exchange, facts.rpc_status)

    def infer(self, exchange: Exchange, method: str, facts: CallFacts, client: str, service: Service) -> Named | None:
        """What a call with an unknown path must be, if anything."""
        joined = self._find_joined(exchange.connection, facts.unknown)
        habit = self._habits.get((client, service))
        if joined.is_refused or not client or method != _METHOD or not exchange.is_final or exchange.is_aborted:
            return None
        if habit is None or habit.is_mixed or habit.calls < MIN_CALLS or len(habit.connections) < MIN_CONNECTIONS:
            return None
        joined.is_refused = not habit.is_like(exchange, facts.rpc_status)
        joined.alike += 1
        if joined.is_refused or joined.alike < MIN_ALIKE:
            return None
        self.inferred_count += 1
        return habit.named

    def _find_joined(self, connection: int, unknown: bytes) -> "_Joined":
        joined = self._joined.get(connection)
        if joined is None:
            if len(self._joined) >= CONNECTIONS_MAX:
                del self._joined[next(iter(self._joined))]
            joined = self._joined[connection] = _Joined(unknown)
        joined.is_refused = joined.is_refused or joined.unknown != unknown
        return joined

"""Which HTTP/2 connections carry several clients, and from which peers such connections come.

A connection that carries one client can be reset like one of HTTP/1; one that carries more is a proxy's, and others
would be hit. Such a proxy's other connections are taken for shared too, whoever they have carried so far: a new one may
begin with the blocked client's call and carry somebody else's a millisecond later. Bounded, the longest unused
forgotten first; calls without a credential name nobody and share nothing.
"""

from collections import OrderedDict
from typing import Final

CONNECTIONS_LIMIT: Final = 16_384
PEERS_LIMIT: Final = 4_096
# What a connection carries, where that is more than one client. No hash is negative.
_MANY: Final = -1


class SharedConnections:
    """Mutable state of one sensor."""

    def __init__(self) -> None:
        self._clients: OrderedDict[int, int] = OrderedDict()  # By connection.
        self._peers: OrderedDict[str, None] = OrderedDict()  # Addresses whose connections are shared.

    def note(self, connection: int, peer: str, client: int) -> None:
        """A call of this client (a hash; 0: nobody) came on a connection from that address."""
        if not client:
            return
        known = self._clients.get(connection)
        if known is None:
            self._clients[connection] = client
            if len(self._clients) > CONNECTIONS_LIMIT:
                self._clients.popitem(last=False)
            return
        self._clients.move_to_end(connection)
        if known != client:
            self._clients[connection] = _MANY
            self._peers[peer] = None
            self._peers.move_to_end(peer)
            if len(self._peers) > PEERS_LIMIT:
                self._peers.popitem(last=False)

    def is_shared(self, connection: int, peer: str) -> bool:
        """Whether others than one client are, or may come to be, on that connection."""
        return peer in self._peers or self._clients.get(connection) == _MANY

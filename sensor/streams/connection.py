"""A connection of HTTP/2 beside its frames, and all of them as the next sensor takes them up."""

import msgspec

from sensor.calls import Exchange, Role
from sensor.exchange import name_address
from sensor.protocols.http2_connections import Http2Connections
from sensor.reassembly.connection import Direction
from sensor.streams.exchange import Ends
from sensor.streams.flow import FrameFlow
from sensor.streams.matched import TaughtBlock


class Connection:
    """What is known of one beside its frames."""

    __slots__ = ("client", "ended", "ends", "events", "flows", "is_joined", "is_upgraded", "lost", "packed", "time_ns")

    def __init__(self, packed: tuple[int, ...], client: Direction | None, is_joined: bool, is_upgraded: bool) -> None:
        self.packed = packed  # Of FRAMES_EVENT, for its ends.
        self.client = client
        self.is_joined = is_joined
        self.is_upgraded = is_upgraded  # And stream 1 was counted with HTTP/1.
        self.flows = FrameFlow(), FrameFlow()
        self.ends: Ends | None = None
        self.ended = [False, False]
        self.time_ns = 0
        self.events = 0  # Of frames, since it was taught.
        self.lost = 0  # As its last event had it.

    def name_ends(self, number: int, client: Direction | None) -> Ends:
        """Textual addresses, and who of both is the server."""
        if self.ends is None:
            *_, family, local_port, remote_port, cgroup_id, peer_cgroup_id, local, remote = self.packed
            role = Role.CLIENT if client is Direction.BACKWARD else Role.SERVER
            self.ends = Ends(
                number,
                role,
                cgroup_id,
                peer_cgroup_id,
                name_address(family, local),
                local_port,
                name_address(family, remote),
                remote_port,
            )
        return self.ends


class FollowedStreams(msgspec.Struct):
    """Connections that go on, as the next sensor takes them up: their tables, open streams and what waits."""

    streams: Http2Connections
    connections: dict[int, Connection]
    waiting: set[int]
    upgrades: dict[int, tuple[Exchange, int]]
    blocks: dict[int, TaughtBlock]  # That the kernel may still name.
    gone: dict[int, Connection]  # Over; records of them may still come.

    def __repr__(self) -> str:
        return f"FollowedStreams({len(self.connections)} connections, redacted)"

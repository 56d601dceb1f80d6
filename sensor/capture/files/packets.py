"""Reads the packets of a capture into transactions, and counts the packets that hold none."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from sensor.capture.files.capture_file import CapturedPacket, find_ip
from sensor.capture.files.flows import FlowTable, FlowTransaction
from sensor.capture.files.network import NetworkReader


@dataclass(slots=True, kw_only=True)
class PacketCounts:
    """`packets = tcp_segments + other_packets`."""

    packets: int = 0
    tcp_segments: int = 0
    cut_segments: int = 0  # Of those, the capture kept a part.
    other_packets: Counter[str] = field(default_factory=Counter)


class PacketReader:
    """Mutable state of one run."""

    def __init__(self, *, ports: Collection[int] = (), has_decoded_sizes: bool = False) -> None:
        """`ports`: only connections with one of them; empty: all. `has_decoded_sizes`: for `--raw`."""
        self._network = NetworkReader()
        self._ports = frozenset(ports)
        self.flows = FlowTable(has_decoded_sizes=has_decoded_sizes)
        self.counts = PacketCounts()

    @property
    def fragments_given_up(self) -> int:
        """Fragmented datagrams that were never whole."""
        return self._network.defragmenter.given_up

    def read_packet(self, packet: CapturedPacket) -> Iterator[FlowTransaction]:
        """Transactions that this packet ended."""
        counts = self.counts
        counts.packets += 1
        found = find_ip(packet.link_type, packet.data)
        segment = found if isinstance(found, str) else self._network.read(found, packet.time_ns)
        if not isinstance(segment, str) and self._ports.isdisjoint((segment.source_port, segment.destination_port)):
            segment = "other_port" if self._ports else segment
        if isinstance(segment, str):
            counts.other_packets[segment] += 1
            return
        counts.tcp_segments += 1
        counts.cut_segments += len(segment.data) < segment.length
        yield from self.flows.take(segment, packet.time_ns)

    def finish(self) -> Iterator[FlowTransaction]:
        """The capture ends."""
        yield from self.flows.finish()
        self._network.defragmenter.finish()

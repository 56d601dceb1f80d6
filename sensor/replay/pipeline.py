"""A capture through the sensor's own pipeline: packets -> connections -> transactions -> describe -> lines.

Everything after the transactions is the product's: `sensor.describe` with its templating and classification, under a
key that is made for this run and forgotten, so hashes of two runs cannot be compared.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sensor.attacks.classes import Attack
from sensor.attacks.classifier import AttackClassifier
from sensor.attacks.core_rules import load_core_rules
from sensor.attacks.request import Request
from sensor.bodies.reader import BodyReader
from sensor.bodies.sampling import SampleRule
from sensor.calls import CallRecord, Hop, Service, WorkloadKind
from sensor.describe import Describer, DescribeSettings, Undescribed
from sensor.keyed import KeyedHash
from sensor.protocols.http1 import Malformed
from sensor.protocols.http1_faults import name_smuggling
from sensor.protocols.http1_pairs import Transaction
from sensor.replay.capture_file import CapturedPacket
from sensor.replay.exchanges import build_exchange, build_flow_exchange
from sensor.replay.flows import FlowTable, FlowTransaction, format_address
from sensor.replay.lines import Line, build_line, build_raw_line, tell_attack
from sensor.replay.link import find_ip
from sensor.replay.network import NetworkReader
from sensor.templating import Templater
from sensor.vocabulary import load_vocabulary

_KEY_BYTES: Final = 16
_ALL: Final = 1 << 62  # Bodies are read of every call.
NO_REQUEST: Final = "request_not_seen"
CUT_REQUEST: Final = "request_head_cut"


class CaptureIdentity:
    """Servers of a capture by the only name it has for them: their address."""

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        """The service at a server's end."""
        service = Service(
            cluster="",
            namespace="",
            workload=local_address,
            workload_kind=WorkloadKind.UNSPECIFIED,
            host_name="",
            port=local_port,
        )
        return service, Hop.UNSPECIFIED

    def client_workload(self, peer_cgroup_id: int, remote_address: str, remote_port: int) -> str:
        """Unknown."""
        return ""

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """Unknown."""
        return ""


@dataclass(slots=True, kw_only=True)
class ReplayCounts:
    """`packets = tcp_segments + other_packets`."""

    packets: int = 0
    tcp_segments: int = 0
    other_packets: Counter[str] = field(default_factory=Counter)
    calls: int = 0  # That would leave the node.
    untold: Counter[str] = field(default_factory=Counter)
    lossy_calls: int = 0
    smuggling: int = 0  # Requests with signs of it.
    attacks: int = 0  # Calls whose path, query or header values hold a payload.


class Replay:
    """Mutable state of one run."""

    def __init__(self, *, is_raw: bool = False, ports: Collection[int] = ()) -> None:
        """`ports`: only connections with one of them; empty: all."""
        keyed_hash = KeyedHash(1, secrets.token_bytes(_KEY_BYTES))
        self._describer = Describer(
            Templater(load_vocabulary(), keyed_hash),
            CaptureIdentity(),
            keyed_hash,
            DescribeSettings(),
            BodyReader(SampleRule(first_count=_ALL)),
        )
        self._attacks = AttackClassifier(keyed_hash.compute, load_core_rules())
        self._network = NetworkReader()
        self._ports = frozenset(ports)
        self._is_raw = is_raw
        self.flows = FlowTable(has_decoded_sizes=is_raw)
        self.counts = ReplayCounts()

    @property
    def fragments_given_up(self) -> int:
        """Fragmented datagrams that were never whole."""
        return self._network.defragmenter.given_up

    def run(self, packets: Iterable[CapturedPacket]) -> Iterator[Line]:
        """Lines of the calls, in the order in which they ended."""
        for packet in packets:
            for transaction in self._take(packet):
                yield from self._tell(transaction)
        for transaction in self.flows.finish():
            yield from self._tell(transaction)
        self._network.defragmenter.finish()

    def _take(self, packet: CapturedPacket) -> Iterator[FlowTransaction]:
        self.counts.packets += 1
        found = find_ip(packet.link_type, packet.data)
        segment = found if isinstance(found, str) else self._network.read(found, packet.time_ns)
        if not isinstance(segment, str) and self._ports.isdisjoint((segment.source_port, segment.destination_port)):
            segment = "other_port" if self._ports else segment
        if isinstance(segment, str):
            self.counts.other_packets[segment] += 1
            return
        self.counts.tcp_segments += 1
        yield from self.flows.take(segment, packet.time_ns)

    def _tell(self, flow: FlowTransaction) -> Iterator[Line]:
        counts = self.counts
        counts.smuggling += _has_smuggling(flow)
        record = self._describe(flow)
        line, reason = None, ""
        if isinstance(record, Undescribed):
            reason = record.reason
            counts.untold[reason] += 1
        else:
            counts.calls += 1
            counts.lossy_calls += record.is_lossy
            line = build_line(record, server_address=format_address(flow.server[0]))
            attack = self._find_attack(flow)
            if attack is not None:
                counts.attacks += 1
                line |= tell_attack(attack)
        if self._is_raw:
            yield build_raw_line(flow, line, reason=reason)
        elif line is not None:
            yield line

    def _find_attack(self, flow: FlowTransaction) -> Attack | None:
        """What the request attacks, by its target and headers; bodies are not looked at."""
        call = flow.transaction
        if not isinstance(call, Transaction):
            if isinstance(call.request, Malformed):
                return None
            own = call.request.head
            return self._attacks.classify(Request(own.path, own.query, own.method, _decode(own.free_fields)))
        if call.request is None or call.request.head is None:
            return None
        head = call.request.head
        path, _, query = head.start.target.decode("latin-1").partition("?")
        return self._attacks.classify(Request(path, query, head.start.method.decode("latin-1"), _decode(head.fields)))

    def _describe(self, flow: FlowTransaction) -> CallRecord | Undescribed:
        call = flow.transaction
        if isinstance(call, Transaction):
            exchange = build_exchange(flow, call)
            if exchange is None:
                return Undescribed(NO_REQUEST if call.request is None else CUT_REQUEST)
            return self._describer.describe(exchange)
        return self._describer.describe(build_flow_exchange(flow, call))


def _has_smuggling(flow: FlowTransaction) -> bool:
    call = flow.transaction
    return isinstance(call, Transaction) and call.request is not None and bool(name_smuggling(call.request.faults))


def _decode(fields: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1").lower(), value.decode("utf-8", "replace")) for name, value in fields)

"""A capture file as the sensor of a node: packets in, the messages out that a sensor would have sent.

Everything is the sensor's own: filter, describe, schemas, aggregate, convert. The packets' times are its clock. It
differs from a running sensor in three ways:

- All bodies are read, and all requests are looked at for attacks, for nobody waits for the processor.
- The installation key is a hash of the file. So two reports of one file are equal, and hashes of two files cannot be
  compared.
- Ends have no names but their addresses.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from common.capture_report import CaptureAccount, CaptureReportError, SentMessage, UnreadPart
from sensor.aggregate.aggregator import SECOND_NS, WINDOW_GRACE_NS, Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.capture.files.capture_file import CapturedPacket, CaptureFile
from sensor.capture.files.flows import CUT_REQUEST, NO_REQUEST, FlowTransaction, build_exchange
from sensor.capture.files.identity import CaptureIdentity
from sensor.capture.files.packets import PacketReader
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.open import open_attacks
from sensor.describe.attacks.ssrf import RequestForgery
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.filter import CallFilter, ExclusionAccount
from sensor.describe.schemas.book import SchemaBook
from sensor.export.convert import BatchConverter
from sensor.export.messages import write_schemas
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary

NODE: Final = "capture"
_BOOT_ID: Final = "0" * 32
_KEY_ID: Final = 1
_KEY_BYTES: Final = 16
_ALL: Final = 1 << 62  # Bodies and heads are read of every call, and bytes looked at for attacks in each second.
_WINDOW_NS: Final = 10 * SECOND_NS
_SCHEMAS_NS: Final = 60 * SECOND_NS  # From one look at changed schemas to the next.
# Times that can be shown and stored. A file that begins outside has no real times: it is moved to the first of these.
_TIMES_NS: Final = (1_000 * 86_400 * SECOND_NS, 4_000_000_000 * SECOND_NS)
_UNREAD_PROTOCOLS: Final = {
    "tls": "Encrypted: capture behind the program that ends TLS, or run a sensor, which reads inside TLS libraries.",
    "other_protocol": "Another protocol than HTTP.",
    "undecided": "Too little was captured to know the protocol.",
    "upgraded": "HTTP changed to a protocol that is not read.",
    "tunnel": "A CONNECT tunnel with something that is not read.",
    "websocket": "Messages of a WebSocket are counted and not read.",
}
_OTHER_PACKETS: Final = {
    "not_tcp": "Not TCP, such as UDP. HTTP/3 is not read.",
    "other_port": "Of other ports than --port.",
    "fragment": "Parts of packets, which are read once they are joined.",
    "not_ip": "Not IP.",
    "cut": "The capture kept too little of them: capture with `tcpdump -s 0`.",
}
_UNREPORTED: Final = {
    NO_REQUEST: "Their requests are not in the file: it began later, or lost them.",
    CUT_REQUEST: "Their request heads are not whole in the file.",
}


def hash_file(path: Path) -> bytes:
    """The key of a file's report. Raises CaptureReportError where it cannot be read twice."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CaptureReportError(f"{path} is no regular file, and a report reads it twice; save the capture first")
    try:
        with path.open("rb") as file:
            return hashlib.blake2b(hashlib.file_digest(file, "sha256").digest(), digest_size=_KEY_BYTES).digest()
    except OSError as error:
        raise CaptureReportError(f"cannot read {path}: {error.strerror}; name a pcap or pcapng file") from error


class CaptureNode:
    """The sensor's side of a report (`CaptureSource`). Mutable state of one run."""

    def __init__(
        self, capture: CaptureFile, path: Path, packets: Iterable[CapturedPacket], ports: Sequence[int]
    ) -> None:
        """`packets` are those of `capture`, perhaps with a bar of progress around them."""
        key = hash_file(path)
        keyed_hash, vocabulary = KeyedHash(_KEY_ID, key), load_vocabulary()
        identity, rule, attacks = CaptureIdentity(), SampleRule(first_count=_ALL), AttackAccount()
        self._path, self._capture, self._packets = path, capture, packets
        self._templater = Templater(vocabulary, keyed_hash)
        self._excluded = ExclusionAccount()
        self._filter = CallFilter(identity, self._excluded)
        self._schemas = SchemaBook(vocabulary, SampleRule(), seed=int.from_bytes(key[:8], "big"))
        self._describer = Describer(
            self._templater,
            identity,
            keyed_hash,
            DescribeSettings(),
            BodyReader(rule, self._schemas),
            open_attacks(keyed_hash, bytes_per_second=_ALL, account=attacks),
            self._schemas,
            RequestForgery(keyed_hash, attacks),
        )
        self._aggregator = Aggregator()
        self._converter = BatchConverter(node=NODE, boot_id=_BOOT_ID)
        self._reader = PacketReader(ports=ports)
        self._calls = self._lossy_calls = 0
        self._unreported: dict[str, int] = {}
        self._first_ns = self._now_ns = 0
        self._moved = 0  # Packets whose times are others than in the file.
        self._schemas_ns = 0  # When they were looked at last.

    def read(self) -> Iterator[SentMessage]:
        """All messages in the order of their times."""
        for packet in self._mend_times(self._packets):
            yield from self._pass_time(packet.time_ns)
            for flow in self._reader.read_packet(packet):
                self._take(flow)
        for flow in self._reader.finish():
            self._take(flow)
        yield from self._send(self._aggregator.flush(), self._now_ns)
        yield from self._send_schemas()

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of those words that may leave a node."""
        return self._templater.apply_reveal(hashes)

    def count(self) -> CaptureAccount:
        """What was read so far."""
        flows, packets = self._reader.flows.counts, self._reader.counts
        return CaptureAccount(
            file_name=self._path.name,
            file_bytes=self._capture.size_bytes,
            first_unix_ns=self._first_ns,
            last_unix_ns=self._now_ns,
            packets=packets.packets,
            connections=flows.flows,
            http_connections=flows.http_flows,
            calls=self._calls,
            unread=tuple(part for part in self._list_unread() if part.count),
        )

    def _mend_times(self, packets: Iterable[CapturedPacket]) -> Iterator[CapturedPacket]:
        """The same packets at times that can be shown and stored."""
        earliest, latest = _TIMES_NS
        offset: int | None = None
        for packet in packets:
            if offset is None:
                offset = 0 if earliest <= packet.time_ns <= latest else earliest - packet.time_ns
            time_ns = min(max(packet.time_ns + offset, earliest), latest)
            if time_ns != packet.time_ns:
                self._moved += 1
                packet = CapturedPacket(time_ns, packet.link_type, packet.data)
            yield packet

    def _pass_time(self, now_ns: int) -> Iterator[SentMessage]:
        """What leaves until a packet's time; of packets that are out of order the latest is the present."""
        last_ns = self._now_ns
        if not self._reader.counts.packets:
            self._first_ns = self._now_ns = self._schemas_ns = now_ns
            return
        if now_ns <= last_ns:
            return
        self._now_ns = now_ns
        if now_ns // SECOND_NS == last_ns // SECOND_NS:
            return
        # A second ended, and a window some time after it: where nothing came for long, both are over.
        due_ns = {
            last_ns // SECOND_NS * SECOND_NS + SECOND_NS,
            last_ns // _WINDOW_NS * _WINDOW_NS + _WINDOW_NS + WINDOW_GRACE_NS,
            now_ns // SECOND_NS * SECOND_NS,
        }
        for time_ns in sorted(due_ns):
            if time_ns <= now_ns:
                yield from self._send(self._aggregator.poll(time_ns), time_ns)
        if now_ns - self._schemas_ns >= _SCHEMAS_NS:
            self._schemas_ns = now_ns
            yield from self._send_schemas()

    def _take(self, flow: FlowTransaction) -> None:
        exchange = build_exchange(flow)
        if isinstance(exchange, str):
            self._leave_out(exchange)
            return
        if self._filter.find_exclusion(exchange) is not None:
            return
        record = self._describer.describe(exchange)
        if isinstance(record, Undescribed):
            self._leave_out(record.reason)
            return
        self._calls += 1
        self._lossy_calls += record.figures.is_lossy
        for late in self._describer.take_late():
            self._aggregator.add(late)
        self._aggregator.add(record)

    def _leave_out(self, reason: str) -> None:
        self._unreported[reason] = self._unreported.get(reason, 0) + 1

    def _send(self, rows: RowColumns, time_ns: int) -> Iterator[SentMessage]:
        if not len(rows):
            return
        lost = self._reader.flows.counts.heads_lost + self._unreported.get(CUT_REQUEST, 0)
        batches = self._converter.convert(
            rows,
            key_id=_KEY_ID,
            policy_epoch=0,
            clock_segment=0,
            lost_calls_total=lost,
            seen_calls_total=lost + self._calls,
        )
        for batch in batches:
            yield SentMessage(sent_unix_ns=time_ns, batch=batch.payload)

    def _send_schemas(self) -> Iterator[SentMessage]:
        for schemas in self._schemas.take(self._now_ns):
            message = write_schemas(schemas).schemas
            yield SentMessage(sent_unix_ns=self._now_ns, schemas=message.SerializeToString())

    def _list_unread(self) -> Iterator[UnreadPart]:
        flows, packets, streams = self._reader.flows.counts, self._reader.counts, self._reader.flows.counts.streams
        for (protocol, server), count in sorted(flows.unread_servers.items()):
            why = _UNREAD_PROTOCOLS.get(protocol, "A protocol that is not read.")
            yield UnreadPart(what=f"Connections to {server} ({protocol.replace('_', ' ')})", count=count, why=why)
        yield UnreadPart(
            what="End of the file",
            count=int(self._capture.is_truncated),
            why="The file ends within a packet. What follows is missing.",
        )
        yield UnreadPart(
            what="Times of packets",
            count=self._moved,
            why="They are outside of 1972 to 2096, so the file has no real times. All were moved by the same span.",
        )
        yield UnreadPart(
            what="Packets that were cut",
            count=packets.cut_segments,
            why="The capture kept the first bytes of each packet: capture with `tcpdump -s 0`.",
        )
        yield UnreadPart(
            what="Gaps in connections",
            count=streams.gaps,
            why=f"The file lacks {streams.gap_bytes:,} bytes. Calls with a part of them: {self._lossy_calls:,}. "
            "Give the capture a larger buffer, as `tcpdump -B 65536`.",
        )
        yield UnreadPart(
            what="Connections that were open before",
            count=flows.joined_midstream,
            why="Their first packets are not in the file. What came after a whole head was read.",
        )
        yield UnreadPart(
            what="Messages whose head is not whole", count=flows.heads_lost, why="The file lacks a part of them."
        )
        yield UnreadPart(
            what="Responses of HTTP/2 without a request",
            count=flows.unasked,
            why="Their requests are not in the file.",
        )
        yield UnreadPart(
            what="Fragmented packets",
            count=self._reader.fragments_given_up,
            why="They were never whole.",
        )
        yield UnreadPart(
            what="Connections given up", count=flows.evicted, why="Too many connections were open at once."
        )
        for reason, count in sorted(packets.other_packets.items()):
            why = _OTHER_PACKETS.get(reason, reason.replace("_", " ").capitalize() + ".")
            yield UnreadPart(what=f"Packets without a TCP segment ({reason.replace('_', ' ')})", count=count, why=why)
        for reason, count in sorted(self._unreported.items()):
            why = _UNREPORTED.get(reason, f"{reason.replace('_', ' ').capitalize()}.")
            yield UnreadPart(what="Transactions without a call", count=count, why=why)
        yield UnreadPart(
            what="Health checks and metrics scrapes",
            count=self._excluded.calls,
            why="They are excluded, as a sensor does.",
        )

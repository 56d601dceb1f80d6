"""`apidae replay FILE`: prints the calls of a capture file as JSON lines, and an account of it on standard error.

The capture goes through the sensor's own pipeline: packets, connections, transactions, describe, lines. Everything
after the transactions is the product's (`sensor.describe.describer` with its templating and classification). The hash
key is made for this run and forgotten, so hashes of two runs cannot be compared.

Exit: 0, also where the file ends within a packet (the account says so), 1 where it is not a capture, 2 for a wrong
flag.
"""

import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from common.capture_report import FORMATS, REPORTS_GROUP, CaptureReportError, WriteReport
from sensor.capture.files.capture_file import CapturedPacket, CaptureFile, CaptureFileError
from sensor.capture.files.flows import FlowTransaction, build_exchange, format_address
from sensor.capture.files.har import HarFile, is_har
from sensor.capture.files.identity import CaptureIdentity
from sensor.capture.files.lines import Line, build_line, build_raw_line, tell_attack
from sensor.capture.files.packets import PacketReader
from sensor.cli.capture_node import CaptureNode, refuse_stream
from sensor.cli.capture_sources import ExchangeSource, HarSource, PacketSource
from sensor.core.calls import CallRecord
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import Attack, Request
from sensor.describe.attacks.classifier import AttackClassifier
from sensor.describe.attacks.core_rules import load_core_rules
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.http.http1.grammar import name_smuggling
from sensor.http.http1.head import Malformed
from sensor.http.http1.pairs import Transaction
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary

_KEY_BYTES: Final = 16
_ALL: Final = 1 << 62  # Bodies are read of every call.


@dataclass(slots=True, kw_only=True)
class ReplayCounts:
    """What became of the transactions that were read."""

    calls: int = 0  # That would leave the node.
    unreported: Counter[str] = field(default_factory=Counter)
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
        self._is_raw = is_raw
        self.reader = PacketReader(ports=ports, has_decoded_sizes=is_raw)
        self.flows = self.reader.flows
        self.counts = ReplayCounts()

    def run(self, packets: Iterable[CapturedPacket]) -> Iterator[Line]:
        """Lines of the calls, in the order in which they ended."""
        for packet in packets:
            for transaction in self.reader.read_packet(packet):
                yield from self._tell(transaction)
        for transaction in self.reader.finish():
            yield from self._tell(transaction)

    def _tell(self, flow: FlowTransaction) -> Iterator[Line]:
        counts = self.counts
        counts.smuggling += _has_smuggling(flow)
        record = self._describe(flow)
        line, reason = None, ""
        if isinstance(record, Undescribed):
            reason = record.reason
            counts.unreported[reason] += 1
        else:
            counts.calls += 1
            counts.lossy_calls += record.figures.is_lossy
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
        exchange = build_exchange(flow)
        return Undescribed(exchange) if isinstance(exchange, str) else self._describer.describe(exchange)


def _has_smuggling(flow: FlowTransaction) -> bool:
    call = flow.transaction
    return isinstance(call, Transaction) and call.request is not None and bool(name_smuggling(call.request.faults))


def _decode(fields: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1").lower(), value.decode("utf-8", "replace")) for name, value in fields)


if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Smaller files are read within some seconds.
PROGRESS_FROM_BYTES: Final = 50_000_000
_PROGRESS_PACKETS: Final = 1_024
_PORT_MAX: Final = 65_535


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="pcap or pcapng, plain or gzipped; of a report also HAR.")
    ],
    is_raw: Annotated[
        bool, typer.Option("--raw", help="Add fields of the wire: paths, queries, header fields (no credentials).")
    ] = False,
    port: Annotated[list[int] | None, typer.Option(help="Only connections with this port; may be repeated.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html|FILE.json",
            help="Write a report instead: inventory, credentials, data, findings, alerts. Needs the collector extra.",
        ),
    ] = None,
) -> None:
    """Print the HTTP calls of a capture as the sensor would tell them, one JSON object a line."""
    for number in port or ():
        if not 0 < number <= _PORT_MAX:
            raise typer.BadParameter(f"{number} is no TCP port; give 1 to {_PORT_MAX}", param_hint="--port")
    if report is not None:
        if is_raw:
            raise typer.BadParameter("a report has no fields of the wire; give either --raw or --report")
        write_capture_report(file, report, port or ())
        return
    run = Replay(is_raw=is_raw, ports=port or ())
    try:
        capture = CaptureFile(file)
        with ExitStack() as stack:
            stack.callback(capture.close)
            for line in run.run(_show_progress(capture, stack)):
                sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stdout.flush()
    except CaptureFileError as error:
        typer.echo(f"apidae: {error}", err=True)
        raise typer.Exit(1) from error
    except BrokenPipeError:
        # Who read the lines has seen enough; the interpreter must not flush into the closed pipe either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    for sentence in summarize(run, is_truncated=capture.is_truncated):
        typer.echo(sentence, err=True)


def write_capture_report(file: Path, target: Path, ports: Sequence[int]) -> None:
    """Have the collector's side make the report of a file."""
    if target.suffix not in {f".{one}" for one in FORMATS}:
        raise typer.BadParameter(f"{target} ends in neither .html nor .json; name the report so", param_hint="--report")
    try:
        refuse_stream(file)  # Before it is opened: a pipe may have no writer.
        write = load_report_writer()
        with ExitStack() as stack:
            node = CaptureNode(_open_source(file, ports, stack), file)
            write(node, target)
    except (CaptureFileError, CaptureReportError) as error:
        typer.echo(f"apidae: {error}", err=True)
        raise typer.Exit(1) from error
    account = node.count()
    typer.echo(f"{target}: {_name(account.calls, 'call')}", err=True)


def _open_source(file: Path, ports: Sequence[int], stack: ExitStack) -> ExchangeSource:
    if is_har(file):
        if ports:
            raise typer.BadParameter("a HAR file has no connections; leave --port out", param_hint="--port")
        return HarSource(HarFile(file))
    capture = CaptureFile(file)
    stack.callback(capture.close)
    return PacketSource(capture, _show_progress(capture, stack), ports)


def load_report_writer() -> WriteReport:
    """The collector's function. Raises CaptureReportError where that side is not installed."""
    missing = "`--report` needs the collector, which is not installed; pip install 'apidae[collector]'"
    found = list(entry_points(group=REPORTS_GROUP))
    if not found:
        raise CaptureReportError(missing)
    try:
        write: WriteReport = found[0].load()
    except ModuleNotFoundError as error:
        raise CaptureReportError(f"{missing} ({error.name} is missing)") from error
    return write


def _show_progress(capture: CaptureFile, stack: ExitStack) -> Iterator[CapturedPacket]:
    """The packets; on a terminal, a bar of large files."""
    if capture.size_bytes < PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        return iter(capture)
    # Here: the module has the command of the sensor too, which has no use for them.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
    return _count(capture, progress, progress.add_task("replay", total=capture.size_bytes))


def _count(capture: CaptureFile, progress: "Progress", task: "TaskID") -> Iterator[CapturedPacket]:
    for number, packet in enumerate(capture):
        if number % _PROGRESS_PACKETS == 0:
            progress.update(task, completed=capture.read_bytes)
        yield packet


def summarize(run: Replay, *, is_truncated: bool) -> Iterator[str]:
    """What was read and what was not, a line each; lines without a loss are left out."""
    counts, flows, packets = run.counts, run.flows.counts, run.reader.counts
    streams, http2 = flows.streams, f" ({flows.http2_flows} HTTP/2)" if flows.http2_flows else ""
    yield (
        f"{_name(packets.packets, 'packet')}, {_name(packets.tcp_segments, 'TCP segment')}, "
        f"{_name(flows.flows, 'connection')}, {flows.http_flows} of them HTTP{http2}, {_name(counts.calls, 'call')}"
    )
    if is_truncated:
        yield "the file ends within a packet: what follows is missing"
    if packets.other_packets:
        yield f"packets not read: {_list(packets.other_packets)}"
    if flows.joined_midstream:
        yield f"{_name(flows.joined_midstream, 'connection')} joined in the middle"
    if streams.gaps:
        hit = _name(counts.lossy_calls, "call")
        yield f"lost by the capture: {_name(streams.gaps, 'gap')} of {streams.gap_bytes} bytes, {hit} hit"
    if streams.late_bytes:
        yield f"bytes that came after they were given up as lost: {streams.late_bytes}"
    if streams.stray_bytes or streams.duplicate_bytes:
        yield (
            f"bytes of TCP segments: {streams.seen_bytes}; {streams.used_bytes} of them in their stream, "
            f"{streams.duplicate_bytes} sent again, {streams.stray_bytes} outside of it"
        )
    if flows.stray_segments:
        yield f"segments after the end of their connection: {flows.stray_segments}"
    if flows.heads_lost:
        yield f"messages whose head was not whole: {flows.heads_lost}"
    if flows.unasked:
        yield f"answers of HTTP/2 whose request was not seen: {flows.unasked}"
    if counts.unreported:
        yield f"not reported as calls: {_list(counts.unreported)}"
    unread = +flows.unread_bytes
    if unread:
        yield f"bytes not read of {streams.used_bytes}: {_list(unread)}"
    if flows.unread_flows:
        yield f"connections not read: {_list(flows.unread_flows)}"
    if streams.conflicting_bytes:
        yield f"bytes sent twice and differently (the first were taken): {streams.conflicting_bytes}"
    if run.reader.fragments_given_up:
        yield f"fragmented packets never whole: {run.reader.fragments_given_up}"
    if flows.evicted:
        yield f"connections given up, too many at once: {flows.evicted}"
    if counts.smuggling:
        yield f"requests with signs of smuggling: {counts.smuggling}"
    if counts.attacks:
        yield f"requests with payloads of attacks: {counts.attacks}"


def _name(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())

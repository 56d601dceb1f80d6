"""`apidae replay FILE`: calls of a capture as JSON lines on standard output, an account of what was read on standard
error.

Exit: 0, also where the file ends within a packet (the account says so); 1 where it is no capture; 2 for a wrong flag.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sensor.replay.capture_file import CapturedPacket, CaptureFile, CaptureFileError
from sensor.replay.pipeline import Replay

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# Smaller files are read within some seconds.
PROGRESS_FROM_BYTES: Final = 50_000_000
_PROGRESS_PACKETS: Final = 1_024
_PORT_MAX: Final = 65_535


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="pcap or pcapng, plain or gzipped.")],
    is_raw: Annotated[
        bool, typer.Option("--raw", help="Add fields of the wire: paths, queries, header fields (no credentials).")
    ] = False,
    port: Annotated[list[int] | None, typer.Option(help="Only connections with this port; may be repeated.")] = None,
) -> None:
    """Print the HTTP calls of a capture as the sensor would tell them, one JSON object a line."""
    for number in port or ():
        if not 0 < number <= _PORT_MAX:
            raise typer.BadParameter(f"{number} is no TCP port; give 1 to {_PORT_MAX}", param_hint="--port")
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
    counts, flows = run.counts, run.flows.counts
    streams, http2 = flows.streams, f" ({flows.http2_flows} HTTP/2)" if flows.http2_flows else ""
    yield (
        f"{_name(counts.packets, 'packet')}, {_name(counts.tcp_segments, 'TCP segment')}, "
        f"{_name(flows.flows, 'connection')}, {flows.http_flows} of them HTTP{http2}, {_name(counts.calls, 'call')}"
    )
    if is_truncated:
        yield "the file ends within a packet: what follows is missing"
    if counts.other_packets:
        yield f"packets not read: {_list(counts.other_packets)}"
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
    if counts.untold:
        yield f"not told as calls: {_list(counts.untold)}"
    unread = +flows.unread_bytes
    if unread:
        yield f"bytes not read of {streams.used_bytes}: {_list(unread)}"
    if flows.unread_flows:
        yield f"connections not read: {_list(flows.unread_flows)}"
    if streams.conflicting_bytes:
        yield f"bytes sent twice and differently (the first were taken): {streams.conflicting_bytes}"
    if run.fragments_given_up:
        yield f"fragmented packets never whole: {run.fragments_given_up}"
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

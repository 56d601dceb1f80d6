"""What calls whose heads are always new cost the sensor's user space, from events and records of the kernel to batches.

    scripts/bench heads [--calls 100000] [--rate 9000] [--kinds once signed session] [--rounds 3] [--copied [--parsed]]

Three kinds of clients: each call with a token of its own; each signed anew under one of 500 keys (AWS SigV4); each
with one of 500 sessions beside a cookie that changes. A kernel in Python, which is not measured, decides by the maps
that the sensor wrote which calls are matched and which heads are copied. It has no budget, so each call shows who made
it. With `--copied` it matches none, and with `--parsed` those heads were parsed before: what a parser that costs
nothing would save.

A JSON line a kind, of the best round: CPU seconds per 100,000 calls, the same by stage, and the share of heads that
were copied. `attributed` are the calls that the collector gets with endpoint, status and the kind of their credential;
fewer than all end the command with 1. `named` are those of them whose consumer is named: past its rows of a window an
endpoint's other consumers are one (sensor/aggregate/aggregator.py). The first tenth, in which the kernel learns, is
played but not measured. Process time: compare two versions by their ratio, alternated in the same minutes.
"""

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

from collector.receiver.convert import convert_bytes
from collector.storage.columns import RowBatch
from sensor.agent.enforcement import Enforcement
from sensor.agent.node import Node
from sensor.agent.pipeline import CallProcessor, Pipeline, ProcessorState
from sensor.aggregate.aggregator import Aggregator
from sensor.capture.packets.exchange import ExchangeAssembler
from sensor.core.calls import AuthenticationKind, Exchange
from sensor.core.config import SensorSettings
from sensor.core.health import Failures, StageCounter
from sensor.core.keyed import InstallationKey
from sensor.describe import describer
from sensor.ebpf.abi import EVENT, RECORD, EventFlag, EventKind, KernelEvent
from sensor.export.convert import BatchConverter, SerialisedBatch
from sensor.http.http1.head import parse_request_head
from tests.sensor.clocks import FakeClock
from tests.sensor.offload.cost import lay_out
from tests.sensor.offload.kernel import Call, Kernel
from tests.sensor.scopes import watch_host

PATH: Final = ["orders", "list"]
SERVICE: Final = "shop.service"
CALLERS: Final = 500
CONNECTIONS: Final = 32
TURNS_PER_SECOND: Final = 40  # The sensor reads its ring each 25 ms.
LEARNED_PART: Final = 10
_WHOLE: Final = int(EventFlag.FIRST | EventFlag.LAST)


def write_token(source: random.Random, number: int) -> bytes:
    return b"Authorization: Bearer %032x\r\n" % source.getrandbits(128)


def write_signature(source: random.Random, number: int) -> bytes:
    return (
        b"Authorization: AWS4-HMAC-SHA256 Credential=AKIA%08d/20261124/eu-west-1/execute-api/aws4_request, "
        b"SignedHeaders=host;x-amz-date, Signature=%064x\r\nX-Amz-Date: 20261124T%06dZ\r\n"
    ) % (source.randrange(CALLERS), source.getrandbits(256), source.randrange(235_959))


def write_cookies(source: random.Random, number: int) -> bytes:
    session = source.randrange(CALLERS)
    return b"Cookie: session=5f8e7d6c%08da1; _ga=GA1.2.%d.%d\r\n" % (session, source.randrange(10**9), number)


KINDS: Final[dict[str, Callable[[random.Random, int], bytes]]] = {
    "once": write_token,
    "signed": write_signature,
    "session": write_cookies,
}


def make_heads(kind: str, count: int) -> Iterator[bytes]:
    """Requests of which no two are equal."""
    source, write = random.Random(1), KINDS[kind]
    for number in range(count):
        yield (
            b"GET /orders/list/%d HTTP/1.1\r\nHost: shop.example\r\n" % source.randrange(10**9)
            + write(source, number)
            + b"X-Request-Id: %d-%d\r\n\r\n" % (number, source.randrange(10**9))
        )


def make_events(exchange: Exchange, number: int) -> Iterator[memoryview]:
    """The two events of a call whose head is copied."""
    for kind, flags, data in (
        (EventKind.REQUEST_HEAD, _WHOLE, exchange.request_head),
        (EventKind.RESPONSE_HEAD, _WHOLE | int(EventFlag.ENDED), exchange.response_head),
    ):
        time_ns = exchange.figures.time_unix_ns
        event = KernelEvent(
            time_ns=time_ns,
            connection=number % CONNECTIONS,
            cgroup_id=exchange.ends.cgroup_id,
            peer_cgroup_id=0,
            request_time_ns=time_ns,
            response_time_ns=time_ns + 3_000_000,
            end_time_ns=time_ns + 3_100_000,
            request_bytes=len(exchange.request_head),
            response_bytes=200,
            call=number // CONNECTIONS,
            position=0,
            length=len(data),
            status=200,
            local_port=exchange.ends.local_port,
            remote_port=exchange.ends.remote_port,
            kind=kind,
            role=int(exchange.ends.role),
            flags=flags,
            family=4,
            marks=0,
            profile=exchange.hashes.profile,
            host=exchange.hashes.host,
            credential=exchange.hashes.credential,
            local_address=b"\xc0\x00\x02\x01" + bytes(12),
            remote_address=b"\xc6\x33\x64\x07" + bytes(12),
        )
        yield memoryview(EVENT.pack(*event) + data)


class Sensor:
    """User space from the rings to the wire, and a kernel that it fills."""

    def __init__(self, root: Path) -> None:
        directory = root / "cgroup/system.slice" / SERVICE
        directory.mkdir(parents=True)
        (root / "proc").mkdir()
        chosen = SensorSettings(collector="127.0.0.1:1", kubernetes="off", state_dir=root, proc_path=root / "proc")
        self.clock, self.aggregator, self.kernel = FakeClock(), Aggregator(), Kernel()
        node = Node(chosen, watch_host(root / "cgroup"), self.clock, Failures())
        enforcement = Enforcement(
            chosen, self.clock, list_servers=node.servers, list_namespaces=dict, proc=root / "proc"
        )
        state = ProcessorState(chosen, self.clock, self.aggregator, node)
        key = InstallationKey(key_id=7, secret=b"0123456789abcdef")
        self.processor = CallProcessor(chosen, node, state, enforcement, key)
        self.pipeline = Pipeline(
            processor=self.processor,
            aggregator=self.aggregator,
            converter=BatchConverter(node="node-1", boot_id="c" * 32),
            clock=self.clock,
            key_id=7,
            alike=state.alike,
            enforcement=enforcement,
        )
        self.assembler = ExchangeAssembler(
            to_unix_ns=self.clock.to_unix_ns,
            stage=StageCounter("exchange"),
            take_first_bytes=lambda event, data: None,
            pieces=state.pieces,
        )
        self.cgroup_id = directory.stat().st_ino
        self.processor.flush(self.kernel)


class Run:
    """One kind's calls through a sensor of its own. `spent`: CPU seconds by stage of those that are measured."""

    def __init__(self, sensor: Sensor, *, is_copied: bool) -> None:
        self._sensor = sensor
        self._is_copied = is_copied
        self.spent = {"read": 0.0, "describe": 0.0, "install": 0.0, "convert": 0.0, "sum": 0.0}
        self.heads = self._given = 0
        self.batches: list[SerialisedBatch] = []

    def play(self, heads: list[bytes], rate: int) -> None:
        """Each second's calls in turns, then its records; a window and its grace follow at the end."""
        records: list[np.ndarray] = []
        turn = max(rate // TURNS_PER_SECOND, 1)
        for number, start in enumerate(range(0, len(heads), turn)):
            events = self._take(heads[start : start + turn], start)
            records.append(self._sensor.kernel.drain()[1])
            self._play_events(events, is_measured=start >= len(heads) // LEARNED_PART)
            self._sensor.clock.advance(1 / TURNS_PER_SECOND)
            if number % TURNS_PER_SECOND == TURNS_PER_SECOND - 1:
                self._play_second(records, is_measured=start >= len(heads) // LEARNED_PART)
        for _ in range(12):
            self._play_second(records, is_measured=True)
            self._sensor.clock.advance(1)

    def _take(self, heads: list[bytes], first: int) -> list[memoryview]:
        """What the kernel copies of these calls."""
        sensor, events = self._sensor, list[memoryview]()
        for place, head in enumerate(heads, first):
            call = Call(head=head, cgroup_id=sensor.cgroup_id, time_ns=sensor.clock.monotonic_ns() + place)
            if self._is_copied:
                exchange = sensor.kernel.make_exchange(call, 0, 0, 0)
            elif sensor.kernel.take(call) == "head":
                exchange = sensor.kernel.exchanges.pop()
            else:
                continue
            events += make_events(exchange, self._given)
            self._given += 1
        return events

    def _play_events(self, events: list[memoryview], *, is_measured: bool) -> None:
        sensor = self._sensor
        self.heads += len(events) // 2 * is_measured
        start = time.thread_time()
        exchanges = sensor.assembler.take(events)
        start = self._add("read", start, is_measured)
        sensor.pipeline.take(exchanges)
        start = self._add("describe", start, is_measured)
        sensor.processor.flush(sensor.kernel)
        self._add("install", start, is_measured)

    def _play_second(self, records: list[np.ndarray], *, is_measured: bool) -> None:
        sensor = self._sensor
        matched = np.concatenate([np.empty(0, RECORD), *records])
        ring = lay_out(matched) if len(matched) else matched
        records.clear()
        start = time.thread_time()
        if len(ring):
            sensor.pipeline.take_records(ring)
        start = self._add("convert", start, is_measured)
        self.batches += sensor.pipeline.poll()
        self._add("sum", start, is_measured)

    def _add(self, stage: str, since: float, is_measured: bool) -> float:
        now = time.thread_time()
        if is_measured:
            self.spent[stage] += now - since
        return now


def count_attributed(batches: list[SerialisedBatch], now_seconds: int) -> tuple[int, int]:
    """Calls that the collector gets with endpoint, status and kind of credential, and those with a principal too."""
    attributed = named = 0
    for batch in batches:
        rows = convert_bytes(batch.payload, now_seconds)
        assert isinstance(rows, RowBatch), rows
        is_endpoint = np.array([[segment.text for segment in one.segments][:2] == PATH for one in rows.routes])
        is_known = is_endpoint[rows.route] & (rows.status_code == 200)
        is_known &= (rows.authentication & ~np.uint32(AuthenticationKind.UNKNOWN)) != 0
        attributed += int(rows.calls[is_known].sum())
        named += int(rows.calls[is_known & (rows.principal != 0)].sum())
    return attributed, named


@contextlib.contextmanager
def parsed_before(heads: list[bytes]) -> Iterator[None]:
    """Parsing these heads costs a look into a table."""
    parsed = {head: parse_request_head(head, False) for head in heads}
    with mock.patch.object(describer, "parse_request_head", lambda head, _: parsed[head]):
        yield


def measure(kind: str, calls: int, rate: int, *, is_copied: bool, is_parsed: bool) -> dict[str, Any]:
    """The line of one kind."""
    heads = list(make_heads(kind, calls + calls // (LEARNED_PART - 1)))
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        if is_parsed:
            stack.enter_context(parsed_before(heads))
        sensor = Sensor(Path(name))
        run = Run(sensor, is_copied=is_copied)
        run.play(heads, rate)
    measured = len(heads) - len(heads) // LEARNED_PART
    attributed, named = count_attributed(run.batches, sensor.clock.unix_ns() // 10**9)
    factor = 100_000 / measured
    return {
        "kind": kind,
        "cpu_s_per_100k": round(sum(run.spent.values()) * factor, 3),
        **{stage: round(seconds * factor, 3) for stage, seconds in run.spent.items()},
        "calls": len(heads),
        "attributed": attributed,
        "named": named,
        "heads_ratio": round(run.heads / measured, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench heads")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=9_000, help="calls a second")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copied", action="store_true", help="the kernel matches no head")
    parser.add_argument("--parsed", action="store_true", help="heads were parsed before; with --copied")
    options = parser.parse_args()
    ways = {"is_copied": options.copied, "is_parsed": options.parsed}
    is_whole = True
    for kind in options.kinds:
        lines = [measure(kind, options.calls, options.rate, **ways) for _ in range(options.rounds)]
        is_whole &= all(line["attributed"] == line["calls"] for line in lines)
        print(json.dumps(min(lines, key=lambda line: line["cpu_s_per_100k"])), flush=True)
    sys.exit(not is_whole)


if __name__ == "__main__":
    main()

"""What the sensor's own code costs a call, without a kernel: events to exchanges, exchanges to records.

    scripts/bench describe [--calls 30000] [--rounds 5]

No two requests are equal: a random id in the path, a request id, one of 500 credentials. Process time, the best of the
rounds; on a machine that does other things compare two versions by their ratio, alternated in the same minute.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator

from sensor.capture.packets.exchange import ExchangeAssembler
from sensor.core.calls import Exchange, Hop, Role, Service, WorkloadKind
from sensor.core.health import StageCounter
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import Describer, DescribeSettings
from sensor.ebpf.abi import EVENT, EventFlag, EventKind, KernelEvent
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary

CONNECTIONS = 32
CREDENTIALS = 500
PORT = 8080
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Tue, 24 Nov 2026 17:00:00 GMT\r\nContent-Type: application/json"
    b"\r\nContent-Length: 21\r\nConnection: keep-alive\r\n\r\n"
)
SERVICE = Service(
    cluster="", namespace="", workload="shop", workload_kind=WorkloadKind.PROCESS, host_name="node", port=PORT
)


class OneService:
    """An identity that knows one service and no client."""

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        return SERVICE, Hop.ENDPOINT

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        return ""

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        return ""


def write_program_head(source: random.Random, number: int) -> bytes:
    """Of a program: few headers, a token."""
    return (
        f"GET /api/v1/orders/{source.randrange(10**6)} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nUser-Agent: bench/1.0\r\n"
        f"Accept: application/json\r\nX-Request-Id: {number}{source.randrange(10**9)}\r\n"
        f"Authorization: Bearer tok{source.randrange(CREDENTIALS)}xxxxxxxxxxxxxxxxxxxx\r\n\r\n"
    ).encode()


def write_browser_head(source: random.Random, number: int) -> bytes:
    """Of a browser behind a proxy: many headers, a session, a query."""
    return (
        f"GET /shop/items/{source.randrange(10**6)}/reviews?page={number % 9}&sort=date HTTP/1.1\r\n"
        "Host: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
        "Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, br\r\n"
        f"Referer: https://shop.example/{number}\r\nDnt: 1\r\nConnection: keep-alive\r\nSec-Fetch-Dest: document\r\n"
        f"X-Forwarded-For: 203.0.113.{number % 250}\r\nX-Forwarded-Proto: https\r\n"
        f"Traceparent: 00-{number:032x}-1-01\r\n"
        f"Cookie: theme=dark; sessionid={source.randrange(CREDENTIALS):032x}\r\n\r\n"
    ).encode()


def make_events(heads: list[bytes]) -> list[memoryview]:
    """Two records for each call, as the ring gives them."""
    records = []
    whole = int(EventFlag.FIRST | EventFlag.LAST)
    for number, head in enumerate(heads):
        for kind, flags, data in (
            (EventKind.REQUEST_HEAD, whole, head),
            (EventKind.RESPONSE_HEAD, whole | int(EventFlag.ENDED), RESPONSE),
        ):
            event = KernelEvent(
                time_ns=5_000,
                connection=number % CONNECTIONS,
                cgroup_id=3,
                peer_cgroup_id=4,
                request_time_ns=1_000,
                response_time_ns=4_000,
                end_time_ns=9_000,
                request_bytes=len(head),
                response_bytes=200,
                call=number // CONNECTIONS,
                position=0,
                length=len(data),
                status=200,
                local_port=PORT,
                remote_port=50_000 + number % CONNECTIONS,
                kind=kind,
                role=int(Role.SERVER),
                flags=flags,
                family=4,
                marks=0,
                profile=0,
                host=0,
                credential=0,
                local_address=b"\x7f\x00\x00\x01" + bytes(12),
                remote_address=b"\x7f\x00\x00\x01" + bytes(12),
            )
            records.append(memoryview(EVENT.pack(*event) + data))
    return records


def assemble(records: list[memoryview]) -> list[Exchange]:
    """The exchanges of all records."""
    assembler = ExchangeAssembler(
        to_unix_ns=lambda ns: ns, stage=StageCounter("exchange"), take_first_bytes=lambda event, data: None
    )
    return assembler.take(records)


def describe(exchanges: list[Exchange]) -> None:
    """The records of all exchanges, by a describer that starts empty."""
    keyed_hash = KeyedHash(1, b"k" * 16)
    describe_one = Describer(
        Templater(load_vocabulary(), keyed_hash), OneService(), keyed_hash, DescribeSettings()
    ).describe
    for exchange in exchanges:
        describe_one(exchange)


def measure(task: Callable[[], object], rounds: int) -> float:
    """Seconds of process time, the best of the rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        task()
        best = min(best, time.process_time() - start)
    return best


def run(calls: int, rounds: int) -> Iterator[dict[str, object]]:
    """One line a scenario."""
    source = random.Random(1)
    for client, write_head in (("program", write_program_head), ("browser", write_browser_head)):
        records = make_events([write_head(source, number) for number in range(calls)])
        exchanges = assemble(records)
        for stage, task in (("exchange", lambda r=records: assemble(r)), ("describe", lambda e=exchanges: describe(e))):
            seconds = measure(task, rounds)
            yield {"scenario": f"{stage}_{client}", "us_per_call": round(seconds / calls * 1e6, 2), "calls": calls}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench describe")
    parser.add_argument("--calls", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for line in run(options.calls, options.rounds):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

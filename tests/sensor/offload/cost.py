"""What a second of recognised calls costs a sensor in user space, from records in their ring to batches for the wire.

    python -m tests.sensor.offload.cost [--rates 10 8000 50000] [--consumers 500] [--routes 1] [--seconds 20]

One JSON line a rate: CPU milliseconds a second of converting records, adding and summing calls, and writing batches,
and CPU seconds for 100,000 calls. No kernel is needed: what the slow path taught a kernel in Python, that one
recognises, and its records are multiplied, each with an object and times of its own, laid out as in the ring. Between
two seconds a large array is written, for a sensor that wakes finds its caches taken by others. The loop, samples of
heads and bodies, and the connection to the collector are not in it (scripts/bench capture has all).
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sensor.aggregate.aggregator import Aggregator
from sensor.ebpf.abi import RECORD
from sensor.export.convert import BatchConverter
from tests.sensor.offload.conftest import Sensor
from tests.sensor.offload.kernel import Call

SECOND_NS = 1_000_000_000
START_NS = 1_800_000_000 * SECOND_NS
# A window and a second of grace pass before anything is counted.
WARM_SECONDS = 12
BATCH = 7_710  # Records that end a rest: a quarter of their ring.
CONNECTIONS = 32
WORDS = Path(__file__).parents[3] / "sensor/routes/words/api.txt"
WORDS_COUNT = 100
HEADER_BYTES = 8  # Of each record in a ring.
OTHERS_BYTES = 48 << 20  # What others read meanwhile.


def read_words() -> list[str]:
    """Words of paths, which make routes; other ones would be taken for values."""
    words = [word for word in WORDS.read_text().splitlines() if word.isalpha() and len(word) > 4]
    return words[:: len(words) // WORDS_COUNT][:WORDS_COUNT]


def make_call(words: Sequence[str], route: int, consumer: int, source: np.random.Generator) -> Call:
    """A call of one of many routes (as many as pairs of words) and consumers."""
    path = f"/{words[route % len(words)]}/{words[route // len(words) % len(words)]}/{source.integers(1, 10**9)}"
    head = f"GET {path} HTTP/1.1\r\nHost: shop.example\r\n"
    head += f"Authorization: Bearer credential-{consumer}\r\nX-Request-Id: {source.integers(1, 10**9)}\r\n\r\n"
    return Call(head=head.encode(), peer_cgroup_id=1)


class Records:
    """Records of consumers and routes that were taught."""

    def __init__(self, sensor: Sensor, *, consumers: int, routes: int, source: np.random.Generator) -> None:
        self._source = source
        self._words = read_words()
        self._of_consumers = self._learn(sensor, [(0, consumer) for consumer in range(consumers)])
        self._of_routes = self._learn(sensor, [(route, 0) for route in range(routes)])

    def _learn(self, sensor: Sensor, pairs: list[tuple[int, int]]) -> np.ndarray:
        parts = []
        for route, consumer in pairs:
            for _ in range(64):
                if sensor.take(make_call(self._words, route, consumer, self._source)) == "record":
                    break
            parts.append(sensor.kernel.drain()[1])
        return np.concatenate(parts)

    def make(self, count: int, second: int) -> list[np.ndarray]:
        """A second of them, in batches as the ring has them."""
        source = self._source
        records = self._of_consumers[source.integers(0, len(self._of_consumers), count)]
        records["route"] = self._of_routes["route"][source.integers(0, len(self._of_routes), count)]
        records["connection"] = source.integers(1, CONNECTIONS + 1, count)
        records["object"] = source.integers(1, 1 << 63, count, np.uint64)
        records["number"] = source.integers(1, 10**9, count)
        records["time_ns"] = START_NS + second * SECOND_NS + np.sort(source.integers(0, SECOND_NS, count))
        records["ttfb_us"] = source.lognormal(3.5, 0.5, count)
        records["duration_us"] = records["ttfb_us"] + 3
        return [lay_out(part) for part in np.array_split(records, -(-count // BATCH))]


def lay_out(records: np.ndarray) -> np.ndarray:
    """The same with a header before each."""
    stride = RECORD.itemsize + HEADER_BYTES
    ring = np.zeros(len(records) * stride, np.uint8)
    view: np.ndarray = np.ndarray((len(records),), RECORD, ring, HEADER_BYTES, (stride,))
    view[:] = records
    return view


def measure(rate: int, *, consumers: int, routes: int, seconds: int) -> dict[str, object]:
    """The line of one rate."""
    aggregator, converter = Aggregator(), BatchConverter(node="node", boot_id="boot")
    sensor = Sensor(facts=aggregator.facts)
    records = Records(sensor, consumers=consumers, routes=routes, source=np.random.default_rng(1))
    spent = {"read": 0.0, "sum": 0.0, "write": 0.0}
    others = np.zeros(OTHERS_BYTES, np.uint8)

    def add(name: str, since: float, second: int) -> float:
        now = time.thread_time()
        if second >= WARM_SECONDS:
            spent[name] += now - since
        return now

    for second in range(WARM_SECONDS + seconds):
        batches = records.make(rate, second)
        others += 1
        start = time.thread_time()
        for batch in batches:
            calls = sensor.matcher.converter.convert(batch, offset_ns=0)
            start = add("read", start, second)
            aggregator.add_calls(calls)
            start = add("sum", start, second)
        rows = aggregator.poll(START_NS + (second + 1) * SECOND_NS + 1)
        start = add("sum", start, second)
        if len(rows):
            converter.convert(rows, key_id=1, policy_epoch=1, clock_segment=0, lost_calls_total=0, seen_calls_total=0)
        add("write", start, second)
    total = sum(spent.values())
    return {
        "calls_per_second": rate,
        "consumers": consumers,
        "routes": routes,
        **{f"{name}_ms_per_second": round(value * 1e3 / seconds, 2) for name, value in spent.items()},
        "cpu_s_per_100k": round(total / seconds / rate * 1e5, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sensor.offload.cost")
    parser.add_argument("--rates", type=int, nargs="*", default=[10, 8_000, 50_000])
    parser.add_argument("--consumers", type=int, default=500)
    parser.add_argument("--routes", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    for rate in options.rates:
        line = measure(rate, consumers=options.consumers, routes=options.routes, seconds=options.seconds)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

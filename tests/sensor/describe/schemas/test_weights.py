"""Estimates of operations: mixes of GraphQL, MCP, JSON-RPC and SOAP whose beginnings differ from what follows.

`python -m tests.sensor.describe.schemas.test_weights` prints the errors of 20 random mixes for each protocol.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest

from sensor.core.calls import NOBODY
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from sensor.describe.bodies.sampling import BodySampler, SampleRule
from sensor.describe.schemas.book import SchemaBook, SchemaPart
from sensor.describe.schemas.tally import Sample, SampleWeights, Tally
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.offload.matcher import BODY_FIRST_SAMPLES, BODY_SAMPLE_NS, SAMPLES_PER_SECOND
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import make_origin

SECOND_NS = 1_000_000_000
ROUTE = 7
PROTOCOLS = ("graphql", "mcp", "json_rpc", "soap")
MIXES = range(20)
NAMES = ("ListOrders", "GetOrder", "PayOrder", "ListItems", "CreateItem", "SearchUsers")
BURST_SECONDS = 30  # SAMPLES_BURST_SECONDS of sensor/ebpf/bpf/budget.h.
RETRY_NS = SECOND_NS // 8  # SAMPLE_RETRY_NS of sensor/ebpf/bpf/match.h.


def write_document(protocol: str, name: str) -> object:
    """What a client asks with; of SOAP 1.2 the media type says it."""
    match protocol:
        case "graphql":
            return {"query": f"query {name} {{ a }}", "operationName": name}
        case "mcp" if name != "Initialize":
            return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}}}
        case "mcp":
            return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        case "json_rpc":
            return {"jsonrpc": "2.0", "id": 1, "method": name}
    return {}


def make_mix(seed: int) -> tuple[list[str], float]:
    """Operations of 200 to 3,000 calls in their order, and calls a second; the first ones are all the same."""
    random = Random(seed)
    count, rate = random.randrange(200, 3_000), random.choice((2, 8, 20, 60, 200, 500))
    names = random.sample(NAMES, random.randrange(2, 6))
    shares = [random.uniform(0.5, 2) for _ in names]
    start = ["Initialize"] * random.randrange(5, 25)
    return start + random.choices(names, shares, k=count - len(start)), rate


@dataclass(slots=True)
class KernelLeaf:
    """A route as the kernel samples it (sensor/ebpf/bpf/match.h): when it is due, and how many follow at once."""

    next_ns: int = 0
    first: int = BODY_FIRST_SAMPLES
    tokens: float = SAMPLES_PER_SECOND * BURST_SECONDS
    at_ns: int = 0

    def is_sample(self, now_ns: int) -> bool:
        if now_ns < self.next_ns:
            return False
        gained = (now_ns - self.at_ns) * SAMPLES_PER_SECOND / SECOND_NS
        self.tokens, self.at_ns = min(SAMPLES_PER_SECOND * BURST_SECONDS, self.tokens + gained), now_ns
        if self.tokens < 1:
            self.next_ns = now_ns + RETRY_NS
            return False
        self.tokens -= 1
        self.next_ns = now_ns + BODY_SAMPLE_NS * (not self.first)
        self.first -= self.first > 0
        return True


@dataclass(slots=True)
class Node:
    """One route of a sensor: what the kernel copies to user space is described, the rest is counted in batches."""

    protocol: str
    book: SchemaBook = field(
        default_factory=lambda: SchemaBook(load_vocabulary(), SampleRule(BODY_FIRST_SAMPLES, BODY_SAMPLE_NS))
    )
    sampler: BodySampler = field(default_factory=lambda: BodySampler(SampleRule(BODY_FIRST_SAMPLES, BODY_SAMPLE_NS)))
    leaf: KernelLeaf = field(default_factory=KernelLeaf)
    drawn: Counter[str] = field(default_factory=Counter)
    _waiting: int = 0

    def run(self, names: Sequence[str], rate: float) -> None:
        for number, name in enumerate(names):
            now_ns = round((1_000 + number / rate) * SECOND_NS)
            if number % 8 == 0:  # A batch of records comes.
                ids = np.full(self._waiting, ROUTE, np.uint64)
                self.book.weights.count_rows(ids, np.ones(self._waiting, np.uint32))
                self._waiting = 0
            if not self.leaf.is_sample(now_ns):
                self._waiting += 1
                continue
            self._describe(name, now_ns)
            granted = self.book.weights.grant(ROUTE, now_ns)
            if granted:
                self.leaf.next_ns, self.leaf.first = 0, granted - 1

    def _describe(self, name: str, now_ns: int) -> None:
        self.book.learn_head(ROUTE, 200, HEAD, make_origin(), now_ns)
        if not self.sampler.is_due(ROUTE, 200, "application/json", 300, now_ns):
            return
        self.drawn[name] += 1
        kind = b'application/soap+xml; action="http://a/' + name.encode() + b'"'
        media_type = kind if self.protocol == "soap" else b"application/json"
        document = BodyDocument(
            media_type.split(b";")[0].decode(), media_type, write_document(self.protocol, name), True
        )
        self.book.learn_bodies(BodyCall(ROUTE, 200, b"", b"", 0, 0, now_ns, None), document, None, ())
        if self.book.has_operations(ROUTE):
            self.sampler.sample_more(ROUTE)

    def estimate(self, calls: int) -> dict[str, float]:
        """As the collector does (collector/inventory/endpoints/operations.py)."""
        (schema,) = [one for part in self.book.take(0) for one in part if one.part is SchemaPart.OPERATIONS]
        return {
            one.name.replace("initialize", "Initialize"): calls * one.calls / schema.samples
            for one in schema.operations
        }


def make_head() -> RequestHead:
    head = parse_request_head(b"POST /api HTTP/1.1\r\nHost: h\r\n\r\n", False)
    assert isinstance(head, RequestHead)
    return head


HEAD = make_head()


def offset(protocol: str, seed: int) -> int:
    return seed + 100 * PROTOCOLS.index(protocol)


def measure(protocol: str, seed: int) -> tuple[float, float]:
    """The largest error of an operation of a mix as a share of all calls; and of operations with a tenth of all calls,
    as a share of their own."""
    names, rate = make_mix(offset(protocol, seed))
    node = Node(protocol)
    node.run(names, rate)
    truth, found = Counter(names), node.estimate(len(names))
    errors = {name: abs(found.get(name, 0.0) - calls) for name, calls in truth.items()}
    own = (errors[name] / calls for name, calls in truth.items() if calls >= 0.1 * len(names))
    return max(errors.values()) / len(names), max(own)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_estimates_of_operations_are_within_a_tenth(protocol: str) -> None:
    errors = [measure(protocol, seed) for seed in MIXES]
    assert max(error for error, _ in errors) <= 0.07
    # The others are of 200 calls a second and more, of which few can be samples.
    assert sorted(own for _, own in errors)[15] <= 0.1
    slow = [own for seed, (_, own) in zip(MIXES, errors, strict=True) if make_mix(offset(protocol, seed))[1] <= 60]
    assert max(slow) <= 0.1


def test_what_comes_first_is_not_counted_too_high() -> None:
    """Twelve starts of 500 calls, which all are among the first samples."""
    names = ["Initialize"] * 12 + ["GetOrder", "ListOrders"] * 244
    for rate in (2, 20, 200):
        node = Node("mcp")
        node.run(names, rate)
        assert node.estimate(500)["Initialize"] == pytest.approx(12, abs=1.2)


def make_sample(at: float) -> Sample:
    return Sample(status_code=200, origin=NOBODY, authentication=0, time_unix_ns=round(at * SECOND_NS))


def test_the_samples_of_a_second_share_the_calls_since_those_before() -> None:
    weights, first, second = SampleWeights(), Tally(), Tally()
    weights.count(1, 50)  # Nothing is known of it yet.
    assert (weights.add(1, (first,), make_sample(5)), 1 in weights, 2 in weights) == (0, True, False)
    weights.count(2)
    weights.count(1)
    assert weights.add(1, (second,), make_sample(6)) == 1
    weights.count_rows(np.array([1, 2, 1], np.uint64), np.array([3, 9, 4], np.uint32))
    weights.count(1)
    weights.add(1, (first,), make_sample(6.5))
    assert (weights.weigh(1), weights.weigh(1)) == (9, 0)
    assert [tally.write("", "", "").calls for tally in (first, second)] == [1 + 5, 4]


def test_more_samples_are_asked_for_once_a_second() -> None:
    weights = SampleWeights()
    assert weights.grant(1, 0) == 0
    weights.add(1, (), make_sample(1))
    granted = [weights.grant(1, int(at * SECOND_NS)) for at in (5, 5.5, 6, 6.9, *range(7, 17))]
    assert granted == [250, 0, 100, 0, *[100] * 9, 20]


if __name__ == "__main__":
    for one in PROTOCOLS:
        shares, owns = zip(*(measure(one, seed) for seed in MIXES), strict=True)
        print(
            f"{one:9} error of all calls: median {np.median(shares):.1%}, worst {max(shares):.1%}; "
            f"of an operation's own: median {np.median(owns):.1%}, 18 of 20 below {sorted(owns)[17]:.1%}, "
            f"worst {max(owns):.1%}"
        )

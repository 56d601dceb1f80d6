"""Checks and converts what a sensor sends besides rows: hello, health, words, coverage and workloads. Never raises.

All of it is bounded. Coverage becomes rows of `coverage_rows`, Kubernetes workloads become rows of `workloads`.

`RevealBook` has the hashes of path words whose text no sensor has sent yet. A sensor answers only for words that it may
reveal (docs/use/privacy.md), so questions repeat. A few sensors at a time are asked, and only those that sent a route
with the word. The book is bounded, and the oldest question is dropped first.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any

from apidae.v1 import stream_pb2

from collector.core.limits import Limit
from collector.receiver.columns import NAME_LIMIT_BYTES, TEXT_LIMIT_BYTES
from collector.receiver.convert import Refusal, bound_enum, convert_service
from collector.receiver.sensor_status import Greeting, HealthReport, StageAccount
from common.bounded import BoundedDict

PROTOCOL_VERSION = 1
STAGE_LIMIT = 64
FEATURE_LIMIT = 64
REASON_LIMIT = 64  # Of one stage.
REVEAL_LIMIT = 1_000
FIRST_STAGE = (
    "kernel"  # Where every call enters (sensor/capture/packets/capture.py); the later stages see what it passed on.
)
_COUNT_LIMIT = 2**63
_LAG_LIMIT_MS = 31 * 86_400_000  # Rows older than 7 days are not taken, so more says nothing more.
_CAPTURE_WAYS = {
    stream_pb2.CAPTURE_WAY_CGROUP_SKB: "cgroup_skb",
    stream_pb2.CAPTURE_WAY_SYSCALLS: "syscalls",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """What a sensor made of a policy; an empty reason is that it holds it."""

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealedWord:
    """One row of `revealed_words`."""

    hash: int
    text: str
    key_id: int
    time: datetime


def convert_hello(hello: stream_pb2.Hello) -> Greeting | Refusal:
    if hello.protocol != PROTOCOL_VERSION:
        return Refusal(
            f"The sensor speaks protocol {hello.protocol}, this collector {PROTOCOL_VERSION}; update the older one."
        )
    for name in ("node", "boot_id"):
        length = len(getattr(hello, name))
        if not 0 < length <= NAME_LIMIT_BYTES:
            return Refusal(f"hello.{name} has {length} characters; it needs 1 to {NAME_LIMIT_BYTES}.")
    if len(hello.cluster) > NAME_LIMIT_BYTES:
        return Refusal(f"hello.cluster has {len(hello.cluster)} characters; the limit is {NAME_LIMIT_BYTES}.")
    return Greeting(
        cluster=hello.cluster,
        node=hello.node,
        boot_id=hello.boot_id,
        key_id=hello.key_id,
        version=hello.version[:NAME_LIMIT_BYTES],
        kernel_release=hello.kernel_release[:NAME_LIMIT_BYTES],
        policy_epoch=hello.policy_epoch,
        features=frozenset(hello.features[:FEATURE_LIMIT]),
        time_unix_ns=hello.time_unix_ns,
    )


def convert_policy_result(result: stream_pb2.PolicyResult) -> PolicyResult:
    reason = "" if result.is_applied else result.reason[:TEXT_LIMIT_BYTES] or "it gave no reason"
    return PolicyResult(epoch=result.epoch, reason=reason)


def convert_health(health: stream_pb2.Health) -> HealthReport:
    """A report, cut to its bounds."""
    stages: list[dict[str, Any]] = [
        {
            "stage": stage.stage[:NAME_LIMIT_BYTES],
            "seen": stage.seen,
            "used": stage.used,
            "dropped": {
                reason[:NAME_LIMIT_BYTES]: count
                for reason, count in zip(stage.dropped_reasons[:REASON_LIMIT], stage.dropped_counts, strict=False)
            },
        }
        for stage in health.stages[:STAGE_LIMIT]
    ]
    return HealthReport(
        state=bound_enum(health.state),
        reason=health.reason[:TEXT_LIMIT_BYTES],
        capture=_CAPTURE_WAYS.get(health.capture, ""),
        fallback_reason=health.fallback_reason[:TEXT_LIMIT_BYTES],
        lag_ms=min(health.lag_ms, _LAG_LIMIT_MS),
        spool_bytes=health.spool_bytes,
        memory_bytes=health.memory_bytes,
        cpu_ns=health.cpu_ns,
        account=None
        if health.has_same_stages
        else StageAccount(
            seen_calls=min(sum(stage["seen"] for stage in stages if stage["stage"] == FIRST_STAGE), _COUNT_LIMIT),
            lost_calls=min(sum(sum(stage["dropped"].values()) for stage in stages), _COUNT_LIMIT),
            stages=json.dumps(stages),
        ),
    )


def convert_revealed(revealed: stream_pb2.Revealed, now_unix_seconds: float) -> list[RevealedWord] | Refusal:
    if len(revealed.hashes) != len(revealed.texts) or len(revealed.hashes) > REVEAL_LIMIT:
        return Refusal(
            f"revealed has {len(revealed.hashes)} hashes and {len(revealed.texts)} texts; "
            f"it needs as many of each, up to {REVEAL_LIMIT}."
        )
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    return [
        RevealedWord(hash=word, text=text, key_id=revealed.key_id, time=now)
        for word, text in zip(revealed.hashes, revealed.texts, strict=True)
        if text and len(text.encode()) <= TEXT_LIMIT_BYTES
    ]


PORT_LIMIT = 10_000
TEXTS_LIMIT = 16  # Of one kind: the sensor shows eight.
_LISTENING = 1  # The wire's CoverageRole; an older sensor says none.
_HTTP_PROTOCOLS = (1, 3)  # The wire's PortProtocol: an older sensor does not say what is like HTTP.


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRecord:
    """One row of `coverage_rows`."""

    node: str
    boot_id: str
    cluster: str
    namespace: str
    workload: str
    workload_kind: int
    host_name: str
    port: int
    role: int
    protocol: int
    address: str
    is_http_like: int
    connections: int
    bytes: int
    joined_late: int
    calls: int
    lost_calls: int
    estimated_calls: int
    uncaptured_ms: int
    reason: str
    handshakes: str
    time: datetime
    report_time: datetime  # Of the whole report that it is of, or that it is a difference to.

    @property
    def key(self) -> tuple[Any, ...]:
        """What a row is about; of one key the newest holds."""
        return tuple(getattr(self, name) for name in _COVERAGE_KEY)


_COVERAGE_KEY = (
    *("cluster", "namespace", "workload", "workload_kind", "host_name"),
    *("port", "role", "protocol", "address"),
)


def convert_coverage(
    coverage: stream_pb2.Coverage,
    *,
    node: str,
    boot_id: str,
    now_unix_seconds: float,
    whole_unix_seconds: float | None = None,
) -> list[CoverageRecord]:
    """Ports of a node; the time is the collector's, for a sensor's clock may be wrong. `whole_unix_seconds`: of a
    difference, when the last whole report came."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    whole = now if whole_unix_seconds is None else datetime.fromtimestamp(int(whole_unix_seconds), UTC)
    return [_convert_port(port, node, boot_id, now, whole) for port in coverage.ports[:PORT_LIMIT]]


def _convert_port(
    port: stream_pb2.PortCoverage, node: str, boot_id: str, now: datetime, whole: datetime
) -> CoverageRecord:
    service = convert_service(port.service)
    protocol = bound_enum(port.protocol)
    return CoverageRecord(
        node=node,
        boot_id=boot_id,
        cluster=service.cluster,
        namespace=service.namespace,
        workload=service.workload,
        workload_kind=bound_enum(service.workload_kind),
        host_name=service.host_name,
        port=service.port,
        role=bound_enum(port.role) or _LISTENING,
        protocol=protocol,
        address=port.address[:NAME_LIMIT_BYTES],
        is_http_like=int(port.is_http_like or protocol in _HTTP_PROTOCOLS),
        connections=min(port.connections, _COUNT_LIMIT),
        bytes=min(port.bytes, _COUNT_LIMIT),
        joined_late=min(port.joined_late, _COUNT_LIMIT),
        calls=min(port.calls, _COUNT_LIMIT),
        lost_calls=min(port.lost_calls, _COUNT_LIMIT),
        estimated_calls=min(port.estimated_calls, _COUNT_LIMIT),
        uncaptured_ms=min(port.uncaptured_ms, _COUNT_LIMIT),
        reason=port.reason[:TEXT_LIMIT_BYTES],
        handshakes=_write_handshakes(port.handshakes, now) if port.HasField("handshakes") else "",
        time=now,
        report_time=whole,
    )


def _write_handshakes(handshakes: stream_pb2.Handshakes, now: datetime) -> str:
    """JSON: {count, server_names: [[text, count]], .., weak_choices: [[version, cipher suite, count, last, unix
    seconds]]}, as the wire's Handshakes; without weak choices where there are none."""
    weak = _write_weak(handshakes.weak_choices, int(now.timestamp()))
    return json.dumps(
        {
            "count": min(handshakes.count, _COUNT_LIMIT),
            "server_names": _write_texts(handshakes.server_names),
            "protocols": _write_texts(handshakes.protocols),
            "versions": _write_texts(handshakes.versions),
            "cipher_suites": _write_texts(handshakes.cipher_suites),
            "weaknesses": _write_texts(handshakes.weaknesses),
            "peers": _write_texts(handshakes.peers),
            **({"weak_choices": weak} if weak else {}),
        },
        separators=(",", ":"),
    )


def _write_weak(choices: Iterable[stream_pb2.WeakChoice], now: int) -> list[list[str | int]]:
    return [
        [
            choice.version[:NAME_LIMIT_BYTES],
            choice.cipher_suite[:NAME_LIMIT_BYTES],
            min(choice.count, _COUNT_LIMIT),
            max(0, now - choice.age_seconds),
        ]
        for choice in list(choices)[:TEXTS_LIMIT]
    ]


def _write_texts(texts: Iterable[stream_pb2.CountedText]) -> list[list[str | int]]:
    return [[text.text[:NAME_LIMIT_BYTES], min(text.count, _COUNT_LIMIT)] for text in list(texts)[:TEXTS_LIMIT]]


WORKLOAD_LIMIT = 1_000
LABEL_LIMIT = 32
# A key has at most 253 + 1 + 63 characters, a value 63.
LABEL_LIMIT_BYTES = 400
_POD_LIMIT = 65_535
FORMER_NAME_LIMIT = 1_000  # Of one message: more than a node has containers.
_FORMER_NAME = re.compile(r"[0-9a-f]{12}|pod-[0-9a-f-]{32,36}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRecord:
    """One row of `workloads`."""

    cluster: str
    namespace: str
    workload: str
    node: str
    kind: str
    labels: tuple[str, ...]
    zone: str
    pods: int
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerName:
    """One row of `former_names`: what a node called a workload while it did not know it."""

    cluster: str
    node: str
    former_name: str
    namespace: str
    workload: str
    time: datetime


def convert_former_names(
    coverage: stream_pb2.Coverage, greeting: Greeting, now_unix_seconds: float
) -> list[FormerName]:
    """Former names of a node's workloads, in that node's cluster; others than ids of containers are left out, for a
    sensor may only give a name to what it could not name."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    names = (
        FormerName(
            cluster=greeting.cluster,
            node=greeting.node,
            former_name=former,
            namespace=told.namespace[:NAME_LIMIT_BYTES],
            workload=told.workload[:NAME_LIMIT_BYTES],
            time=now,
        )
        for told in coverage.workloads[:WORKLOAD_LIMIT]
        if told.namespace
        for former in told.former_names
        if _FORMER_NAME.fullmatch(former)
    )
    return list(islice(names, FORMER_NAME_LIMIT))


def convert_workloads(coverage: stream_pb2.Coverage, *, node: str, now_unix_seconds: float) -> list[WorkloadRecord]:
    """Workloads of a node; the time is the collector's."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    return [
        WorkloadRecord(
            cluster=told.cluster[:NAME_LIMIT_BYTES],
            namespace=told.namespace[:NAME_LIMIT_BYTES],
            workload=told.workload[:NAME_LIMIT_BYTES],
            node=node,
            kind=told.kind[:NAME_LIMIT_BYTES],
            labels=tuple(label[:LABEL_LIMIT_BYTES] for label in told.labels[:LABEL_LIMIT]),
            zone=told.zone[:NAME_LIMIT_BYTES],
            pods=min(told.pods, _POD_LIMIT),
            time=now,
        )
        for told in coverage.workloads[:WORKLOAD_LIMIT]
    ]


NODE_ADDRESS_LIMIT = 1_024


def convert_node_addresses(coverage: stream_pb2.Coverage) -> frozenset[str]:
    """Addresses of a node's own network. A sensor may not speak for public ones, which are of somebody else's."""
    found = set()
    for told in coverage.node_addresses[:NODE_ADDRESS_LIMIT]:
        try:
            address = ipaddress.ip_address(told)
        except ValueError:
            continue
        if not (address.is_global or address.is_loopback or address.is_link_local or address.is_unspecified):
            found.add(str(address))
    return frozenset(found)


QUESTION_LIMIT = 10_000
REQUEST_LIMIT = 1_000  # Hashes a message (proto RevealRequest).
HIDDEN_LIMIT = 1_000  # Words of one node.
ROUND_SECONDS = 5.0
ASKED_OF_ROUND = 3  # Sensors that are asked for one word.
# A sensor that did not answer is asked again after a round, then after twice as long each time, up to this.
LONGEST_SECONDS = 600.0


class HiddenWords:
    """Hashes of the words without a text that one node sent in its routes, and when it may be asked for each."""

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        self._words: BoundedDict[int, tuple[float, float]] = BoundedDict(HIDDEN_LIMIT)  # When next, and the wait then.
        self.note(hashes)

    def note(self, hashes: Iterable[int]) -> None:
        """They came in a route."""
        for word in hashes:
            if word not in self._words:
                self._words[word] = (0.0, ROUND_SECONDS)

    def list_due(self, among: Set[int], now_seconds: float) -> list[int]:
        """Those that the node may be asked for."""
        return [word for word in self._words.keys() & among if self._words[word][0] <= now_seconds]

    def put_off(self, word: int, now_seconds: float) -> None:
        """The node is asked for it now."""
        _, wait = self._words[word]
        self._words[word] = (now_seconds + wait, min(2 * wait, LONGEST_SECONDS))


class RevealBook:
    """Open questions. Thread-safe: the store's writer adds, the streams ask and answer."""

    def __init__(self, question_limit: int = QUESTION_LIMIT) -> None:
        """Empty."""
        self._limit = question_limit
        # By hash, the last round in which sensors were asked, and how many of them.
        self._open: BoundedDict[int, tuple[int, int]] = BoundedDict(question_limit)
        self._lock = Lock()

    @property
    def limit(self) -> Limit:
        """Of open questions."""
        then = "Words of paths that were asked for first stay hidden until their routes are grouped again."
        return Limit(name="hidden_words", used=len(self._open), maximum=self._limit, then=then)

    def set_questions(self, hashes: Set[int]) -> None:
        """These questions are open from now on, and no others."""
        with self._lock:
            for word in self._open.keys() - hashes:
                del self._open[word]
            for word in hashes:
                self._open.setdefault(word, (0, 0))

    def list_questions(self) -> list[int]:
        """Hashes of all words that are asked for."""
        with self._lock:
            return list(self._open)

    def choose(self, words: HiddenWords, now_seconds: float) -> list[int]:
        """What to ask the sensor of a node now, of its words."""
        current, chosen = int(now_seconds // ROUND_SECONDS), []
        with self._lock:
            for word in words.list_due(self._open.keys(), now_seconds):
                last, count = self._open[word]
                count = count if last == current else 0
                if count < ASKED_OF_ROUND:
                    self._open[word] = (current, count + 1)
                    words.put_off(word, now_seconds)
                    chosen.append(word)
        return chosen

    def take(self, words: Sequence[RevealedWord]) -> list[RevealedWord]:
        """The answers that were asked for; their questions close. What nobody asked is dropped."""
        with self._lock:
            answers = [word for word in words if word.hash in self._open]
            for word in answers:
                self._open.pop(word.hash, None)
        return answers

"""What a sensor tells besides its rows: hello, health, revealed words. Bounded, never raises."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from apidae.v1 import stream_pb2

from collector.ingest.convert import Refusal
from collector.ingest.limits import NAME_LIMIT_BYTES, TEXT_LIMIT_BYTES
from collector.sensors import HealthReport

PROTOCOL_VERSION = 1
STAGE_LIMIT = 64
FEATURE_LIMIT = 64
REASON_LIMIT = 64  # Of one stage.
REVEAL_LIMIT = 1_000
FIRST_STAGE = "kernel"  # Where every call enters (sensor/kernel/capture.py); the later stages see what it passed on.
_COUNT_LIMIT = 2**63
_CAPTURE_WAYS = {
    stream_pb2.CAPTURE_WAY_CGROUP_SKB: "cgroup_skb",
    stream_pb2.CAPTURE_WAY_SYSCALLS: "syscalls",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """A checked Hello."""

    cluster: str
    node: str
    boot_id: str
    key_id: int
    version: str
    kernel_release: str
    policy_epoch: int
    features: frozenset[str]
    name: str = ""  # Under which its node's rows are kept (`SensorRegistry.find_name`).


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
    """Who connects, or why it may not."""
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
    )


def convert_policy_result(result: stream_pb2.PolicyResult) -> PolicyResult:
    """Applied, or refused with a reason."""
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
        state=min(max(health.state, 0), 255),
        reason=health.reason[:TEXT_LIMIT_BYTES],
        capture=_CAPTURE_WAYS.get(health.capture, ""),
        fallback_reason=health.fallback_reason[:TEXT_LIMIT_BYTES],
        lag_ms=min(health.lag_ms, _COUNT_LIMIT),
        spool_bytes=health.spool_bytes,
        memory_bytes=health.memory_bytes,
        cpu_ns=health.cpu_ns,
        seen_calls=min(sum(stage["seen"] for stage in stages if stage["stage"] == FIRST_STAGE), _COUNT_LIMIT),
        lost_calls=min(sum(sum(stage["dropped"].values()) for stage in stages), _COUNT_LIMIT),
        stages=json.dumps(stages),
    )


def convert_revealed(revealed: stream_pb2.Revealed, now_unix_seconds: float) -> list[RevealedWord] | Refusal:
    """Words and their hashes."""
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

"""What a sensor says of its ports, as rows of `coverage_rows`. Bounded, never raises."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from apidae.v1 import stream_pb2

from collector.ingest.convert import convert_service
from collector.ingest.limits import NAME_LIMIT_BYTES, TEXT_LIMIT_BYTES

PORT_LIMIT = 10_000
TEXTS_LIMIT = 16  # Of one kind: the sensor shows eight.
_COUNT_LIMIT = 2**63
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
    reason: str
    handshakes: str
    time: datetime


def convert_coverage(
    coverage: stream_pb2.Coverage, *, node: str, boot_id: str, now_unix_seconds: float
) -> list[CoverageRecord]:
    """Ports of a node; the time is the collector's, for a sensor's clock may be wrong."""
    now = datetime.fromtimestamp(int(now_unix_seconds), UTC)
    return [_convert_port(port, node, boot_id, now) for port in coverage.ports[:PORT_LIMIT]]


def _convert_port(port: stream_pb2.PortCoverage, node: str, boot_id: str, now: datetime) -> CoverageRecord:
    service = convert_service(port.service)
    protocol = _small(port.protocol)
    return CoverageRecord(
        node=node,
        boot_id=boot_id,
        cluster=service.cluster,
        namespace=service.namespace,
        workload=service.workload,
        workload_kind=_small(service.workload_kind),
        host_name=service.host_name,
        port=service.port,
        role=_small(port.role) or _LISTENING,
        protocol=protocol,
        address=port.address[:NAME_LIMIT_BYTES],
        is_http_like=int(port.is_http_like or protocol in _HTTP_PROTOCOLS),
        connections=min(port.connections, _COUNT_LIMIT),
        bytes=min(port.bytes, _COUNT_LIMIT),
        joined_late=min(port.joined_late, _COUNT_LIMIT),
        calls=min(port.calls, _COUNT_LIMIT),
        lost_calls=min(port.lost_calls, _COUNT_LIMIT),
        estimated_calls=min(port.estimated_calls, _COUNT_LIMIT),
        reason=port.reason[:TEXT_LIMIT_BYTES],
        handshakes=_write_handshakes(port.handshakes, now) if port.HasField("handshakes") else "",
        time=now,
    )


def _small(number: int) -> int:
    return min(max(number, 0), 255)


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

"""The watch kept on the nodes: sensors, listening ports and losses out of the store."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from collector.inventory.coverage import Coverage, Loss, Port, PortProtocol
from collector.inventory.reader import Reader, select
from collector.inventory.sensor import SILENCE_SECONDS, Sensor, SensorState, StageCount
from collector.rows import Service

PORTS_MAX = 10_000  # Of one answer; a node has tens.
SENSORS_MAX = 10_000  # The paper design's installation.

_STATES = {1: SensorState.CAPTURING, 2: SensorState.PAUSED, 3: SensorState.STOPPING}  # proto SensorState.
_PROTOCOLS = {  # proto PortProtocol.
    1: PortProtocol.HTTP,
    2: PortProtocol.ENCRYPTED,
    3: PortProtocol.HTTP2,
    4: PortProtocol.OTHER,
    5: PortProtocol.SILENT,
}

_SENSORS = f"""
SELECT cluster, node, boot_id, version, kernel_release, key_id, policy_epoch, policy_refusal, state, reason, first_seen,
    last_hello_at, last_health_at, last_batch_at, lag_ms, spool_bytes, memory_bytes, cpu_ns, seen_calls, lost_calls,
    stages
FROM sensors FINAL
ORDER BY node
LIMIT {SENSORS_MAX}"""

_PORTS = f"""
SELECT node, cluster, namespace, workload, workload_kind, host_name, port, protocol, address, connections, bytes,
reason,
    toUnixTimestamp(time) AS updated_at
FROM coverage FINAL
ORDER BY node, port, address, protocol, workload
LIMIT {PORTS_MAX}"""


class Watch:
    """Answers questions about sensors and coverage from the store."""

    def __init__(self, *, reader: Reader, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._clock = clock

    def list_sensors(self) -> tuple[Sensor, ...]:
        """Every sensor heard of, by node."""
        now = self._clock()
        return tuple(_read_sensor(row, now) for row in select(self._reader, _SENSORS))

    def read_coverage(self) -> Coverage:
        """Every listening port of every node, and what the sensors know they lost."""
        ports = _keep_last_report(tuple(_read_port(row) for row in select(self._reader, _PORTS)))
        return Coverage(ports=ports, losses=list_losses(self.list_sensors()))


def _keep_last_report(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """A report has every port, at one time: an older row is one that was called since, or changed its service."""
    last: dict[str, float] = {}
    for port in ports:
        last[port.node] = max(port.updated_at, last.get(port.node, 0.0))
    return tuple(port for port in ports if port.updated_at == last[port.node])


def list_losses(sensors: tuple[Sensor, ...]) -> tuple[Loss, ...]:
    """What every stage of every sensor dropped, by reason; an account that does not add up is a loss without a name."""
    losses = []
    for sensor in sensors:
        for stage in sensor.stages:
            named = [(reason, count) for reason, count in sorted(stage.dropped.items()) if count]
            unexplained = stage.seen - stage.used - stage.dropped_total
            if unexplained > 0:
                named.append(("unexplained", unexplained))
            losses += [Loss(node=sensor.node, stage=stage.stage, reason=reason, count=count) for reason, count in named]
    return tuple(losses)


def _read_sensor(row: Mapping[str, Any], now: float) -> Sensor:
    heard_at = max(row["last_hello_at"], row["last_health_at"], row["last_batch_at"])
    is_connected = now - heard_at <= SILENCE_SECONDS
    state = _STATES.get(int(row["state"]), SensorState.UNKNOWN)
    return Sensor(
        node=row["node"],
        cluster=row["cluster"],
        boot_id=row["boot_id"],
        state=state if is_connected else SensorState.SILENT,
        version=row["version"],
        kernel_release=row["kernel_release"],
        key_id=int(row["key_id"]),
        policy_epoch=int(row["policy_epoch"]),
        policy_refusal=row["policy_refusal"],
        is_connected=is_connected,
        first_seen=row["first_seen"],
        last_report_at=heard_at,
        lag_ms=int(row["lag_ms"]),
        spool_bytes=int(row["spool_bytes"]),
        memory_bytes=int(row["memory_bytes"]),
        cpu_seconds=int(row["cpu_ns"]) / 1e9,
        seen_calls=int(row["seen_calls"]),
        lost_calls=int(row["lost_calls"]),
        stages=_read_stages(row["stages"]),
        reason=row["reason"],
    )


def _read_stages(text: str) -> tuple[StageCount, ...]:
    """The account behind the store's JSON; written by the ingest room, so a malformed one is our bug and raises."""
    return tuple(
        StageCount(
            stage=stage["stage"],
            seen=int(stage["seen"]),
            used=int(stage["used"]),
            dropped={reason: int(count) for reason, count in stage["dropped"].items()},
        )
        for stage in (json.loads(text) if text else ())
    )


def _read_port(row: Mapping[str, Any]) -> Port:
    return Port(
        node=row["node"],
        service=Service(
            cluster=row["cluster"],
            namespace=row["namespace"],
            workload=row["workload"],
            workload_kind=int(row["workload_kind"]),
            host_name=row["host_name"],
            port=int(row["port"]),
        ),
        address=row["address"],
        protocol=_PROTOCOLS.get(int(row["protocol"]), PortProtocol.UNKNOWN),
        connections=int(row["connections"]),
        bytes=int(row["bytes"]),
        reason=row["reason"],
        updated_at=float(row["updated_at"]),
    )

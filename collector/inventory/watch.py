"""The watch kept on the nodes: the sensors out of the store."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from collector.inventory.reader import Reader, select
from collector.inventory.sensor import SILENCE_SECONDS, CaptureWay, Sensor, SensorState, StageCount

SENSORS_MAX = 10_000  # The paper design's installation.

_STATES = {1: SensorState.CAPTURING, 2: SensorState.PAUSED, 3: SensorState.STOPPING}  # proto SensorState.

_SENSORS = f"""
SELECT cluster, node, boot_id, version, kernel_release, key_id, policy_epoch, policy_refusal, state, reason, first_seen,
    last_hello_at, last_health_at, last_batch_at, lag_ms, spool_bytes, memory_bytes, cpu_ns, seen_calls, lost_calls,
    stages, certificate_not_after, capture, fallback_reason
FROM sensors FINAL
ORDER BY node
LIMIT {SENSORS_MAX}"""


class Watch:
    """Answers questions about sensors from the store."""

    def __init__(self, *, reader: Reader, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._clock = clock

    def list_sensors(self) -> tuple[Sensor, ...]:
        """Every sensor heard of, by node."""
        now = self._clock()
        return tuple(_read_sensor(row, now) for row in select(self._reader, _SENSORS))


def _read_sensor(row: Mapping[str, Any], now: float) -> Sensor:
    heard_at = max(row["last_hello_at"], row["last_health_at"], row["last_batch_at"])
    is_connected = now - heard_at <= SILENCE_SECONDS
    not_after = row["certificate_not_after"] or None
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
        certificate_not_after=not_after,
        certificate_left_seconds=None if not_after is None else not_after - now,
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
        capture=CaptureWay(row["capture"] or "unknown"),
        fallback_reason=row["fallback_reason"],
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

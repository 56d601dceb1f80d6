"""The strip on top of the page: is everything watched, and how much is not. Pure: sensors and coverage in, a few
words out."""

from collections.abc import Sequence
from dataclasses import dataclass

from collector.inventory.coverage import NodeCoverage
from collector.inventory.sensor import Sensor, SensorState

LOSS_RATIO_SHOWN = 0.01  # Above it a sensor's loss is an alert (issue: silence is an alert).


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts for the strip; `trouble` are sentences about storage and sensors that need a person."""

    sensors: int
    capturing: int
    ports: int
    read_ports: int
    unreadable_ports: int
    read_connections_ratio: float | None
    read_bytes_ratio: float | None
    lost_calls: int
    trouble: tuple[str, ...]


def summarise(sensors: Sequence[Sensor], covered: NodeCoverage, storage_trouble: str) -> Summary:
    """The strip's figures; `covered` is of all nodes together, `storage_trouble` a sentence or empty."""
    return Summary(
        sensors=len(sensors),
        capturing=sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
        ports=covered.ports,
        read_ports=covered.read_ports,
        unreadable_ports=covered.unreadable_ports,
        read_connections_ratio=covered.share.read_connections_ratio,
        read_bytes_ratio=covered.share.read_bytes_ratio,
        lost_calls=sum(sensor.lost_calls for sensor in sensors),
        trouble=tuple(
            sentence
            for sentence in (
                storage_trouble,
                *(describe(sensor) for sensor in sensors for describe in (describe_trouble, describe_fallback)),
            )
            if sentence
        ),
    )


def describe_trouble(sensor: Sensor) -> str:
    """What is wrong with one sensor, or nothing."""
    if sensor.state is SensorState.SILENT:
        return f"The sensor on {sensor.node} is silent: nothing from that node is seen."
    if sensor.state is SensorState.PAUSED:
        return f"The sensor on {sensor.node} is paused{f' ({sensor.reason})' if sensor.reason else ''}."
    if sensor.loss_ratio > LOSS_RATIO_SHOWN:
        return f"The sensor on {sensor.node} lost {sensor.loss_ratio:.1%} of its calls."
    return ""


def describe_fallback(sensor: Sensor) -> str:
    """Why one sensor captures by system calls though packets were wanted, or nothing."""
    if not sensor.fallback_reason or sensor.state is SensorState.SILENT:
        return ""
    return (
        f"The sensor on {sensor.node} captures by system calls, at several times the cost and without what io_uring "
        f"moves, because packets cannot be captured: {sensor.fallback_reason.rstrip('.')}."
    )

"""Sensors that stop, lose or fall behind, and heal."""

from dataclasses import dataclass

from collector.alerting.alert import AlertKind
from collector.alerting.self_monitoring import SilenceWatch


@dataclass(frozen=True)
class Sensor:
    node: str = "n1"
    boot_id: str = "b1"
    last_heard_at: float = 100.0
    is_paused: bool = False
    lag_seconds: float = 0.0
    seen_calls: int = 0
    lost_calls: int = 0


def kinds(sensor: Sensor, now: float, watch: SilenceWatch | None = None) -> list[AlertKind]:
    return [report.kind for report in (watch or SilenceWatch()).look([sensor], now).reports]


def test_silence_is_reported_after_10_s_unless_it_said_goodbye() -> None:
    watch = SilenceWatch()
    assert kinds(Sensor(), 100, watch) == []
    assert kinds(Sensor(), 110, watch) == []
    assert kinds(Sensor(), 110.1, watch) == [AlertKind.SENSOR_SILENT]
    assert kinds(Sensor(is_paused=True), 500, watch) == []


def test_silence_while_the_collector_was_down_is_nobodys() -> None:
    watch = SilenceWatch()
    assert kinds(Sensor(), 500, watch) == []
    assert kinds(Sensor(), 510.1, watch) == [AlertKind.SENSOR_SILENT]


def test_lag_over_30_s_is_reported() -> None:
    assert kinds(Sensor(lag_seconds=30), 100) == []
    assert kinds(Sensor(lag_seconds=31), 100) == [AlertKind.SENSOR_LAG]


def test_loss_over_1_percent_of_the_last_minute_is_reported_and_heals() -> None:
    watch = SilenceWatch()
    assert kinds(Sensor(seen_calls=1_000), 100, watch) == []
    assert kinds(Sensor(seen_calls=2_000, lost_calls=10, last_heard_at=105), 105, watch) == []
    assert kinds(Sensor(seen_calls=2_500, lost_calls=30, last_heard_at=110), 110, watch) == [AlertKind.SENSOR_LOSS]
    assert (AlertKind.SENSOR_LOSS, "n1") not in watch.look(
        [Sensor(seen_calls=2_600, lost_calls=31, last_heard_at=115)], 115
    ).healed
    for now in range(120, 260, 5):
        findings = watch.look([Sensor(seen_calls=now * 100, lost_calls=31, last_heard_at=now)], now)
    assert (AlertKind.SENSOR_LOSS, "n1") in findings.healed


def test_restarted_sensor_begins_a_new_account() -> None:
    watch = SilenceWatch()
    kinds(Sensor(seen_calls=10_000, lost_calls=0), 100, watch)
    assert kinds(Sensor(boot_id="b2", seen_calls=200, lost_calls=50, last_heard_at=101), 101, watch) == []


def test_silence_is_as_long_as_other_collectors_heard_nothing_either() -> None:
    watch = SilenceWatch(lambda sensor, now: now - sensor.last_heard_at - 7.0)
    assert kinds(Sensor(), 100, watch) == kinds(Sensor(), 117, watch) == []
    assert kinds(Sensor(), 117.1, watch) == [AlertKind.SENSOR_SILENT]

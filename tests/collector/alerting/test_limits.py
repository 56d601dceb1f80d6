"""Limits that are reached and a disk that refuses the detectors' state are alerts, and heal."""

from collector.alerting.alert import AlertKind
from collector.alerting.self_monitoring import look_at_detectors, look_at_limits
from collector.core.limits import Limit

NOW = 1_000_000.0


def make_limit(name: str, used: int) -> Limit:
    return Limit(name=name, used=used, maximum=10, then=f"What is past it of {name} is forgotten.")


def test_limits_that_are_reached_are_one_alert_that_names_them() -> None:
    (report,) = look_at_limits([make_limit("a_b", 10), make_limit("c", 9), make_limit("d", 11)], NOW).reports
    assert (report.kind, report.title) == (AlertKind.LIMIT_REACHED, "The collector is at a limit (a b, d)")
    assert report.why == ("10 a b: What is past it of a_b is forgotten. 10 d: What is past it of d is forgotten.")
    assert look_at_limits([make_limit("c", 9)], NOW).healed == ((AlertKind.LIMIT_REACHED, ""),)


def test_a_disk_that_refuses_the_state_is_an_alert_until_it_takes_it() -> None:
    (report,) = look_at_detectors("[Errno 28] No space left on device", NOW).reports
    assert report.kind is AlertKind.DETECTORS_UNSAVED and report.why.startswith("[Errno 28] No space left on device. ")
    assert look_at_detectors("", NOW).healed == ((AlertKind.DETECTORS_UNSAVED, ""),)

"""What the budget held back, as a row."""

from sensor.coverage.limits import Limit, Restraint, cover_restraint
from sensor.coverage.row import CoverageRole, PortProtocol
from tests.sensor.coverage.test_report import UNKNOWN

LIMITS = (
    Limit(name="request heads of a cgroup", value=100, most=2_000),
    Limit(name="calls over TLS of a process", value=0, most=0),  # TLS is not read.
)


def test_a_sensor_that_was_never_held_back_has_no_row() -> None:
    assert list(cover_restraint(Restraint(held_seconds=0, limits=LIMITS), UNKNOWN)) == []


def test_for_how_long_and_how_far_is_reported() -> None:
    (row,) = cover_restraint(Restraint(held_seconds=7.9, limits=LIMITS), UNKNOWN)
    assert (row.protocol, row.role, row.is_http_like) == (PortProtocol.MISSED, CoverageRole.NODE, False)
    assert (row.address, row.connections) == ("seconds held back by the budget", 7)
    assert "100 of 2,000 request heads of a cgroup." in row.reason
    assert "TLS" not in row.reason
    assert "capture_budget_core_share" in row.reason

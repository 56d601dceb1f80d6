"""The share of what is like HTTP that is read, as figures."""

from sensor.coverage.report import list_share_figures
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol
from tests.sensor.coverage.test_report import UNKNOWN


def row(protocol: PortProtocol, connections: int, *, is_http_like: bool = True, role: int = 1) -> PortCoverage:
    return PortCoverage(
        service=UNKNOWN,
        protocol=protocol,
        connections=connections,
        bytes=connections * 10,
        address="",
        reason="",
        role=CoverageRole(role),
        is_http_like=is_http_like,
        joined_late=1,
        estimated_calls=connections if protocol is PortProtocol.ENCRYPTED else 0,
    )


def test_only_listening_ports_that_are_like_http_count() -> None:
    rows = [
        row(PortProtocol.HTTP, 5),
        row(PortProtocol.HTTP2, 7),
        row(PortProtocol.ENCRYPTED, 11),
        row(PortProtocol.QUIC, 13),
        row(PortProtocol.OTHER, 17, is_http_like=False),
        row(PortProtocol.ENCRYPTED, 19, role=2),
    ]
    assert {figure.name: figure.value for figure in list_share_figures(rows)} == {
        "coverage_http_connections": 36,
        "coverage_http_read_connections": 12,
        "coverage_http_bytes": 360,
        "coverage_http_read_bytes": 120,
        "coverage_estimated_calls": 11,
        "coverage_late_connections": 4,
    }

"""How much of what is like HTTP is read on this node, as figures for metrics; definition: docs/coverage.md."""

from collections.abc import Iterable

from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol
from sensor.health import Figure

_READ = frozenset({PortProtocol.HTTP, PortProtocol.HTTP2, PortProtocol.HTTPS})


def tell_share(rows: Iterable[PortCoverage]) -> tuple[Figure, ...]:
    """Of listening ports, totals since the sensor's start."""
    like = [row for row in rows if row.is_http_like and row.role is CoverageRole.LISTENING]
    read = [row for row in like if row.protocol in _READ]
    totals = (
        ("coverage_http_connections", "Connections like HTTP", sum(row.connections for row in like)),
        ("coverage_http_read_connections", "Of those, read", sum(row.connections for row in read)),
        ("coverage_http_bytes", "Bytes of connections like HTTP", sum(row.bytes for row in like)),
        ("coverage_http_read_bytes", "Of those, read", sum(row.bytes for row in read)),
        ("coverage_estimated_calls", "Encrypted calls, estimated", sum(row.estimated_calls for row in like)),
        ("coverage_late_connections", "Connections older than the sensor", sum(row.joined_late for row in like)),
    )
    return tuple(Figure(name=name, documentation=text, value=value, is_total=True) for name, text, value in totals)

"""How much of what is like HTTP is read on this node, as figures for metrics; definition: docs/coverage.md."""

from collections.abc import Iterable

from common.figures import Figure, make_totals
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol

_READ = frozenset({PortProtocol.HTTP, PortProtocol.HTTP2, PortProtocol.HTTPS})


def tell_share(rows: Iterable[PortCoverage]) -> tuple[Figure, ...]:
    """Of listening ports, totals since the sensor's start."""
    like = [row for row in rows if row.is_http_like and row.role is CoverageRole.LISTENING]
    read = [row for row in like if row.protocol in _READ]
    totals = (
        (
            "coverage_http_connections",
            "Connections of listening ports that carry HTTP.",
            sum(row.connections for row in like),
        ),
        (
            "coverage_http_read_connections",
            "Connections of listening ports that carry HTTP and are read.",
            sum(row.connections for row in read),
        ),
        (
            "coverage_http_bytes",
            "Bytes of connections of listening ports that carry HTTP.",
            sum(row.bytes for row in like),
        ),
        (
            "coverage_http_read_bytes",
            "Bytes of connections of listening ports that carry HTTP and are read.",
            sum(row.bytes for row in read),
        ),
        (
            "coverage_estimated_calls",
            "Calls over TLS that is not read, estimated from record lengths.",
            sum(row.estimated_calls for row in like),
        ),
        (
            "coverage_late_connections",
            "Connections that were open before the sensor saw them.",
            sum(row.joined_late for row in like),
        ),
    )
    return make_totals(totals)

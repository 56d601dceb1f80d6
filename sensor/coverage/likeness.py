"""Which traffic is HTTP-like: the denominator of the share that is read (docs/coverage.md). Pure."""

from typing import Final

from sensor.coverage.row import Handshakes, PortProtocol

# ALPN names of HTTP (IANA, TLS ALPN Protocol IDs); `h3` is QUIC's.
HTTP_PROTOCOLS: Final = frozenset({"h2", "http/1.1", "http/1.0", "http/0.9", "h3"})
# Where encrypted HTTP is served by registration or habit; asked only where no client named a protocol.
HTTP_PORTS: Final = frozenset({443, 444, 4443, 5443, 6443, 7443, 8443, 9443, 10443, 2376, 2379, 10250})
PORT_HTTPS: Final = 443


def is_http_like(protocol: PortProtocol, port: int, handshakes: Handshakes) -> bool:
    """Whether connections of this kind count as HTTP."""
    match protocol:
        case PortProtocol.HTTP | PortProtocol.HTTP2 | PortProtocol.HTTPS:
            return True
        case PortProtocol.ENCRYPTED:
            names = {name for name, _ in handshakes.protocols}
            return bool(names & HTTP_PROTOCOLS) if names else port in HTTP_PORTS
        case PortProtocol.QUIC:
            return port == PORT_HTTPS
        case _:
            return False

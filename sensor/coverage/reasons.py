"""Why a protocol is not read, in words."""

from typing import Final

from sensor.coverage.row import Handshakes, PortProtocol

REASONS: Final[dict[PortProtocol, str]] = {
    PortProtocol.HTTP: "",
    PortProtocol.ENCRYPTED: "TLS: encrypted where the sensor reads, so calls are not seen.",
    PortProtocol.HTTP2: "",
    PortProtocol.OTHER: "The first bytes are not HTTP.",
    PortProtocol.SILENT: "No connection since the sensor started.",
    PortProtocol.UNIX: "Unix socket: its bytes never pass the network hooks; connections are those open now.",
    PortProtocol.QUIC: "QUIC (HTTP/3): encrypted datagrams; flows and bytes are counted.",
    PortProtocol.SOCKMAP: "Programs move bytes between sockets (sockmap), past the hooks where the sensor reads.",
    PortProtocol.MISSED: "The sensor knows that it missed something.",
    PortProtocol.LEFT_OUT: "Seen and not told, by choice.",
    PortProtocol.HTTPS: "TLS, read where its process hands it to {read_by}.",
    PortProtocol.KERNEL_TLS: "Encrypted by the kernel (kTLS), past any library of TLS; connections are those open now.",
}
IN_TURNS: Final = (
    "Its processes make more calls than are read: they are read {percent} % of the time, and other calls are estimated."
)
HELD_BACK: Final = "That is less than they might be, for the sensor's processor time is at its budget."
SHARED: Final = "{count} services listen on this port in one cgroup; the kernel's count does not tell them apart."
CLOSED: Final = "Nothing listens here any more, or not where the sensor can see it."
KERNEL_TLS: Final = "{count} open connections are encrypted by the kernel (kTLS)."
OWN: Final = "Apidae's own: its calls are excluded, and it is in no share; include_own_traffic shows them."
FOLDED: Final = "Rows past the {limit} that are listed one by one."


def describe_encryption(handshakes: Handshakes) -> str:
    """Version and protocol of most handshakes, for the reason."""
    parts = [texts[0][0] for texts in (handshakes.versions, handshakes.protocols) if texts]
    return f"Mostly {', '.join(parts)}." if parts else ""

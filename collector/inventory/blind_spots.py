"""What no sensor reads, and what it is told to leave out: always listed, where there is none of it too."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from collector.inventory.coverage import PROTOCOL_NUMBERS, BlindSpot, BlindSpotKind, PortProtocol

_PROTOCOLS: Final[dict[BlindSpotKind, PortProtocol]] = {
    BlindSpotKind.HTTP3: PortProtocol.QUIC,
    BlindSpotKind.UNIX: PortProtocol.UNIX,
    BlindSpotKind.SOCKMAP: PortProtocol.SOCKMAP,
    BlindSpotKind.KERNEL_TLS: PortProtocol.KERNEL_TLS,
    BlindSpotKind.EXCLUSIONS: PortProtocol.LEFT_OUT,
}
_MEANINGS: Final[dict[BlindSpotKind, str]] = {
    BlindSpotKind.HTTP3: (
        "HTTP/3 (QUIC): encrypted datagrams. Flows, as connections, and bytes are counted; calls are not seen."
    ),
    BlindSpotKind.UNIX: (
        "Unix sockets: their bytes never pass the network. Those that listen are counted, with connections open now."
    ),
    BlindSpotKind.SOCKMAP: (
        "Programs that move bytes between sockets (sockmap) pass the sensor by. Nodes that have some are counted."
    ),
    BlindSpotKind.KERNEL_TLS: (
        "TLS that the kernel does (kTLS): no library sees the bytes. Connections are those open now."
    ),
    BlindSpotKind.EXCLUSIONS: (
        "Calls that were seen and are not told, by choice: workloads that are switched off, probes, Apidae itself."
    ),
}
_NUMBERS: Final = ", ".join(
    str(number) for number, protocol in PROTOCOL_NUMBERS.items() if protocol in _PROTOCOLS.values()
)


def build_statement(last: str) -> str:
    """Figures of each kind that occurs; `last` is the condition for the last report of each node."""
    return f"""
SELECT protocol, uniqExact(node) AS nodes, count() AS places, sum(connections) AS connections, sum(bytes) AS bytes,
    sum(calls) AS calls
FROM (
    SELECT node, protocol, connections, bytes, calls
    FROM coverage_rows FINAL
    WHERE {last} AND protocol IN ({_NUMBERS})
)
GROUP BY protocol"""


def list_blind_spots(rows: Iterable[Mapping[str, Any]]) -> tuple[BlindSpot, ...]:
    """Every kind, in the order of the kinds; zeros where no sensor reports any."""
    found = {PROTOCOL_NUMBERS[int(row["protocol"])]: row for row in rows}
    counts = ("nodes", "places", "connections", "bytes", "calls")
    return tuple(
        BlindSpot(
            kind=kind,
            protocol=protocol,
            meaning=_MEANINGS[kind],
            **{name: int(found[protocol][name]) if protocol in found else 0 for name in counts},
        )
        for kind, protocol in _PROTOCOLS.items()
    )

"""Clients of the service map in words, and where more is said of them."""

from urllib.parse import quote

from collector.inventory.traffic.map import ClientKind, MapEdge

_CLIENTS = {
    ClientKind.OUTSIDE: "Outside: public addresses",
    ClientKind.PARTNER: "Partners",
    ClientKind.HOST: "This host (loopback)",
    ClientKind.UNKNOWN: "Unknown clients",
}


def name_client(edge: MapEdge) -> str:
    """The client in words."""
    if edge.client_kind is ClientKind.WORKLOAD:
        return edge.client
    return _CLIENTS.get(edge.client_kind) or f"Addresses {edge.client}"


def link_client(edge: MapEdge) -> str:
    """Where more is said of a client that is no service."""
    if edge.client_kind is ClientKind.WORKLOAD:
        return f"/consumers/workload:{quote(edge.client)}"
    return "/consumers?kind=address"

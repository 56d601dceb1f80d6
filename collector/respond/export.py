"""Live address blocks as text for what stands in front: deny lists of proxies and policies of Kubernetes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from collector.ingest.blocks import BlockOrder
from collector.respond.denied import collect_denied
from collector.respond.deny_lists import write_envoy, write_haproxy, write_traefik
from collector.respond.policies import write_cilium, write_envoy_gateway, write_network_policy


class ExportFormat(StrEnum):
    """For whom."""

    HAPROXY = "haproxy"
    TRAEFIK = "traefik"
    ENVOY = "envoy"
    ENVOY_GATEWAY = "envoy-gateway"
    CILIUM = "cilium"
    NETWORK_POLICY = "networkpolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What the collector's settings say of what stands in front."""

    cluster: str = ""  # In which it stands; empty: in none.
    traefik_entry_points: tuple[str, ...] = ()  # None: all that are default.


def export_blocks(orders: Sequence[BlockOrder], kind: ExportFormat, settings: ExportSettings) -> str:
    """The file's text; without blocks one that denies nobody."""
    denied = collect_denied(orders, settings.cluster)
    match kind:
        case ExportFormat.HAPROXY:
            return write_haproxy(denied)
        case ExportFormat.TRAEFIK:
            return write_traefik(denied, settings.traefik_entry_points)
        case ExportFormat.ENVOY:
            return write_envoy(denied)
        case ExportFormat.ENVOY_GATEWAY:
            return write_envoy_gateway(denied)
        case ExportFormat.CILIUM:
            return write_cilium(denied)
        case ExportFormat.NETWORK_POLICY:
            return write_network_policy(denied)
    assert_never(kind)

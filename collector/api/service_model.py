"""What serves, as a pydantic model."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from collector.api.base_model import Model
from collector.inventory.endpoint import WORKLOAD_KINDS


def _read_workload_kind(value: Any) -> Any:
    """The wire's number as a name."""
    return WORKLOAD_KINDS.get(value, "unknown") if isinstance(value, int) else value


class ServiceModel(Model):
    """What serves: (cluster, namespace, workload, port), or on a plain host (host, unit or container or executable,
    port)."""

    cluster: str
    namespace: str
    workload: str = Field(examples=["orders.service"])
    workload_kind: Annotated[str, BeforeValidator(_read_workload_kind)] = Field(examples=["systemd_unit"])
    host_name: str = Field(examples=["node-1"])
    port: int = Field(examples=[8080])

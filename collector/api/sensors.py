"""/sensors: the state of each sensor, its account of calls and its last report."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Ratio, Time
from collector.api.parameters import NoParameters
from collector.api.problem import Problem, show
from collector.inventory.sensors import CaptureWay, Sensor, SensorInventory, SensorQuery, SensorState, find_troubles


class StageCountModel(Model):
    """One stage's account: seen = used + dropped."""

    stage: str
    seen: int
    used: int
    dropped: dict[str, int]
    is_balanced: bool


class TroubleModel(Model):
    """What is wrong, and what to do."""

    what: str
    advice: str


class SensorModel(Model):
    """One sensor and its last report."""

    node: str
    cluster: str
    boot_id: str
    state: SensorState
    version: str
    kernel_release: str
    key_id: int = Field(description="Newest installation key it holds; 0 before its first contact.")
    policy_epoch: int = Field(description="Of the policy it holds; it rises with every change.")
    policy_refusal: str = Field(description="Why it refused a newer policy; empty where it did not.")
    is_connected: bool
    certificate_not_after: OptionalTime = Field(
        description="When the certificate that it connected with last expires; null where it came by token."
    )
    certificate_left_days: float | None = Field(description="Until then; below 0 where it has expired.")
    first_seen: Time
    last_report_at: Time
    lag_ms: int = Field(description="Age of the oldest row not yet acknowledged.")
    spool_bytes: int
    memory_bytes: int
    cpu_seconds: float
    seen_calls: int = Field(description="Calls that entered its first stage since its start, lost ones included.")
    lost_calls: int = Field(description="Of those, what any stage dropped.")
    loss_ratio: Ratio = Field(description="lost_calls of seen_calls.")
    stages: tuple[StageCountModel, ...]
    reason: str
    capture: CaptureWay = Field(description="How it sees calls: by packets (cgroup_skb) or by system calls.")
    fallback_reason: str = Field(
        description="Why packets cannot be captured, where system calls stand in for them; empty elsewhere."
    )
    troubles: tuple[TroubleModel, ...] = Field(description="What is wrong with it, the worst first.")


class SensorPageModel(Model):
    """One page of sensors, by node."""

    items: tuple[SensorModel, ...]
    next_cursor: str | None
    total: int = Field(description="Sensors on all pages.")


def build_sensor_routes(*, sensors: SensorInventory, version: str) -> APIRouter:
    """Routes that read the state of the sensors; `version` is the collector's."""
    router = APIRouter(tags=["coverage"])

    def view(sensor: Sensor) -> SensorModel:
        own = {name: getattr(sensor, name) for name in SensorModel.model_fields if name != "troubles"}
        return SensorModel.model_validate({**own, "troubles": find_troubles(sensor, version)})

    @router.get("/sensors", summary="List sensors")
    def list_sensors(query: Annotated[SensorQuery, Query()]) -> SensorPageModel:
        """Every sensor with its state, lag, loss and the account of each of its stages."""
        page = sensors.list_page(query)
        return SensorPageModel(items=tuple(map(view, page.items)), next_cursor=page.next_cursor, total=page.total)

    @router.get("/sensors/{node}", summary="One sensor")
    def get_sensor(node: str, _: Annotated[NoParameters, Query()]) -> SensorModel:
        """The sensor of a node."""
        sensor = sensors.get_sensor(node)
        if sensor is None:
            raise Problem(404, f"There is no sensor on a node {show(node)}; see /sensors.")
        return view(sensor)

    return router

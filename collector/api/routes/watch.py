"""/sensors: who watches, and how well."""

from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.parameters import NoParameters
from collector.api.sensor_models import SensorListModel, SensorModel
from collector.inventory.watch import Watch


def build_watch_routes(*, watch: Watch) -> APIRouter:
    """Routes that read the state of the sensors."""
    router = APIRouter(tags=["coverage"])

    @router.get("/sensors", summary="List sensors")
    def list_sensors(_: Annotated[NoParameters, Query()]) -> SensorListModel:
        """Every sensor with its state, lag, loss and the account of each of its stages."""
        return SensorListModel(items=tuple(SensorModel.model_validate(sensor) for sensor in watch.list_sensors()))

    return router

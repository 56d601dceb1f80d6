"""The base of the API's pydantic models, with times, ids and the model of a service."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, computed_field, create_model

from collector.inventory.endpoints.endpoint import WORKLOAD_KINDS
from collector.inventory.endpoints.predicates import EXACT_MAX
from collector.kubernetes.rows import PeerKind
from collector.storage.columns import UsedBy, list_shown_columns


def _read_time(value: Any) -> Any:
    """Unix seconds as a UTC time; anything else as it is."""
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else value


Time = Annotated[datetime, BeforeValidator(_read_time)]
# Unix seconds, of which 0 stands for none.
OptionalTime = Annotated[datetime | None, BeforeValidator(lambda value: _read_time(value) if value else None)]
# A 64-bit id as 16 hex digits: numbers of JSON are exact up to 53 bits.
HexId = Annotated[str, BeforeValidator(lambda value: f"{value:016x}" if isinstance(value, int) else value)]
Ratio = Annotated[float, Field(ge=0, le=1)]


class Model(BaseModel):
    """Reads the domain's objects by attribute."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)


_M = TypeVar("_M", bound=Model)


def with_figures(by: UsedBy) -> Callable[[type[_M]], type[_M]]:
    """Adds the columns that are shown there as they are (collector/storage/columns.py)."""

    def add(model: type[_M]) -> type[_M]:
        fields: dict[str, Any] = {
            name: (int, Field(validation_alias=AliasPath("figures", name), description=column.text))
            for name, column in list_shown_columns(by).items()
        }
        return create_model(
            model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **fields
        )

    return add


class ObjectsModel(Model):
    """What counts distinct objects."""

    objects: int = Field(
        description=f"Distinct ones: exact up to {EXACT_MAX}, beyond an estimate, and no more than the "
        "calls. They do not add up over rows."
    )

    @computed_field(description="Whether `objects` is an estimate.")  # type: ignore[prop-decorator]
    @property
    def has_estimated_objects(self) -> bool:
        """Whether `objects` is an estimate."""
        return self.objects > EXACT_MAX


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


class HolderModel(Model):
    """Who held an address, by what the API server of its cluster said."""

    cluster: str
    kind: PeerKind
    namespace: str
    name: str = Field(description="Of the Pod, node or Service.", examples=["orders-5d4f8b9c7d-x7x9z"])
    label: str = Field(description="Namespace and workload, or the node.", examples=["shop/orders"])
    workload: str = Field(description="Of a Pod.", examples=["orders"])
    workload_kind: str = Field(examples=["Deployment"])
    node: str
    services: tuple[str, ...] = Field(description="Services that lead to the Pod.", examples=[["shop/orders"]])
    workloads: tuple[str, ...] = Field(description="What a Service leads to.", examples=[["shop/orders:8080"]])
    since: Time
    until: OptionalTime = Field(description="Null: still.")

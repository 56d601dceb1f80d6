"""What the API answers about consumers, as pydantic models."""

from pydantic import Field

from collector.api.base_model import Model, ObjectsModel, Time
from collector.api.endpoint_models import ATTACKS, ATTACKS_CONFIRMED
from collector.api.exposure_models import HolderModel
from collector.inventory.consumer import ConsumerKind


class ConsumerModel(ObjectsModel):
    """One consumer over all endpoints."""

    id: str = Field(description="`kind:value`.", examples=["address:192.0.2.7"])
    kind: ConsumerKind
    value: str = Field(description="Keyed hash of a principal or credential; else the address or workload itself.")
    principal_kind: str = Field(
        description="Where a principal's name came from; empty for other kinds.", examples=["jwt_subject"]
    )
    key_id: int = Field(
        description="Installation key that a principal or credential was hashed under; 0 for other kinds. After a "
        "rotation of the key the same caller is another consumer."
    )
    endpoints: int
    calls: int
    calls_per_second: float = Field(description="Over the span, or since the first call where that is later.")
    errors: int
    denied: int = Field(description="Answered 401 or 403.")
    addresses: int = Field(description="Distinct client addresses it came from.")
    attacks: int = Field(description=ATTACKS)
    attacks_confirmed: int = Field(description=ATTACKS_CONFIRMED)
    request_bytes: int
    response_bytes: int
    first_seen: Time
    last_seen: Time
    holders: tuple[HolderModel, ...] = Field(
        description="Who held an address while it called; one unless it was given away meanwhile."
    )


class CallerModel(Model):
    """Calls from one Pod, node or Service; `holder` null: from addresses that several held at the time, or nobody."""

    holder: HolderModel | None
    addresses: tuple[str, ...]
    calls: int


class ConsumerPageModel(Model):
    """One page of consumers."""

    items: tuple[ConsumerModel, ...]
    next_cursor: str | None
    total: int


class ConsumerEndpointModel(ObjectsModel):
    """One endpoint that a consumer touched."""

    endpoint_id: str
    method: str
    host: str
    template: str
    calls: int
    errors: int
    first_seen: Time
    last_seen: Time


class ConsumerDetailModel(ConsumerModel):
    """One consumer with what it touched and where it came from."""

    touched: tuple[ConsumerEndpointModel, ...]
    calls_by_address: dict[str, int]
    calls_by_workload: dict[str, int]
    calls_by_software: dict[str, int] = Field(
        description="By client software: a keyed hash of the shape of its heads, after its name where it is well "
        "known. Of minutes, which are kept for 48 h; empty for longer times."
    )
    callers: tuple[CallerModel, ...] = Field(description="Who called by what Kubernetes knows; empty without it.")

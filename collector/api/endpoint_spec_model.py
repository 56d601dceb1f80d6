"""What API descriptions say of an endpoint, in its own model."""

from pydantic import Field

from collector.api.base_model import Model
from collector.inventory.spec_status import SpecStatus


class EndpointSpecModel(Model):
    """The operation of a description that an endpoint is."""

    status: SpecStatus = Field(
        description="`documented`; `shadow`: its service is described, it is not; `zombie`: deprecated, or only an "
        "older version has it; `none`: no description covers its service, or it was never served."
    )
    spec: str = Field(description="Name of the description; empty where none covers its service.")
    http_route: str = Field(description="OpenTelemetry's http.route: the path as described.", examples=["/orders/{id}"])
    operation_id: str
    is_deprecated: bool
    requires_authentication: bool | None = Field(description="Null: the description says nothing of it.")
    reason: str

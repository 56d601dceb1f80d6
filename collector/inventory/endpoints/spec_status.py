"""What API descriptions say of an endpoint, as collector/specs/assessment.py wrote it; read by id."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from collector.storage.records import Reader, read_record, select


class SpecStatus(StrEnum):
    """Whether an endpoint is described."""

    DOCUMENTED = "documented"
    SHADOW = "shadow"  # Served, and in no description of its service.
    ZOMBIE = "zombie"  # Called although it is deprecated, or only an older version has it.
    NONE = "none"  # No description covers its service, or it was never served.


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """`http_route` is the path as the description has it, with its base path: OpenTelemetry's http.route. `reason`: why
    it is a zombie or shadow."""

    status: SpecStatus
    spec: str = ""  # Name of the description.
    http_route: str = ""
    operation_id: str = ""
    is_deprecated: bool = False
    requires_authentication: bool | None = None  # None: it says nothing of it, or there is none.
    reason: str = ""


NO_SPEC = EndpointSpec(status=SpecStatus.NONE)
_SPECS = """
SELECT endpoint_id, status, spec, http_route, operation_id, is_deprecated, requires_authentication, reason
FROM endpoint_specs FINAL WHERE endpoint_id IN {ids:Array(String)}"""
# On names `n` of the list of endpoints, where an operation is described as its parent is; the parameter is `spec`.
OF_STATUS = "n.described_id IN (SELECT endpoint_id FROM endpoint_specs FINAL WHERE status = {spec:String})"
OF_NO_STATUS = "n.described_id NOT IN (SELECT endpoint_id FROM endpoint_specs FINAL WHERE status != {spec:String})"


def read_specs(reader: Reader, ids: Iterable[str]) -> Mapping[str, EndpointSpec]:
    """By endpoint id; those that nothing is known of are left out. Raises StoreError."""
    return {row["endpoint_id"]: read_spec_row(row) for row in select(reader, _SPECS, {"ids": list(ids)})}


def read_spec_row(row: Mapping[str, Any]) -> EndpointSpec:
    """A row of `endpoint_specs`."""
    required = int(row["requires_authentication"])
    return read_record(EndpointSpec, row, requires_authentication=None if required < 0 else bool(required))

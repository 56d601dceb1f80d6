"""What differs between an endpoint and its description."""

from dataclasses import dataclass
from enum import StrEnum


class DriftKind(StrEnum):
    """In what an endpoint differs."""

    UNDOCUMENTED_PARAMETER = "undocumented_parameter"
    UNDOCUMENTED_STATUS = "undocumented_status"
    UNDOCUMENTED_MEDIA_TYPE = "undocumented_media_type"
    UNDOCUMENTED_FIELD = "undocumented_field"
    OTHER_TYPE = "other_type"
    MISSING_FIELD = "missing_field"
    MISSING_PARAMETER = "missing_parameter"
    WEAKER_AUTHENTICATION = "weaker_authentication"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One difference. `place`: query, header, cookie, request, `2xx response` ..; `name`: parameter, field, status."""

    kind: DriftKind
    place: str
    name: str
    sentence: str

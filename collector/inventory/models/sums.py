"""What one caller asked of one model on one route, and who runs the model. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.endpoints.exposure import ExposureLevel
from common.model_hosts import find_host_provider

OTHER: Final = "_OTHER"  # A name that may not leave its node, or that no bound let in.


class Destination(StrEnum):
    """Who runs the model."""

    OUTSIDE = "outside"  # A third party: an address of the internet that is not one of ours, or a provider's host.
    INSIDE = "inside"  # A server of ours, or one at a private address.
    UNKNOWN = "unknown"  # The endpoint had no call that counts in the span.


def find_destination(level: ExposureLevel, host: str, *, is_watched: bool) -> Destination:
    """Where calls of a use go; `is_watched`: a sensor saw the server of its endpoint. A provider that is called through
    a proxy, or by a private link, has a private address, and the proxy may be watched: there the host decides."""
    is_far = level is ExposureLevel.THIRD_PARTY and not is_watched
    return Destination.OUTSIDE if is_far or find_host_provider(host) else Destination.INSIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelData:
    """Calls in whose prompt (REQUEST) or answer (RESPONSE) a kind of data was found."""

    kind: str
    data_class: DataClass
    side: BodySide
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSum:
    """What one caller asked of one model on one route. Counts stand for all calls, and are estimates by samples. Tokens
    are sums over the `counted` calls, and `input_tokens` includes those of the cache. Times are unix seconds."""

    route_id: int
    role: int  # Who reported it: the sensor of the server or of the client.
    endpoint_id: str
    cluster: str
    service: str
    host: str
    path: str
    caller: str
    consumer: str
    provider: str
    operation: str
    request_model: str
    response_model: str
    samples: int
    calls: int
    errors: int
    streamed: int
    counted: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    reasoning_tokens: int
    requests_read: int
    responses_read: int
    url_keys: int
    data: tuple[ModelData, ...]
    first_seen: int
    last_seen: int

    @property
    def model(self) -> str:
        """As the caller asked for it, else as the answer names it; empty where neither is known."""
        return next((name for name in (self.request_model, self.response_model) if name not in ("", OTHER)), "") or (
            self.request_model or self.response_model
        )

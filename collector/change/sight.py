"""What one look of the risk keeper saw of an endpoint, as far as changes are judged by it. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from collector.inventory.bodies import PERSONAL, BodySide, DataClass
from collector.inventory.endpoint import SeenAt, name_service
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Finding, FindingState

# Sampled responses that held a class before it is one of the endpoint's: one alone may be a chance hit.
_CLASS_CALLS_MIN: Final = 2
_LOGIN_RULE: Final = "login_missing"
_SENSITIVE: Final = PERSONAL | {DataClass.SECRET, DataClass.CUSTOM}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Times are unix seconds. `scope` is its service over all hosts and ports of one name; `login_gone` the finding
    that its login went, where that is open."""

    id: str
    scope: str
    service: str
    host: str
    label: str
    first_seen: float
    is_served: bool  # 2xx or 3xx.
    is_third_party: bool
    is_open: bool  # Returns personal data to whoever asks.
    has_bodies: bool
    classes: frozenset[DataClass]  # Sensitive ones in responses.
    consumers: int  # Of the last day.
    login_gone: Finding | None


def see(seen: Circumstances, findings: Sequence[Finding]) -> Sight:
    """Of an endpoint as it was judged."""
    endpoint = seen.endpoint
    gone = (one for one in findings if one.rule == _LOGIN_RULE and one.state is FindingState.OPEN)
    service = name_service(endpoint.service)
    return Sight(
        id=endpoint.id,
        scope=f"{endpoint.service.cluster}|{service}",
        service=service,
        host=endpoint.host or endpoint.service.workload,
        label=f"{endpoint.method} {endpoint.template}",
        first_seen=endpoint.first_seen,
        is_served=endpoint.seen_at is not SeenAt.CLIENT and endpoint.status.success + endpoint.status.redirection > 0,
        is_third_party=not seen.is_ours,
        is_open=seen.is_open and bool(seen.personal_kinds),
        has_bodies=endpoint.bodies is not None and endpoint.bodies.responses_read > 0,
        classes=_find_classes(seen),
        consumers=endpoint.consumers,
        login_gone=next(gone, None),
    )


def _find_classes(seen: Circumstances) -> frozenset[DataClass]:
    calls: Counter[DataClass] = Counter()
    for one in seen.data:
        if one.side is BodySide.RESPONSE and one.data_class in _SENSITIVE:
            calls[one.data_class] += one.calls
    found = frozenset(name for name, count in calls.items() if count >= _CLASS_CALLS_MIN)
    return found - {DataClass.SECRET} if seen.is_entrance else found  # Tokens are what an entrance is for.

"""What a detector says: one subject did something odd in one window. The alerts room turns signals into alerts.

A signal crosses a process boundary, so it is a frozen msgspec struct: encoded as MessagePack, no pickle of foreign
types.
"""

from enum import StrEnum

import msgspec

from collector.alerts.alert import AlertKind
from collector.rates import compute_rate
from collector.sensitivity import Sensitivity


class Direction(StrEnum):
    """Which way the observation left the expectation."""

    ABOVE = "above"
    BELOW = "below"


class Basis(StrEnum):
    """What the expectation rests on, weakest first."""

    PRIOR = "prior"  # Nothing seen yet: the stated prior of docs/detection.md.
    PEERS = "peers"  # What the other consumers of the endpoint do.
    ENDPOINT = "endpoint"  # What all consumers of the endpoint did together.
    HISTORY = "history"  # What the subject itself did.
    SEASON = "season"  # Its own history at this time of day.


class AlertSignal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One subject in one window, as the detectors judged it. Times are unix seconds, rates calls a second."""

    kind: AlertKind
    direction: Direction
    endpoint_id: str  # Empty for a consumer over all endpoints; of a service the one that names it.
    endpoint_label: str  # `GET /items/{id}`; empty where endpoint_id is.
    route_ids: tuple[int, ...]
    consumer: str  # `kind:value`; empty for an endpoint and a service.
    window_start: int
    window_seconds: int
    calls: int
    expected_rate: float  # Over the whole window, as is the next.
    threshold_rate: float
    score: float  # 0..1, higher is odder.
    excess: float  # How far past the detector's threshold, in its own unit (>= 0): ranks signals of one detector.
    basis: Basis
    novel_objects: int  # Objects of this window that the pair or consumer had not touched before.
    peers: int  # Other consumers of the endpoint that the expectation knows.
    loss_ratio: float
    is_notice: bool = False  # The installation is too young to accuse anybody.
    quietest: Sensitivity = Sensitivity.QUIET  # The level whose bar it passes.
    walk: str = ""  # That a pair's objects came in order, a clause.
    service: str = ""  # `namespace/workload:port`, where it is about all endpoints of one;
    endpoints: int = 0  # which are so many.
    elapsed_seconds: int = 0  # From the first call to the window's end or until now; 0: all of it.

    @property
    def seconds(self) -> int:
        """In which the calls were made, of those of the window."""
        return self.elapsed_seconds or self.window_seconds

    @property
    def observed_rate(self) -> float:
        """Calls a second of that time."""
        return compute_rate(self.calls, self.seconds)

    @property
    def subject(self) -> tuple[str, str, str]:
        """What stays the same while the alert is open."""
        return (self.kind.value, self.endpoint_id, self.consumer)


class AbuseSignal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One subject that did too much of what its kind counts (docs/detection.md). Times are unix seconds."""

    kind: AlertKind
    endpoint_id: str  # Empty for what concerns no single endpoint.
    endpoint_label: str
    route_ids: tuple[int, ...]
    consumer: str  # `kind:value`; empty where many took part.
    time: int
    seconds: int  # The horizon over which it was counted; what is older weighs less.
    count: int
    ceiling: int
    calls: int  # Of the rows that made it too much.
    basis: Basis
    is_notice: bool  # The installation, or what calls from inside, is too young to accuse anybody.
    sources: tuple[str, ...]  # Addresses that took part, where they are many.
    loss_ratio: float
    detail: str = ""  # What was counted, by class.
    confirmation: str = ""  # How a response says that it worked, a clause.
    walk: str = ""  # That its objects came in order, a clause.
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is told.


class HealthMeasure(StrEnum):
    """What of an endpoint got worse."""

    SERVER_ERRORS = (
        "server_errors"  # Share of calls answered 5xx, or with an RPC status that the server is at fault for.
    )
    CLIENT_ERRORS = "client_errors"  # Share of calls answered 4xx, less those that abuse and missing paths make.
    LATENCY = "latency"  # Geometric mean duration in microseconds.


class HealthSignal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Endpoints of one service that fail more, or take longer, than they did in one window. Times are unix seconds;
    `observed`, `expected` and `threshold` are in the unit of the measure, over the calls of those endpoints."""

    kind: AlertKind
    measure: HealthMeasure
    endpoint_id: str  # Of the endpoint that names what goes on at the service, while it lasts.
    endpoint_label: str  # Of the worst.
    route_ids: tuple[int, ...]
    service: str
    endpoints: int  # Of the service that were told within an hour.
    window_start: int
    window_seconds: int
    calls: int  # Of latency, those that succeeded.
    observed: float
    expected: float
    threshold: float
    score: float  # 0..1, higher is odder.
    loss_ratio: float
    quietest: Sensitivity = Sensitivity.QUIET  # The level whose bar it passes.


Signal = AlertSignal | AbuseSignal | HealthSignal

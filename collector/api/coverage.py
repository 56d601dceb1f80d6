"""/coverage: how much is read, what is not and why, and its history."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import HolderModel, Model, OptionalTime, Ratio, ServiceModel, Time
from collector.api.parameters import ActionBody, CoverageHistoryParameters, NoParameters
from collector.core.limits import DetectionProgress, Limit
from collector.core.scope import find_scope
from collector.inventory.coverage.coverage import BlindSpotKind, CoverageRole, PortProtocol, Reading
from collector.inventory.coverage.reader import CoverageInventory
from collector.inventory.coverage.sql import PortQuery
from collector.inventory.coverage.targets import SECONDS_DEFAULT, SECONDS_MAX, CoverageTargets, MeasuredTarget
from collector.inventory.filters import Text


class WeakChoiceModel(Model):
    """A version and cipher suite that servers chose, one of which is weak."""

    version: str = Field(examples=["TLS 1.0"])
    cipher_suite: str = Field(examples=["TLS_RSA_WITH_AES_128_CBC_SHA"])
    count: int
    last_seen: Time


class HandshakesModel(Model):
    """What samples of handshakes said: at most one a second of each port or host. Handshakes by text, most first."""

    count: int = Field(description="Handshakes that were looked at.")
    server_names: dict[str, int] = Field(examples=[{"api.example.com": 12}])
    protocols: dict[str, int] = Field(
        description="ALPN, as the clients offered.", examples=[{"h2": 12, "http/1.1": 12}]
    )
    versions: dict[str, int] = Field(description="As the servers chose.", examples=[{"TLS 1.3": 12}])
    cipher_suites: dict[str, int]
    weaknesses: dict[str, int] = Field(description="What is weak about what the servers chose, with its source.")
    peers: dict[str, int] = Field(description="Addresses of the clients.")
    weak_choices: tuple[WeakChoiceModel, ...] = Field(description="At most 16, the latest first.")


class PortModel(Model):
    """One listening port and protocol, or a host that is called encrypted; totals since the sensor's start."""

    id: str
    node: str
    role: CoverageRole
    service: ServiceModel = Field(description="Which listens; of `outbound`, which calls, with the host's port.")
    address: str = Field(description="Where it listens, the path of a unix socket, or the host that is called.")
    protocol: PortProtocol
    reading: Reading
    is_read: bool = Field(description="Whether its calls are in the inventory.")
    is_http_like: bool = Field(description="Whether it counts to the share that is read.")
    connections: int
    bytes: int
    joined_late: int = Field(description="Connections that were open before the sensor saw them.")
    calls: int = Field(description="Calls that ended, of what is read.")
    lost_calls: int = Field(description="Calls that were counted and not reported.")
    estimated_calls: int = Field(
        description="Encrypted: how often the server spoke after the client had asked; of `https` the calls that were "
        "not read because their process made too many. An estimate."
    )
    handshakes: HandshakesModel | None
    reason: str = Field(description="Why it is not read; empty where it is.")
    first_seen: Time = Field(description="Of its first report, up to 90 days back.")
    updated_at: Time
    called: tuple[HolderModel, ...] = Field(description="Of `outbound`: who was at the address, where it is known.")


class PortPageModel(Model):
    """One page of ports."""

    items: tuple[PortModel, ...]
    next_cursor: str | None
    total: int = Field(description="Ports that match, on all pages.")


class ShareModel(Model):
    """How much of what is like HTTP is read, of listening ports."""

    connections: int = Field(description="Like HTTP, read or not.")
    bytes: int
    read_connections: int
    read_bytes: int
    read_connections_ratio: Ratio | None
    read_bytes_ratio: Ratio | None


class NodeCoverageModel(Model):
    """One node, or all together; totals since the sensors' starts."""

    node: str = Field(description="Empty for all together.")
    share: ShareModel
    ports: int
    read_ports: int
    unreadable_ports: int
    unseen_ports: int = Field(description="Whose bytes pass the sensor by: unix sockets, sockmaps.")
    outbound_hosts: int = Field(description="Hosts that are called encrypted.")
    calls: int
    estimated_calls: int
    joined_late: int
    lost_calls: int
    updated_at: Time


class BlindSpotModel(Model):
    """What is never read, or is left out by choice: every kind is listed, with zeros where there is none."""

    kind: BlindSpotKind
    protocol: PortProtocol = Field(description="Of its rows under /coverage/ports.")
    nodes: int = Field(description="That report some of it.")
    places: int = Field(description="Its rows: ports, unix sockets, nodes, or services with the rule that leaves out.")
    connections: int = Field(description="Of `unix` and `kernel_tls` those open now; of `http3` flows.")
    bytes: int
    calls: int = Field(description="Of `exclusions`: that were seen and are not reported.")
    meaning: str


class LossModel(Model):
    """What one sensor did not see or keep, and what may be done."""

    node: str
    stage: str
    reason: str
    count: int
    meaning: str
    advice: str


class LimitModel(Model):
    """A limit of what the collector keeps in memory."""

    name: str = Field(examples=["detected_consumers"])
    used: int
    maximum: int
    is_reached: bool
    then: str = Field(description="What happens at the limit.")


class DetectionProgressModel(Model):
    """What the detectors evaluated since their process began."""

    evaluated_calls: int
    late_calls: int = Field(description="That came too late to be evaluated, as of a node that caught up last.")
    waiting_batches: int = Field(description="Of nodes that wait for others to catch up after an outage.")


class CoverageModel(Model):
    """How much is read, what never is, and every loss. The ports behind it: /coverage/ports."""

    cluster: NodeCoverageModel
    nodes: tuple[NodeCoverageModel, ...]
    blind_spots: tuple[BlindSpotModel, ...] = Field(description="Always all five kinds.")
    losses: tuple[LossModel, ...]
    detection: DetectionProgressModel = DetectionProgressModel(evaluated_calls=0, late_calls=0, waiting_batches=0)
    limits: tuple[LimitModel, ...] = ()


class CoveragePointModel(Model):
    """What one step of time added, of listening ports."""

    time: Time
    share: ShareModel
    calls: int
    estimated_calls: int
    joined_late: int
    lost_calls: int
    uncaptured_seconds: float = Field(
        description="Time without capture, of all nodes together: between two sensors, and while one was paused."
    )


class CoverageHistoryModel(Model):
    """Coverage over time; steps without a report are absent."""

    step_seconds: int
    points: tuple[CoveragePointModel, ...]


class CoverageTargetModel(Model):
    """How much of the HTTP connections shall be read, and how much is."""

    cluster: str = Field(description="Empty for all.")
    namespace: str = Field(description="Empty for all.")
    ratio: float = Field(examples=[0.95])
    seconds: int = Field(description="How long the share may be below it before there is an alert.")
    recent_ratio: Ratio | None = Field(description="Of the last one to two hours; null below 20 connections.")
    connections: int = Field(description="Of that time, like HTTP.")
    is_missed: bool
    below_since: OptionalTime = Field(description="Since when it is missed.")
    changed_by: str
    changed_at: Time


class CoverageTargetsModel(Model):
    """All targets, by cluster and namespace."""

    items: tuple[CoverageTargetModel, ...]


class CoverageTargetBody(ActionBody):
    """A target to set, or to take away."""

    cluster: Text = Field(default="", max_length=300, description="Empty for all.")
    namespace: Text = Field(default="", max_length=300, description="Empty for all.")
    ratio: float | None = Field(gt=0, le=1, description="Null takes the target away.", examples=[0.95])
    seconds: int = Field(default=SECONDS_DEFAULT, ge=60, le=SECONDS_MAX, description="Until there is an alert.")


def _view_target(measured: MeasuredTarget) -> CoverageTargetModel:
    target = measured.target
    return CoverageTargetModel(
        cluster=target.cluster,
        namespace=target.namespace,
        ratio=target.ratio,
        seconds=target.seconds,
        recent_ratio=measured.recent_ratio,
        connections=measured.connections,
        is_missed=measured.is_missed,
        below_since=target.below_since,
        changed_by=target.changed_by,
        changed_at=target.changed_at,
    )


def build_coverage_routes(
    *,
    coverage: CoverageInventory,
    targets: CoverageTargets,
    limits: Callable[[], Sequence[Limit]],
    progress: Callable[[], DetectionProgress],
    clock: Callable[[], float],
) -> APIRouter:
    """Routes that read the coverage."""
    router = APIRouter(prefix="/coverage", tags=["coverage"])

    @router.get("", summary="Show coverage")
    def get_coverage(_: Annotated[NoParameters, Query()]) -> CoverageModel:
        """The share of connections and bytes like HTTP that is read, of all nodes together and of each, and every loss
        with what may be done."""
        found = CoverageModel.model_validate(coverage.read_coverage())
        if not find_scope().is_all:  # The rest is of the whole installation.
            return found
        own = {
            "detection": DetectionProgressModel.model_validate(progress()),
            "limits": tuple(map(LimitModel.model_validate, limits())),
        }
        return found.model_copy(update=own)

    @router.get("/ports", summary="List ports")
    def list_ports(query: Annotated[PortQuery, Query()]) -> PortPageModel:
        """Every listening port by protocol, hosts that are called encrypted, and what no sensor can see, with why."""
        return PortPageModel.model_validate(coverage.list_ports(query))

    @router.get("/history", summary="Show coverage over time")
    def get_history(parameters: Annotated[CoverageHistoryParameters, Query()]) -> CoverageHistoryModel:
        """What each hour, or each of some hours, added: what is like HTTP, and what of it was read."""
        found = coverage.read_history(parameters.find_span(clock()), parameters.node)
        return CoverageHistoryModel.model_validate(found)

    @router.get("/targets", summary="List targets of coverage")
    def list_targets(_: Annotated[NoParameters, Query()]) -> CoverageTargetsModel:
        """How much of the HTTP connections shall be read, and how much is read."""
        return CoverageTargetsModel(items=tuple(map(_view_target, targets.measure())))

    @router.post("/targets", summary="Set a target of coverage")
    def set_target(body: CoverageTargetBody) -> CoverageTargetsModel:
        """In place of the one before, of everything, a cluster or a namespace. A share that stays below it raises an
        alert."""
        if body.ratio is None:
            targets.remove(cluster=body.cluster, namespace=body.namespace, by=body.by)
        else:
            targets.put(**body.model_dump(include={"cluster", "namespace", "ratio", "seconds"}), by=body.by)
        return CoverageTargetsModel(items=tuple(map(_view_target, targets.measure())))

    return router

"""/blocks and /ladder: whom the sensors stop, whom a block would hit, who decided it, and how far alerts may act."""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import PlainTextResponse
from pydantic import Field

from collector.alerting.alert import AlertKind
from collector.api.base_model import HolderModel, Model, OptionalTime, Ratio, Time
from collector.api.export_log import ExportLog
from collector.api.parameters import ActionBody, Body, Items, NoParameters, Word, name_actor
from collector.api.problem import Problem, show
from collector.inventory.filters import Parameters, Text
from collector.receiver.policy import NO_CLUSTER, BlockStatus
from collector.response.block import CLUSTERS_MAX, SECONDS_MAX, SECONDS_MIN, Block, BlockError, BlockState
from collector.response.block_factory import BlockRequest
from collector.response.deny_lists import ExportFormat, ExportSettings, export_blocks
from collector.response.ladder import ENDPOINTS_MAX, LadderStep, Rung
from collector.response.responder import Responder
from collector.trust.principal import APPROVAL_TOKEN

_CONSUMER = (
    "An address, a network, or a consumer: address:.., credential:.., principal:.., or a workload of Kubernetes as "
    "workload:NAMESPACE/NAME or workload:NAMESPACE/KIND/NAME"
)

_Cluster = Annotated[Text, Field(min_length=1, max_length=253)]
_CLUSTERS: Any = Field(default=(), max_length=CLUSTERS_MAX, description="As sensors name them; none: all. `-`: hosts.")


class NodeStatusModel(Model):
    """One block at one node."""

    node: str
    is_enforced: bool
    reason: str = Field(description="Why it is not enforced there.")
    stopped_connections: int
    stopped_bytes: int
    failed_resets: int = Field(description="Connections whose packets are dropped and that could not be reset.")
    spared_requests: int = Field(description="Let through: from addresses never blocked, or on shared connections.")
    first_stop_at: OptionalTime


class BlockModel(Model):
    """One client that is stopped, was, or is proposed to be."""

    id: str
    consumer: str
    state: BlockState
    services: tuple[str, ...] = Field(description="Where it is stopped; none: everywhere.")
    clusters: tuple[str, ...] = Field(description="Where it holds; none: in all. `-`: hosts outside of any.")
    seconds: int
    reason: str
    alert_id: str
    proposed_by: str
    proposed_at: Time
    approved_by: str
    began_at: OptionalTime
    expires_at: OptionalTime
    ended_by: str
    ended_at: OptionalTime
    is_confirmed: bool
    accused: str = Field(
        description="Whom an alert names (address:..), where the block is of the workload that held the address."
    )
    held_by: str = Field(description="Who holds an address that is blocked, and who held it in the 24 hours before.")
    ends_with: str = Field(description="The Pod with which the block of its address ends; empty where none holds it.")
    addresses: tuple[str, ...] = Field(description="Of a workload: what its Pods hold now, and sensors stop.")
    is_exported: bool = Field(description="Proxies get it too: an address, of at most half of all calls or confirmed.")
    witnesses: tuple[str, ...] = Field(description="Nodes whose sensors' word it rests on, of an alert's.")
    stopped_connections: int
    stopped_bytes: int
    nodes: tuple[NodeStatusModel, ...]


class EnforcingNodeModel(Model):
    """Whether a node enforces anything."""

    node: str
    is_enabled: bool
    reason: str


class BlockListModel(Model):
    """All blocks, the newest first."""

    items: tuple[BlockModel, ...]
    nodes: tuple[EnforcingNodeModel, ...] = Field(description="What each sensor's own settings and switch say.")
    requires_second_approval: bool


class HitModel(Model):
    """A name and its calls in the last 24 hours."""

    name: str
    calls: int


class BlockPreviewModel(Model):
    """Whom a block would have stopped in the last 24 hours."""

    target: str
    calls: int
    share: Ratio = Field(description="Of all calls at servers.")
    clients: tuple[HitModel, ...] = Field(description="Principals and credentials, most calls first; at most 20.")
    clients_total: int
    endpoints: tuple[HitModel, ...]
    clusters: tuple[HitModel, ...] = Field(description="Where it called, also beyond those asked for.")
    shared_addresses: tuple[HitModel, ...] = Field(description="From where others call too, with the others' calls.")
    first_seen: OptionalTime
    needs_confirmation: str = Field(description="Why `is_confirmed` is needed; empty where it is not.")
    notes: tuple[str, ...]
    holders: tuple[HolderModel, ...] = Field(description="Who held an address in the last 24 hours, the newest first.")
    held_by: str = Field(description="The same in words.", examples=["pod shop/cart-7d since 05:42 UTC"])
    addresses: tuple[str, ...] = Field(description="Of a workload: what its Pods hold now.")


class AuditEntryModel(Model):
    """One line of the audit log."""

    time: Time
    by: str
    action: str
    block_id: str
    target: str
    why: str


class AuditListModel(Model):
    """The newest first."""

    items: tuple[AuditEntryModel, ...]


class RungModel(Model):
    """How far one kind of alert may go by itself."""

    kind: AlertKind
    step: LadderStep
    seconds: int
    endpoints: tuple[str, ...] = Field(description="Where even a client first seen within a day is stopped.")
    set_by: str = Field(description="Empty: nobody has decided.")


class LadderModel(Model):
    """All kinds of alerts."""

    items: tuple[RungModel, ...]


class LiftedModel(Model):
    """How many blocks were lifted."""

    lifted: int


class PreviewBody(Body):
    """Whom to look at."""

    consumer: Text = Field(min_length=1, max_length=600, description=_CONSUMER, examples=["address:203.0.113.7"])
    clusters: Items[_Cluster] = _CLUSTERS


class BlockBody(ActionBody):
    """Whom to stop, where and for how long."""

    consumer: Text = Field(min_length=1, max_length=600, description=_CONSUMER, examples=["address:203.0.113.7"])
    services: Items[Text] = Field(
        default=(),
        description="Each [NAMESPACE/]WORKLOAD[:PORT], or NAMESPACE/ for all of one; none: all that you see.",
    )
    clusters: Items[_Cluster] = _CLUSTERS
    seconds: int = Field(default=3_600, ge=SECONDS_MIN, le=SECONDS_MAX)
    reason: Text = Field(default="", max_length=2_000)
    alert_id: Text = Field(default="", max_length=64)
    is_confirmed: bool = Field(default=False, description="The preview was seen, and others may be hit.")


class RungBody(ActionBody):
    """How far."""

    step: Word[LadderStep]
    seconds: int = Field(default=3_600, ge=SECONDS_MIN, le=SECONDS_MAX)
    endpoints: Items[Text] = Field(default=(), max_length=ENDPOINTS_MAX)


APPROVAL_HEADER = "apidae-approval"


class AuditParameters(Parameters):
    """How much of it."""

    limit: int = Field(default=100, ge=1, le=1_000)


class ExportParameters(Parameters):
    """For where."""

    cluster: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Where it stands; without it in the collector's own.",
    )


def view_blocks(responder: Responder, blocks: Sequence[Block]) -> tuple[BlockModel, ...]:
    """Blocks with who holds their addresses, and what the sensors make of them."""
    held_by, statuses = responder.describe_holders(blocks), responder.list_statuses(blocks)
    return tuple(_view_block(responder, block, held_by.get(block.id, ""), statuses[block.id]) for block in blocks)


def _view_block(
    responder: Responder, block: Block, held_by: str, statuses: Sequence[tuple[str, BlockStatus]]
) -> BlockModel:
    stopped = {
        name: getattr(block, name) + sum(getattr(status, name) for _, status in statuses)
        for name in ("stopped_connections", "stopped_bytes")
    }
    shown = {
        **asdict(block),
        **stopped,
        "consumer": block.target.consumer,
        "held_by": held_by,
        "ends_with": str(block.holder or ""),
        "addresses": responder.list_addresses(block),
        "is_exported": block.is_exported,
        "witnesses": block.nodes,
        "nodes": [{"node": node, **asdict(status)} for node, status in statuses],
    }
    return BlockModel.model_validate(shown)


def build_block_routes(
    *, responder: Responder, approval_token: str | None, exports: ExportSettings, export_log: ExportLog
) -> APIRouter:
    """Routes that stop clients and lift it again. `approval_token`: of the second person, where two are needed;
    `exports`: of deny lists."""
    router = APIRouter(prefix="/blocks", tags=["response"])

    def act(work: Callable[[], Block]) -> BlockModel:
        try:
            return view_blocks(responder, [work()])[0]
        except BlockError as error:
            raise Problem(422, str(error)) from error

    @router.get("", summary="List blocks")
    def list_blocks(_: Annotated[NoParameters, Query()]) -> BlockListModel:
        """All that are proposed or live, and those lately over; the newest first. For a part of the installation those
        that hold within it, without what nodes say."""
        return BlockListModel(
            items=view_blocks(responder, responder.list_blocks()),
            nodes=tuple(
                EnforcingNodeModel(node=node, is_enabled=report.is_enabled, reason=report.reason)
                for node, report in responder.list_nodes()
            ),
            requires_second_approval=responder.requires_second_approval,
        )

    @router.post("", summary="Block a client", status_code=201)
    def block_client(body: BlockBody) -> BlockModel:
        """Stop a client at every sensor that allows it, or propose it where two people are needed."""
        return act(lambda: responder.block(BlockRequest(by=body.by, **body.model_dump(exclude={"asked_by"}))))

    @router.post("/preview", summary="Preview a block")
    def preview_block(body: PreviewBody) -> BlockPreviewModel:
        """Whom it would have stopped in the last 24 hours. Nothing changes."""
        try:
            return BlockPreviewModel.model_validate(responder.preview(body.consumer, body.clusters))
        except BlockError as error:
            raise Problem(422, str(error)) from error

    @router.post("/lift", summary="Lift all blocks")
    def lift_all(body: ActionBody) -> LiftedModel:
        """End everything that is live, at once."""
        return LiftedModel(lifted=responder.lift_all(by=body.by))

    @router.get("/audit", summary="Read the audit log")
    def list_audit(parameters: Annotated[AuditParameters, Query()]) -> AuditListModel:
        """Who had whom stopped, when and why; the newest first."""
        entries = responder.list_audit(parameters.limit)
        return AuditListModel(items=tuple(AuditEntryModel.model_validate(entry) for entry in entries))

    @router.get("/exports/{kind}", summary="Write blocks for a proxy or a cluster", response_class=PlainTextResponse)
    def export(kind: ExportFormat, parameters: Annotated[ExportParameters, Query()]) -> PlainTextResponse:
        """Live address blocks as a deny list or as policies, to be fetched again and again."""
        export_log.note_polled("blocks", kind)
        given = parameters.cluster
        settings = exports if given is None else replace(exports, cluster="" if given == NO_CLUSTER else given)
        return PlainTextResponse(export_blocks(responder.orders(), kind, settings))

    @router.get("/{block_id}", summary="Show one block")
    def get_block(block_id: str, _: Annotated[NoParameters, Query()]) -> BlockModel:
        """One block, and what each sensor makes of it."""
        block = responder.find(block_id)
        if block is None:
            raise Problem(404, f"There is no block {show(block_id)}; look it up in /api/v1/blocks.")
        return view_blocks(responder, [block])[0]

    @router.post("/{block_id}/approve", summary="Approve a proposed block")
    def approve_block(
        block_id: str,
        body: ActionBody,
        approval: Annotated[str, Header(alias=APPROVAL_HEADER, description="Where two people are needed.")] = "",
    ) -> BlockModel:
        """Have it begin."""
        is_second = approval_token is not None and hmac.compare_digest(approval.encode(), approval_token.encode())
        by = name_actor(body.asked_by, APPROVAL_TOKEN if is_second else "")
        return act(lambda: responder.approve(block_id, by=by, is_second_person=is_second))

    @router.post("/{block_id}/reject", summary="Reject a proposed block")
    def reject_block(block_id: str, body: ActionBody) -> BlockModel:
        """Have it never begin."""
        return act(lambda: responder.reject(block_id, by=body.by))

    @router.post("/{block_id}/lift", summary="Lift a block")
    def lift_block(block_id: str, body: ActionBody) -> BlockModel:
        """End it at every sensor."""
        return act(lambda: responder.lift(block_id, by=body.by))

    return router


def build_ladder_routes(*, responder: Responder) -> APIRouter:
    """Routes of how far each kind of alert may go by itself."""
    router = APIRouter(prefix="/ladder", tags=["response"])

    @router.get("", summary="Show the ladder")
    def list_rungs(_: Annotated[NoParameters, Query()]) -> LadderModel:
        """Where each kind of alert stands."""
        return LadderModel(items=tuple(RungModel.model_validate(rung) for rung in responder.ladder.list_rungs()))

    @router.put("/{kind}", summary="Decide how far a kind of alert may go")
    def put_rung(kind: AlertKind, body: RungBody) -> RungModel:
        """observe, alert, propose or enforce."""
        rung = Rung(kind=kind, step=body.step, seconds=body.seconds, endpoints=body.endpoints, set_by=body.by)
        responder.put_rung(rung)
        return RungModel.model_validate(rung)

    return router

"""The page of response: whom the sensors stop, with the evidence beside each button, and one button that lifts
everything.

`view_statuses` shows how many nodes enforce a block, what they stopped, and why others do not. Pure.
"""

import hmac
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from collector.alerting.alert import AlertKind
from collector.api.parameters import name_actor
from collector.core.errors import ConflictError, UnknownError
from collector.core.scope import find_scope
from collector.receiver.policy import BlockStatus, EnforcementReport
from collector.response.block import SECONDS_MAX, SECONDS_MIN, Block, BlockError
from collector.response.block_factory import BlockRequest
from collector.response.ladder import LadderStep
from collector.trust.principal import APPROVAL_TOKEN
from collector.ui.components.forms import split_words
from collector.ui.components.rendering import read_form
from collector.ui.site import Page, Site

NODES_NAMED_MAX = 5  # Of each reason; a cluster may have thousands.


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRefusal:
    """Why some nodes do not enforce."""

    reason: str
    nodes: tuple[str, ...]  # The first few.
    nodes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesView:
    """Of all sensors that have said anything."""

    enforcing: int
    total: int
    refusals: tuple[NodeRefusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockView:
    """Of one block at all nodes that got it."""

    enforcing: int
    total: int
    stopped_connections: int
    stopped_bytes: int
    failed_resets: int
    spared_requests: int
    first_stop_at: float  # Unix seconds; 0: nothing was stopped yet.
    refusals: tuple[NodeRefusal, ...]


def view_nodes(reports: Sequence[tuple[str, EnforcementReport]]) -> NodesView:
    """How many enforce at all."""
    enforcing = sum(report.is_enabled for _, report in reports)
    refusals = _group((node, report.reason) for node, report in reports if not report.is_enabled)
    return NodesView(enforcing=enforcing, total=len(reports), refusals=refusals)


def view_statuses(statuses: Sequence[tuple[str, BlockStatus]]) -> BlockView:
    """What all nodes make of a block."""
    found = [status for _, status in statuses]
    return BlockView(
        enforcing=sum(status.is_enforced for status in found),
        total=len(found),
        stopped_connections=sum(status.stopped_connections for status in found),
        stopped_bytes=sum(status.stopped_bytes for status in found),
        failed_resets=sum(status.failed_resets for status in found),
        spared_requests=sum(status.spared_requests for status in found),
        first_stop_at=min((status.first_stop_at for status in found if status.first_stop_at), default=0.0),
        refusals=_group((node, status.reason) for node, status in statuses if not status.is_enforced),
    )


def _group(reasons: Iterable[tuple[str, str]]) -> tuple[NodeRefusal, ...]:
    """By reason, that of most nodes first."""
    nodes: defaultdict[str, list[str]] = defaultdict(list)
    for node, reason in reasons:
        nodes[reason].append(node)
    found = [
        NodeRefusal(reason=reason, nodes=tuple(sorted(names)[:NODES_NAMED_MAX]), nodes_total=len(names))
        for reason, names in nodes.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.nodes_total, one.reason)))


def find_part() -> str:
    """What of the installation the reader sees, in words; empty for all of it."""
    scope = find_scope()
    return "" if scope.is_all else scope.word()


AUDIT_SHOWN = 50
OVER_SHOWN = 50
PATH = "/response"
SECONDS_DIGITS_MAX = 9
SECONDS = ((600, "10 minutes"), (3_600, "1 hour"), (86_400, "1 day"))


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    assert site.services.responder is not None, "the page is not available"
    responder, approval_token, alerts = site.services.responder, site.services.approval_token, site.services.alerts

    def show(request: Request, complaint: str = "") -> Response:
        blocks = responder.list_blocks()
        open_blocks = [block for block in blocks if not block.ended_at]
        statuses = responder.list_statuses(open_blocks)
        shown = {
            "complaint": complaint,
            "open": open_blocks,
            "over": [block for block in blocks if block.ended_at][:OVER_SHOWN],
            "held_by": responder.describe_holders(open_blocks),
            "addresses": {block.id: responder.list_addresses(block) for block in open_blocks},
            "views": {block.id: view_statuses(statuses[block.id]) for block in open_blocks},
            "nodes": view_nodes(responder.list_nodes()),
            "audit": responder.list_audit(AUDIT_SHOWN),
            "rungs": responder.ladder.list_rungs() if find_scope().is_all else (),
            "steps": tuple(LadderStep),
            "spans": SECONDS,
            "requires_second_approval": responder.requires_second_approval,
            "part": find_part(),
        }
        return site.render(request, "response/response.html", shown, status=422 if complaint else 200)

    @router.get(PATH)
    def show_response(request: Request) -> Response:
        return show(request)

    @router.get(PATH + "/preview")
    def show_preview(request: Request) -> Response:
        consumer, alert = request.query_params.get("consumer", ""), request.query_params.get("alert", "")
        proposal = responder.find_proposal(consumer, alert)
        if proposal is not None and proposal.accused == consumer:
            return RedirectResponse(f"{PATH}/preview?{_ask_again(proposal)}", status_code=303)
        try:
            given = request.query_params.get("clusters")
            clusters = responder.find_home(consumer) if given is None else split_words(given)
            preview = responder.preview(consumer, clusters)
        except BlockError as error:
            return show(request, str(error))
        shown = {
            "preview": preview,
            "alert_id": alert,
            "reason": proposal.reason if proposal is not None else "",
            "nodes": view_nodes(responder.list_nodes()),
            "chosen": clusters,
            "clusters": responder.list_clusters(),
            "spans": SECONDS,
            "requires_second_approval": responder.requires_second_approval,
            "part": find_part(),
        }
        return site.render(request, "response/preview.html", shown)

    @router.get(PATH + "/evidence/{alert_id}")
    def show_evidence(request: Request, alert_id: str) -> Response:
        alert = alerts.get_alert(alert_id)
        incident = (alert.incident_id if alert is not None else "") or alert_id
        return RedirectResponse(f"/incidents/{quote(incident, safe='')}", status_code=303)

    def is_second_person(form: Mapping[str, str]) -> bool:
        given = form.get("approval", "")
        return approval_token is not None and hmac.compare_digest(given.encode(), approval_token.encode())

    def block(form: Mapping[str, str]) -> object:
        return responder.block(
            BlockRequest(
                consumer=form.get("consumer", ""),
                services=split_words(form.get("services", "")),
                clusters=split_words(form.get("clusters", "")),
                seconds=_read_seconds(form.get("seconds", "")) or 0,
                reason=form.get("reason", "")[:2_000],
                alert_id=form.get("alert", "")[:64],
                by=name_actor(),
                is_confirmed=form.get("confirmed") == "yes",
            )
        )

    def decide(form: Mapping[str, str]) -> None:
        """Endpoints stay as they were listed."""
        kind, step, seconds = form.get("kind", ""), form.get("step", ""), form.get("seconds", "")
        if kind not in tuple(AlertKind) or step not in tuple(LadderStep):
            raise BlockError(f"There is no step {step[:80]!r} for alerts {kind[:80]!r}.")
        given = _read_seconds(seconds)
        if given is not None and not SECONDS_MIN <= given <= SECONDS_MAX:
            raise BlockError(f"A block lasts {SECONDS_MIN} to {SECONDS_MAX} s, not {given}.")
        responder.move_rung(AlertKind(kind), step=LadderStep(step), seconds=given, by=name_actor())

    def approve(form: Mapping[str, str]) -> object:
        is_second = is_second_person(form)
        by = name_actor(credential=APPROVAL_TOKEN if is_second else "")
        return responder.approve(form.get("id", ""), by=by, is_second_person=is_second)

    actions: dict[str, Callable[[Mapping[str, str]], object]] = {
        "block": block,
        "lift": lambda form: responder.lift(form.get("id", ""), by=name_actor()),
        "lift-all": lambda form: responder.lift_all(by=name_actor()),
        "ladder": decide,
        "reject": lambda form: responder.reject(form.get("id", ""), by=name_actor()),
        "approve": approve,
    }

    def add_action(name: str, work: Callable[[Mapping[str, str]], object]) -> None:
        @router.post(f"{PATH}/{name}")
        async def act(request: Request) -> Response:
            form = await read_form(request)
            return await _carry_out(lambda: work(form), lambda complaint: show(request, complaint))

    for name, work in actions.items():
        add_action(name, work)


def _ask_again(proposal: Block) -> str:
    """The question about whom a proposal is of: the workload that held the accused address."""
    asked = {"consumer": proposal.target.consumer, "clusters": " ".join(proposal.clusters), "alert": proposal.alert_id}
    return urlencode(asked)


def _read_seconds(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= SECONDS_DIGITS_MAX else None


async def _carry_out(work: Callable[[], object], complain: Callable[[str], Response]) -> Response:
    """Back to the page, or the page with what was wrong."""
    carried: Awaitable[object] = run_in_threadpool(work)
    try:
        await carried
    except (BlockError, ConflictError, UnknownError) as error:
        return await run_in_threadpool(complain, str(error))
    return RedirectResponse(PATH, status_code=303)


PAGE = Page(
    add_routes=add_routes,
    path=PATH,
    title="Response",
    group="Security",
    key="r",
    is_available=lambda services: services.responder is not None,
)

"""Commands of response: blocks of clients, what alerts may propose or enforce, and the erasure of a consumer."""

import json
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from collector.cli.client import (
    Api,
    AskedByOption,
    command,
    describe_columns,
    fail,
    say,
)

BLOCK_COLUMNS = describe_columns(
    "id state consumer held_by/4 services/5 clusters/5 nodes=witnesses/5 stopped=stopped_connections expires_at/1 "
    "by=approved_by/3 reason/2"
)
LADDER_COLUMNS = describe_columns("kind step seconds/1 endpoints/3 by=set_by/2")
AUDIT_COLUMNS = describe_columns("time by action target why/1")
ApprovalOption = Annotated[
    str, typer.Option("--approval-token", envvar="APIDAE_APPROVAL_TOKEN", help="Of the second person.")
]


class Step(StrEnum):
    """How far a kind of alert may go."""

    OBSERVE = "observe"
    ALERT = "alert"
    PROPOSE = "propose"
    ENFORCE = "enforce"


BlockArgument = Annotated[str, typer.Argument(help="Id of a block, as `apidae get blocks` lists it.")]


def register_reading(get: typer.Typer) -> None:
    """Add what is read."""

    @command(get, "blocks")
    def blocks(api: Api, is_audit: Annotated[bool, typer.Option("--audit", help="The audit log.")] = False) -> None:
        """List blocks, the newest first; or who decided what."""
        if is_audit:
            api.print_items(api.fetch("blocks/audit")["items"], AUDIT_COLUMNS)
            return
        found = api.fetch("blocks")
        for node in found["nodes"]:
            if node["reason"]:
                say(f"Node {node['node']}: {node['reason']}", err=True)
        api.print_items(found["items"], BLOCK_COLUMNS)

    @command(get, "ladder")
    def ladder(api: Api) -> None:
        """List what each kind of alert may do by itself."""
        api.print_items(api.fetch("ladder")["items"], LADDER_COLUMNS)


def register_response(app: typer.Typer, decide: typer.Typer) -> None:
    """Add what stops clients, and what removes them."""

    @command(app, "block", prints=False)
    def block(
        api: Api,
        consumer: Annotated[
            str,
            typer.Argument(help="Address, network, workload:NAMESPACE/NAME, credential:HASH or principal:HASH."),
        ],
        service: Annotated[
            list[str] | None, typer.Option(help="[NAMESPACE/]WORKLOAD[:PORT], or NAMESPACE/; may be repeated.")
        ] = None,
        cluster: Annotated[
            list[str] | None, typer.Option(help="Where it holds, `-` for hosts outside of any; may be repeated.")
        ] = None,
        seconds: Annotated[int, typer.Option(min=1, help="How long, in seconds.")] = 3_600,
        reason: Annotated[str, typer.Option(help="For the audit log.")] = "",
        alert: Annotated[str, typer.Option(help="Id of the alert that it answers.")] = "",
        is_preview: Annotated[bool, typer.Option("--preview", help="Only show whom it would have blocked.")] = False,
        is_confirmed: Annotated[bool, typer.Option("--confirm", help="Although others would be hit.")] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """Block a client at every sensor that enforces."""
        if is_preview:
            typer.echo(
                json.dumps(api.act("blocks/preview", {"consumer": consumer, "clusters": cluster or []}), indent=2)
            )
            return
        wish: dict[str, Any] = {
            "consumer": consumer,
            "services": service or [],
            "clusters": cluster or [],
            "seconds": seconds,
            "reason": reason,
            "alert_id": alert,
            "is_confirmed": is_confirmed,
            "asked_by": asked_by,
        }
        _print_line(api.act("blocks", wish))

    @command(app, "approve", prints=False)
    def approve(
        api: Api,
        block_id: BlockArgument,
        approval_token: ApprovalOption = "",
        asked_by: AskedByOption = "",
    ) -> None:
        """Approve a proposed block."""
        headers = {"apidae-approval": approval_token} if approval_token else {}
        _print_line(api.act(f"blocks/{quote(block_id, safe='')}/approve", {"asked_by": asked_by}, headers))

    @command(app, "reject", prints=False)
    def reject(api: Api, block_id: BlockArgument, asked_by: AskedByOption = "") -> None:
        """Reject a proposed block."""
        _print_line(api.act(f"blocks/{quote(block_id, safe='')}/reject", {"asked_by": asked_by}))

    @command(app, "lift", prints=False)
    def lift(
        api: Api,
        block_id: Annotated[str, typer.Argument(help="Id of a live block, as `apidae get blocks` lists it.")] = "",
        is_all: Annotated[bool, typer.Option("--all", help="Lift everything that is live.")] = False,
        asked_by: AskedByOption = "",
    ) -> None:
        """End one block, or all."""
        if is_all == bool(block_id):
            raise fail("Name one block to lift, or give --all; `apidae get blocks` lists them.")
        if is_all:
            typer.echo(json.dumps(api.act("blocks/lift", {"asked_by": asked_by})))
            return
        _print_line(api.act(f"blocks/{quote(block_id, safe='')}/lift", {"asked_by": asked_by}))

    @command(decide, "ladder")
    def ladder(
        api: Api,
        kind: Annotated[str, typer.Argument(help="A kind of alert, as `apidae get ladder` lists it.")],
        step: Annotated[Step, typer.Argument(help="How far it may go.")],
        seconds: Annotated[int, typer.Option(min=1, help="How long its blocks last, in seconds.")] = 3_600,
        endpoint: Annotated[
            list[str] | None, typer.Option(help="Id of one where young clients are stopped too; may be repeated.")
        ] = None,
        asked_by: AskedByOption = "",
    ) -> None:
        """Choose what a kind of alert may do by itself."""
        rung: dict[str, Any] = {
            "step": step.value,
            "seconds": seconds,
            "endpoints": endpoint or [],
            "asked_by": asked_by,
        }
        api.print_items([api.put(f"ladder/{quote(kind, safe='')}", rung)], LADDER_COLUMNS)

    command(app, "erase", prints=False)(erase)


def _print_line(block: dict[str, Any]) -> None:
    """One JSON line, for programs."""
    typer.echo(json.dumps(block))


TIMEOUT_SECONDS = 900.0  # Tables are rewritten, and what they held before is waited for.


def erase(
    api: Api,
    consumer: Annotated[str, typer.Argument(help="kind:value, as in `apidae get consumers`.")],
    reason: Annotated[str, typer.Option(help="For the audit log; its name is blanked there.")] = "",
    lifts_blocks: Annotated[bool, typer.Option("--lift-blocks", help="Lift what stops it now.")] = False,
    asked_by: AskedByOption = "",
) -> None:
    """Erase one consumer: rows, log, detectors' state, alerts, blocks. It is known again when it calls again."""
    wish = {"consumer": consumer, "reason": reason, "lifts_blocks": lifts_blocks, "asked_by": asked_by}
    erased = api.act("erasures", wish, timeout_seconds=TIMEOUT_SECONDS)
    for table, count in erased["rows"].items():
        say(f"{table}: {count} rows")
    for name in ("log_batches", "detector_subjects", "alerts", "notifications", "blocks", "audit_lines"):
        say(f"{name.replace('_', ' ')}: {erased[name]}")

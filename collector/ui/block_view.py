"""Blocks as a person reads them: how many nodes enforce one, what they stopped, and why others do not. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from collector.ingest.blocks import BlockStatus, EnforcementReport

NODES_NAMED_MAX = 5  # Of each reason; a cluster may have thousands.


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why some nodes do not enforce."""

    reason: str
    nodes: tuple[str, ...]  # The first few.
    nodes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesView:
    """Of all sensors that have said anything."""

    enforcing: int
    total: int
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockView:
    """Of one block at all nodes that were told of it."""

    enforcing: int
    total: int
    stopped_connections: int
    stopped_bytes: int
    failed_resets: int
    spared_requests: int
    first_stop_at: float  # Unix seconds; 0: nothing was stopped yet.
    refusals: tuple[Refusal, ...]


def view_nodes(reports: Sequence[tuple[str, EnforcementReport]]) -> NodesView:
    """How many enforce at all."""
    enforcing = sum(report.is_enabled for _, report in reports)
    refusals = _group((node, report.reason) for node, report in reports if not report.is_enabled)
    return NodesView(enforcing=enforcing, total=len(reports), refusals=refusals)


def view_statuses(statuses: Sequence[tuple[str, BlockStatus]]) -> BlockView:
    """What all nodes make of a block."""
    told = [status for _, status in statuses]
    return BlockView(
        enforcing=sum(status.is_enforced for status in told),
        total=len(told),
        stopped_connections=sum(status.stopped_connections for status in told),
        stopped_bytes=sum(status.stopped_bytes for status in told),
        failed_resets=sum(status.failed_resets for status in told),
        spared_requests=sum(status.spared_requests for status in told),
        first_stop_at=min((status.first_stop_at for status in told if status.first_stop_at), default=0.0),
        refusals=_group((node, status.reason) for node, status in statuses if not status.is_enforced),
    )


def _group(reasons: Iterable[tuple[str, str]]) -> tuple[Refusal, ...]:
    """By reason, that of most nodes first."""
    nodes: defaultdict[str, list[str]] = defaultdict(list)
    for node, reason in reasons:
        nodes[reason].append(node)
    found = [
        Refusal(reason=reason, nodes=tuple(sorted(names)[:NODES_NAMED_MAX]), nodes_total=len(names))
        for reason, names in nodes.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.nodes_total, one.reason)))

"""The coverage out of the store: the share that is read, the ports behind it, and how both went."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from collector.inventory.blind_spots import list_blind_spots
from collector.inventory.coverage import (
    PROTOCOL_NUMBERS,
    ROLE_NUMBERS,
    Coverage,
    CoveragePoint,
    CoverageRole,
    Handshakes,
    NodeCoverage,
    Port,
    PortProtocol,
    Share,
    WeakChoice,
)
from collector.inventory.coverage_question import PortQuestion
from collector.inventory.coverage_sql import (
    BLIND_SPOTS,
    FIRST_SEEN,
    HISTORY_BASE_SECONDS,
    NODES,
    SORT_TYPES,
    count_ports,
    history,
    page_ports,
)
from collector.inventory.cursor import Cursor, read_cursor, write_cursor
from collector.inventory.losses import list_losses
from collector.inventory.peers import Call, read_address_book
from collector.inventory.reader import Reader, select
from collector.inventory.span import HOUR_SECONDS, Span
from collector.inventory.watch import Watch
from collector.rows import Service

HISTORY_POINTS_MAX = 200
ALL_NODES = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortPage:
    """One page, where the next one starts (empty on the last), and how many ports match in all."""

    items: tuple[Port, ...]
    next_cursor: str
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageHistory:
    """What each step added; steps without a report are absent."""

    step_seconds: int
    points: tuple[CoveragePoint, ...]


class CoverageInventory:
    """Answers questions about coverage from the store."""

    def __init__(self, *, reader: Reader, watch: Watch) -> None:
        self._reader = reader
        self._watch = watch

    def read_coverage(self) -> Coverage:
        """The installation, its nodes by name, what is never read, and what the sensors know they lost."""
        nodes = tuple(_read_node(row) for row in select(self._reader, NODES))
        return Coverage(
            cluster=_sum_nodes(nodes),
            nodes=nodes,
            blind_spots=list_blind_spots(select(self._reader, BLIND_SPOTS)),
            losses=list_losses(self._watch.list_sensors()),
        )

    def list_ports(self, question: PortQuestion) -> PortPage:
        """One page; raises CursorError when the cursor is not of this question."""
        value_type = SORT_TYPES[question.sort]
        after = read_cursor(question.cursor, question.fingerprint, value_type) if question.cursor else None
        rows = select(self._reader, *page_ports(question, after))
        shown = rows[: question.limit]
        next_cursor = ""
        if len(rows) > question.limit:
            last = Cursor(value=shown[-1]["sort_value"], id=shown[-1]["id"])
            next_cursor = write_cursor(last, question.fingerprint)
        (total,) = select(self._reader, *count_ports(question))
        first_seen = self._find_first_seen(shown)
        ports = [_read_port(row, first_seen.get(row["id"], float(row["updated_at"]))) for row in shown]
        book = read_address_book(self._reader, [call for port in ports if (call := _find_call(port))])
        items = tuple(replace(port, called=book.find(call)) if (call := _find_call(port)) else port for port in ports)
        return PortPage(items=items, next_cursor=next_cursor, total=int(total["total"]))

    def read_history(self, span: Span, node: str = ALL_NODES) -> CoverageHistory:
        """What each hour, or each of some hours, added within the span."""
        step = HOUR_SECONDS
        while span.seconds / step > HISTORY_POINTS_MAX:
            step *= 2
        start = span.start // step * step
        parameters = {"start": start, "end": span.end, "base": max(0, start - HISTORY_BASE_SECONDS), "step": step}
        rows = select(self._reader, history(node), {**parameters, **({"node": node} if node else {})})
        return CoverageHistory(step_seconds=step, points=tuple(_read_point(row) for row in rows))

    def _find_first_seen(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        if not rows:
            return {}
        parameters = {"nodes": sorted({row["node"] for row in rows}), "ids": [row["id"] for row in rows]}
        return {row["id"]: float(row["first_seen"]) for row in select(self._reader, FIRST_SEEN, parameters)}


def _read_share(row: Mapping[str, Any]) -> Share:
    return Share(
        connections=int(row["share_connections"]),
        bytes=int(row["share_bytes"]),
        read_connections=int(row["read_connections"]),
        read_bytes=int(row["read_bytes"]),
    )


_NODE_COUNTS = tuple(field.name for field in fields(NodeCoverage) if field.name not in ("node", "share", "updated_at"))


def _read_node(row: Mapping[str, Any]) -> NodeCoverage:
    return NodeCoverage(
        node=row["node"],
        share=_read_share(row),
        updated_at=float(row["updated_at"]),
        **{name: int(row[name]) for name in _NODE_COUNTS},
    )


def _sum_nodes(nodes: Iterable[NodeCoverage]) -> NodeCoverage:
    nodes = list(nodes)
    return NodeCoverage(
        node=ALL_NODES,
        share=Share(**{field.name: sum(getattr(node.share, field.name) for node in nodes) for field in fields(Share)}),
        updated_at=max((node.updated_at for node in nodes), default=0.0),
        **{name: sum(getattr(node, name) for node in nodes) for name in _NODE_COUNTS},
    )


def _read_port(row: Mapping[str, Any], first_seen: float) -> Port:
    return Port(
        id=row["id"],
        node=row["node"],
        role=ROLE_NUMBERS.get(int(row["role"]), CoverageRole.UNKNOWN),
        service=Service(
            cluster=row["cluster"],
            namespace=row["namespace"],
            workload=row["workload"],
            workload_kind=int(row["workload_kind"]),
            host_name=row["host_name"],
            port=int(row["port"]),
        ),
        address=row["address"],
        protocol=PROTOCOL_NUMBERS.get(int(row["protocol"]), PortProtocol.UNKNOWN),
        is_http_like=bool(row["is_http_like"]),
        connections=int(row["connections"]),
        bytes=int(row["bytes"]),
        joined_late=int(row["joined_late"]),
        calls=int(row["calls"]),
        lost_calls=int(row["lost_calls"]),
        estimated_calls=int(row["estimated_calls"]),
        handshakes=_read_handshakes(row["handshakes"]),
        reason=row["reason"],
        first_seen=first_seen,
        updated_at=float(row["updated_at"]),
    )


def _find_call(port: Port) -> Call | None:
    """What is called, of a row of called hosts."""
    if port.role is not CoverageRole.OUTBOUND:
        return None
    return Call(
        address=port.address,
        port=port.service.port,
        cluster=port.service.cluster,
        start=int(port.first_seen),
        end=int(port.updated_at),
    )


def _read_handshakes(text: str) -> Handshakes | None:
    """Behind the store's JSON; written by the ingest room, so a malformed one is our bug and raises."""
    if not text:
        return None
    read = json.loads(text)
    names = [field.name for field in fields(Handshakes) if field.name not in ("count", "weak_choices")]
    return Handshakes(
        count=int(read["count"]),
        **{name: dict(read[name]) for name in names},
        weak_choices=read_weak_choices(read.get("weak_choices", ())),
    )


def read_weak_choices(rows: Iterable[Sequence[Any]]) -> tuple[WeakChoice, ...]:
    """As the ingest room writes them."""
    return tuple(
        WeakChoice(version=version, cipher_suite=suite, count=int(count), last_seen=int(last))
        for version, suite, count, last in rows
    )


def _read_point(row: Mapping[str, Any]) -> CoveragePoint:
    return CoveragePoint(
        time=int(row["point"]),
        share=_read_share(row),
        calls=int(row["calls"]),
        estimated_calls=int(row["estimated_calls"]),
        joined_late=int(row["joined_late"]),
        lost_calls=int(row["lost_calls"]),
    )

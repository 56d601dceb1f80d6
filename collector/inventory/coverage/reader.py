"""Reads the coverage from the store: the share that is read, its history, the ports behind it, and losses in words."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from collector.core.rows import Service
from collector.inventory.coverage.coverage import (
    PROTOCOL_NUMBERS,
    ROLE_NUMBERS,
    Coverage,
    CoveragePoint,
    CoverageRole,
    Handshakes,
    Loss,
    NodeCoverage,
    Port,
    PortProtocol,
    Share,
    list_blind_spots,
    read_weak_choices,
)
from collector.inventory.coverage.sql import (
    BLIND_SPOTS,
    FIRST_SEEN,
    HISTORY_BASE_SECONDS,
    NODES,
    SORT_TYPES,
    PortQuery,
    count_ports,
    history,
    page_ports,
)
from collector.inventory.endpoints.peers import Call, read_address_book
from collector.inventory.filters import Page
from collector.inventory.query import HOUR_SECONDS, Cursor, Span
from collector.inventory.sensors import Sensor, SensorInventory
from collector.storage.records import Reader, read_record, select
from common.figures import Figure, make_gauges

UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    meaning: str
    advice: str


_FAILED = _Words(
    meaning="The sensor failed on a call: a bug of Apidae, whose traceback is in the sensor's log.",
    advice="Report the traceback.",
)
_HEAD_LOST = _Words(
    meaning="A response came whose request was not seen: it was lost on its way, or older than the sensor.",
    advice="Right after a start it is normal; else give the sensor more CPU or a larger ring (ring_bytes).",
)
_LOOKED_AWAY = _Words(
    meaning="A call was under way when the sensor stopped to read its connection.",
    advice="Nothing to do where it is rare; else see why connections are no longer read (apidae get coverage).",
)
_REQUEST = "request_"  # And what is wrong with it: `request_bad_host`.
_WORDS: dict[tuple[str, str], _Words] = {
    ("kernel", "ring_full"): _Words(
        meaning="Calls were faster than the sensor read them, and could not even be added up.",
        advice="Give the sensor more CPU (capture_budget_core_share) or a larger ring (ring_bytes).",
    ),
    ("kernel", "pipeline_too_deep"): _Words(
        meaning="More than 128 requests waited for their answers on one connection.",
        advice="Nothing to do: the calls are counted; a client that pipelines so deep is rare.",
    ),
    ("kernel", "over_budget"): _Words(
        meaning="A cgroup made more system calls than the budget allows, and these were not read.",
        advice="Capture by packets if the kernel can (apidae preflight says why not): it has no such budget.",
    ),
    ("exchange", "request_head_lost"): _HEAD_LOST,
    ("exchange", "looked_away"): _LOOKED_AWAY,
    ("tls", "ring_full"): _Words(
        meaning="Calls over TLS were faster than the sensor read them; how many follows from the events lost.",
        advice="Give the sensor more CPU (capture_budget_core_share). Calls in the clear lost nothing by it.",
    ),
    ("tls", "over_budget"): _Words(
        meaning="A process made more calls over TLS than are read, on a kernel that cannot read it in turns.",
        advice="Raise heads_per_second, or use Linux 6.10 or later, where such calls are estimated.",
    ),
    ("tls", "java"): _Words(
        meaning="Java agents counted calls that found their memory full, or that were beyond the budget of a process.",
        advice="Give the sensor more CPU (capture_budget_core_share), or raise heads_per_second.",
    ),
    ("tls", "request_head_lost"): _HEAD_LOST,
    ("tls", "looked_away"): _LOOKED_AWAY,
    ("describe", "failed"): _FAILED,
    ("recognise", "failed"): _FAILED,
    ("aggregate", "failed"): _FAILED,
    ("convert", "unwritable"): _Words(
        meaning="Rows of calls could not be written for the collector: a bug of Apidae, whose traceback is in the "
        "sensor's log.",
        advice="Report the traceback.",
    ),
    ("describe", _REQUEST): _Words(
        meaning="The bytes look like HTTP and break its grammar.",
        advice="Look who sends them: scanners do, and broken clients.",
    ),
    ("aggregate", "routes_full"): _Words(
        meaning="A window had more routes than the sensor keeps.",
        advice="Look who makes so many paths.",
    ),
    ("aggregate", "rows_full"): _Words(
        meaning="A window had more rows than the sensor keeps.",
        advice="Nothing is lost but detail: rows beyond it are merged. Look who makes so many.",
    ),
    ("spool", "spool_full"): _Words(
        meaning="The collector was away for longer than the disk spool holds; the oldest went.",
        advice="Raise spool_bytes, or bring the collector back sooner.",
    ),
    ("spool", "disk_error"): _Words(
        meaning="The spool's disk refused to write.", advice="Look at the disk of state_dir on that node."
    ),
    ("spool", "unreadable"): _Words(
        meaning="Spooled rows could not be read back.", advice="Look at the disk of state_dir on that node."
    ),
    ("spool", "refused"): _Words(
        meaning="The collector refused batches; its log says why.",
        advice="Bring sensor and collector to the same version.",
    ),
}
_UNEXPLAINED_WORDS = _Words(
    meaning="A stage's account does not add up: something was lost without a name, a bug of Apidae.",
    advice="Report it with the sensor's log.",
)
_OTHER_WORDS = _Words(meaning="Dropped for the reason named.", advice="The sensor's log may say more.")


def list_losses(sensors: Iterable[Sensor]) -> tuple[Loss, ...]:
    """What every stage of every sensor dropped, by reason; an account that does not add up is a loss without a name."""
    losses = []
    for sensor in sensors:
        for stage in sensor.stages:
            named = [(reason, count) for reason, count in sorted(stage.dropped.items()) if count]
            unexplained = stage.seen - stage.used - stage.dropped_total
            if unexplained > 0:
                named.append((UNEXPLAINED, unexplained))
            losses += [_describe(sensor.node, stage.stage, reason, count) for reason, count in named]
    return tuple(losses)


def _describe(node: str, stage: str, reason: str, count: int) -> Loss:
    known = _REQUEST if stage == "describe" and reason.startswith(_REQUEST) else reason
    words = _UNEXPLAINED_WORDS if reason == UNEXPLAINED else _WORDS.get((stage, known), _OTHER_WORDS)
    return Loss(node=node, stage=stage, reason=reason, count=count, meaning=words.meaning, advice=words.advice)


HISTORY_POINTS_MAX = 200
ALL_NODES = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageHistory:
    """What each step added; steps without a report are absent."""

    step_seconds: int
    points: tuple[CoveragePoint, ...]


class CoverageInventory:
    """Answers questions about coverage from the store."""

    def __init__(self, *, reader: Reader, sensors: SensorInventory) -> None:
        self._reader = reader
        self._sensors = sensors

    def read_coverage(self) -> Coverage:
        """The installation, its nodes by name, what is never read, and what the sensors know they lost."""
        nodes = tuple(_read_node(row) for row in select(self._reader, NODES))
        return Coverage(
            cluster=_sum_nodes(nodes),
            nodes=nodes,
            blind_spots=list_blind_spots(select(self._reader, BLIND_SPOTS)),
            losses=list_losses(self._sensors.list_sensors()),
        )

    def list_ports(self, query: PortQuery) -> Page[Port]:
        """One page; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(SORT_TYPES[query.sort])
        rows = select(self._reader, *page_ports(query, after))
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last["sort_value"], id=last["id"]))
        (total,) = select(self._reader, *count_ports(query))
        first_seen = self._find_first_seen(shown)
        ports = [_read_port(row, first_seen.get(row["id"], float(row["updated_at"]))) for row in shown]
        book = read_address_book(self._reader, [call for port in ports if (call := _find_call(port))])
        items = tuple(replace(port, called=book.find(call)) if (call := _find_call(port)) else port for port in ports)
        return Page(items=items, next_cursor=next_cursor, total=int(total["total"]))

    def read_history(self, span: Span, node: str = ALL_NODES) -> CoverageHistory:
        """What each hour, or each of some hours, added within the span."""
        step = HOUR_SECONDS
        while span.seconds / step > HISTORY_POINTS_MAX:
            step *= 2
        start = span.start // step * step
        parameters = {"start": start, "end": span.end, "base": max(0, start - HISTORY_BASE_SECONDS), "step": step}
        rows = select(self._reader, history(node), {**parameters, **({"node": node} if node else {})})
        return CoverageHistory(step_seconds=step, points=tuple(_read_point(row) for row in rows))

    def figures(self) -> tuple[Figure, ...]:
        """What is like HTTP on all nodes since their sensors' starts, and what of it is read; for metrics."""
        share = _sum_nodes(_read_node(row) for row in select(self._reader, NODES)).share
        return make_gauges(
            (
                ("coverage_http_connections", "Connections that carry HTTP, of all nodes.", share.connections),
                (
                    "coverage_http_read_connections",
                    "Connections that carry HTTP and are read, of all nodes.",
                    share.read_connections,
                ),
                ("coverage_http_bytes", "Bytes of connections that carry HTTP, of all nodes.", share.bytes),
                (
                    "coverage_http_read_bytes",
                    "Bytes of connections that carry HTTP and are read, of all nodes.",
                    share.read_bytes,
                ),
            )
        )

    def _find_first_seen(self, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
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
    return read_record(NodeCoverage, row, share=_read_share(row))


def _sum_nodes(nodes: Iterable[NodeCoverage]) -> NodeCoverage:
    nodes = list(nodes)
    return NodeCoverage(
        node=ALL_NODES,
        share=Share(**{field.name: sum(getattr(node.share, field.name) for node in nodes) for field in fields(Share)}),
        updated_at=max((node.updated_at for node in nodes), default=0.0),
        **{name: sum(getattr(node, name) for node in nodes) for name in _NODE_COUNTS},
    )


def _read_port(row: Mapping[str, Any], first_seen: float) -> Port:
    return read_record(
        Port,
        row,
        role=ROLE_NUMBERS.get(int(row["role"]), CoverageRole.UNKNOWN),
        service=read_record(Service, row),
        protocol=PROTOCOL_NUMBERS.get(int(row["protocol"]), PortProtocol.UNKNOWN),
        handshakes=_read_handshakes(row["handshakes"]),
        first_seen=first_seen,
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


def _read_point(row: Mapping[str, Any]) -> CoveragePoint:
    return read_record(CoveragePoint, row, time=row["point"], share=_read_share(row))

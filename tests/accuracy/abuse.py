"""Task `abuse`: calls of one service in time order in, the alerts that people would have got out.

Each line `{"ts", "ip", "ua", "tok", "method", "path", "status", "rb"}`, and `"ms"` where it is known how long the call
took, becomes an exchange that a sensor describes, sums and sends; the collector's code sees row batches only, groups
routes, detects, and opens alerts under its daily budget. An output line `{"ts", "ip", "tok", "kind"}` for each alert
above low severity that names somebody and is no notice, when it opens and when it turns out to be of another kind or of
another address; of a crowd of addresses the busiest is named. `ts` is when the rows that raised it left the sensor.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from collector.alerting.alert import AbuseSignal, AlertKind, Confidence, Severity
from collector.alerting.filter import ReportFilter, take_report
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import report_signal
from collector.core.kinds import PLANS, Sensitivity
from collector.core.rows import Route
from collector.detection.engine import Engine
from collector.inventory.templates.catalogue import map_endpoints
from collector.inventory.templates.path_trie import RouteEvidence
from collector.storage.columns import RowBatch
from tests.accuracy.node import DURATION_NS, Node, Seen

KINDS = {
    AlertKind.ENUMERATION: "bola_enum",
    AlertKind.MASS_EXPORT: "scrape",
    AlertKind.BOLA: "bola_slow",
    AlertKind.CREDENTIAL_STUFFING: "stuffing",
    AlertKind.CODE_GUESSING: "otp_brute",
    AlertKind.CREDENTIAL_SHARING: "token_share",
    AlertKind.CREDENTIAL_ROTATION: "rotation",
    AlertKind.RESOURCE_EXHAUSTION: "flood",
    AlertKind.RESOURCE_CONSUMPTION: "flood",
    AlertKind.BFLA: "bfla",
    AlertKind.SCANNING: "scan",
    AlertKind.INJECTION: "injection",
    AlertKind.QUERY_COST: "query_cost",
    AlertKind.TOOL_LOOP: "tool_loop",
    AlertKind.TOOL_FAN_OUT: "tool_fan_out",
    AlertKind.SSRF: "ssrf",
    AlertKind.MASS_ASSIGNMENT: "mass_assignment",
    AlertKind.VOLUME_CONSUMER: "flood",
    AlertKind.VOLUME_PAIR: "flood",
}
POLL_NS = 10**9


@dataclass(frozen=True, slots=True)
class _Opened:
    """An alert that names somebody."""

    time: float
    consumer: str
    kind: str


class AlertCollector:
    """The engine with the inventory's mapping, and the life of alerts."""

    def __init__(self, alerts_a_day: float = PLANS[Sensitivity.NORMAL].alerts_a_day) -> None:
        self._endpoints: dict[int, str] = {}
        self._engine = Engine(endpoint_of_route=self._endpoints)
        ids = itertools.count()
        self._lifecycle = Lifecycle(new_id=lambda: str(next(ids)), find_budget=lambda: alerts_a_day)
        self._sieve = ReportFilter()
        self._told: set[tuple[str, AlertKind, str]] = set()
        self._routes: dict[int, Route] = {}
        self._served: dict[int, int] = defaultdict(int)

    def take(self, batch: RowBatch, now: int) -> Iterator[_Opened]:
        """The alerts that a batch opens; it comes at `now`, unix seconds."""
        before = len(self._routes)
        for route in batch.routes:
            self._routes.setdefault(route.route_id, route)
        for row in range(len(batch)):
            is_served = 200 <= batch.status_code[row] < 300
            self._served[int(batch.route_id[row])] += int(batch.calls[row]) * is_served
        if len(self._routes) > before:
            self._group()
        for signal in self._engine.feed(batch, now):
            _, alert = take_report(report_signal(signal), self._sieve, self._lifecycle, now)
            if alert is None or alert.severity is Severity.LOW or alert.confidence is Confidence.LOW:
                continue
            named = alert.consumer or next(iter(signal.sources if isinstance(signal, AbuseSignal) else ()), "")
            if named and (alert.id, alert.kind, named) not in self._told:
                self._told.add((alert.id, alert.kind, named))
                is_crowd = alert.kind is AlertKind.CREDENTIAL_STUFFING and not alert.consumer
                yield _Opened(now, named, "stuffing_dist" if is_crowd else KINDS[alert.kind])
        self._lifecycle.advance(now)

    def _group(self) -> None:
        evidence = [
            RouteEvidence(route=route, calls=self._served[route_id] + 1, served_calls=self._served[route_id])
            for route_id, route in self._routes.items()
        ]
        self._endpoints.update({route_id: name.endpoint_id for route_id, name in map_endpoints(evidence, {}).items()})


def run(input: Path, output: Path) -> None:
    """Judge every line."""
    node, collector = Node("api"), AlertCollector()
    tokens: dict[str, str] = {}  # Consumer as the collector names it -> token: how the runner tells actors apart.
    polled_ns = 0
    with input.open(encoding="utf-8") as lines, output.open("w", encoding="utf-8") as alerts:
        for text in lines:
            line = json.loads(text)
            seen = _see(node, line)
            if line["tok"]:
                tokens[seen.consumer] = line["tok"]
            if seen.time_ns - polled_ns >= POLL_NS:
                polled_ns = seen.time_ns
                _write(alerts, collector, node.poll(seen.time_ns), polled_ns, tokens)
        _write(alerts, collector, node.flush(polled_ns + POLL_NS), polled_ns + POLL_NS, tokens)


def _see(node: Node, line: dict[str, object]) -> Seen:
    head = f"{line['method']} {line['path']} HTTP/1.1\r\nHost: api\r\nUser-Agent: {line['ua']}\r\n"
    if line["tok"]:
        head += f"Authorization: Bearer {line['tok']}\r\n"
    return node.see_at(
        f"{head}\r\n".encode(),
        status_code=int(str(line["status"])),
        address=str(line["ip"]),
        time_ns=int(float(str(line["ts"])) * 10**9),
        response_bytes=int(str(line["rb"])),
        duration_ns=int(float(str(line["ms"])) * 1e6) if "ms" in line else DURATION_NS,
    )


def _write(
    file: TextIO, collector: AlertCollector, batches: Iterable[RowBatch], time_ns: int, tokens: Mapping[str, str]
) -> None:
    for batch in batches:
        for opened in collector.take(batch, time_ns // 10**9):
            address = opened.consumer.partition(":")[2] if opened.consumer.startswith("address:") else None
            line = {"ts": opened.time, "ip": address, "tok": tokens.get(opened.consumer), "kind": opened.kind}
            print(json.dumps(line), file=file)

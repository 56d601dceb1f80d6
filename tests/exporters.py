"""Every metric that a sensor and a collector export, from their own exporters, put together as they run.

Of the sensor only the kernel is a stand-in: its maps are empty files, and what asks them is answered with zeros. Each
expression of the product that makes figures is watched, so that one that nobody asked for shows.
"""

import ast
import asyncio
import importlib
import logging
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from prometheus_client.core import Metric
from pydantic import SecretStr

from collector.core.config import CollectorSettings, SensorAuth
from collector.core.destinations import OtlpIntegration, WebhookIntegration, WebhookNotifier
from collector.detection.messages import Counts, DetectorTotals
from collector.server.app import build_app
from collector.server.compose import Collector
from collector.server.grpc_server import Entrance
from collector.server.run import _Life
from common import figures
from sensor.agent.capture_session import CaptureSession
from sensor.agent.compose import compose_sensor
from sensor.agent.lock import NodeLock
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.capture.tls.capture import RING_BYTES, TlsCapture
from sensor.capture.tls.choice import TlsChoices
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay, EnforcementSettings, KubernetesUse, SensorSettings
from sensor.core.health import Failures, MetricsCollector
from sensor.core.keyed import InstallationKey
from sensor.core.read_tls import ReadTls
from sensor.core.state import SensorState
from sensor.ebpf.compile import FRAMES_BYTES
from sensor.ebpf.loader import RECORDS_BYTES, LoadedProgram
from tests.product import Product
from tests.sensor.ebpf.rings import FakeRing
from tests.sensor.enforce.node import FakeKernel, FakeWatch
from tests.sensor.scopes import watch_host

MAKERS: Final = ("Figure", "list_figures", "make_totals", "make_gauges", "make_labelled")


@dataclass(slots=True)
class Watched:
    """Where figures were made: module and line."""

    places: set[tuple[str, int]] = field(default_factory=set)

    def find_unasked(self, product: Product, side: str) -> list[str]:
        """Expressions of one side that make figures and were not run, as `module:line`."""
        missing = []
        for module, node, _ in product.nodes():
            if (
                not module.name.startswith(side)
                or not isinstance(node, ast.Call)
                or not isinstance(node.func, ast.Name)
            ):
                continue
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if node.func.id in MAKERS and not any((module.name, line) in self.places for line in lines):
                missing.append(f"{module.name}:{node.lineno}")
        return missing


def watch_figures(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """From now on, every figure that a module of the product makes."""
    importlib.import_module("sensor.enrich.kubernetes.cluster")  # The product loads it where it is used.
    watched = Watched()

    def wrap(make: Any) -> Any:
        @wraps(make, updated=())
        def note(*arguments: Any, **named: Any) -> Any:
            frame = sys._getframe(1)
            watched.places.add((frame.f_globals["__name__"], frame.f_lineno))
            return make(*arguments, **named)

        return note

    wrapped = {name: wrap(getattr(figures, name)) for name in MAKERS}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("sensor", "collector"):
            for maker in MAKERS:
                if getattr(module, maker, None) is getattr(figures, maker):
                    monkeypatch.setattr(module, maker, wrapped[maker])
    return watched


def collect_sensor(way: CaptureWay, directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[Metric]:
    """Of a sensor that captures this way, reads TLS, enforces, watches Kubernetes, and has failed once."""
    directory.mkdir()
    failures = Failures()
    failures.filter(_make_failure())
    with ExitStack() as stack:
        capture = TlsCapture(
            below=_open_packets(stack, monkeypatch)
            if way is CaptureWay.CGROUP_SKB
            else _open_syscalls(stack, monkeypatch),
            program=_open_tls(stack, monkeypatch),
            clock=Clock(),
            proc=str(directory),
            min_age_seconds=1.0,
            choices=TlsChoices(ReadTls.FULL, calls_per_second=1_000, calls_burst=2_500),
            calls_per_second=1_000,
        )
        sensor, _ = compose_sensor(
            SensorSettings(
                collector="127.0.0.1:1",
                state_dir=directory / "state",
                proc_path=directory,
                read_tls=ReadTls.FULL,
                enforcement=EnforcementSettings(enabled=True),
                kubernetes=KubernetesUse.ON,
            ),
            watch_host(directory),
            NodeLock(directory, watch_host(directory), version="1", now=str),
            on_capturing=lambda: None,
            failures=failures,
        )
        key = InstallationKey(key_id=1, secret=bytes(16))
        processor = sensor._make_processor(key)
        sensor._session = CaptureSession(
            capture=capture,
            pipeline=sensor._make_pipeline(processor, 1),
            processor=processor,
            governor=sensor._governor,
            node=sensor._node,
            gaps=sensor._gaps,
            clock=Clock(),
            send=lambda batches: None,
        )
        sensor._enforcement.enforcer.begin(FakeKernel(), FakeWatch(), "")  # type: ignore[attr-defined]
        assert sensor._state is SensorState.CAPTURING
        return list(MetricsCollector(sensor.read_metrics).collect())


def _make_failure() -> logging.LogRecord:
    try:
        raise KeyError("a bug")
    except KeyError:
        return logging.LogRecord("sensor.agent.pipeline", logging.ERROR, "", 1, "", (), sys.exc_info(), "_take_one")


def _open_ring(stack: ExitStack, size_bytes: int) -> int:
    ring = FakeRing(size_bytes)
    stack.callback(ring.close)
    return ring.fd


def _open_packets(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> PacketCapture:
    module, ring_bytes = "sensor.capture.packets.capture", 1 << 16
    monkeypatch.setattr(f"{module}.Bell", lambda *fds: None)
    monkeypatch.setattr(f"{module}.read_counts", lambda fd, size: [0] * size)
    monkeypatch.setattr(f"{module}.read_port_counts", lambda *arguments: [])
    sizes = {"events": ring_bytes, "records": RECORDS_BYTES, "frames": FRAMES_BYTES, "stream_records": 2 << 20}
    maps = {name: _open_ring(stack, size) for name, size in sizes.items()} | {"counters": -1, "ports": -1, "peers": -1}
    program = LoadedProgram(programs={}, maps=maps, cgroup=-1)
    return PacketCapture(program=program, ring_bytes=ring_bytes, clock=Clock())


def _open_syscalls(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> SyscallCapture:
    module = "sensor.capture.syscalls.capture"
    monkeypatch.setattr(f"{module}.Bell", lambda *fds: None)
    monkeypatch.setattr(f"{module}.read_divided_counts", lambda fd, size, parts: [0] * size)
    monkeypatch.setattr(f"{module}.read_port_counts", lambda *arguments, **named: [])
    maps = {"events": _open_ring(stack, 1 << 16), "counters": -1, "ports": -1}
    program: Any = SimpleNamespace(maps=maps, links=[])
    return SyscallCapture(program=program, ring_bytes=1 << 16, clock=Clock())


def _open_tls(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("sensor.capture.tls.capture.read_divided_counts", lambda fd, size, parts: [0] * size)
    monkeypatch.setattr("sensor.capture.tls.capture.UPROBES", ())
    return SimpleNamespace(
        maps={"events": _open_ring(stack, RING_BYTES), "counters": -1}, programs={}, is_choosing=True
    )


def collect_collector(directory: Path) -> list[Metric]:
    """Of one that speaks TLS, sends alerts and blocks to a webhook, has a sensor with a certificate, has refused one,
    and whose detectors have judged."""
    settings = CollectorSettings(
        data_dir=directory,
        grpc_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        sensor_auth=SensorAuth.ANY,
        notifiers=(WebhookNotifier(kind="webhook", url=SecretStr("http://127.0.0.1:1/alerts"), audit=("*",)),),
        integrations=(
            WebhookIntegration(kind="webhook", url=SecretStr("http://127.0.0.1:1/blocks")),
            OtlpIntegration(kind="otlp", url="http://127.0.0.1:1"),
        ),
    )
    return asyncio.run(_collect_collector(settings))


class _Stream:
    certificate = SimpleNamespace(not_after=2e9)


async def _collect_collector(settings: CollectorSettings) -> list[Metric]:
    collector = Collector(settings)
    with ExitStack() as stack:
        stack.callback(collector.close)
        entrance = Entrance(settings, collector.tokens.sensor, state=collector.state, secrets=collector.secrets)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        life = _Life(collector, entrance, listener, build_app)
        life._http = life._build_http()
        await entrance.start(life._ingest)
        try:
            entrance.admission.refusals.record("expired", "192.0.2.1", "a sensor is refused")
            life._ingest._streams[_Stream()] = None  # type: ignore[index]
            life._ingest.context.failures["batch"] += 1
            collector.detectors.counts = Counts(totals=DetectorTotals(), dropped_calls={"late": 0})
            return list(figures.collect_families("apidae_collector_", life._list_figures()))
        finally:
            life._ingest._streams.clear()
            await entrance.stop(0)

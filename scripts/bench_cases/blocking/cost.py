"""What a packet costs in the kernel's programs while nobody, 100 and 10,000 clients are blocked: the real kernel side
in this process, wrk on nginx, the time as the kernel counts it."""

import ipaddress
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scripts.bench_cases.capturing.loads import find_wrk
from scripts.demo.nginx import Nginx
from scripts.live.host import CACHE_DIRECTORY
from sensor.capture.packets.capture import PacketCapture
from sensor.core.clock import Clock
from sensor.core.config import EnforcementSettings
from sensor.ebpf.enforcement_maps import StopMaps
from sensor.ebpf.run_time import enable_statistics, read_run_time
from sensor.enforce.block import Block, BlockKind
from sensor.enforce.enforcer import Enforcer
from sensor.enrich.cgroup_tree import find_cgroup2_mount

RING_BYTES = 8 << 20
ROUND_SECONDS = 4
ROUNDS = 3
ANSWER = "        location / { return 200 'ok'; }"
BASE = int(ipaddress.ip_address("100.64.0.1"))


def make_blocks(kind: BlockKind, count: int) -> tuple[Block, ...]:
    """Clients that make no call here."""
    return tuple(
        Block(
            id=str(number),
            kind=kind,
            network=ipaddress.ip_network(BASE + number) if kind is BlockKind.ADDRESS else None,
            hash=number + 1,
            key_id=1,
            left_ms=3_600_000,
        )
        for number in range(count)
    )


def measure_cost() -> Iterator[dict[str, Any]]:
    """A line for each kind and number; rounds of all are interleaved, the least of each counts."""
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    assert mount is not None
    capture = PacketCapture.load(
        cgroup_path=mount, ring_bytes=RING_BYTES, is_root_cgroup=True, clock=Clock(), cache_directory=CACHE_DIRECTORY
    )
    stops = StopMaps(capture.maps)
    enforcer = Enforcer(
        limits=EnforcementSettings(enabled=True, max_blocks=10_000),
        clock=Clock(),
        read_switch=lambda: "",
        history=SimpleNamespace(calls=1_000, measure_share=lambda blocks: 0.0),  # type: ignore[arg-type]
        list_servers=lambda: (),
    )
    enforcer.set_key(1, bytes(16))
    enforcer.begin(stops, None, "")  # type: ignore[arg-type]
    cases = [
        (BlockKind.ADDRESS, 0),
        *((kind, n) for n in (100, 10_000) for kind in (BlockKind.ADDRESS, BlockKind.CREDENTIAL)),
    ]
    least: dict[tuple[BlockKind, int], float] = {}
    try:
        with tempfile.TemporaryDirectory() as directory:
            nginx = Nginx(Path(directory), ANSWER)
            capture.set_listening([nginx.port])
            try:
                for _ in range(ROUNDS):
                    for case in cases:
                        enforcer.take(make_blocks(*case), 1)
                        cost = _run(capture, nginx.port)
                        least[case] = min(cost, least.get(case, cost))
                        enforcer.tick()
            finally:
                nginx.stop()
    finally:
        enforcer.end()
        stops.close()
        capture.close()
    for (kind, count), cost in least.items():
        yield {
            "case": "packet_cost",
            "kind": kind.value if count else "none",
            "blocks": count,
            "ns_per_run": round(cost, 1),
        }


def _run(capture: PacketCapture, port: int) -> float:
    """Nanoseconds of one run of the entry programs, with all behind them."""
    programs = tuple(capture._program.programs.values())
    command = [find_wrk(), "-t1", "-c8", f"-d{ROUND_SECONDS}s", f"http://127.0.0.1:{port}/orders/1"]
    statistics = enable_statistics()
    try:
        before = [read_run_time(program) for program in programs]
        subprocess.run(command, check=True, capture_output=True)
        after = [read_run_time(program) for program in programs]
    finally:
        os.close(statistics)
    capture.read_records(is_all=True)
    capture.release_records()
    capture.read()
    spent = sum(a.nanoseconds - b.nanoseconds for a, b in zip(after, before, strict=True))
    runs = sum(a.runs - b.runs for a, b in zip(after, before, strict=True))
    return spent / max(runs, 1)

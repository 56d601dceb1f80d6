"""The maps that user space teaches take batches and give back what was written."""

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.ebpf.abi import EDGE, EDGE_KEY, NAME_BUCKET, NAME_BUCKETS, EdgeFlag
from sensor.ebpf.bpf_syscall import read_batch
from sensor.ebpf.compile import build_http1
from sensor.ebpf.loader import compile_build

EDGES_MAX = 131_072
PER_CPU_KINDS = (5, 6, 10, 21)  # BPF_MAP_TYPE_PERCPU_HASH, _ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE.
pytestmark = pytest.mark.kernel


def test_edges_are_written_and_deleted(capture: PacketCapture) -> None:
    edges = {EDGE_KEY.pack(1 << 31, 0, n): EDGE.pack(n, EdgeFlag.PARAMETER) for n in range(1_000)}
    capture.update("edges", edges)
    try:
        assert dict(read_batch(capture._program.maps["edges"], EDGE_KEY.size, EDGE.size, EDGES_MAX)) == edges
    finally:
        capture.delete("edges", [*edges, EDGE_KEY.pack(1, 2, 3)])
    assert read_batch(capture._program.maps["edges"], EDGE_KEY.size, EDGE.size, EDGES_MAX) == []


def test_names_are_an_array(capture: PacketCapture) -> None:
    buckets = {(n).to_bytes(4, "little"): NAME_BUCKET.pack(n, 2, 3, 4) for n in (0, 7, NAME_BUCKETS - 1)}
    capture.update("names", buckets)
    rows = dict(read_batch(capture._program.maps["names"], 4, NAME_BUCKET.size, NAME_BUCKETS))
    assert len(rows) == NAME_BUCKETS
    assert {key: rows[key] for key in buckets} == buckets
    capture.update("names", dict.fromkeys(buckets, bytes(NAME_BUCKET.size)))


@pytest.mark.full
def test_maps_of_128_processors_stay_small() -> None:
    """What there is once for each possible processor, and no map else, grows with the machine."""
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    image = compile_build(build_http1(1 << 18, 1 << 18, True))
    per_processor = sum(
        (one.value_size + 7) // 8 * 8 * one.max_entries for one in image.maps if one.kind in PER_CPU_KINDS
    )
    assert 0 < per_processor * 128 < 2 << 20, per_processor


def test_nothing_overflowed(capture: PacketCapture) -> None:
    assert capture.overflow() == {}

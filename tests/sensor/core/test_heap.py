"""What is free is given back, and only when it is worth it."""

import pytest

from sensor.core import process as heap


def test_it_trims_when_much_became_free_since_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    trims = 0

    def trim() -> None:
        nonlocal trims
        trims += 1

    monkeypatch.setattr(heap, "trim", trim)
    trimmer, seen = heap.Trimmer(), []
    # In millions of bytes: what cannot be given back is no reason for another trim, what is used and free again is.
    for millions in (2, 12, 14, 3, 5, 12, 12, 30):
        monkeypatch.setattr(heap, "read_free_bytes", lambda free=millions: 1_000_000 * free)
        trimmer.trim_excess()
        seen.append(trims)
    assert seen == [0, 1, 1, 1, 1, 2, 2, 3]


def test_the_resident_set_shrinks() -> None:
    block_bytes = 1_000  # Of the heap, not of a mapping of its own.
    kept = [bytes(block_bytes) for _ in range(40_000)]
    grown = heap.read_resident_bytes()
    del kept[:-1]
    if heap.read_free_bytes() < heap.EXCESS_BYTES:
        pytest.skip("the C library's heap does not say what is free")
    heap.Trimmer().trim_excess()
    assert heap.read_resident_bytes() < grown - (20 << 20)

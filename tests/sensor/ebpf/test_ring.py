"""The reader of fixed records, over a file that is laid out as a ring is mapped."""

import mmap
from collections.abc import Iterator

import numpy as np
import pytest

from sensor.ebpf import ring as ring_module
from sensor.ebpf.ring import RecordRing
from tests.sensor.ebpf.rings import FakeRing

SIZE = mmap.PAGESIZE
DTYPE = np.dtype([("number", "<u8"), ("rest", "u1", (120,))])
STRIDE = 8 + DTYPE.itemsize


@pytest.fixture(params=[False, True], ids=["ordered by the processor", "ordered by barriers"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRing]:
    monkeypatch.setattr(ring_module, "_IS_WEAKLY_ORDERED", request.param)
    ring = FakeRing(SIZE, DTYPE.itemsize)
    yield ring
    ring.close()


def test_many_rounds_over_the_wrap(kernel: FakeRing) -> None:
    ring = RecordRing(kernel.fd, SIZE, DTYPE)
    assert len(ring.read(10)) == 0
    ring.release()
    made = got = 0
    for batch in (3, 29, 1, 30, 17, 0, 30, 22, 5):
        for _ in range(batch):
            kernel.put(made)
            made += 1
        view = ring.read(100)
        assert view["number"].tolist() == list(range(got, made))
        got = made
        del view
        ring.release()
        assert kernel.consumed() == kernel.produced
        assert ring.pending_bytes() == 0
    ring.close()


def test_records_stay_until_released_and_no_more_than_asked(kernel: FakeRing) -> None:
    ring = RecordRing(kernel.fd, SIZE, DTYPE)
    for number in range(5):
        kernel.put(number)
    assert ring.read(2)["number"].tolist() == [0, 1]
    assert ring.read(3)["number"].tolist() == [0, 1, 2]
    ring.release()
    ring.release()
    assert ring.read(9)["number"].tolist() == [3, 4]
    assert kernel.consumed() == 3 * STRIDE
    ring.close()


def test_an_unfinished_record_holds_back_what_follows(kernel: FakeRing) -> None:
    ring = RecordRing(kernel.fd, SIZE, DTYPE)
    for number in range(4):
        kernel.put(number, is_busy=number == 1)
    assert ring.read(9)["number"].tolist() == [0]
    ring.release()
    assert len(ring.read(9)) == 0
    kernel.complete(1)
    assert ring.read(9)["number"].tolist() == [1, 2, 3]
    ring.close()

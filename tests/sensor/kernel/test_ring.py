"""The reader of fixed records, over a file that is laid out as a ring is mapped."""

import mmap
import os
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from sensor.kernel.ring import RecordRing

SIZE = mmap.PAGESIZE
DTYPE = np.dtype([("number", "<u8"), ("rest", "u1", (120,))])
STRIDE = 8 + DTYPE.itemsize
BUSY = 1 << 31


class FakeRing:
    """The kernel's part: producer position and the data, twice."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * SIZE)
        self.produced = 0

    def consumed(self) -> int:
        consumed: int = struct.unpack("<Q", os.pread(self.fd, 8, 0))[0]
        return consumed

    def _write(self, position: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            offset = 2 * mmap.PAGESIZE + (position + index) % SIZE
            os.pwrite(self.fd, bytes([byte]), offset)
            os.pwrite(self.fd, bytes([byte]), offset + SIZE)

    def put(self, number: int, *, is_busy: bool = False) -> None:
        assert self.produced + STRIDE - self.consumed() <= SIZE
        header = struct.pack("<II", DTYPE.itemsize | (BUSY if is_busy else 0), 0)
        self._write(self.produced, header + struct.pack("<Q", number))
        self.produced += STRIDE
        os.pwrite(self.fd, struct.pack("<Q", self.produced), mmap.PAGESIZE)

    def complete(self, number: int) -> None:
        self._write(number * STRIDE, struct.pack("<I", DTYPE.itemsize))


@pytest.fixture
def kernel() -> Iterator[FakeRing]:
    ring = FakeRing()
    yield ring
    os.close(ring.fd)


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

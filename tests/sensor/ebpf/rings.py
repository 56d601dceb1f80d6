"""Files that are laid out as the kernel's rings are mapped."""

import mmap
import os
import struct

BUSY = 1 << 31


class FakeRing:
    """The kernel's part: producer position and the data, twice. Records are of `item_bytes`."""

    def __init__(self, size_bytes: int = mmap.PAGESIZE, item_bytes: int = 128) -> None:
        self._size_bytes, self._item_bytes = size_bytes, item_bytes
        self._stride = 8 + item_bytes
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * size_bytes)
        self.produced = 0

    def consumed(self) -> int:
        consumed: int = struct.unpack("<Q", os.pread(self.fd, 8, 0))[0]
        return consumed

    def _write(self, position: int, data: bytes) -> None:
        for index, byte in enumerate(data):
            offset = 2 * mmap.PAGESIZE + (position + index) % self._size_bytes
            os.pwrite(self.fd, bytes([byte]), offset)
            os.pwrite(self.fd, bytes([byte]), offset + self._size_bytes)

    def put(self, number: int, *, is_busy: bool = False) -> None:
        assert self.produced + self._stride - self.consumed() <= self._size_bytes
        header = struct.pack("<II", self._item_bytes | (BUSY if is_busy else 0), 0)
        self._write(self.produced, header + struct.pack("<Q", number))
        self.move(self._stride)

    def move(self, count_bytes: int) -> None:
        """As if so much had come, whatever it is."""
        self.produced += count_bytes
        os.pwrite(self.fd, struct.pack("<Q", self.produced), mmap.PAGESIZE)

    def complete(self, number: int) -> None:
        self._write(number * self._stride, struct.pack("<I", self._item_bytes))

    def close(self) -> None:
        os.close(self.fd)

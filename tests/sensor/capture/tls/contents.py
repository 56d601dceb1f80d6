"""Files of TLS libraries as bytes in memory."""

from typing import cast

from sensor.capture.tls.elf import Content, Elf, FileSource


class BytesSource:
    """As `FileSource`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def find_data(self, offset: int) -> tuple[int, int]:
        return offset, self.size


def make_source(data: bytes) -> FileSource:
    return cast(FileSource, BytesSource(data))


def make_elf(data: bytes) -> Elf:
    return Elf(Content(make_source(data)))

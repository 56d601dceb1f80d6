"""Offsets out of a BTF made by hand: nested, unnamed and qualified fields, and what is wrong told by name."""

import struct
from pathlib import Path

import pytest

from sensor.ebpf.tracepoints import Btf, BtfError

INT, POINTER, STRUCT, UNION, TYPEDEF, CONST = 1, 2, 4, 5, 8, 10


class Blob:
    """A BTF under construction."""

    def __init__(self) -> None:
        self.strings = b"\0"
        self.types = b""

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text) - 1

    def add(self, kind: int, name: str, size: int, members: list[tuple[str, int, int]] | None = None) -> None:
        members = members or []
        self.types += struct.pack("<III", self.name(name), kind << 24 | len(members), size)
        self.types += b"".join(struct.pack("<III", self.name(field), of, bits) for field, of, bits in members)
        if kind == INT:
            self.types += bytes(4)

    def build(self) -> bytes:
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.strings))
        return header + self.types + self.strings


@pytest.fixture
def blob() -> bytes:
    blob = Blob()
    blob.add(INT, "int", 4)  # 1
    blob.add(POINTER, "", 1)  # 2
    blob.add(STRUCT, "inner", 8, [("a", 1, 0), ("b", 1, 32)])  # 3
    blob.add(TYPEDEF, "inner_t", 3)  # 4
    blob.add(CONST, "", 4)  # 5
    blob.add(UNION, "", 8, [("x", 2, 0), ("y", 3, 0)])  # 6
    blob.add(STRUCT, "outer", 40, [("first", 1, 0), ("", 6, 64), ("nested", 5, 128), ("pointer", 2, 192)])  # 7
    return blob.build()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("first", (0, 4)),
        ("x", (8, 8)),
        ("y.b", (12, 4)),
        ("nested", (16, 8)),
        ("nested.b", (20, 4)),
        ("pointer", (24, 8)),
    ],
)
def test_fields(blob: bytes, path: str, place: tuple[int, int]) -> None:
    assert Btf(blob).find_field("outer", path) == place


@pytest.mark.parametrize("field", [("outer", "z"), ("outer", "first.a"), ("absent", "a")])
def test_what_is_not_there_is_named(blob: bytes, field: tuple[str, str]) -> None:
    with pytest.raises(BtfError, match=f"struct {field[0]} has no field {field[1]}"):
        Btf(blob).find_field(*field)


def test_what_is_no_btf(tmp_path: Path) -> None:
    with pytest.raises(BtfError, match="begins with 0x4241 instead of 0xeb9f"):
        Btf(b"AB" + bytes(22))
    with pytest.raises(BtfError, match="cut off"):
        Btf(b"short")
    with pytest.raises(BtfError, match=r"vmlinux cannot be read: No such file.*CONFIG_DEBUG_INFO_BTF"):
        Btf.read(tmp_path / "vmlinux")

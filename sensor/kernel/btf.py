"""Where fields lie in the kernel's structs, by its own type information (Documentation/bpf/btf.rst).

Programs that follow the kernel's tables take the offsets as build constants, so no kernel headers are needed. The file
(5 MB) is walked once, in some 50 ms.
"""

import struct
from pathlib import Path
from typing import Final

BTF_PATH: Final = Path("/sys/kernel/btf/vmlinux")
_MAGIC: Final = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_STRUCT, _UNION = 4, 5
_MODIFIERS: Final = frozenset((8, 9, 10, 11, 18))  # typedef, volatile, const, restrict, type tag.
# Bytes after the type's own 12, by kind; and for each of its members.
_EXTRA: Final = {1: 4, 3: 12, 14: 4, 17: 4}
_PER_MEMBER: Final = {_STRUCT: 12, _UNION: 12, 6: 8, 13: 8, 15: 12, 19: 12}


class BtfError(RuntimeError):
    """The kernel tells no such field; the message names it."""


class Btf:
    """The types of one kernel."""

    def __init__(self, blob: bytes) -> None:
        """Raises BtfError where the bytes are no BTF."""
        try:
            magic, _, _, header, types_at, types_size, strings_at, _ = _HEADER.unpack_from(blob)
        except struct.error as error:
            raise BtfError("the kernel's BTF is cut off") from error
        if magic != _MAGIC:
            raise BtfError(f"the kernel's BTF begins with {magic:#x} instead of {_MAGIC:#x}")
        self._blob = blob
        self._strings = header + strings_at
        self._places = [0]
        self._named: dict[int, int] = {}
        at, end = header + types_at, header + types_at + types_size
        unpack = struct.Struct("<II").unpack_from
        while at < end:
            name, information = unpack(blob, at)
            kind = (information >> 24) & 31
            if name and kind == _STRUCT:
                self._named.setdefault(name, len(self._places))
            self._places.append(at)
            at += 12 + _EXTRA.get(kind, 0) + (information & 0xFFFF) * _PER_MEMBER.get(kind, 0)
        self._structs = {self._read_name(name): number for name, number in self._named.items()}

    @classmethod
    def read(cls, path: Path = BTF_PATH) -> "Btf":
        """The running kernel's. Raises BtfError where it has none."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise BtfError(f"{path} cannot be read: {error.strerror} (CONFIG_DEBUG_INFO_BTF)") from error

    def find(self, name: str, path: str) -> tuple[int, int]:
        """Offset and size in bytes of a field, `a.b` of a field within one. Raises BtfError."""
        number, offset = self._structs.get(name, 0), 0
        for part in path.split("."):
            found = self._find_member(number, part) if number else None
            if found is None:
                raise BtfError(f"this kernel's struct {name} has no field {path}")
            offset += found[0]
            number = self._resolve(found[1])
        return offset, self._size(number)

    def _find_member(self, number: int, wanted: str) -> tuple[int, int] | None:
        """Offset and type of a member, those of unnamed structs and unions inside included."""
        at = self._places[number]
        _, information, _ = _TYPE.unpack_from(self._blob, at)
        if (information >> 24) & 31 not in (_STRUCT, _UNION):
            return None
        for index in range(information & 0xFFFF):
            name, kind, bits = _MEMBER.unpack_from(self._blob, at + 12 + 12 * index)
            if information >> 31:  # Bit fields have their size in the upper byte.
                bits &= 0xFFFFFF
            if name and self._read_name(name) == wanted:
                return bits // 8, kind
            if not name:
                inner = self._find_member(self._resolve(kind), wanted)
                if inner is not None:
                    return bits // 8 + inner[0], inner[1]
        return None

    def _resolve(self, number: int) -> int:
        """The type behind typedefs and qualifiers."""
        while number:
            _, information, target = _TYPE.unpack_from(self._blob, self._places[number])
            if (information >> 24) & 31 not in _MODIFIERS:
                break
            number = target
        return number

    def _size(self, number: int) -> int:
        _, information, size = _TYPE.unpack_from(self._blob, self._places[number])
        return 8 if (information >> 24) & 31 == 2 else size  # A pointer has a type in that place.

    def _read_name(self, offset: int) -> str:
        start = self._strings + offset
        return self._blob[start : self._blob.index(b"\0", start)].decode()

"""Reads protobuf messages without a schema, by field number: bytes in, `{"field_1": 7, ..}` out.

Without a schema, names are unknown and a varint is an integer, whatever it means. A length-delimited field is text if
it is printable UTF-8, a message if it parses as one, else bytes.

Source: the encoding guide of protobuf; gRPC over HTTP/2, length-prefixed messages.
"""

import struct
from typing import Final

from sensor.sensitive.kinds import Binary

FIELDS_MAX: Final = 512  # Of one body.
DEPTH_MAX: Final = 6
NUMBER_MAX: Final = 1 << 16  # Schemas have small numbers; larger ones are a sign of other bytes.
_PREFIX_BYTES: Final = 5
_VARINT_BYTES_MAX: Final = 10


class _NotOneError(ValueError):
    """The bytes are no message."""


class _Reader:
    """One body; counts what it reads."""

    def __init__(self) -> None:
        self.left = FIELDS_MAX

    def read(self, data: bytes, depth: int, *, is_cut: bool = False) -> dict[str, object]:
        """Raises _NotOneError. A field that comes several times is a list."""
        fields: dict[str, list[object]] = {}
        place = 0
        while place < len(data) and self.left:
            try:
                key, place = _read_varint(data, place)
                number, wire = key >> 3, key & 7
                if not 0 < number < NUMBER_MAX:
                    raise _NotOneError("no number of a field")
                value, place = self._read_value(data, place, wire, depth)
            except (IndexError, struct.error):
                if is_cut:
                    break
                raise _NotOneError("it ends within a field") from None
            self.left -= 1
            fields.setdefault(f"field_{number}", []).append(value)
        return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}

    def _read_value(self, data: bytes, place: int, wire: int, depth: int) -> tuple[object, int]:
        match wire:
            case 0:
                return _read_varint(data, place)
            case 1:
                return struct.unpack_from("<d", data, place)[0], place + 8
            case 5:
                return struct.unpack_from("<f", data, place)[0], place + 4
            case 2:
                size, place = _read_varint(data, place)
                if place + size > len(data):
                    raise IndexError
                return self._read_bytes(data[place : place + size], depth), place + size
        raise _NotOneError("a wire type that is not used any more")

    def _read_bytes(self, data: bytes, depth: int) -> object:
        try:
            text = data.decode()
            if text.isprintable():
                return text
        except UnicodeDecodeError:
            pass
        if depth < DEPTH_MAX:
            try:
                return self.read(data, depth + 1)
            except _NotOneError:
                pass
        return Binary()


def read_protobuf(data: bytes, media_type: str, *, is_complete: bool) -> dict[str, object] | None:
    """The first message of a body; None where it is none, or compressed. Never raises."""
    is_cut = not is_complete
    if media_type.startswith("application/grpc"):
        if len(data) < _PREFIX_BYTES or data[0] != 0:
            return None
        size = int.from_bytes(data[1:_PREFIX_BYTES], "big")
        is_cut = is_cut and len(data) < _PREFIX_BYTES + size
        data = data[_PREFIX_BYTES : _PREFIX_BYTES + size]
    try:
        return _Reader().read(data, 0, is_cut=is_cut)
    except _NotOneError:
        return None


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(_VARINT_BYTES_MAX):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, place
    raise _NotOneError("a number that is too long")

"""Reads protobuf messages, by name where their types were described (message_types.py), else by field number: bytes in,
`{"field_1": 7, ..}` out.

Without a description a varint is an integer, whatever it means. A length-delimited field is text if it is printable
UTF-8, a message if it parses as one, else bytes.

Source: the encoding guide of protobuf; gRPC over HTTP/2, length-prefixed messages.
"""

import struct
from typing import Final

from sensor.describe.bodies.message_types import MessageField, MessageTypes, read_varint
from sensor.describe.bodies.streams import split_envelopes
from sensor.sensitive.kinds import Binary

FIELDS_MAX: Final = 512  # Of one body.
DEPTH_MAX: Final = 6
NUMBER_MAX: Final = 1 << 16  # Schemas have small numbers; larger ones are a sign of other bytes.
_ENVELOPED: Final = ("application/grpc", "application/connect")
_NO_TYPES: Final = MessageTypes()


class _NotOneError(ValueError):
    """The bytes are no message."""


class _Reader:
    """One body; counts what it reads."""

    def __init__(self, types: MessageTypes) -> None:
        self.left = FIELDS_MAX
        self._types = types

    def read(self, data: bytes, type_name: str, depth: int, *, is_cut: bool = False) -> dict[str, object]:
        """Raises _NotOneError. A field that comes several times, or is described so, is a list."""
        fields: dict[str, list[object]] = {}
        lists: set[str] = set()
        place = 0
        while place < len(data) and self.left:
            try:
                key, place = read_varint(data, place)
                number, wire = key >> 3, key & 7
                if not 0 < number < NUMBER_MAX:
                    raise _NotOneError("no number of a field")
                field = self._types.find_field(type_name, number) if type_name else None
                value, place = self._read_value(data, place, wire, field, depth)
            except (IndexError, struct.error):
                if is_cut:
                    break
                raise _NotOneError("it ends within a field") from None
            self.left -= 1
            name = f"field_{number}" if field is None else field.name
            fields.setdefault(name, []).append(value)
            if field is not None and field.is_repeated:
                lists.add(name)
        return {name: values if len(values) > 1 or name in lists else values[0] for name, values in fields.items()}

    def _read_value(
        self, data: bytes, place: int, wire: int, field: MessageField | None, depth: int
    ) -> tuple[object, int]:
        match wire:
            case 0:
                return read_varint(data, place)
            case 1:
                return struct.unpack_from("<d", data, place)[0], place + 8
            case 5:
                return struct.unpack_from("<f", data, place)[0], place + 4
            case 2:
                size, place = read_varint(data, place)
                if place + size > len(data):
                    raise IndexError
                return self._read_bytes(data[place : place + size], field, depth), place + size
        raise _NotOneError("a wire type that is not used any more")

    def _read_bytes(self, data: bytes, field: MessageField | None, depth: int) -> object:
        if field is not None and field.is_text:
            return data.decode("utf-8", "replace")
        if field is not None and field.type_name and depth < DEPTH_MAX:
            try:
                return self.read(data, field.type_name, depth + 1)
            except ValueError:  # It is not what its description says.
                return Binary()
        try:
            text = data.decode()
            if text.isprintable():
                return text
        except UnicodeDecodeError:
            pass
        if depth < DEPTH_MAX:
            try:
                return self.read(data, "", depth + 1)
            except ValueError:
                pass
        return Binary()


def read_protobuf(
    data: bytes, media_type: str, *, is_complete: bool, types: MessageTypes = _NO_TYPES, type_name: str = ""
) -> dict[str, object] | list[object] | None:
    """The message of a body, a list of several; None where there is none, or it is compressed. Never raises."""
    reader = _Reader(types)
    messages = split_envelopes(data, has_cut=not is_complete) if media_type.startswith(_ENVELOPED) else [data]
    found: list[dict[str, object]] = []
    for message in messages:
        try:
            found.append(reader.read(message, type_name, 0, is_cut=not is_complete))
        except ValueError:
            continue
    return list(found) if len(found) > 1 else found[0] if found else None

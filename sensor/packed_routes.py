"""Routes as they travel (proto/apidae/v1/data.proto, Route), made once for all batches.

In a batch a route names its service and texts by their places in the batch's own dictionaries, and a service of 10,000
routes tells all of them each window. So each route's bytes are kept with room for those places, and a batch's are
filled in at once. A place takes three bytes, whatever it is: varints may be longer than they need be
(protobuf.dev/programming-guides/encoding), and what has one length can be written without being moved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from apidae.v1 import data_pb2

from sensor.calls import Route, Segment, Service
from sensor.packed import encode_field, encode_varint

# Kept; dropped whole when full. Some 500 bytes each.
ROUTES_MAX: Final = 16_384
# Dictionaries of a batch are smaller.
PLACES_LIMIT: Final = 1 << 21
_ROOM: Final = bytes(3)
_VARINT, _FIXED64 = 0, 1


@dataclass(frozen=True, slots=True)
class _Packed:
    """`rooms`: where in `data` the places of the service and of each of `texts` belong."""

    route: Route
    data: bytes
    rooms: tuple[int, ...]
    texts: tuple[str, ...]


class PackedRoutes:
    """Routes met lately. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[int, _Packed] = {}

    def encode(
        self, routes: Sequence[Route], *, index_service: Callable[[Service], int], index_string: Callable[[str], int]
    ) -> bytes:
        """The field `routes` of a batch. Cost: some 1 us each, and 10 us of one that was not met lately."""
        parts: list[bytes] = []
        rooms: list[int] = []
        places: list[int] = []
        start = 0
        for route in routes:
            packed = self._known.get(route.route_id)
            if packed is None or packed.route is not route:  # Words of it may have been revealed.
                packed = self._pack(route)
            parts.append(packed.data)
            rooms += [start + room for room in packed.rooms]
            places.append(index_service(route.service))
            places += map(index_string, packed.texts)
            start += len(packed.data)
        data = np.frombuffer(bytearray().join(parts), np.uint8)
        if rooms:
            _fill(data, np.array(rooms), np.array(places))
        return data.tobytes()

    def _pack(self, route: Route) -> _Packed:
        if len(self._known) >= ROUTES_MAX:
            self._known.clear()
        packed = self._known[route.route_id] = _pack_route(route)
        return packed


def _fill(data: np.ndarray, rooms: np.ndarray, places: np.ndarray) -> None:
    data[rooms] = places & 0x7F | 0x80
    data[rooms + 1] = places >> 7 & 0x7F | 0x80
    data[rooms + 2] = places >> 14


def _pack_route(route: Route) -> _Packed:
    fields = data_pb2.Route
    data = bytearray(_begin(fields.ROUTE_ID_FIELD_NUMBER, _FIXED64) + route.route_id.to_bytes(8, "little"))
    rooms = [
        _make_room(data, number)
        for number in (fields.SERVICE_FIELD_NUMBER, fields.HOST_FIELD_NUMBER, fields.METHOD_FIELD_NUMBER)
    ]
    texts = [route.host, route.method]
    for segment in route.segments:
        packed, room = _pack_segment(segment)
        data += encode_field(fields.SEGMENTS_FIELD_NUMBER, packed)
        if room is not None:
            rooms.append(len(data) - len(packed) + room)
            texts.append(segment.text)
    if route.has_trailing_slash:
        data += _begin(fields.HAS_TRAILING_SLASH_FIELD_NUMBER, _VARINT) + encode_varint(1)
    message = encode_field(data_pb2.Batch.ROUTES_FIELD_NUMBER, bytes(data))
    head = len(message) - len(data)
    return _Packed(route, message, tuple(head + room for room in rooms), tuple(texts))


def _pack_segment(segment: Segment) -> tuple[bytes, int | None]:
    """With the room for its text's place, where it has one."""
    fields = data_pb2.Segment
    data = bytearray(_begin(fields.KIND_FIELD_NUMBER, _VARINT) + encode_varint(int(segment.kind)))
    room = _make_room(data, fields.TEXT_FIELD_NUMBER) if segment.text else None
    if segment.hash:
        data += _begin(fields.HASH_FIELD_NUMBER, _FIXED64) + segment.hash.to_bytes(8, "little")
    if segment.length:
        data += _begin(fields.LENGTH_FIELD_NUMBER, _VARINT) + encode_varint(segment.length)
    return bytes(data), room


def _make_room(data: bytearray, number: int) -> int:
    data += _begin(number, _VARINT)
    room = len(data)
    data += _ROOM
    return room


def _begin(number: int, wire_type: int) -> bytes:
    return encode_varint(number << 3 | wire_type)

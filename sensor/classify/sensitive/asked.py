"""Which fields of a route's bodies were asked already, where its bodies hold more fields than are looked at.

Then fields that were never asked come first, so that one that appears, or that others always crowded out, is classified
with the first body that has it. Fields are remembered by a bit of their hash: two that share one are taken for one,
which costs the later of them its turn, not its place.
"""

from typing import Final, NamedTuple

BITS: Final = 1 << 16  # Of one route and side: 8 KiB.
FIELDS_MAX: Final = BITS // 4  # Then it begins anew: past it, one field in four would be taken for another.
ROUTES_MAX: Final = 256  # 2 MiB in all; the one that was used longest ago goes.


class Side(NamedTuple):
    """The requests or the responses of a route."""

    route_id: int
    is_request: bool


class AskedFields:
    """Of one side of a route. Not thread-safe."""

    __slots__ = ("_bits", "_count")

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)
        self._count = 0

    def knows(self, field: int) -> bool:
        """Whether a field was asked, by its hash."""
        place = field % BITS
        return bool(self._bits[place >> 3] & (1 << (place & 7)))

    def learn(self, field: int) -> None:
        """It is asked now."""
        if self.knows(field):
            return
        if self._count >= FIELDS_MAX:
            self._bits, self._count = bytearray(BITS // 8), 0
        place = field % BITS
        self._bits[place >> 3] |= 1 << (place & 7)
        self._count += 1


class AskedBook:
    """Of all routes that need it. Not thread-safe."""

    def __init__(self) -> None:
        self._sides: dict[Side, AskedFields] = {}

    def find(self, side: Side) -> AskedFields:
        """What was asked there; nothing where it is new."""
        fields = self._sides.pop(side, None)
        if fields is None:
            fields = AskedFields()
            if len(self._sides) >= ROUTES_MAX:
                del self._sides[next(iter(self._sides))]
        self._sides[side] = fields
        return fields

"""Which of the bodies that were copied are read: of each route the first ones, then one a second, and at once what
looks new (status, media type, size). The kernel copies by coarser rules; this is the one that counts."""

from typing import Final

import msgspec

# Routes remembered; the oldest is forgotten and begins anew.
ROUTES_MAX: Final = 16_384
CLASSES_MAX: Final = 64  # Of one route.
_SECOND_NS: Final = 1_000_000_000


class SampleRule(msgspec.Struct, frozen=True):
    """How often the bodies of a route are read."""

    first_count: int = 20
    interval_ns: int = _SECOND_NS


class _Route:
    __slots__ = ("classes", "count", "last_ns")

    def __init__(self) -> None:
        self.count = 0
        self.last_ns = 0
        self.classes: tuple[int, ...] = ()  # Hashes of looks, mostly one: a set would be most of what a route takes.


class BodySampler:
    """Mutable state by route. Not thread-safe."""

    def __init__(self, rule: SampleRule) -> None:
        self._rule = rule
        self._routes: dict[int, _Route] = {}

    def is_due(self, route_id: int, status_code: int, media_type: str, size_bytes: int, time_ns: int) -> bool:
        """Whether the bodies of this call are to be read; then it counts as a sample."""
        route = self._routes.get(route_id)
        if route is None:
            if len(self._routes) >= ROUTES_MAX:
                del self._routes[next(iter(self._routes))]
            route = self._routes[route_id] = _Route()
        look = hash((status_code, media_type, size_bytes.bit_length() // 2))
        is_new = look not in route.classes and len(route.classes) < CLASSES_MAX
        is_due = route.count < self._rule.first_count or abs(time_ns - route.last_ns) >= self._rule.interval_ns
        if not (is_new or is_due):
            return False
        if is_new:
            route.classes += (look,)
        route.count += 1
        route.last_ns = time_ns
        return True

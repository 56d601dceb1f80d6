"""What responses hold, by route and status."""

import numpy as np

from sensor.offload.records import MEDIA_TYPES_MAX, TYPES_MAX, MediaTypes


def find(types: MediaTypes, *pairs: tuple[int, int]) -> list[str]:
    routes, statuses = np.array([pair[0] for pair in pairs], np.uint64), np.array([pair[1] for pair in pairs])
    return [types.texts[number] for number in types.find(routes, statuses).tolist()]


def test_the_last_type_of_each_route_and_status() -> None:
    types = MediaTypes()
    assert find(types, (1, 200)) == [""]
    types.note(1, 200, "text/html")
    types.note(1, 404, "application/json")
    types.note(2, 200, "")
    types.note(1, 200, "text/plain")
    assert find(types, (1, 404), (1, 200), (2, 200), (2, 404)) == ["application/json", "text/plain", "", ""]


def test_both_tables_are_bounded() -> None:
    types = MediaTypes()
    for route in range(MEDIA_TYPES_MAX + 1):
        types.note(route, 200, "text/plain")
    assert find(types, (MEDIA_TYPES_MAX, 200), (5, 200)) == ["text/plain", ""]
    for number in range(2 * TYPES_MAX):
        types.note(number, 200, f"text/x{number}")
    assert len(types.texts) <= TYPES_MAX
    assert find(types, (2 * TYPES_MAX - 1, 200)) == [f"text/x{2 * TYPES_MAX - 1}"]

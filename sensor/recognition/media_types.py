"""What the responses of a route hold: the content type last read of each status, for records, which bring none."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sensor.key_table import Keys, KeyTable, mix, mix_one

# Routes and statuses remembered, and different types; all are dropped when full, and read anew.
REMEMBERED_MAX: Final = 32_768
TYPES_MAX: Final = 4_096
_NONE: Final = 0


class MediaTypes:
    """Content types by route and status. Not thread-safe."""

    __slots__ = ("_found", "_numbers", "texts")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._found = KeyTable()
        self._numbers: dict[str, int] = {"": _NONE}
        self.texts: list[str] = [""]  # By number, as `find` gives it.

    def note(self, route_id: int, status_code: int, media_type: str) -> None:
        """Of a response that was read. Cost: 2 us."""
        if len(self._found) >= REMEMBERED_MAX or len(self.texts) >= TYPES_MAX:
            self._clear()
        number = self._numbers.get(media_type)
        if number is None:
            number = self._numbers[media_type] = len(self.texts)
            self.texts.append(media_type)
        self._found.put_one(mix_one(route_id, status_code), number)

    def find(self, route_ids: Keys, status_codes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Numbers of the types in `texts`; that of the empty one where none was read."""
        numbers, missing = self._found.find(mix(route_ids, status_codes))
        numbers[missing] = _NONE
        return numbers

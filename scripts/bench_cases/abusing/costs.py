"""How long calls of a made day take: each endpoint has a customary time, and for half an hour everything is slow."""

import re
from random import Random

DAY = 86_400
_VALUES = re.compile(r"[0-9a-f-]{20,}|\d+")
_TROUBLE_SECONDS, _TROUBLE_FACTOR = 1_800, 15


class Costs:
    """Milliseconds by call. Draws of its own, so that a day has the calls that it has without them."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"costs of {seed}")
        self._customary: dict[str, float] = {}
        self._trouble = self._random.uniform(0, DAY - _TROUBLE_SECONDS)

    def draw(self, second: float, method: str, path: str, random: Random | None = None) -> float:
        """Of one call; by draws of `random` where that is given."""
        random = random or self._random
        endpoint = f"{method} {_VALUES.sub('{}', path)}"
        if endpoint not in self._customary:
            self._customary[endpoint] = random.lognormvariate(3, 1)
        is_slow = 0 <= second - self._trouble < _TROUBLE_SECONDS
        return round(self._customary[endpoint] * random.lognormvariate(0, 0.6) * (_TROUBLE_FACTOR if is_slow else 1), 3)

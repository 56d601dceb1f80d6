"""Whom the collector turned away and why: every one counted, and told in the log once a minute for each address and
reason, so that a sensor that tries every 30 s, or somebody who knocks, does not fill it.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

REPEAT_SECONDS: Final = 60.0
# Addresses and reasons remembered; past it the oldest goes, and may be told again early.
REMEMBERED_LIMIT: Final = 4_096

logger = logging.getLogger(__name__)


class RefusalLog:
    """`counts` by reason (a metric's name). Used in the event loop only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that do not go back."""
        self._clock = clock
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.counts: Counter[str] = Counter()

    def record(self, reason: str, host: str, sentence: str) -> None:
        """One that was turned away; `sentence` says who and why and goes to the log."""
        self.counts[reason] += 1
        now, key = self._clock(), (host, reason)
        if now - self._told.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > REMEMBERED_LIMIT:
            self._told.popitem(last=False)
        logger.warning("%s", sentence)

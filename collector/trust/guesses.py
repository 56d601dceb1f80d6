"""Slows those who try credentials: wrong ones are counted by network, in bounded memory.

A credential is looked up first, and a right one always enters. It has so many random bits that nobody guesses one at
any pace, and all clients behind one proxy have its address. A network may be wrong GUESSES_MAX times at once, and once
every 2 s in the long run; past that it is asked to wait. The same wrong credential counts once: a program that repeats
an expired token guesses nothing.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from collector.core.connections import find_network
from common.bounded import BoundedDict
from common.figures import Figure, make_totals
from common.token_bucket import TokenBuckets

GUESSES_MAX: Final = 30
GUESSES_PER_SECOND: Final = 0.5
NETWORKS_MAX: Final = 4_096
WRONG_MAX: Final = 10_000  # Credentials that were counted.


class GuessLimit:
    """Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._lock = threading.Lock()
        self._networks: TokenBuckets[str] = TokenBuckets(GUESSES_PER_SECOND, GUESSES_MAX, clock, keys_max=NETWORKS_MAX)
        self._wrong: BoundedDict[bytes, bool] = BoundedDict(WRONG_MAX)
        self._wrong_count = 0
        self._slowed_count = 0

    def note_wrong(self, address: str, credential: str) -> float:
        """A credential from this address opened nothing. Seconds that whoever sent it is to wait; 0 where there were
        few of them."""
        digest = hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            self._wrong_count += 1
            if self._wrong.use(digest):
                return 0.0
            wait = self._networks.take(_name_network(address))
            if wait:
                self._slowed_count += 1
            else:
                self._wrong[digest] = True
            return wait

    def list_figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return tuple(
            make_totals(
                [
                    ("http_credentials_wrong", "Credentials of requests that were wrong.", self._wrong_count),
                    (
                        "http_credentials_slowed",
                        "Wrong credentials that were answered with 429, for others of the same network.",
                        self._slowed_count,
                    ),
                ]
            )
        )


def _name_network(address: str) -> str:
    try:
        return find_network(address)
    except ValueError:
        return address

"""Slows those who try credentials: wrong tries are counted by network, in bounded memory.

A network may be wrong GUESSES_MAX times at once, and once every 2 s in the long run. After that its credentials are not
looked at for the moment, right or wrong, so that a faster guesser learns nothing. Credentials that entered before go
on: whoever works behind the same proxy as a guesser notices nothing.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import Final

from collector.core.connections import find_network
from common.bounded import BoundedDict
from common.figures import Figure, make_totals
from common.token_bucket import TokenBucket

GUESSES_MAX: Final = 30
GUESSES_PER_SECOND: Final = 0.5
NETWORKS_MAX: Final = 4_096
KNOWN_MAX: Final = 10_000  # Credentials that entered.


class GuessLimit:
    """Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._networks: BoundedDict[str, TokenBucket] = BoundedDict(NETWORKS_MAX)
        self._known: BoundedDict[bytes, bool] = BoundedDict(KNOWN_MAX)
        self._wrong_count = 0
        self._slowed_count = 0

    def find_wait(self, address: str, credential: str) -> float:
        """Seconds until a credential from this address may be looked at; 0 where that is now."""
        with self._lock:
            bucket = self._networks.use(_name_network(address))
            if bucket is None or self._known.use(_digest(credential)):
                return 0.0
            wait = bucket.find_wait()
            self._slowed_count += wait > 0
            return wait

    def note_right(self, credential: str) -> None:
        """It entered."""
        with self._lock:
            self._known.renew(_digest(credential), True)

    def note_wrong(self, address: str, credential: str) -> None:
        """It did not."""
        network = _name_network(address)
        with self._lock:
            self._wrong_count += 1
            self._known.pop(_digest(credential), None)
            bucket = self._networks.use(network)
            if bucket is None:
                bucket = TokenBucket(GUESSES_PER_SECOND, GUESSES_MAX, self._clock)
                self._networks[network] = bucket
            bucket.take()

    def list_figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return tuple(
            make_totals(
                [
                    ("http_credentials_wrong", "Credentials of requests that were wrong.", self._wrong_count),
                    (
                        "http_credentials_slowed",
                        "Requests whose credential was not looked at, for wrong ones of the same network.",
                        self._slowed_count,
                    ),
                ]
            )
        )


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()


def _name_network(address: str) -> str:
    try:
        return find_network(address)
    except ValueError:
        return address

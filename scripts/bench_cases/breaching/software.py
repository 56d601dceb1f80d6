"""Which client software honest callers of the breach have, by no draw of the world's: an app on two systems and its
web pages, for some a second one, agents' and partners' programs, a crawler; and two honest moves. An app's release,
whose heads have another shape, reaches half of its users within hours, and all agents get another program one morning.
"""

from dataclasses import replace

import numpy as np

from collector.detection.framework.distinct import mix
from collector.detection.framework.state import F64
from scripts.bench_cases.breaching.calls import U64, Calls, Ints
from scripts.bench_cases.breaching.world import DAY, EXPORT, PARTNER, PRINCIPALS, START

OWN = 0  # What the caller has; of calls that were made by no other.
SOFTWARE: tuple[str, ...] = (
    "",
    "okhttp 5d0c61aa",  # The app: 40 % of customers; 20 % on the other system.
    "okhttp 91be02f7",  # Its next release.
    "cfnetwork 77a1c3d0",
    "mozilla 0b6f4e12",  # Browsers.
    "mozilla 4c8830e9",
    "mozilla e0915b3c",
    "mozilla 2f6d7a58",
    "mozilla 8d21f604",  # Agents', before and after.
    "electron c7743e1b",
    "python-requests 1a2b9c44",  # The partner's,
    "java a9930d67",  # the export's,
    "googlebot 63f0e8d1",  # the crawler's.
    "python-requests 5c2e91d0",  # A thief's script.
)
APP, RELEASE, AGENTS_BEFORE, AGENTS_AFTER, PARTNERS, EXPORTS, CRAWLERS, SCRIPT = 1, 2, 8, 9, 10, 11, 12, 13
_CUSTOMERS = np.array([APP] * 8 + [3] * 4 + [4] * 4 + [5] * 2 + [6, 7])  # In twentieths.
_SECOND_SHARE = 0.03  # Of a customer's hours are with another kind.
RELEASE_AT, RELEASE_SECONDS, RELEASED_SHARE = START + 2 * DAY + 10 * 3_600, 4 * 3_600, 0.5
AGENTS_AT = START + DAY + 8 * 3_600


def dress(calls: Calls) -> Calls:
    """Calls with the software that made them."""
    is_own = calls.software == OWN
    return replace(calls, software=np.where(is_own, _list_own(calls.principal, calls.second), calls.software))


def _list_own(principal: U64, second: Ints) -> Ints:
    """Indexes into SOFTWARE of what callers have then."""
    hour = (second // 3_600).astype(np.uint64)
    is_second = _draw(mix(principal, hour), 1) < _SECOND_SHARE
    kind = _CUSTOMERS[(_draw(principal, 2) * len(_CUSTOMERS)).astype(np.int64)]
    other = _CUSTOMERS[(_draw(principal, 3) * len(_CUSTOMERS)).astype(np.int64)]
    own = np.where(is_second, other, kind)
    moved_at = RELEASE_AT + _draw(principal, 4) / RELEASED_SHARE * RELEASE_SECONDS
    has_release = (_draw(principal, 4) < RELEASED_SHARE) & (second >= moved_at)
    own = np.where((own == APP) & has_release, RELEASE, own)
    own = np.where(principal > PRINCIPALS, np.where(second >= AGENTS_AT, AGENTS_AFTER, AGENTS_BEFORE), own)
    own = np.where(principal >= EXPORT, np.where(principal == PARTNER, PARTNERS, EXPORTS), own)
    return np.where(principal == 0, CRAWLERS, own)


def _draw(key: U64, number: int) -> F64:
    """Even in [0, 1)."""
    draws: F64 = mix(np.full(len(key), 40 + number, np.uint64), key).astype(np.float64) / 2.0**64
    return draws

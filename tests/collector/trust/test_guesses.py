"""Wrong credentials are slowed by network, and a repeated one counts once."""

from dataclasses import dataclass

from collector.trust import guesses
from collector.trust.guesses import GUESSES_MAX, NETWORKS_MAX, GuessLimit


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def fail(limit: GuessLimit, address: str, count: int) -> int:
    """How many of so many wrong tries were not asked to wait."""
    return sum(not limit.note_wrong(address, f"{address} {number}") for number in range(count))


def test_a_network_is_wrong_so_often_at_once_and_then_every_two_seconds() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    assert fail(limit, "192.0.2.1", GUESSES_MAX + 10) == GUESSES_MAX
    clock.now += 60
    assert sum(not limit.note_wrong("192.0.2.1", f"later {number}") for number in range(100)) == 30
    assert fail(limit, "192.0.2.2", 5) == 5
    assert limit.note_wrong("192.0.2.1", "another") == 2.0


def test_addresses_of_one_network_of_ipv6_are_one() -> None:
    limit = GuessLimit(Clock())
    assert sum(fail(limit, f"2001:db8::{number:x}", 1) for number in range(100)) == GUESSES_MAX


def test_the_same_wrong_credential_counts_once() -> None:
    limit = GuessLimit(Clock())
    assert not any(limit.note_wrong("192.0.2.1", "expired") for _ in range(1_000))
    assert fail(limit, "192.0.2.1", 100) == GUESSES_MAX - 1
    assert limit.note_wrong("192.0.2.1", "expired") == 0.0


def test_memory_is_bounded() -> None:
    limit = GuessLimit(Clock())
    for number in range(guesses.WRONG_MAX + 10):
        limit.note_wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", str(number))
    assert (len(limit._networks), len(limit._wrong)) == (NETWORKS_MAX, guesses.WRONG_MAX)

"""Wrong credentials are slowed by network, and nobody who entered before notices."""

from dataclasses import dataclass

from collector.trust import guesses
from collector.trust.guesses import GUESSES_MAX, NETWORKS_MAX, GuessLimit


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def fail(limit: GuessLimit, address: str, count: int) -> int:
    """How many of so many wrong tries were looked at."""
    looked = 0
    for number in range(count):
        if not limit.find_wait(address, f"wrong {number}"):
            limit.note_wrong(address, f"wrong {number}")
            looked += 1
    return looked


def test_a_network_is_wrong_so_often_at_once_and_then_every_two_seconds() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    assert fail(limit, "192.0.2.1", 1_000) == GUESSES_MAX
    clock.now += 60
    assert fail(limit, "192.0.2.1", 1_000) == 30
    assert fail(limit, "192.0.2.2", 5) == 5
    assert limit.find_wait("192.0.2.1", "the right one") == 2.0


def test_addresses_of_one_network_of_ipv6_are_one() -> None:
    limit = GuessLimit(Clock())
    assert sum(fail(limit, f"2001:db8::{number:x}", 1) for number in range(100)) == GUESSES_MAX


def test_a_credential_that_entered_goes_on_until_it_is_wrong() -> None:
    limit = GuessLimit(Clock())
    limit.note_right("honest")
    fail(limit, "192.0.2.1", 1_000)
    assert limit.find_wait("192.0.2.1", "honest") == 0.0
    limit.note_wrong("192.0.2.1", "honest")  # It was revoked.
    assert limit.find_wait("192.0.2.1", "honest") > 0


def test_memory_is_bounded() -> None:
    limit = GuessLimit(Clock())
    for number in range(NETWORKS_MAX + 10):
        limit.note_wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "x")
    for number in range(guesses.KNOWN_MAX + 10):
        limit.note_right(str(number))
    assert (len(limit._networks), len(limit._known)) == (NETWORKS_MAX, guesses.KNOWN_MAX)

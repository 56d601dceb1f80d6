"""When a product of scripts/bench capture has learned: nothing more is taught, and only bodies of samples come."""

import dataclasses

import pytest

from scripts.bench_cases.capturing import rounds
from scripts.bench_cases.capturing.loads import UnavailableError
from scripts.bench_cases.capturing.rounds import LEARNING_QUIET, LEARNING_TRIES, learn
from scripts.bench_cases.capturing.servers import Server

RUN_SECONDS = 4


@dataclasses.dataclass
class Clock:
    """Time that passes with each run of the load."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class Product:
    """Of each run: routes that are taught, and bodies that came, the last of each going on."""

    clock: Clock
    taught: list[int]
    bodies: list[int]
    runs: int = 0
    pids: tuple[int, ...] = ()

    def warm(self, port: int) -> int:
        self.clock.now += RUN_SECONDS
        self.runs += 1
        return 100

    def read_known(self) -> tuple[int, int]:
        return sum(self.taught[: self.runs]), 1

    def read_figure(self, name: str) -> float:
        assert name == "bodies_total"
        return sum(self.bodies[: self.runs]) + self.bodies[-1] * max(0, self.runs - len(self.bodies))


def play(monkeypatch: pytest.MonkeyPatch, *, taught: list[int], bodies: list[int]) -> Product:
    clock = Clock()
    monkeypatch.setattr(rounds, "time", clock)
    product = Product(clock, taught, bodies)
    learned = learn(Server(port=1, pid=1), product, product)  # type: ignore[arg-type]
    assert learned.calls == 100 * product.runs
    return product


def test_it_has_learned_when_nothing_more_is_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(monkeypatch, taught=[9, 9, 1], bodies=[0]).runs == 3 + LEARNING_QUIET


def test_it_has_not_while_the_first_answers_of_routes_come(monkeypatch: pytest.MonkeyPatch) -> None:
    first, samples = 128 * RUN_SECONDS, 30 * RUN_SECONDS
    assert play(monkeypatch, taught=[9], bodies=[*[first] * 5, samples]).runs == 5 + LEARNING_QUIET


def test_what_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=f"{LEARNING_TRIES * RUN_SECONDS} s"):
        play(monkeypatch, taught=[9], bodies=[128 * RUN_SECONDS])

"""Honest callers of a made day whose credentials change: tokens renewed every 5 to 60 minutes, an application that
makes a session at each start, at home, in offices and behind carriers' addresses, a gateway that passes on what people
show, a probe that logs in each minute.

Draws of their own, so that a day has the other calls that it has without them. A token is `name.number`.
"""

from random import Random
from typing import TYPE_CHECKING

from scripts.bench_cases.abusing.line import DAY, START, Line
from scripts.bench_cases.abusing.service import Account, make_accounts

if TYPE_CHECKING:
    from scripts.bench_cases.abusing.day import Day

RENEWERS, APPLICATIONS = 50, 30  # Of the first half are in offices.
CARRIERS = (80, 300)  # Behind one address each, with the application.
GATEWAY_PEOPLE = 50
_OFFICES = 2
_NUMBERS_FROM = 1_000_000  # Their objects are nobody else's.
_APPLICATION = "App/3.2 (Android 14)"
_BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/126.0"


class Renewals:
    """`lines` of all of them, in no order."""

    def __init__(self, day: "Day") -> None:
        self._day = day
        self._random = random = Random(f"renewals of {day.seed}")
        self.lines: list[Line] = []
        made = make_accounts(random, RENEWERS + APPLICATIONS + sum(CARRIERS) + GATEWAY_PEOPLE)
        accounts = [
            Account(numbers=tuple(number + _NUMBERS_FROM for number in one.numbers), uuids=one.uuids) for one in made
        ]
        offices = [day.draw_address(random) for _ in range(_OFFICES)]
        for number in range(RENEWERS):
            home = random.choice(offices) if number % 2 else day.draw_address(random)
            self._renew(f"renewer{number}", home, accounts.pop())
        for number in range(APPLICATIONS):
            self._start(f"app{number}", day.draw_address(random), accounts.pop(), random.randrange(4, 20))
        for number, people in enumerate(CARRIERS):
            address = day.draw_address(random)
            for person in range(people):
                self._start(f"carrier{number}_{person}", address, accounts.pop(), random.randrange(1, 6))
        for number in range(GATEWAY_PEOPLE):
            self._renew(f"passed{number}", "10.0.7.2", accounts.pop())
        self._probe(day.draw_address(random))

    def _renew(self, actor: str, address: str, account: Account) -> None:
        """Visits of some minutes with a token that has its time."""
        random, name = self._random, f"r{self._random.getrandbits(64):016x}"
        seconds = random.uniform(5, 60) * 60
        for second in sorted(self._day.draw_second(random) for _ in range(random.randrange(1, 6))):
            if random.random() < 0.4:
                self._say(second, actor, address, _BROWSER, "", "POST", self._day.shape.login)
            for _ in range(1 + min(80, int(random.expovariate(1 / 25)))):
                second += random.expovariate(1 / 8)
                method, path = self._day.choose(random, account)
                self._say(second, actor, address, _BROWSER, f"{name}.{int(second // seconds)}", method, path)

    def _start(self, actor: str, address: str, account: Account, starts: int) -> None:
        """Each start of the application logs in, loads what it shows first, and goes on for a while."""
        random, name = self._random, f"s{self._random.getrandbits(64):016x}"
        for number in range(starts):
            second = self._day.draw_second(random)
            self._say(second, actor, address, _APPLICATION, "", "POST", self._day.shape.login)
            for call in range(2 + min(30, int(random.expovariate(1 / 6)))):
                second += random.expovariate(1 / (0.5 if call < 3 else 6))
                method, path = self._day.choose(random, account)
                self._say(second, actor, address, _APPLICATION, f"{name}.{number}", method, path)

    def _probe(self, address: str) -> None:
        name = f"p{self._random.getrandbits(64):016x}"
        for number, second in enumerate(range(0, DAY, 60)):
            self._say(second, "probe", address, "check/2.1", "", "POST", self._day.shape.login)
            for call, path in enumerate(self._day.shape.own_lists):
                self._say(second + 0.3 * (call + 1), "probe", address, "check/2.1", f"{name}.{number}", "GET", path)

    def _say(self, second: float, actor: str, address: str, agent: str, token: str, method: str, path: str) -> None:
        if second >= DAY:
            return
        random = self._random
        self.lines.append(
            Line(
                time=round(START + second, 3), actor=actor, address=address, agent=agent, token=token, method=method,
                path=path, status=200, size=int(random.lognormvariate(6.3, 0.8)),
                milliseconds=self._day.costs.draw(second, method, path, random),
            )
        )  # fmt: skip
